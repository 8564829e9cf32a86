"""Load a trained ViT of any supported family, save one of edgevit's own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgevit.errors import CheckpointError, ConfigError, StorageError
from edgevit.model.families import import_vit, native
from edgevit.model.families.keys import Keys
from edgevit.model.families.source import Imported, Source
from edgevit.model.reading.files import Files, locate, sha256
from edgevit.model.reading.labels import config_labels, user_labels
from edgevit.model.reading.transforms import contract_of, delivered_size, overridden
from edgevit.model.reading.weights import read_weights
from edgevit.model.vit import Vit, VitConfig, resize
from edgevit.paths import exists
from edgevit.preprocess import Preprocessing
from edgevit.writing import write_whole

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained model with what it takes to use it."""

    model: Vit
    """float32, in eval mode, on the CPU."""
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    """One a class; their numbers where the checkpoint names none."""
    family: str
    """Where it comes from: "timm", "huggingface ViT", ..., "edgevit" for edgevit's own."""
    notes: tuple[str, ...]
    """Every assumption made on the way, one sentence each."""
    digest: str
    """SHA-256 of the weights file, in hex."""


def load_checkpoint(
    path: str | Path,
    *,
    heads: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    activation: str | None = None,
    labels: Path | Sequence[str] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Read a checkpoint: a weights file, or a model folder of transformers or timm.

    Args:
        path: .safetensors, a torch file that needs no code to load, or a folder.
        heads: attention heads, where the checkpoint does not tell.
        image_size: side or (height, width) in pixels to use the model at; position embeddings are interpolated.
        activation: gelu, gelu_tanh, quick_gelu or relu, where the checkpoint does not tell.
        labels: class names, or a file of them (one a line, or JSON).
        preprocessing: single fields of `Preprocessing` to replace: mode, resize, interpolation, mean, std, color.

    Raises:
        CheckpointError: the file is missing, damaged, unsafe, or no plain ViT classifier.
        ConfigError: an option does not fit the model.
    """
    files = locate(Path(path))
    weights = read_weights(files.weights)
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    source = Source(
        keys=Keys(weights.tensors, files.weights),
        metadata=weights.metadata,
        config=files.config,
        heads=heads,
        image_size=size,
        activation=activation,
        notes=list(weights.notes),
    )
    imported = import_vit(source)
    if size is None and imported.any_size:
        size = delivered_size(files.processor)
        if size is not None:
            _require_multiple(size, imported.config.patch_size, f"{files.weights}: the crop of its preprocessor_config.json, ")
    size = size or imported.config.image_size
    _require_multiple(size, imported.config.patch_size, "image size ")
    if native.recognises(source):
        contract, names = _saved_settings(source)
    else:
        contract, names = _stated_settings(source, files, imported.config, size)
    if labels is not None:
        names = user_labels(labels, imported.config.classes)
    model = _model(imported)
    return Checkpoint(
        model=(model if size == imported.config.image_size else resize(model, size)).eval(),
        preprocessing=_checked(overridden(contract.at(size), preprocessing or {}), imported.config),
        labels=names,
        family=imported.family,
        notes=tuple(source.notes),
        digest=sha256(files.weights),
    )


def save_checkpoint(model: Vit, path: str | Path, *, preprocessing: Preprocessing, labels: Sequence[str]) -> None:
    """Write edgevit's own format: one safetensors file with config, preprocessing and labels in its metadata.

    ``path`` is never half a file.

    Raises:
        ValueError: labels or preprocessing do not fit the model.
        StorageError: the disk is full or the folder cannot be written.
    """
    write_whole(Path(path), checkpoint_bytes(model, preprocessing=preprocessing, labels=labels), option="-o")


def checkpoint_bytes(model: Vit, *, preprocessing: Preprocessing, labels: Sequence[str]) -> bytes:
    """What `save_checkpoint` writes. Raises ValueError as it does."""
    from safetensors.torch import save

    if len(labels) != model.config.classes or preprocessing.size != model.config.image_size:
        msg = (
            f"the model has {model.config.classes} classes and takes {model.config.image_size}, "
            f"got {len(labels)} labels and preprocessing for {preprocessing.size}"
        )
        raise ValueError(msg)
    settings = {"config": model.config.to_dict(), "preprocessing": preprocessing.to_dict(), "labels": list(labels)}
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    return save(state, metadata={native.METADATA_KEY: json.dumps(settings)})


def check_replaceable(path: Path) -> None:
    """Raise StorageError if ``path`` is there, and no file that `save_checkpoint` wrote."""
    if exists(path, StorageError) and not _is_own(path):
        msg = f"{path}: exists and is no checkpoint that edgevit wrote; it is not overwritten. Choose another place with -o."
        raise StorageError(msg)


def _is_own(path: Path) -> bool:
    try:
        return path.is_file() and native.METADATA_KEY in read_weights(path).metadata
    except CheckpointError:
        return False


def model_from(content: bytes) -> Vit:
    """The model in what `checkpoint_bytes` gave, for content that is known to be whole; in eval mode."""
    from safetensors.torch import load

    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    config = VitConfig.from_dict(json.loads(header["__metadata__"][native.METADATA_KEY])["config"])
    return _model(Imported(family="edgevit", config=config, state=load(content))).eval()


def _model(imported: Imported) -> Vit:
    with torch.device("meta"):  # no memory and no time for an initialisation that the weights replace
        model = Vit(imported.config)
    model.load_state_dict(imported.state, assign=True)
    return model


def _saved_settings(source: Source) -> tuple[Preprocessing, tuple[str, ...]]:
    settings = native.settings(source)
    try:
        return Preprocessing.from_dict(settings["preprocessing"]), tuple(settings["labels"])
    except (TypeError, AttributeError, ConfigError) as error:
        msg = f"{source.keys.origin}: the saved preprocessing or labels are damaged ({error}). Save the model again."
        raise CheckpointError(msg) from error


def _stated_settings(
    source: Source, files: Files, config: VitConfig, size: tuple[int, int]
) -> tuple[Preprocessing, tuple[str, ...]]:
    """Preprocessing and labels from the files beside the weights, with notes where they are silent."""
    contract, assumed = contract_of(files.config, files.processor, size, config.channels, source.keys.origin)
    source.notes.extend(assumed)
    names = config_labels(files.config)
    if len(names) != config.classes:
        given = f"config.json names {len(names)} labels for {config.classes} classes" if names else "the checkpoint names none"
        source.notes.append(f"labels: {given}; classes go by number, pass --labels to change")
        names = tuple(map(str, range(config.classes)))
    return contract, names


def _require_multiple(size: tuple[int, int], patch: int, what: str) -> None:
    if any(side < 1 or side % patch for side in size):
        near = max(patch, round(min(size) / patch) * patch)
        msg = f"{what}{size[0]}x{size[1]} is not a multiple of the patch size {patch}. Choose one that is: --image-size {near}"
        raise ConfigError(msg)


def _checked(contract: Preprocessing, config: VitConfig) -> Preprocessing:
    if (contract.color == "gray") != (config.channels == 1):
        msg = f"preprocessing: color {contract.color!r} does not fit a model of {config.channels} channels."
        raise ConfigError(msg)
    return contract
