"""What stands behind a comparison's figures: quantization GEMM by GEMM, and the images whose class changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.files.fromjson import json_value
from edgevit.measure.multilabel import right_labels, there
from edgevit.part import Part
from edgevit.runtime.classify import softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.measure.accuracy import Logits


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One INT8 GEMM as quantization left it."""

    part: Part
    sqnr_db: float
    """Of its output on calibration images, against floating point."""


def layers_of(report: bytes | Mapping[str, Any]) -> tuple[Layer, ...]:
    """The GEMMs of a bundle's report.json, or of `Variant.report`; none if there are none that can be read."""
    try:
        document = json_value(report) if isinstance(report, bytes) else report
        found = [(item["name"], item["sqnr_db"]) for item in document.get("layers", ())]
        return tuple(Layer(part=Part.parse(str(name)), sqnr_db=float(value)) for name, value in found if value is not None)
    except (ValueError, TypeError, KeyError, AttributeError):  # a report is for people; a comparison goes on without
        return ()


@dataclass(frozen=True, kw_only=True)
class ChangedImage:
    """One image whose class is another than the reference's. Classes are positions, confidences 0..1."""

    index: int
    """Position in the comparison's images."""
    target: int | None
    """The true class; None without labels."""
    before: int
    before_confidence: float
    after: int
    after_confidence: float

    @property
    def outcome(self) -> str:
        """``lost``, ``won``, ``both wrong``, or ``changed`` without labels."""
        if self.target is None:
            return "changed"
        return "lost" if self.before == self.target else "won" if self.after == self.target else "both wrong"


@dataclass(frozen=True, kw_only=True)
class ChangedLabels:
    """One image whose labels are others than the reference's. Labels are positions."""

    index: int
    """Position in the comparison's images."""
    outcome: str
    """``lost`` (fewer right labels), ``won`` (more), ``changed`` (as many, or not known)."""
    gone: tuple[int, ...]
    """Labels that the reference gives."""
    new: tuple[int, ...]
    """Labels that it does not give."""


def changed_labels(logits: Logits, reference: Logits, truth: NDArray[np.bool_] | None) -> list[ChangedLabels]:
    """Images of a multi-label model whose labels changed: those that lost right ones first, then by number of changes.

    Logits and ``truth`` are [N, labels].
    """
    before, after = there(reference), there(logits)
    gained = np.zeros(len(logits)) if truth is None else right_labels(after, truth) - right_labels(before, truth)
    changes = (before ^ after).sum(1)
    order = sorted(np.flatnonzero(changes), key=lambda i: (np.sign(gained[i]), -changes[i], i))
    return [
        ChangedLabels(
            index=int(i),
            outcome="lost" if gained[i] < 0 else "won" if gained[i] > 0 else "changed",
            gone=tuple(map(int, np.flatnonzero(before[i] & ~after[i]))),
            new=tuple(map(int, np.flatnonzero(after[i] & ~before[i]))),
        )
        for i in order
    ]


def changed_images(logits: Logits, reference: Logits, targets: NDArray[np.int64] | None, limit: int) -> list[ChangedImage]:
    """Up to ``limit`` images whose class changed: those that were right first, surest first.

    Logits are [N, classes], ``targets`` [N].
    """
    before, after = softmax(reference), softmax(logits)
    found = [
        ChangedImage(
            index=int(i),
            target=None if targets is None else int(targets[i]),
            before=int(before[i].argmax()),
            before_confidence=float(before[i].max()),
            after=int(after[i].argmax()),
            after_confidence=float(after[i].max()),
        )
        for i in np.flatnonzero(before.argmax(1) != after.argmax(1))
    ]
    order = {"lost": 0, "changed": 0, "both wrong": 1, "won": 2}
    found.sort(key=lambda image: (order[image.outcome], image.before_confidence * -1, image.index))
    return found[:limit]
