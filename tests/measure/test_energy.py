"""Energy per image, from a simulated board's monitors."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edgevit.device.power import find_rails, read_rails, total
from edgevit.measure.energy import measure_energy
from edgevit.progress import Progress


class Busy:
    """A session that takes so many seconds, while the board takes so many watts."""

    threads = 1
    engine = "a session"

    def __init__(self, seconds: float, rail: Path, milliamperes: int) -> None:
        self.seconds, self.rail, self.milliamperes = seconds, rail, milliamperes

    def infer(self, frames: np.ndarray) -> np.ndarray:
        self.rail.write_text(f"{self.milliamperes}\n")
        time.sleep(self.seconds)
        return np.zeros((len(frames), 2), np.float32)

    def close(self) -> None:
        pass

    def __enter__(self) -> Busy:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """The files of an INA3221 with one rail at 5 V, 1 A."""
    folder = tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    folder.mkdir(parents=True)
    for name, text in (("in1_label", "VDD_IN"), ("in1_input", "5000"), ("curr1_input", "1000")):
        (folder / name).write_text(f"{text}\n")
    return tmp_path


def test_joules_are_power_times_time(board: Path) -> None:
    """Ten watts for ten milliseconds are a tenth of a joule; the slower model at half the power takes as much."""
    rails = find_rails(board)
    current = rails["VDD_IN"][1]
    sessions = {"fast": Busy(0.01, current, 2000), "slow": Busy(0.02, current, 1000)}
    frames = dict.fromkeys(sessions, np.zeros((2, 4, 4, 3), np.uint8))
    with Progress().stage("measure energy", total=4) as stage:
        found = measure_energy(
            sessions,
            frames,
            lambda: total(read_rails(rails)),
            stage,
            seconds=0.4,
            rounds=2,
            every=0.01,  # type: ignore[arg-type]
        )
    fast, slow = found["fast"], found["slow"]
    assert fast.idle_watts == pytest.approx(5, rel=0.02)
    # A turn begins with the power of the one before it, and sleeping is never exact.
    assert fast.watts == pytest.approx(10, rel=0.1)
    assert slow.watts == pytest.approx(5, rel=0.1)
    assert fast.joules_per_image == pytest.approx(fast.watts * 0.8 / fast.images, rel=0.15)
    assert slow.joules_per_image == pytest.approx(slow.watts * 0.8 / slow.images, rel=0.15)
    assert fast.images > 1.3 * slow.images


def test_a_rail_that_cannot_be_read_for_once(board: Path) -> None:
    """The last value stands in, and nothing is divided by zero."""
    readings = iter([5.0, None, 5.0, None, None])
    session = {"one": Busy(0.01, find_rails(board)["VDD_IN"][1], 1000)}
    frames = {"one": np.zeros((1, 4, 4, 3), np.uint8)}
    with Progress().stage("measure energy", total=1) as stage:
        found = measure_energy(
            session,
            frames,
            lambda: next(readings, None),
            stage,
            seconds=0.05,
            rounds=1,
            every=0.01,  # type: ignore[arg-type]
        )
    assert 0 <= found["one"].watts <= 5.01
    assert found["one"].images >= 1
