"""Classes given as text: of each a vector in the space that an image tower and a text tower share.

CLIP (arXiv 2103.00020) and SigLIP (arXiv 2303.15343): logits are cosines of the image's vector with each text's, times a scale;
SigLIP adds a bias, and takes the sigmoid of each, where CLIP takes a softmax. So the head is a Linear over features of length 1,
one row a class, and other classes are other rows. A device has neither torch nor a text tower, so the vectors come in a file.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from msgspec import Meta

from edgevit.errors import ConfigError
from edgevit.files.bounded import MIB, read_bounded
from edgevit.files.fromjson import json_value
from edgevit.files.npz import FAULTS, read_arrays
from edgevit.problem import MULTI_LABEL, SINGLE_LABEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_BYTES = 256 * MIB
"""Of a file of embeddings: 21,841 of 1,024 numbers take 85 MiB."""
USUAL_SCALE = 100.0
"""What CLIP's scale is clipped to in training, and where the published models end."""
SUFFIXES = (".npz", ".npy", ".json")


@dataclass(frozen=True, kw_only=True)
class TextHead:
    """How a head was made of texts, so that it can be made of others."""

    scale: Annotated[float, Meta(gt=0, le=1e6)]
    """What cosines are multiplied by: e to the power of a checkpoint's ``logit_scale``."""
    bias: Annotated[float, Meta(ge=-1e6, le=1e6)] | None = None
    """What is added to them, as SigLIP does, whose scores are the sigmoid of each; None is CLIP's softmax."""
    prompts: tuple[str, ...] = ()
    """Sentences that a class stands in, each with ``{}``; a class is the mean of all. Empty where nothing tells."""

    @property
    def problem_type(self) -> str:
        """What its logits mean, by `edgevit.problem.PROBLEM_TYPES`."""
        return SINGLE_LABEL if self.bias is None else MULTI_LABEL


@dataclass(frozen=True, kw_only=True, eq=False)
class TextClasses:
    """Classes, and a vector of each."""

    labels: tuple[str, ...]
    embeddings: NDArray[np.float32]
    """[classes, features], each of length 1."""
    scale: float | None = None
    """As `TextHead`; None where only the image tower can tell."""
    bias: float | None = None
    prompts: tuple[str, ...] = ()

    def head(self, made: TextHead) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight [classes, features] and bias [classes] of the Linear over features of length 1, float32."""
        weight = self.embeddings.astype(np.float64) * made.scale
        return weight.astype(np.float32), np.full(len(self.labels), made.bias or 0.0, np.float32)

    def called(self, labels: Sequence[str] | None) -> TextClasses:
        """The same under other names, one a class in their order. Raises ConfigError for another number of them."""
        if labels is None:
            return self
        if len(labels) != len(self.labels):
            msg = f"labels: got {len(labels)} for {len(self.labels)} classes that are given as text. Give one a class."
            raise ConfigError(msg)
        return replace(self, labels=tuple(labels))


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Where classes that are given as text come from: a text tower, or a file of embeddings."""

    classes: Path | tuple[str, ...] = ()
    """What to look for, or a file of it: one a line, or JSON."""
    prompts: tuple[str, ...] = ()
    model: Path | None = None
    """A checkpoint with the text tower, if the image tower's has none."""
    embeddings: Path | None = None
    """Instead of them all."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What of it is read from a disk."""
        return tuple(path for path in (self.classes, self.model, self.embeddings) if isinstance(path, Path))


