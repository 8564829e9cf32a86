"""edgevit's own checkpoints: a safetensors file whose metadata holds everything that is not a weight."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypedDict

import torch

from edgevit.errors import CheckpointError
from edgevit.files.fromjson import conform, json_value
from edgevit.model.families.heads import require_width
from edgevit.model.families.source import Imported, WeightSource
from edgevit.model.vit import Vit
from edgevit.problem import SINGLE_LABEL
from edgevit.textclasses import TextHead
from edgevit.vitconfig import VitConfig

METADATA_KEY = "edgevit"


class _Required(TypedDict):
    config: dict[str, Any]
    preprocessing: dict[str, Any]
    labels: list[str]


class SettingsJson(_Required, total=False):
    """What the metadata holds, as JSON; the two tables have forms of their own."""

    problem_type: str
    text: TextHead
    """Where classes were given as text."""


def recognises(source: WeightSource) -> bool:
    """Whether `edgevit.model.checkpoint.save_checkpoint` wrote it."""
    return METADATA_KEY in source.metadata


def read(source: WeightSource) -> Imported:
    """Take the weights as they are; the model is the one that was saved."""
    if source.heads or source.activation:
        source.notes.append("heads, activation: the file itself tells them; the options have no effect")
    try:
        config = VitConfig.from_dict(settings(source)["config"])
    except ValueError as error:
        raise CheckpointError(_damaged(source, error)) from error
    with torch.device("meta"):
        expected = Vit(config).state_dict()
    state = {key: source.keys.take(key, *value.shape) for key, value in expected.items()}
    text = settings(source).get("text")
    if text is not None and source.texts is not None:
        require_width(source, config.features)
        weight, bias = source.texts.head(text)
        state |= {"head.weight": torch.from_numpy(weight), "head.bias": torch.from_numpy(bias)}
        config, text = replace(config, classes=len(weight)), replace(text, prompts=source.texts.prompts)
    return Imported(family="edgevit", config=config, state=state, text=text)


def settings(source: WeightSource) -> dict[str, Any]:
    """Config, preprocessing, labels and problem type as saved. Raises CheckpointError if they are not JSON."""
    try:
        data = conform(json_value(source.metadata[METADATA_KEY]), SettingsJson, "")
        # Checkpoints from before there was a choice are of single labels.
        return {"problem_type": SINGLE_LABEL, **data}
    except (ValueError, KeyError) as error:
        raise CheckpointError(_damaged(source, error)) from error


def _damaged(source: WeightSource, error: Exception) -> str:
    return f"{source.keys.origin}: the metadata {METADATA_KEY!r} is damaged ({error!r}). Save the model again."
