"""A frame's stages: all are timed, shares add up, warm-up does not count."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edgevit.engine.base import SessionBase
from edgevit.measure.stages import WARM_UP, stage_times
from edgevit.preprocess import Preprocessing
from edgevit.progress import Progress, Stage
from tests.zoo import Frames


def test_each_stage_has_its_time() -> None:
    """A slow engine and a slower source show where they belong."""
    read, inferred, steps = [], [], []

    def slow_read() -> Frames:
        read.append(1)
        time.sleep(0.012)
        return np.zeros((40, 60, 3), np.uint8)

    def run(frames: Frames) -> tuple[np.ndarray, None]:
        inferred.append(frames.shape)
        time.sleep(0.004)
        return np.array([[1.0, 2.0]], np.float32), None

    class Steps(Progress):
        def advance(self, stage: Stage, count: int) -> None:
            steps.append(count)

    session = SessionBase(engine="test", threads=1, shape=(8, 8, 3), run=run)
    contract = Preprocessing(size=(8, 8), resize=(8, 8))
    with Steps().stage("time") as stage:
        found = stage_times(slow_read, session, contract, ("a", "b"), runs=6, precision="int8", stage=stage)
    times = {item.name: item for item in found}
    assert list(times) == ["read", "prepare", "infer", "classify", "draw"]
    assert times["read"].p50_ms >= 12
    assert times["infer"].p50_ms >= 4
    assert times["read"].share > times["infer"].share
    assert sum(item.share for item in found) == pytest.approx(1)
    assert len(read) == len(inferred) == 6 + WARM_UP
    assert sum(steps) == 6