def text_classes(
    labels: Sequence[str], embeddings: NDArray[Any], origin: object, *, scale: float | None = None, bias: float | None = None,
    prompts: Sequence[str] = (),
) -> TextClasses:  # fmt: skip
    """Checked, with vectors of length 1. Raises ConfigError naming ``origin`` for what cannot be classes."""
    if embeddings.ndim != 2 or not embeddings.size or embeddings.dtype.kind not in "fiu":
        msg = f"{origin}: embeddings are {embeddings.dtype} {list(embeddings.shape)}; expected numbers [classes, features]."
        raise ConfigError(msg)
    if len(labels) != len(embeddings):
        msg = f"{origin}: {len(labels)} labels for {len(embeddings)} embeddings. Give one a class, in their order."
        raise ConfigError(msg)
    names = tuple(label.strip() for label in labels)
    doubled = next((name for name in names if not name or names.count(name) > 1), None)
    if doubled is not None:
        msg = f"{origin}: two classes are called {doubled!r}." if doubled else f"{origin}: a class without a name."
        raise ConfigError(msg)
    values = embeddings.astype(np.float64)
    lengths = np.linalg.norm(values, axis=1)
    if not np.isfinite(lengths).all() or not lengths.all():
        row = int(np.argmin(np.isfinite(lengths) & (lengths > 0)))
        msg = f"{origin}: the embedding of {names[row]!r} is zero, or not finite."
        raise ConfigError(msg)
    for what, number in (("scale", scale), ("bias", bias)):
        if number is not None and (not math.isfinite(number) or (what == "scale" and number <= 0)):
            msg = f"{origin}: {what} is {number}; expected a finite number{', above 0' if what == 'scale' else ''}."
            raise ConfigError(msg)
    unit = (values / lengths[:, None]).astype(np.float32)
    return TextClasses(labels=names, embeddings=unit, scale=scale, bias=bias, prompts=tuple(prompts))


def read_embeddings(path: Path, labels: Sequence[str] | None = None) -> TextClasses:
    """Classes from a file of embeddings; ``labels`` are their names where the file has none, or others than it has.

    ``.npz`` with ``embeddings`` [classes, features] and ``labels``, and what else `embeddings_bytes` writes; ``.json`` with the
    same keys, or with an embedding by label; ``.npy``, embeddings alone. Raises ConfigError for anything else.
    """
    if path.suffix.lower() not in SUFFIXES:
        msg = f"{path}: embeddings come as {', '.join(SUFFIXES)}. Make a file of them with: edgevit embed MODEL --classes NAMES"
        raise ConfigError(msg)
    try:
        content = read_bounded(path, MOST_BYTES)
        found = _from_json(content) if path.suffix.lower() == ".json" else _from_numpy(content, path.suffix.lower())
        names = found.pop("labels", None)
        embeddings = np.asarray(found.pop("embeddings"))
        own = None if names is None else [str(name) for name in names]
        told = {key: float(found[key]) for key in ("scale", "bias") if found.get(key) is not None}
        prompts = [str(text) for text in found.get("prompts", ())]
    except FAULTS as error:
        reason = f"misses {error}" if isinstance(error, KeyError) else str(error)
        msg = f"{path}: cannot be read as embeddings: {reason}. Make it with: edgevit embed MODEL --classes NAMES -o {path}"
        raise ConfigError(msg) from error
    if own is None and labels is None:
        msg = f"{path}: embeddings without names. Give them, one a line in the same order, with --labels FILE."
        raise ConfigError(msg)
    classes = text_classes(own if own is not None else list(labels or ()), embeddings, path, prompts=prompts, **told)
    return classes.called(labels)


def embeddings_bytes(classes: TextClasses) -> bytes:
    """The ``.npz`` that `read_embeddings` reads."""
    arrays: dict[str, Any] = {"embeddings": classes.embeddings, "labels": np.array(classes.labels)}
    arrays |= {key: np.float64(value) for key in ("scale", "bias") if (value := getattr(classes, key)) is not None}
    if classes.prompts:
        arrays["prompts"] = np.array(classes.prompts)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _from_numpy(content: bytes, suffix: str) -> dict[str, Any]:
    if suffix == ".npz":
        return read_arrays(content, MOST_BYTES)
    return {"embeddings": np.load(io.BytesIO(content), allow_pickle=False)}


def _from_json(content: bytes) -> dict[str, Any]:
    data = json_value(content)
    if not isinstance(data, dict):
        msg = f"expected an object, got a {type(data).__name__}"
        raise TypeError(msg)
    if "embeddings" in data:
        return data
    return {"labels": list(data), "embeddings": list(data.values())}
