"""Load a trained ViT of any supported family, save one of edgevit's own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from edgevit.errors import CheckpointError, ConfigError, StorageError
from edgevit.files.paths import exists
from edgevit.files.writing import write_whole
from edgevit.model.families import exported, import_vit, native
from edgevit.model.families.keys import Keys
from edgevit.model.families.source import Imported, WeightSource
from edgevit.model.reading.files import Files, locate
from edgevit.model.reading.head import problem_type_of, require_others, two_classes
from edgevit.model.reading.hub import on_disk
from edgevit.model.reading.labels import config_labels, given_labels, user_labels
from edgevit.model.reading.transforms import Stated, Takes, at_size, fed_size, overridden, stated_contract, with_look
from edgevit.model.reading.weights import metadata_of, read_weights
from edgevit.model.vit import Vit, resize
from edgevit.preprocess import Preprocessing
from edgevit.problem import MULTI_LABEL, SINGLE_LABEL
from edgevit.textclasses import TextClasses, TextHead, TextSource
from edgevit.vitconfig import VitConfig

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
    """SHA-256 of the weights, in hex: of the file or its shards, and the name of the model taken where it holds several."""
    problem_type: str = SINGLE_LABEL
    """What the logits mean, one of `edgevit.problem.PROBLEM_TYPES`."""
    text: TextHead | None = None
    """How the head was made, where classes are given as text."""
    hub: str = ""
    """Where its weights were downloaded from, ``org/name@commit``; "" of files that were here."""
    sized_by: str = ""
    """What gives the input size: a settings file's name, ``--image-size``, or how it was told from the weights."""

    def to_bytes(self) -> bytes:
        """A file in edgevit's own format; see `checkpoint_bytes`."""
        return checkpoint_bytes(
            self.model, preprocessing=self.preprocessing, labels=self.labels, problem_type=self.problem_type, text=self.text
        )  # fmt: skip

    def with_features(self) -> Checkpoint:
        """The same, whose graphs give the features beside the logits."""
        model = copy(self.model)
        model.config = replace(model.config, gives_features=True)
        return replace(self, model=model)

    def with_model(self, model: Vit) -> Checkpoint:
        """The same with another model, and a digest of that."""
        changed = replace(self, model=model)
        return replace(changed, digest=hashlib.sha256(changed.to_bytes()).hexdigest())


