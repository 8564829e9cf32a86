"""The head of an image tower or of a plain ViT: a classifier, or classes that are given as text."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from edgevit.errors import CheckpointError
from edgevit.model.families.assemble import State, linear, put, require_head
from edgevit.model.families.source import WeightSource
from edgevit.textclasses import USUAL_SCALE, TextHead

SCALE, BIAS = "logit_scale", "logit_bias"
HOW = (
    'Give its classes as text: --classes "crack, scratch, fine" --prompt "a photo of a {}" (with the text tower beside it), or '
    "--text-embeddings FILE."
)


@dataclass(frozen=True, kw_only=True)
class Head:
    """What `put_head` stored, as `VitConfig` and `Imported` have it."""

    classes: int
    projected: int = 0
    text: TextHead | None = None
    unit: bool = False
    """Whether it is over features of length 1."""


def put_head(state: State, source: WeightSource, pooled: int, *names: str, sigmoid: bool = False) -> Head:
    """Store the Linear called one of ``names`` as the head; or, where classes are given as text, as the projection, and these
    as the head.

    ``pooled`` is the width of what is pooled, ``sigmoid`` whether the family compares images with texts by sigmoids.
    Raises CheckpointError for a model without any, and for texts of another width.
    """
    keys = source.keys
    if source.texts is None and not source.tower:
        weight, bias = linear(keys, require_head(keys, pooled, *names), None, pooled)
        put(state, "head", weight, bias)
        return Head(classes=len(weight))
    projected, name = 0, keys.first(*names)
    if f"{name}.weight" in keys:
        weight, bias = linear(keys, name, None, pooled)
        put(state, "projection", weight, bias)
        projected = len(weight)
    return put_texts(state, source, projected or pooled, projected=projected, sigmoid=sigmoid)


def put_texts(state: State, source: WeightSource, features: int, *, projected: int, sigmoid: bool = False) -> Head:
    """Store the texts of ``source`` as a head over ``features`` of length 1. Raises CheckpointError as `put_head`."""
    texts, origin = source.texts, source.keys.origin
    if texts is None and source.keys.headless:
        source.keys.ignore(rf"^({SCALE}|{BIAS})$")
        put(state, "head", torch.eye(features), None)
        return Head(classes=features, projected=projected, unit=True)
    if texts is None:
        msg = f"{origin}: an image tower that was trained beside a text tower, without a classifier. {HOW}"
        raise CheckpointError(msg)
    require_width(source, features)
    made = TextHead(scale=_scale(source), bias=_bias(source, sigmoid=sigmoid), prompts=texts.prompts)
    weight, bias = texts.head(made)
    put(state, "head", torch.from_numpy(weight), torch.from_numpy(bias))
    return Head(classes=len(weight), projected=projected, text=made, unit=True)


def require_width(source: WeightSource, features: int) -> None:
    """Raise CheckpointError unless texts have as many numbers as images have ``features``."""
    found = source.texts.embeddings.shape[1] if source.texts is not None else features
    if found != features:
        msg = (
            f"{source.keys.origin}: the image tower gives {features} numbers, and the text embeddings have {found}: they are of "
            "another model."
        )
        raise CheckpointError(msg)


def _scale(source: WeightSource) -> float:
    own, told = _scalar(source, SCALE), source.texts.scale if source.texts else None
    if own is not None:
        return math.exp(own)
    if told is None:
        source.notes.append(
            f"classes: neither the weights nor the text embeddings tell the scale of logits; took {USUAL_SCALE:g}, CLIP's usual "
            "(it changes how sure scores are, not which class is first)"
        )
    return USUAL_SCALE if told is None else told


def _bias(source: WeightSource, *, sigmoid: bool) -> float | None:
    own, told = _scalar(source, BIAS), source.texts.bias if source.texts else None
    if own is None and told is None and sigmoid:
        msg = (
            f"{source.keys.origin}: a SigLIP's scores need its {BIAS!r}, which neither these weights nor the text embeddings "
            "have. Give the whole model."
        )
        raise CheckpointError(msg)
    return told if own is None else own


def _scalar(source: WeightSource, key: str) -> float | None:
    """What the weights hold as ``key``, a number or a tensor of one."""
    if key not in source.keys:
        return None
    value = source.keys.take(key, *(1 for _ in source.keys.shape(key)))
    return float(value)
