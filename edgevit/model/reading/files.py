"""Where a checkpoint's weights and settings lie on disk."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit.errors import CheckpointError
from edgevit.files.bounded import open_regular, read_bounded
from edgevit.files.fromjson import json_value
from edgevit.files.paths import exists, is_file
from edgevit.files.recognition import WEIGHT_SUFFIXES, not_a_model, not_there

# The names that transformers, timm and OpenCLIP give to the weights in a model folder, the preferred one first.
OPEN_CLIP = "open_clip_"
WEIGHT_NAMES = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth", f"{OPEN_CLIP}model.safetensors",
                f"{OPEN_CLIP}pytorch_model.bin")  # fmt: skip
INDEX_NAMES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
ADAPTER_NAMES = ("adapter_model.safetensors", "adapter_model.bin", "adapter_config.json")
PROCESSOR, NESTED_PROCESSOR = "preprocessor_config.json", "processor_config.json"

# What a trainer leaves beside the weights.
_STATE_FILES = re.compile(
    r"(optimizer|scheduler|scaler|rng_state|training_args|random_states|trainer_state)[._].*|.*_optim_states\.pt"
)
_EXPORT = re.compile(r"model(_\w+)?\.onnx")
"""The names that optimum gives to what it exports, whose settings lie beside it."""
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-\d{5}(?P<suffix>\.safetensors|\.bin)")
_JSON_LIMIT = 16 * 2**20  # bytes; a config.json with 21,841 labels has 1 MiB, a long training's state a few
_INDEX_LIMIT = 64 * 2**20  # bytes; the index of the largest language models has a few MiB


@dataclass(frozen=True, kw_only=True)
class Files:
    """The weights file or files and the settings beside them; ``{}`` where there are none."""

    weights: tuple[Path, ...]
    """One file, or the shards of one model in the order of their names."""
    origin: Path
    """What messages call the weights: the file, or the index of shards."""
    config: dict[str, Any]
    """``config.json`` of transformers or timm, ``open_clip_config.json`` of OpenCLIP."""
    processor: dict[str, Any]
    """The image processor's settings, of transformers."""
    processor_name: str = PROCESSOR
    """The file that they come from, as a user would call it."""
    notes: tuple[str, ...] = ()

    def digest(self) -> str:
        """SHA-256 of the weights, in hex; of several files, of the hashes of each."""
        found = [sha256(path) for path in self.weights]
        return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def locate(path: Path) -> Files:
    """Find the files of the checkpoint ``path``: a weights file, an index of shards, a model folder, a trainer's output.

    A file that bears a model folder's standard name is read with its folder's settings.

    Raises CheckpointError if there are no weights, a shard is missing, or the settings are not JSON.
    """
    if not exists(path, CheckpointError):
        msg = f"{path}: {not_there(str(path))}"
        raise CheckpointError(msg)
    if path.is_dir():
        return _in_folder(path)
    shard = _SHARD.fullmatch(path.name)
    index = path.with_name(f"{shard['stem']}{shard['suffix']}.index.json") if shard else path
    if index.name.endswith(".index.json") and index.is_file():
        notes = (f"weights: {path.name} is a part of a model; read all of {index.name}",) if shard else ()
        return _with_settings(_shards(index), index, notes)
    if path.name in WEIGHT_NAMES:
        return _with_settings((path,), path)
    if _EXPORT.fullmatch(path.name):
        return _with_settings((path,), path)
    if path.name in ADAPTER_NAMES:
        raise CheckpointError(_adapter(path.parent))
    return Files(weights=(path,), origin=path, config={}, processor={})


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _in_folder(folder: Path) -> Files:
    notes: tuple[str, ...] = ()
    if not _holds_weights(folder) and (found := _checkpoints(folder)):
        folder, notes = _chosen_checkpoint(folder, found)
    # As transformers looks for them: one file before several, safetensors before pickles.
    for single, index in itertools.zip_longest(WEIGHT_NAMES, INDEX_NAMES):
        if (folder / single).is_file():
            return _with_settings((folder / single,), folder / single, notes)
        if index is not None and (folder / index).is_file():
            return _with_settings(_shards(folder / index), folder / index, notes)
    if any((folder / name).is_file() for name in ADAPTER_NAMES):
        raise CheckpointError(_adapter(folder))
    exports = [path for path in (folder / "model.onnx", folder / "onnx" / "model.onnx") if path.is_file()]
    others = any(path.name == "manifest.json" or path.name.endswith(WEIGHT_SUFFIXES) for path in folder.iterdir())
    if exports and not others:
        return _with_settings((exports[0],), exports[0], notes)
    return _with_settings(*_only_file(folder), notes)


def _holds_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (*WEIGHT_NAMES, *INDEX_NAMES))