def load_checkpoint(
    path: str | Path,
    *,
    heads: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    activation: str | None = None,
    labels: Path | Sequence[str] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    weights: str | None = None,
    problem_type: str | None = None,
    texts: TextClasses | TextSource | None = None,
    headless: bool = False,
) -> Checkpoint:
    """Read a checkpoint: a weights file, an ONNX file of a ViT in float, or a model folder of transformers, timm or optimum.

    Args:
        path: .safetensors, a torch file that needs no code to load, .onnx, an index of shards, a model folder of transformers,
            timm or optimum, the output folder of transformers' Trainer, or a name on a hub (`edgevit.model.reading.hub`).
        heads: attention heads, where the checkpoint does not tell.
        image_size: side or (height, width) in pixels to use the model at; position embeddings are interpolated.
        activation: gelu, gelu_tanh, quick_gelu or relu, where the checkpoint does not tell.
        labels: class names, or a file of them (one a line, or JSON).
        preprocessing: single fields of `Preprocessing` to replace: mode, resize, interpolation, mean, std, color.
        weights: which of several in one file: ``auto`` (the default: an average, EMA, if there is one, as timm does),
            ``raw``, ``ema``, or the name of an entry.
        problem_type: one of `edgevit.problem.PROBLEM_TYPES`, where the checkpoint does not tell: one class out of several
            (softmax), or any number of labels (sigmoid). A head of one output with two labels is the second against the first.
        headless: a model without a head is read, too: its outputs are then its features, one a channel.
        texts: classes that an image tower of CLIP or SigLIP is to tell apart: their embeddings, or where these come from.

    Raises:
        CheckpointError: the file is missing, damaged, unsafe, or no plain ViT classifier.
        ConfigError: an option does not fit the model.
    """
    place, fetched = on_disk(Path(path))
    files, said = locate(place), list[str]()
    if isinstance(texts, TextSource):
        from edgevit.model.text_towers import resolved

        texts, said = resolved(texts, place, None if labels is None else given_labels(labels), activation=activation)
    if fetched is not None:
        said.insert(0, f"weights: {fetched.origin}, of the hub")
    read = read_weights(files.weights, weights)
    if read.graph is not None:
        files = replace(files, weights=read.graph.files, config=exported.with_labels(files.config, read.metadata))
    source = WeightSource(
        keys=Keys(read.tensors, files.origin, headless=headless),
        metadata=read.metadata,
        config=files.config,
        heads=heads,
        image_size=(image_size, image_size) if isinstance(image_size, int) else image_size,
        activation=activation,
        texts=texts,
        graph=read.graph,
        fed=None if read.graph is None else fed_size(files),
        notes=[*files.notes, *read.notes, *said],
    )
    imported, problem_type = _with_head(import_vit(source), source, labels, problem_type, read.trained_with)
    if read.arguments:
        source.notes.append(f"arguments: those of the training in the file say {read.arguments}; compare, they are not applied")
    stated, names = _saved_settings(source) if native.recognises(source) else _stated_settings(source, files, imported)
    size, sized_by = _input_size(source, files, imported, stated)
    if texts is not None:
        names = texts.called(None if labels is None else given_labels(labels)).labels
    elif labels is not None:
        names = user_labels(labels, imported.config.classes)
    if texts is not None or labels is not None:
        source.notes[:] = [note for note in source.notes if not note.startswith("labels: ")]  # of the checkpoint's own
    model = _model(imported)
    contract = overridden(at_size(stated, size, files.config), preprocessing or {})
    digest = files.digest()
    return Checkpoint(
        model=_at_size(model, size).eval(),
        preprocessing=_checked(contract, imported.config),
        labels=names,
        family=imported.family,
        notes=tuple(source.notes),
        digest=hashlib.sha256(f"{digest} {read.taken}".encode()).hexdigest() if read.taken else digest,
        problem_type=problem_type,
        text=imported.text,
        hub="" if fetched is None else fetched.origin,
        sized_by=sized_by,
    )


def save_checkpoint(
    model: Vit, path: str | Path, *, preprocessing: Preprocessing, labels: Sequence[str], problem_type: str = SINGLE_LABEL,
    text: TextHead | None = None,
) -> None:  # fmt: skip
    """Write edgevit's own format: one safetensors file with config, preprocessing, labels and problem type in its metadata.

    ``path`` is never half a file.

    Raises:
        ValueError: labels or preprocessing do not fit the model.
        StorageError: the disk is full or the folder cannot be written.
    """
    content = checkpoint_bytes(model, preprocessing=preprocessing, labels=labels, problem_type=problem_type, text=text)
    write_whole(Path(path), content, option="-o")


def checkpoint_bytes(
    model: Vit, *, preprocessing: Preprocessing, labels: Sequence[str], problem_type: str = SINGLE_LABEL,
    text: TextHead | None = None,
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
                "problem_type": problem_type} | ({} if text is None else {"text": asdict(text)})  # fmt: skip
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    return save(state, metadata={native.METADATA_KEY: json.dumps(settings)})


def check_replaceable(path: Path) -> None:
    """Raise StorageError if ``path`` is there, and no file that `save_checkpoint` wrote."""
    if exists(path, StorageError) and not _is_own(path):
        msg = f"{path}: exists and is no checkpoint that edgevit wrote; it is not overwritten. Choose another place with -o."
        raise StorageError(msg)


def _is_own(path: Path) -> bool:
    return path.is_file() and native.METADATA_KEY in metadata_of(path)


