"""Every family of ViTs that edgevit imports, one file each, and the one that says why it cannot."""

from __future__ import annotations

from typing import Protocol

import torch

from edgevit.errors import CheckpointError
from edgevit.model.families import (
    beit,
    dinov2,
    dinov3,
    eva,
    exported,
    huggingface,
    native,
    openai,
    timm,
    torchvision,
    towers,
    tutorial,
)
from edgevit.model.families.refuse import refuse_known, refuse_unknown
from edgevit.model.families.source import Imported, WeightSource


class Family(Protocol):
    """What the file of a family has."""

    def recognises(self, source: WeightSource) -> bool:
        """Whether the names of the keys are this family's."""

    def read(self, source: WeightSource) -> Imported:
        """Import it, taking every key that matters."""


# With keys that give a model away which is none of `FAMILIES`: these are asked before any is refused for such a key.
OTHERS: tuple[Family, ...] = (beit, dinov3, eva, towers, openai)
# Asked in this order. The original DINOv2 and timm share most names, so DINOv2 is asked for its own first.
FAMILIES: tuple[Family, ...] = (huggingface, torchvision, dinov2, timm, tutorial)


def import_vit(source: WeightSource) -> Imported:
    """Read ``source`` with the family that recognises it; every key is used or knowingly ignored.

    Raises CheckpointError for anything else, and ConfigError for an option that does not fit.
    """
    if native.recognises(source):
        imported = native.read(source)
    elif exported.recognises(source):
        imported = exported.read(source)
    else:
        family = next((family for family in OTHERS if family.recognises(source)), None)
        if family is None:
            refuse_known(source.keys)
            family = next((family for family in FAMILIES if family.recognises(source)), None)
        if family is None:
            refuse_unknown(source.keys)
        try:
            imported = family.read(source)
        except (TypeError, ValueError) as error:  # two heads but no distillation token; a list for an epsilon
            msg = f"{source.keys.origin}: weights and settings do not go together: {error}. Is this the whole model?"
            raise CheckpointError(msg) from error
    if source.texts is not None and imported.text is None:
        msg = (
            f"{source.keys.origin}: a {imported.family} model, whose classes cannot be given as text: that is for towers of "
            "CLIP and SigLIP. Leave --classes and --text-embeddings out."
        )
        raise CheckpointError(msg)
    source.keys.require_empty(imported.family)
    head = imported.state["head.weight"]
    if source.keys.headless and head.shape[0] == head.shape[1] and torch.equal(head, torch.eye(len(head))):
        source.notes.append(
            f"head: there is none; outputs are the {len(head)} features themselves, one a channel, and SQNR is theirs"
        )
    return imported
