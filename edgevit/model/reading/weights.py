"""Weights files as named tensors. Nothing in a file is ever executed."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgevit.errors import CheckpointError
from edgevit.files.bounded import open_regular
from edgevit.files.recognition import WEIGHT_FILES, file_kind, not_a_model
from edgevit.model.onnxin import file as onnx_file
from edgevit.model.onnxin.file import OnnxFile
from edgevit.model.reading.head import loss_over_labels
from edgevit.model.reading.pickles import read_pickle
from edgevit.model.reading.unwrap import unwrap

_ZIP, _PICKLE, _LFS = b"PK", b"\x80", b"version https://git-lfs"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Tensors by key, floating ones as float32 on the CPU; metadata and notes are text."""

    tensors: dict[str, Tensor]
    metadata: Mapping[str, str]
    notes: tuple[str, ...]
    taken: str = ""
    """Which of several models in the file these are; "" where it holds one."""
    arguments: str = ""
    """What the training script's arguments in the file say, for people."""
    graph: OnnxFile | None = None
    """Of an ONNX file, whose weights are told by it; ``tensors`` are none then."""
    trained_with: str = ""
    """What the training's settings say of a loss over single labels; see `edgevit.model.reading.head.loss_over_labels`."""


def read_weights(paths: Sequence[Path], which: str | None = None) -> Weights:
    """Read a safetensors, torch or ONNX file, told apart by content, or the shards of one model.

    Args:
        paths: the file, or all shards.
        which: ``raw``, ``ema`` or the name of an entry, where a file holds several models; None is ``auto``.

    Raises:
        CheckpointError: a file that is empty, damaged, of another type, needs code to load, or holds a value that is not finite,
            or a tensor that is sparse, quantized or not all there.
        ConfigError: the file does not hold ``which``.
    """
    if len(paths) == 1 and file_kind(paths[0]) == "onnx":
        graph = onnx_file.read(paths[0])
        with onnx_file.walking(paths[0]):
            return Weights(tensors={}, metadata=graph.metadata, notes=(), graph=graph)
    content: Any = {}
    metadata: Mapping[str, str] = {}
    if len(paths) == 1:
        content, metadata = _read(paths[0])
    else:
        for path in paths:
            shard, _ = _read(path)
            if not isinstance(shard, Mapping) or content.keys() & shard.keys():
                msg = f"{path}: no shard of one model with the other {len(paths) - 1}: the same keys again. Save it again."
                raise CheckpointError(msg)
            content |= shard
    found = unwrap(content, paths[0], which)
    for key, value in found.tensors.items():
        _require_whole(key, value, paths[0])
    floats = {key: value.float() if value.is_floating_point() else value for key, value in found.tensors.items()}
    _require_finite(floats, paths[0])
    return Weights(
        tensors=floats, metadata=metadata, notes=found.notes, taken=found.taken, arguments=found.arguments,
        trained_with=loss_over_labels(content),
    )  # fmt: skip


def metadata_of(path: Path) -> Mapping[str, str]:
    """The text inside a safetensors file; {} for any other file."""
    try:
        with open_regular(path) as file:
            if not _looks_like_safetensors(file.read(64)):
                return {}
        return _read_safetensors(path, tensors=False)[1]
    except (OSError, CheckpointError):
        return {}


def _read(path: Path) -> tuple[Any, Mapping[str, str]]:
    try:
        with open_regular(path) as file:
            start = file.read(64)
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}."
        raise CheckpointError(msg) from error
    if _looks_like_safetensors(start):  # first: its header may be of a length that begins like a pickle
        return _read_safetensors(path)
    known = not_a_model(path)
    if start.startswith((_ZIP, _PICKLE)) and not known:
        return read_pickle(path), {}
    raise CheckpointError(_wrong_type(path, start, known))


def _looks_like_safetensors(start: bytes) -> bool:
    # Eight bytes of header length, then the header: JSON, which the library bounds to 100 MB.
    return len(start) > 8 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] < 1 << 27


def _wrong_type(path: Path, start: bytes, known: str) -> str:
    if not start:
        return f"{path}: the file is empty. Download or save it again."
    if start.startswith(_LFS):
        return f"{path}: this is a Git LFS pointer, not the weights. Fetch them with: git lfs pull"
    return f"{path}: {known or f'neither a safetensors nor a torch file, or a damaged one. Give {WEIGHT_FILES}.'}"


def _read_safetensors(path: Path, *, tensors: bool = True) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            keys = file.keys() if tensors else ()
            return {key: file.get_tensor(key) for key in keys}, file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        msg = f"{path}: damaged or truncated ({error}). Download or save it again."
        raise CheckpointError(msg) from error


def _require_whole(key: str, value: Tensor, path: Path) -> None:
    """Refuse a tensor without all its values in the file: on no device, sparse, quantized, or one value shown often."""
    kind = ""
    if value.is_meta:
        kind = "a tensor without values (on the meta device)"
    elif value.layout != torch.strided:
        kind = f"a sparse tensor ({value.layout})"
    elif value.is_quantized:
        kind = "a quantized tensor"
    elif value.numel() * value.element_size() > value.untyped_storage().nbytes():
        kind = f"a view of {value.numel():,} values on {value.untyped_storage().nbytes():,} bytes"
    if kind:
        msg = f"{path}: {key!r} is {kind}. Save the plain weights: torch.save(model.state_dict(), path)."
        raise CheckpointError(msg)


def _require_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    for key, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            msg = f"{path}: {key!r} holds NaN or infinite values. The training diverged or the file is damaged; use another one."
            raise CheckpointError(msg)
