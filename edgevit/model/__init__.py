"""The one Vision Transformer that every family is imported into. Importing this package does not import torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgevit.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from edgevit.model.vit import Vit
    from edgevit.vitconfig import BlockConfig, VitConfig

__all__ = ["BlockConfig", "Checkpoint", "Vit", "VitConfig", "load_checkpoint", "save_checkpoint"]

_HOMES = {
    "Checkpoint": "edgevit.model.checkpoint",
    "load_checkpoint": "edgevit.model.checkpoint",
    "save_checkpoint": "edgevit.model.checkpoint",
    "BlockConfig": "edgevit.vitconfig",
    "Vit": "edgevit.model.vit",
    "VitConfig": "edgevit.vitconfig",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for (PEP 562): torch takes seconds."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_HOMES[name]), name)
