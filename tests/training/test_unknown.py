"""Classes left out in turn: what a distance and a low confidence are worth on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgevit.training.head import fit_heads
from edgevit.training.unknown import MOST, LeftOut, classes_left_out


def left_out(middles: np.ndarray, each: int, spread: float = 1.0) -> list[LeftOut]:
    """Of clouds around ``middles`` [classes, features]."""
    count, random = len(middles), np.random.default_rng(0)
    y = torch.arange(count).repeat_interleave(each)
    x = torch.from_numpy(middles[y] + spread * random.normal(size=(len(y), middles.shape[1]))).float()
    judges = torch.from_numpy(np.arange(len(y)) % 4 == 0)
    labels = tuple(f"class {index}" for index in range(count))
    return list(
        classes_left_out(x, y, judges, labels, lambda rows: fit_heads(x[rows], y[rows], torch.ones(len(rows)), count, [0.01])[0])
    )


def test_a_class_far_from_all_is_told_by_its_distance_and_not_by_confidence() -> None:
    """The third lies behind the first, as seen from the second: a head of both is sure of it."""
    middles = np.zeros((3, 8))
    middles[0, 0], middles[2, 0] = 12, 40
    third = left_out(middles, 40)[2]
    assert third.label == "class 2"
    assert third.distance == 1
    assert third.confidence < 0.2


def test_a_class_like_another_is_not_told() -> None:
    middles = np.random.default_rng(1).normal(size=(4, 8)) * 6
    middles[3] = middles[2]
    found = left_out(middles, 60)
    assert [each.label for each in found] == [f"class {index}" for index in range(4)]
    assert found[3].distance == pytest.approx(0.5, abs=0.15)
    assert found[0].distance > 0.95


def test_of_many_classes_some_are_left_out() -> None:
    found = left_out(np.random.default_rng(2).normal(size=(25, 6)) * 9, 8)
    assert len(found) == MOST
    assert (found[0].label, found[-1].label) == ("class 0", "class 24")


def test_two_classes_or_few_photos_tell_nothing() -> None:
    assert left_out(np.eye(2, 6) * 9, 50) == []
    assert left_out(np.eye(3, 6) * 9, 8) == []
