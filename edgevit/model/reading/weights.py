"""A weights file as named tensors. Nothing in the file is ever executed."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgevit.errors import CheckpointError
from edgevit.model.reading.head import loss_over_labels
from edgevit.model.reading.unwrap import unwrap

_ZIP, _PICKLE, _LFS = b"PK", b"\x80", b"version https://git-lfs"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Tensors of a file by key, floating ones as float32 on the CPU; metadata and notes are text."""

    tensors: dict[str, Tensor]
    metadata: Mapping[str, str]
    notes: tuple[str, ...]
    trained_with: str = ""
    """What the training's settings say of a loss over single labels; see `edgevit.model.reading.head.loss_over_labels`."""


def read_weights(path: Path) -> Weights:
    """Read ``path``, a safetensors or torch file, told apart by content.

    Raises CheckpointError for a file that is empty, damaged, of another type, needs code to load, or
    holds a value that is not finite.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}."
        raise CheckpointError(msg) from error
    metadata: Mapping[str, str] = {}
    if _looks_like_safetensors(start):  # first: its header may be of a length that begins like a pickle
        content, metadata = _read_safetensors(path)
    elif start.startswith((_ZIP, _PICKLE)):
        content = _read_torch(path)
    else:
        raise CheckpointError(_wrong_type(path, start))
    tensors, notes = unwrap(content, path)
    floats = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    _require_finite(floats, path)
    return Weights(tensors=floats, metadata=metadata, notes=notes, trained_with=loss_over_labels(content))


def _looks_like_safetensors(start: bytes) -> bool:
    # Eight bytes of header length, then the header: JSON, which the library bounds to 100 MB.
    return len(start) > 8 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] < 1 << 27


def _wrong_type(path: Path, start: bytes) -> str:
    if not start:
        return f"{path}: the file is empty. Download or save it again."
    if start.startswith(_LFS):
        return f"{path}: this is a Git LFS pointer, not the weights. Fetch them with: git lfs pull"
    return f"{path}: neither a safetensors nor a torch file, or a damaged one. Give a .safetensors, .pt, .pth or .bin file."


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118, not a dict
    except (SafetensorError, OSError, ValueError) as error:
        msg = f"{path}: damaged or truncated ({error}). Download or save it again."
        raise CheckpointError(msg) from error


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        kind = (
            "would run code to load, which edgevit refuses" if "global" in str(error).lower() else "is damaged or no state_dict"
        )
        msg = (
            f"{path}: a pickle that {kind}. Save the weights alone where the model was made: "
            "torch.save(model.state_dict(), path), or safetensors.torch.save_model(model, path)."
        )
        raise CheckpointError(msg) from error
    except Exception as error:  # a damaged pickle can make the unpickler raise anything
        if "TorchScript" in str(error):
            msg = f"{path}: a TorchScript program, not weights. Save the model's state_dict() instead."
            raise CheckpointError(msg) from error
        raise CheckpointError(_damaged(path)) from error


def _damaged(path: Path) -> str:
    return f"{path}: a torch file that is damaged or truncated. Download or save it again."


def _require_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    for key, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            msg = f"{path}: {key!r} holds NaN or infinite values. The training diverged or the file is damaged; use another one."
            raise CheckpointError(msg)
