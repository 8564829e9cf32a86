"""A speed-up that is reached: where the target is this machine, by measuring what the costs promise, until it is true."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from edgevit.device.processor import processor
from edgevit.engine import backend
from edgevit.errors import ConfigError
from edgevit.pruning.layer_times import is_timed_here, timed_speedup
from edgevit.pruning.second_pass import Pruned
from edgevit.search.trade import Shape, Trade
from edgevit.vitconfig import VitConfig
from edgevit.workbench import Workbench

TRIES = 6
CLOSE = 1.03  # times what was asked: what is faster than that may have given up more than it had to


def shape_for_speedup(
    trade: Trade, speedup: float, precision: str, bench: Workbench
) -> tuple[Shape, dict[str, Any] | None]:  # fmt: skip
    """The least harmful shape that is ``speedup`` times as fast, and what was measured; None where this is not the target.

    What is returned has itself been measured, in ``precision``. Raises ConfigError with the best measured if `TRIES` do not
    reach it.
    """
    if not is_timed_here(bench):
        return trade.least_harm(speedup), None
    search = _Measured(trade, speedup, precision, bench)
    found = search.first()
    if found is None:
        msg = (
            f"--speedup {speedup:g}: not reached. The fastest of {len(search.reached)} tries is {max(search.reached):.2f} times "
            f"as fast, measured in {search.measured_in}. Ask for less, or say how much goes with --prune and --merge."
        )
        raise ConfigError(msg)
    shape, real = search.gentler(*found)
    return shape, {"speedup": real, "tries": len(search.reached), "on": search.measured_in}


class _Measured:
    """Shapes that were measured on the way to a speed-up; none of them twice, until it pleases."""

    def __init__(self, trade: Trade, speedup: float, precision: str, bench: Workbench) -> None:
        self._trade, self._speedup, self._precision, self._bench = trade, speedup, precision, bench
        self._seen: list[VitConfig] = []
        self.reached: list[float] = []

    @property
    def measured_in(self) -> str:
        """Precision, engine and processor."""
        return f"{self._precision} on {backend(self._bench.engine).version} on {processor()}"

    def first(self) -> tuple[float, Shape, float] | None:
        """What was asked of the costs, the shape that gave, and its speed-up, which is what is wanted; None if none is found.

        Where the costs promise too much, further is asked for, and where they allow no more, nearer.
        """
        asked, shape = self._speedup, self._trade.least_harm(self._speedup)
        while len(self.reached) < TRIES:
            real = self._time(shape)
            if real >= self._speedup:
                return asked, shape, real
            wanted = asked * 1.01 * self._speedup / real
            more = self._another(asked + step * (wanted - asked) for step in (1.0, 2.0, 4.0, 8.0, 0.5, 0.25, 0.125))
            if more is None:
                return None
            asked, shape = more
        return None

    def gentler(self, asked: float, shape: Shape, real: float) -> tuple[Shape, float]:
        """``shape``, or one that gives up less and is fast enough, too: looked for once, where ``real`` is more than `CLOSE`."""
        if real > CLOSE * self._speedup and len(self.reached) < TRIES:
            less = self._another([1 + 1.03 * (asked - 1) * (self._speedup - 1) / (real - 1)])
            if less is not None and less[1].harm < shape.harm and (found := self._time(less[1])) >= self._speedup:
                return less[1], found
        return shape, real

    def _time(self, shape: Shape) -> float:
        self._seen.append(shape.config)
        self.reached.append(timed_speedup(self._trade.scored.config, shape.config, self._precision, self._bench))
        return self.reached[-1]

    def _another(self, wanted: Iterable[float]) -> tuple[float, Shape] | None:
        """For the first of the speed-ups ``wanted`` for which the costs give a shape that was not measured yet, with that."""
        for further in wanted:
            with suppress(ConfigError):
                found = self._trade.least_harm(further)
                if found.config not in self._seen:
                    return further, found
        return None


def faster(pruned: Pruned, found: dict[str, Any] | None) -> str:
    """How much faster, in words: measured, or by what else."""
    if found is not None:
        return f"; {found['speedup']:.2f} times as fast, measured in {found['on']}"
    return f"; {pruned.speedup:.2f} times as fast by {pruned.cost} alone, not measured: time it on the target"
