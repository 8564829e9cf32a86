"""Load a trained ViT of any supported family, save one of edgevit's own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgevit.errors import CheckpointError, ConfigError, storage_errors
from edgevit.model.families import import_vit, native
from edgevit.model.families.keys import Keys
from edgevit.model.families.source import Imported, Source
from edgevit.model.reading.files import Files, locate, sha256
from edgevit.model.reading.head import problem_type_of, two_classes
from edgevit.model.reading.labels import config_labels, given_labels, user_labels
from edgevit.model.reading.transforms import contract_of, delivered_size, overridden
from edgevit.model.reading.weights import read_weights
from edgevit.model.vit import Vit, VitConfig, resize
from edgevit.preprocess import Preprocessing
from edgevit.problem import MULTI_LABEL, SINGLE_LABEL

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
    problem_type: str = SINGLE_LABEL
    """What the logits mean, one of `edgevit.problem.PROBLEM_TYPES`."""


def load_checkpoint(
    path: str | Path,
    *,
    heads: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    activation: str | None = None,
    labels: Path | Sequence[str] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    problem_type: str | None = None,
) -> Checkpoint:
    """Read a checkpoint: a weights file, or a model folder of transformers or timm.

    Args:
        path: .safetensors, a torch file that needs no code to load, or a folder.
        heads: attention heads, where the checkpoint does not tell.
        image_size: side or (height, width) in pixels to use the model at; position embeddings are interpolated.
        activation: gelu, gelu_tanh, quick_gelu or relu, where the checkpoint does not tell.
        labels: class names, or a file of them (one a line, or JSON).
        preprocessing: single fields of `Preprocessing` to replace: mode, resize, interpolation, mean, std, color.
        problem_type: one of `edgevit.problem.PROBLEM_TYPES`, where the checkpoint does not tell: one class out of several
            (softmax), or any number of labels (sigmoid). A head of one output with two labels is the second against the first.

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
    imported, problem_type = _with_head(import_vit(source), source, labels, problem_type, weights.trained_with)
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
        source.notes[:] = [note for note in source.notes if not note.startswith("labels: ")]  # of the checkpoint's own
    model = _model(imported)
    return Checkpoint(
        model=(model if size == imported.config.image_size else resize(model, size)).eval(),
        preprocessing=_checked(overridden(contract.at(size), preprocessing or {}), imported.config),
        labels=names,
        family=imported.family,
        notes=tuple(source.notes),
        digest=sha256(files.weights),
        problem_type=problem_type,
    )


def save_checkpoint(
    model: Vit, path: str | Path, *, preprocessing: Preprocessing, labels: Sequence[str], problem_type: str = SINGLE_LABEL
) -> None:  # fmt: skip
    """Write edgevit's own format: one safetensors file with config, preprocessing, labels and problem type in its metadata.

    It is written beside ``path`` and then renamed, so ``path`` is never half a file.

    Raises:
        ValueError: labels or preprocessing do not fit the model.
        StorageError: the disk is full or the folder cannot be written.
    """
    content = checkpoint_bytes(model, preprocessing=preprocessing, labels=labels, problem_type=problem_type)
    path = Path(path)
    beside = path.with_name(f".{path.name}.part")
    with storage_errors(path, "-o"):
        try:
            beside.write_bytes(content)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def checkpoint_bytes(
    model: Vit, *, preprocessing: Preprocessing, labels: Sequence[str], problem_type: str = SINGLE_LABEL
) -> bytes:  # fmt: skip
    """What `save_checkpoint` writes. Raises ValueError as it does."""
    from safetensors.torch import save

    if len(labels) != model.config.classes or preprocessing.size != model.config.image_size:
        msg = (
            f"the model has {model.config.classes} classes and takes {model.config.image_size}, "
            f"got {len(labels)} labels and preprocessing for {preprocessing.size}"
        )
        raise ValueError(msg)
    settings = {"config": model.config.to_dict(), "preprocessing": preprocessing.to_dict(), "labels": list(labels),
                "problem_type": problem_type}  # fmt: skip
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    return save(state, metadata={native.METADATA_KEY: json.dumps(settings)})


def is_own(path: Path) -> bool:
    """Whether `save_checkpoint` wrote the file."""
    try:
        return native.METADATA_KEY in read_weights(path).metadata
    except CheckpointError:
        return False


def model_from(content: bytes) -> Vit:
    """The model in what `checkpoint_bytes` gave, for content that is known to be whole; in eval mode."""
    from safetensors.torch import load

    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    config = VitConfig.from_dict(json.loads(header["__metadata__"][native.METADATA_KEY])["config"])
    return _model(Imported(family="edgevit", config=config, state=load(content))).eval()


def _with_head(
    imported: Imported, source: Source, labels: Path | Sequence[str] | None, asked: str | None, trained_with: str
) -> tuple[Imported, str]:
    """What the head's outputs mean; one output with two labels becomes two classes. ``source`` gets the notes."""
    stated = {"problem_type": native.settings(source)["problem_type"]} if native.recognises(source) else source.config
    names = config_labels(source.config) if labels is None else given_labels(labels)
    pair = imported.config.classes == 1 and len(names) == 2 and asked != MULTI_LABEL
    if pair:
        imported, asked = two_classes(imported), asked or SINGLE_LABEL
        source.notes.append(f"problem type: the head's one output is taken for {names[1]!r} against {names[0]!r} (sigmoid)")
    problem_type, notes = problem_type_of(asked, stated, imported.config.classes, trained_with, source.keys.origin)
    source.notes.extend(notes)
    return imported, problem_type


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
