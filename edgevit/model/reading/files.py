"""Where a checkpoint's weights and settings lie on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit.errors import CheckpointError
from edgevit.paths import is_file, is_folder

# The names that transformers and timm give to the weights in a model folder, the preferred one first.
WEIGHT_NAMES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True, kw_only=True)
class Files:
    """The weights file and the settings beside it; ``{}`` where there are none."""

    weights: Path
    config: dict[str, Any]
    """``config.json`` of transformers or timm."""
    processor: dict[str, Any]
    """``preprocessor_config.json`` of transformers."""


def locate(path: Path) -> Files:
    """Find the files of the checkpoint ``path``, a weights file or a model folder.

    A file that bears a model folder's standard name is read with its folder's settings.

    Raises CheckpointError if there are no weights, or the settings are not JSON.
    """
    weights = _weights_in(path) if is_folder(path, CheckpointError) else path
    if not is_file(weights, CheckpointError):
        msg = f"{path}: no such file. Give a .safetensors, .pt, .pth or .bin file, or a model folder."
        raise CheckpointError(msg)
    if not path.is_dir() and path.name not in WEIGHT_NAMES:
        return Files(weights=weights, config={}, processor={})
    folder = weights.parent
    return Files(
        weights=weights,
        config=_read_json(folder / "config.json"),
        processor=_read_json(folder / "preprocessor_config.json"),
    )


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _weights_in(folder: Path) -> Path:
    for name in WEIGHT_NAMES:
        if is_file(folder / name, CheckpointError):
            return folder / name
    if any(folder.glob("*.index.json")):
        msg = (
            f"{folder}: the weights are split over several files. Save them again as one: save_pretrained(max_shard_size='10GB')."
        )
        raise CheckpointError(msg)
    msg = f"{folder}: the folder holds neither {' nor '.join(WEIGHT_NAMES)}. Name the weights file itself."
    raise CheckpointError(msg)


def _read_json(path: Path) -> dict[str, Any]:
    if not is_file(path, CheckpointError):
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read as JSON ({error}). Download it again, or name the weights file alone."
        raise CheckpointError(msg) from error
    if not isinstance(data, dict):
        msg = f"{path}: expected a JSON object, got {type(data).__name__}. Download it again."
        raise CheckpointError(msg)
    return data
