"""``edgevit classes``: other classes in a bundle whose classes are given as text, without calibrating or compiling anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.bundle import (
    ENGINE,
    GRAPHS,
    KNOWN,
    SAMPLES,
    Bundle,
    Manifest,
    check_replaceable,
    open_bundle,
    read_signature,
    write_bundle,
)
from edgevit.commands.arguments import path_of, path_or_none
from edgevit.commands.import_options import text_source
from edgevit.engine.samples import has_reference, load_samples, samples_bytes
from edgevit.errors import BundleError, ConfigError, needs_extra
from edgevit.files.clashes import Output, refuse_clashes
from edgevit.onnxhead import with_head
from edgevit.textclasses import TextClasses, TextHead, read_embeddings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OF_BEFORE = ("classes: ", "accuracy: ", "labels: ", "problem type: ", "calibration: ")
"""Notes of a bundle that are about the classes it had."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassesResult:
    """A bundle with other classes."""

    bundle: Bundle
    before: tuple[str, ...]
    """The classes that it had."""
    unsigned: bool
    """Whether the bundle before was signed, which the new one is not."""
    uncompiled: bool
    """Whether the bundle before had a compiled engine, which holds its head and is left out."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        labels = list(self.bundle.manifest.labels)
        return {"bundle": str(self.bundle.path), "classes": labels, "before": list(self.before), "unsigned": self.unsigned,
                "uncompiled": self.uncompiled}  # fmt: skip


def set_classes(
    bundle: str | Path,
    classes: str | Path | Sequence[str],
    *,
    out: str | Path,
    prompt: str | Sequence[str] | None = None,
    text_model: str | Path | None = None,
) -> ClassesResult:
    """Write the bundle with other classes to ``out``; graphs are the same but for their heads, every other file to the byte.

    Args:
        bundle: one whose classes were given as text.
        classes: a file of embeddings (`edgevit.textclasses.read_embeddings`); with ``text_model`` names, or a file of them.
        out: the bundle to write, a folder or .zip.
        prompt: sentences with ``{}``, where the class stands, for ``text_model``.
        text_model: a checkpoint with the text tower.

    Raises:
        BundleError: no such bundle, or its classes were trained.
        ConfigError: embeddings of another model, or what is no classes.
    """
    source, target = open_bundle(path_of(bundle, "bundle")), path_of(out, "out")
    made = _text_head(source)
    texts = _texts(classes, prompt, path_or_none(text_model, "text_model"))
    read = [source.path, *(path for path in (classes, text_model) if isinstance(path, Path))]
    refuse_clashes([Output(name="-o", path=target, replaced=True)], read)
    check_replaceable(target)
    _require_fit(source, texts)
    made = replace(made, prompts=texts.prompts)
    weight, bias = texts.head(made)
    names = [name for name in source.manifest.files if name not in (ENGINE, KNOWN) and not name.endswith(".data")]
    files = {name: _changed(source, name, weight, bias) for name in names}
    signed = read_signature(source.path) is not None
    compiled = ENGINE in source.manifest.files
    written = write_bundle(target, _manifest(source.manifest, texts, made), files)
    return ClassesResult(bundle=written, before=source.manifest.labels, unsigned=signed, uncompiled=compiled)


def _text_head(bundle: Bundle) -> TextHead:
    if bundle.manifest.text is None:
        msg = (
            f"{bundle.path}: its {len(bundle.manifest.labels)} classes were trained, not given as text, so they cannot be "
            "exchanged. That goes with towers of CLIP and SigLIP: edgevit build MODEL --classes NAMES"
        )
        raise BundleError(msg)
    return bundle.manifest.text


def _texts(classes: str | Path | Sequence[str], prompt: Any, model: Path | None) -> TextClasses:
    if model is None:
        if not isinstance(classes, str | Path):
            msg = "classes by name need a text tower: name the checkpoint that has it with --text-model"
            raise ConfigError(msg)
        if prompt:
            msg = "--prompt is for names, which --text-model makes embeddings of"
            raise ConfigError(msg)
        return read_embeddings(path_of(classes, "classes"))
    return embed(model, classes, prompt=prompt)


def embed(
    model: str | Path, classes: str | Path | Sequence[str], *, prompt: str | Sequence[str] | None = None,
    activation: str | None = None,
) -> TextClasses:  # fmt: skip
    """Text embeddings of ``classes`` by the text tower of the checkpoint ``model``.

    Raises as `edgevit.model.text_towers.texts_by_tower` does.
    """
    with needs_extra("build"):
        from edgevit.model.text_towers import resolved
    texts, _ = resolved(text_source(classes, prompt), path_of(model, "model"), activation=activation)
    return texts


def _require_fit(bundle: Bundle, texts: TextClasses) -> None:
    features, found = bundle.manifest.model.get("projected") or bundle.manifest.model["width"], texts.embeddings.shape[1]
    if found != features:
        msg = f"{bundle.path}: its images have {features} numbers, and these embeddings {found}: they are of another model."
        raise ConfigError(msg)
    if len(texts.labels) == 1 and bundle.manifest.text is not None and bundle.manifest.text.bias is None:
        msg = "one class alone is always there, for lack of others. Give what else may be seen, too."
        raise ConfigError(msg)


def _changed(bundle: Bundle, name: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> bytes:
    """File ``name`` with the new head in it, if it has one."""
    content = bundle.read(name)
    try:
        if name in GRAPHS:
            return with_head(content, weight, bias)
        if name == SAMPLES:
            both = [load_samples(content)] + ([load_samples(content, reference=True)] if has_reference(content) else [])
            return samples_bytes(*(samples.with_head(weight, bias) for samples in both))
    except ValueError as error:
        msg = f"{bundle.path}: {name}: {error}. Build it again."
        raise BundleError(msg) from error
    return content


def _manifest(manifest: Manifest, texts: TextClasses, made: TextHead) -> Manifest:
    """What was measured with other classes is not the new ones'; how fast it is stays."""
    notes = [text for text in manifest.notes if not text.startswith(OF_BEFORE)]
    if manifest.known is not None:
        notes.append("unknown objects: no longer told, as that is by class; build again with --unknown")
    notes.append("classes: others than the bundle was built with; edgevit compare measures their accuracy")
    compiled = manifest.compiled and manifest.compiled | {"engine": None}
    model = manifest.model | {"classes": len(texts.labels)}
    return replace(
        manifest, labels=texts.labels, model=model, text=made, accuracy=None, known=None, checks=(), compiled=compiled,
        notes=tuple(notes),
    )  # fmt: skip
