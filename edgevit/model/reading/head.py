"""What a checkpoint's outputs mean: classes of which one holds, labels of which any number may, or something else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from edgevit.errors import CheckpointError, ConfigError, did_you_mean
from edgevit.model.families.source import Imported
from edgevit.problem import MULTI_LABEL, PROBLEM_TYPES, SINGLE_LABEL

CHOICE = f"--problem-type {SINGLE_LABEL} or {MULTI_LABEL}"


def problem_type_of(
    asked: str | None, config: Mapping[str, Any], classes: int, trained_with: str, origin: object
) -> tuple[str, list[str]]:
    """One of `edgevit.problem.PROBLEM_TYPES`, and what was assumed.

    The user's comes first, then ``problem_type`` of transformers' config.json. Where neither tells, a head of one output is a
    label that is there or not, as transformers' own pipeline has it, and any other a softmax over classes.

    Args:
        asked: what the user says.
        config: ``config.json`` beside the weights, ``{}`` if there is none.
        classes: outputs of the head.
        trained_with: what the training's settings say of a loss over single labels, see `loss_over_labels`; or nothing.
        origin: the weights, for messages.

    Raises:
        CheckpointError: the head is not one of a classifier.
        ConfigError: the user asks for what edgevit does not know, or for one class out of one.
    """
    stated = config.get("problem_type")
    if asked is not None:
        differs = stated is not None and stated != asked
        return _asked(asked, classes), [f"problem type: {asked} as asked for, not {stated} of config.json"] if differs else []
    if stated == "regression":
        msg = (
            f"{origin}: config.json has problem_type regression: the head gives numbers, not classes, and edgevit classifies. "
            f"If it was trained to classify, say how: {CHOICE}"
        )
        raise CheckpointError(msg)
    if stated is not None and stated not in PROBLEM_TYPES:
        msg = f"{origin}: config.json has problem_type {stated!r}; edgevit knows {', '.join(PROBLEM_TYPES)}. Say which: {CHOICE}"
        raise CheckpointError(msg)
    if classes == 1 and stated != MULTI_LABEL:
        return MULTI_LABEL, [
            "problem type: the head has one output, taken for one label that is there or not (sigmoid), as transformers' "
            "pipeline does; for two classes name both with --labels, the negative first. Not if it was trained to give a number"
        ]
    if stated is None and trained_with:
        return SINGLE_LABEL, [
            f"problem type: assumed one class an image (softmax). The training's settings say {trained_with}, a loss that is "
            f"used for that and for several labels an image, too: for these pass --problem-type {MULTI_LABEL}"
        ]
    return stated or SINGLE_LABEL, []


def require_others(classes: int, problem_type: str) -> None:
    """Raise ConfigError for one class by itself that is given as text: beside no other, softmax is always sure of it."""
    if classes == 1 and problem_type == SINGLE_LABEL:
        msg = "one class by itself is always there, for lack of others. Give what else may be seen, too: --classes 'crack, wall'"
        raise ConfigError(msg)


def loss_over_labels(content: Any) -> str:
    """What the training's settings in a checkpoint file say of binary cross entropy, such as ``bce_loss=True``; or nothing."""
    if not isinstance(content, Mapping):
        return ""
    for name in ("args", "hyper_parameters", "hparams", "config", "cfg"):
        settings = content.get(name)
        settings = settings if isinstance(settings, Mapping) else getattr(settings, "__dict__", {})
        for key, value in settings.items():
            text = str(value).lower()
            named = isinstance(value, bool) and value and str(key).lower() in ("bce", "bce_loss", "multi_label", "multilabel")
            if named or (isinstance(value, str) and ("bce" in text or "binary_cross" in text or "binarycross" in text)):
                return f"{key}={value}"
    return ""


def two_classes(imported: Imported) -> Imported:
    """A head of one output, x, as one of two classes with the logits 0 and x: their softmax is 1 - sigmoid(x) and sigmoid(x)."""
    weight, bias = imported.state["head.weight"], imported.state["head.bias"]
    state = imported.state | {
        "head.weight": torch.cat([torch.zeros_like(weight), weight]),
        "head.bias": torch.cat([torch.zeros_like(bias), bias]),
    }
    return replace(imported, config=replace(imported.config, classes=2), state=state)


def _asked(asked: str, classes: int) -> str:
    if asked not in PROBLEM_TYPES:
        msg = f"unknown problem type {asked!r}. {did_you_mean(asked, PROBLEM_TYPES)}"
        raise ConfigError(msg)
    if asked == SINGLE_LABEL and classes == 1:
        msg = (
            "the head has one output, so one class of one, whose softmax is always 1. Name two classes with --labels, the "
            f"negative first, or pass --problem-type {MULTI_LABEL} for one label that is there or not."
        )
        raise ConfigError(msg)
    return asked
