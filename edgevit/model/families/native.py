"""edgevit's own checkpoints: a safetensors file whose metadata holds everything that is not a weight."""

from __future__ import annotations

import json
from typing import Any

import torch

from edgevit.errors import CheckpointError
from edgevit.model.families.source import Imported, Source
from edgevit.model.vit import Vit, VitConfig
from edgevit.problem import SINGLE_LABEL

METADATA_KEY = "edgevit"


def recognises(source: Source) -> bool:
    """Whether `edgevit.model.checkpoint.save_checkpoint` wrote it."""
    return METADATA_KEY in source.metadata


def read(source: Source) -> Imported:
    """Take the weights as they are; the model is the one that was saved."""
    if source.heads or source.activation:
        source.notes.append("heads, activation: the file itself tells them; the options have no effect")
    try:
        config = VitConfig.from_dict(settings(source)["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(_damaged(source, error)) from error
    with torch.device("meta"):
        expected = Vit(config).state_dict()
    state = {key: source.keys.take(key, *value.shape) for key, value in expected.items()}
    return Imported(family="edgevit", config=config, state=state)


def settings(source: Source) -> dict[str, Any]:
    """Config, preprocessing, labels and problem type as saved. Raises CheckpointError if they are not JSON."""
    try:
        data = json.loads(source.metadata[METADATA_KEY])
        # Checkpoints from before there was a choice are of single labels.
        return {"config": data["config"], "preprocessing": data["preprocessing"], "labels": data["labels"],
                "problem_type": data.get("problem_type", SINGLE_LABEL)}  # fmt: skip
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(_damaged(source, error)) from error


def _damaged(source: Source, error: Exception) -> str:
    return f"{source.keys.origin}: the metadata {METADATA_KEY!r} is damaged ({error!r}). Save the model again."
