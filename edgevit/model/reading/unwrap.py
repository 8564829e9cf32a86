"""The state dict inside what a training script saved: containers opened, common prefixes removed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from edgevit.errors import CheckpointError

CONTAINERS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema", "teacher")
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "timm_model.")
HEADS = ("linear_head.", "head.", "classifier.")

# Counters that torch.optim.swa_utils.AveragedModel keeps beside the weights.
BOOKKEEPING = ("n_averaged",)


def unwrap(content: Any, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors in ``content`` by key, and notes on what was chosen.

    Raises CheckpointError if there are none.
    """
    notes: tuple[str, ...] = ()
    while found := _containers_in(content):
        if len(found) > 1:
            notes += (f"weights: took {found[0]!r}; the file also holds {', '.join(map(repr, found[1:]))}",)
        content = content[found[0]]
    tensors = _tensors_in(content)
    if not tensors:
        msg = f"{path}: holds no named tensors. Save the model's state_dict()."
        raise CheckpointError(msg)
    return _without_prefixes(tensors), notes


def _containers_in(content: Any) -> list[str]:
    if not isinstance(content, Mapping):
        return []
    return [name for name in CONTAINERS if isinstance(content.get(name), Mapping)]


def _tensors_in(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor) and key not in BOOKKEEPING}


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    while prefix := next((p for p in PREFIXES if _is_shared(p, tensors)), ""):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _is_shared(prefix: str, tensors: Mapping[str, Tensor]) -> bool:
    inside = [key for key in tensors if key.startswith(prefix)]
    outside = [key for key in tensors if not key.startswith(prefix)]
    # A classifier around a backbone keeps its head outside.
    return bool(inside) and all(prefix == "backbone." and key.startswith(HEADS) for key in outside)