def _only_file(folder: Path) -> tuple[tuple[Path, ...], Path]:
    """The one weights file of a folder that has it under a name of its own. Raises CheckpointError if there is not one."""
    files = [path for path in sorted(folder.iterdir()) if path.name.endswith(WEIGHT_SUFFIXES) and path.is_file()]
    files = [path for path in files if not _STATE_FILES.fullmatch(path.name)]
    if not files and not (folder / "manifest.json").is_file():  # which a bundle has
        files = [path for path in sorted(folder.iterdir()) if path.name.endswith(".onnx") and path.is_file()]
    if len(files) == 1:
        return (files[0],), files[0]
    if files:
        names = ", ".join(path.name for path in files[:6]) + (" ..." if len(files) > 6 else "")
        msg = f"{folder}: {len(files)} weights files ({names}). Name the one to read: {files[0]}"
        raise CheckpointError(msg)
    if any(folder.glob("*.distcp")) or any(folder.glob("*/*.distcp")):
        msg = f"{folder}: a distributed checkpoint (FSDP). Merge it first: accelerate merge-weights {folder} OUT, then give OUT."
        raise CheckpointError(msg)
    if any(folder.glob("*/*_model_states.pt")):
        msg = f"{folder}: a DeepSpeed checkpoint. Merge it first, in that folder: python zero_to_fp32.py . OUT; then give OUT."
        raise CheckpointError(msg)
    what = not_a_model(folder) or f"the folder holds neither {' nor '.join(WEIGHT_NAMES[:2])}. Name the weights file itself."
    msg = f"{folder}: {what}"
    raise CheckpointError(msg)


def _checkpoints(folder: Path) -> list[Path]:
    """Checkpoints that transformers' Trainer wrote into its output folder, in the order of their steps."""
    found = [path for path in folder.iterdir() if _CHECKPOINT.fullmatch(path.name) and path.is_dir() and _holds_weights(path)]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def _chosen_checkpoint(folder: Path, found: Sequence[Path]) -> tuple[Path, tuple[str, ...]]:
    """The checkpoint that the Trainer calls its best, or the only one. Raises CheckpointError if nothing tells."""
    names = ", ".join(path.name for path in found)
    for state in (folder, *reversed(found)):
        # A path of where it was trained; only its last part means anything here.
        best = Path(str(_read_json(state / "trainer_state.json").get("best_model_checkpoint") or "")).name
        chosen = next((path for path in found if path.name == best), None)
        if chosen is not None:
            others = [path.name for path in found if path != chosen]
            more = f"; others: {', '.join(others)}" if others else ""
            return chosen, (f"weights: took {best}, the best by trainer_state.json{more}",)
    if len(found) == 1:
        return found[0], (f"weights: took {names}, the only checkpoint in {folder}",)
    msg = f"{folder}: a trainer's output folder with {names}; its trainer_state.json names no best one. Name one: {found[-1]}"
    raise CheckpointError(msg)


def _shards(index: Path) -> tuple[Path, ...]:
    """The files that an index of shards names. Raises CheckpointError for one that is missing or lies elsewhere."""
    table = _read_json(index, _INDEX_LIMIT).get("weight_map")
    if not isinstance(table, dict) or not table:
        msg = f"{index}: names no shards (no 'weight_map'). Download it again, or save the model as one file."
        raise CheckpointError(msg)
    names = sorted({str(name) for name in table.values()})
    for name in names:
        if name != Path(name).name or name in ("", ".", "..") or "\\" in name or not name.endswith((".safetensors", ".bin")):
            msg = f"{index}: names a file outside its folder, or no weights: {name!r}. Do not trust this model."
            raise CheckpointError(msg)
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        msg = f"{index.parent / missing[0]}: missing ({len(missing)} of {len(names)} shards). Download the folder again."
        raise CheckpointError(msg)
    return tuple(index.parent / name for name in names)


def _adapter(folder: Path) -> str:
    base = _read_json(folder / "adapter_config.json").get("base_model_name_or_path") or "its base model"
    return (
        f"{folder}: an adapter (LoRA), which changes {base} and is no model itself. Merge them first: "
        "PeftModel.from_pretrained(base, folder).merge_and_unload().save_pretrained(OUT), then give OUT."
    )


def _with_settings(weights: tuple[Path, ...], origin: Path, notes: tuple[str, ...] = ()) -> Files:
    folder = origin.absolute().parent
    processor, name = _processor(folder)
    if not processor and _CHECKPOINT.fullmatch(folder.name):
        # The Trainer writes the processor into the output folder at its end, not into every checkpoint.
        processor, name = _processor(folder.parent)
        if processor:
            notes += (f"preprocessing: took {name} of {folder.parent.name}; {folder.name} has none",)
    if not processor and origin.suffix == ".onnx" and folder.name == "onnx":  # as models on the hub have it
        processor, name = _processor(folder.parent)
        folder = folder if is_file(folder / "config.json", CheckpointError) else folder.parent
    own = f"{OPEN_CLIP}config.json" if origin.name.startswith(OPEN_CLIP) else "config.json"
    config = _read_json(folder / own)
    return Files(weights=weights, origin=origin, config=config, processor=processor, processor_name=name, notes=notes)


def _processor(folder: Path) -> tuple[dict[str, Any], str]:
    """The image processor's settings; as in transformers, those inside a processor_config.json come first."""
    nested = _read_json(folder / NESTED_PROCESSOR).get("image_processor")
    if isinstance(nested, dict):
        return nested, NESTED_PROCESSOR
    return _read_json(folder / PROCESSOR), PROCESSOR


def _read_json(path: Path, limit: int = _JSON_LIMIT) -> dict[str, Any]:
    if not is_file(path, CheckpointError):
        return {}
    try:
        data = json_value(read_bounded(path, limit))
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read as JSON ({error}). Download it again, or name the weights file alone."
        raise CheckpointError(msg) from error
    if not isinstance(data, dict):
        msg = f"{path}: expected a JSON object, got {type(data).__name__}. Download it again."
        raise CheckpointError(msg)
    return data
