"""A run is healthy if it is of the right bundle, alive, and gives labels: told from its file, at moments that we choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgevit.errors import StateError
from edgevit.runtime.health import await_health
from edgevit.runtime.state import RunState

RIGHT, OTHER = "a" * 64, "b" * 64
NOW = 1e9


def state(**changes: object) -> RunState:
    told = RunState(
        version="0.1.0", bundle=RIGHT, model="cells", source="csi://0", pid=7, started=NOW - 60, updated=NOW, frames=100, fps=15.0
    )
    return replace(told, **changes)  # type: ignore[arg-type]


class Play:
    """A file that shows one state after the other, half a second apart."""

    def __init__(self, path: Path, states: list[RunState | str]) -> None:
        self.path, self.states, self.now = path, iter(states), NOW
        self.wait(0)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        shown = next(self.states, None)
        if isinstance(shown, RunState):
            self.path.write_text(replace(shown, updated=self.now + shown.updated - NOW).to_json())
        elif shown is not None:
            self.path.write_text(shown)

    def healthy(self, **options: float) -> RunState:
        return await_health(
            self.path, RIGHT, **{"within": 5.0, **options}, clock=lambda: self.now, wait=self.wait  # type: ignore[arg-type]
        )  # fmt: skip


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., Play]:
    return lambda *states: Play(tmp_path / "state.json", list(states))


def test_it_counts_frames_of_the_right_bundle(play: Callable[..., Play]) -> None:
    starting = state(frames=0, fps=None, pid=8)
    shown = play(state(bundle=OTHER), "", starting, starting, state(pid=8, frames=1), state(pid=8, frames=30))
    assert (shown.healthy().pid, shown.now) == (8, NOW + 2.5)


def test_a_process_that_dies_at_every_start_is_not_healthy(play: Callable[..., Play]) -> None:
    """Each counts a frame, and none a second."""
    shown = play(*(state(pid=number, started=NOW + number, frames=1) for number in range(1, 12)))
    with pytest.raises(StateError, match="no frame since 1 were classified"):
        shown.healthy()


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (state(bundle=OTHER), "another bundle runs: cells, bbbbbbbbbbbb, not aaaaaaaaaaaa"),
        (state(ended=NOW, exit=6, last_error="the engine is gone"), "it ended with exit code 6: the engine is gone"),
        (state(ended=NOW, exit=0), "it ended with exit code 0"),
        (state(updated=NOW - 30), r"its state is \d\d s old: it was killed, or hangs"),
        (state(updated=NOW + 1000), "its state is -"),
        (state(frames=0, last_error="no picture came"), r"no frame was classified yet \(no picture came\)"),
        (state(fps=4.9, last_error="hot"), r"4\.9 frames per second, and at least 5\.0 are asked for \(hot\)"),
        (state(fps=None), r"0\.0 frames per second"),
        (state(), "no frame since 100 were classified"),
    ],
)
def test_what_is_wrong_is_said(shown: RunState, reason: str, play: Callable[..., Play]) -> None:
    with pytest.raises(StateError, match=f"state.json: not healthy after 5 s: {reason}") as caught:
        play(*[shown] * 12).healthy(min_fps=5.0)
    assert caught.value.exit_code == 12


def test_no_file(tmp_path: Path, play: Callable[..., Play]) -> None:
    shown = play()
    with pytest.raises(StateError, match=r"state\.json: there is no such file: nothing runs with --state"):
        shown.healthy(within=0.0)