def model_from(content: bytes) -> Vit:
    """The model in what `checkpoint_bytes` gave, for content that is known to be whole; in eval mode."""
    from safetensors.torch import load

    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    config = VitConfig.from_dict(json.loads(header["__metadata__"][native.METADATA_KEY])["config"])
    return _model(Imported(family="edgevit", config=config, state=load(content))).eval()


def _with_head(
    imported: Imported, source: WeightSource, labels: Path | Sequence[str] | None, asked: str | None, trained_with: str
) -> tuple[Imported, str]:
    """What the head's outputs mean; one output with two labels becomes two classes. ``source`` gets the notes."""
    stated: Mapping[str, Any] = source.config
    if native.recognises(source):
        stated = {"problem_type": native.settings(source)["problem_type"]}
    elif imported.problem_type and source.config.get("problem_type") is None:
        stated = {"problem_type": imported.problem_type}
    elif imported.text is not None:
        stated = {"problem_type": imported.text.problem_type}
        require_others(imported.config.classes, asked or imported.text.problem_type)
    names = () if imported.text else config_labels(source.config) if labels is None else given_labels(labels)
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


def _saved_settings(source: WeightSource) -> tuple[Stated, tuple[str, ...]]:
    settings = native.settings(source)
    try:
        contract = Preprocessing.from_dict(settings["preprocessing"])
        return Stated(contract=contract, sized_by="saved with the weights"), tuple(settings["labels"])
    except (ValueError, ConfigError) as error:
        msg = f"{source.keys.origin}: the saved preprocessing or labels are damaged ({error}). Save the model again."
        raise CheckpointError(msg) from error


def _stated_settings(source: WeightSource, files: Files, imported: Imported) -> tuple[Stated, tuple[str, ...]]:
    """Preprocessing and labels from the files beside the weights, with notes where they are silent."""
    config = imported.config
    takes = Takes(size=config.image_size, channels=config.channels, pipeline=imported.pipeline)
    stated = stated_contract(files, takes)
    if imported.look is not None:
        stated = with_look(stated, imported.look)
    source.notes.extend(stated.notes)
    names = config_labels(files.config)
    if len(names) != config.classes:
        given = f"config.json names {len(names)} labels for {config.classes} classes" if names else "the checkpoint names none"
        source.notes.append(f"labels: {given}; classes go by number, pass --labels to change")
        names = tuple(map(str, range(config.classes)))
    return stated, names


def _input_size(source: WeightSource, files: Files, imported: Imported, stated: Stated) -> tuple[tuple[int, int], str]:
    """(height, width) that the model is built for, and what gives it: the user, what the source's pipeline feeds, the weights."""
    native_size, patch = imported.config.image_size, imported.config.patch_size
    if source.image_size is not None:
        _require_multiple(source.image_size, patch, "image size ")
        return source.image_size, "--image-size"
    if source.graph is not None:
        return native_size, "the ONNX graph"
    if stated.sized_by:
        size = stated.contract.size
        _require_multiple(size, patch, f"{files.origin}: the input size by {stated.sized_by}, ")
        if size != native_size and not imported.any_size:
            at, own = ("x".join(map(str, pair)) for pair in (size, native_size))
            source.notes.append(
                f"image size: {stated.sized_by} feeds {at}, the weights have positions for {own}, which are interpolated "
                f"(transformers does that with interpolate_pos_encoding=True alone); --image-size {own} takes theirs"
            )
        return size, stated.sized_by
    return native_size, "config.json" if source.config.get("image_size") else "the weights' positions"


def _at_size(model: Vit, size: tuple[int, int]) -> Vit:
    """``model`` at another input size. Raises ConfigError where it would have to merge more tokens than it then has."""
    if size == model.config.image_size:
        return model
    try:
        return resize(model, size)
    except ValueError as error:
        msg = f"--image-size {size[0]}x{size[1]}: {error}. Take a larger size, or the model without merging."
        raise ConfigError(msg) from error


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
