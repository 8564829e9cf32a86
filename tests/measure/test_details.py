"""Which images changed, in which order, and what a bundle's report tells of its layers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgevit.measure.details import Layer, changed_images, layers_of
from edgevit.part import Part


def logits(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32)


REFERENCE = logits((3, 0, 0), (0, 2, 0), (4, 0, 0), (0, 0, 5), (1, 0, 0))
OTHER = logits((0, 1, 0), (0, 2, 0), (0, 0, 1), (0, 4, 0), (0, 1, 0))


def test_lost_come_first_and_surest_first() -> None:
    """Image 2 was surer than 0; image 3 was wrong and is wrong; 4 was wrong and is right; 1 did not change."""
    found = changed_images(OTHER, REFERENCE, np.array([0, 1, 0, 0, 1]), 10)
    assert [(image.index, image.outcome) for image in found] == [(2, "lost"), (0, "lost"), (3, "both wrong"), (4, "won")]
    assert (found[0].target, found[0].before, found[0].after) == (0, 0, 2)
    assert found[0].before_confidence == pytest.approx(np.exp(4) / (np.exp(4) + 2), rel=1e-5)


def test_without_labels() -> None:
    found = changed_images(OTHER, REFERENCE, None, 10)
    assert [(image.index, image.outcome, image.target) for image in found] == [(i, "changed", None) for i in (3, 2, 0, 4)]


def test_limit() -> None:
    assert [image.index for image in changed_images(OTHER, REFERENCE, None, 1)] == [3]
    assert changed_images(REFERENCE, REFERENCE, None, 5) == []


def test_layers_of_a_report() -> None:
    report = {"layers": [{"name": "blocks.0.qkv", "sqnr_db": 41.5, "input_scale": 1}, {"name": "blocks.0.proj", "sqnr_db": None}]}
    assert layers_of(report) == layers_of(json.dumps(report).encode()) == (Layer(part=Part(0, "qkv"), sqnr_db=41.5),)


@pytest.mark.parametrize(
    "report", [b"", b"[]", b"{", b'{"layers": 3}', b'{"layers": [{}]}', b'{"layers": [{"name": 1, "sqnr_db": "x"}]}']
)
def test_a_report_that_cannot_be_read_has_no_layers(report: bytes) -> None:
    assert layers_of(report) == ()
