"""What a sweep would do: its points, which of them lie there already, and about how long the others take."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgevit.commands.arguments import recipe_of
from edgevit.commands.build_arguments import build_request
from edgevit.commands.build_inputs import Inputs, read_inputs
from edgevit.commands.expected import duration, expected_evaluation, expected_seconds
from edgevit.commands.sweep import SweepRequest
from edgevit.commands.sweep_build import Keeping
from edgevit.commands.sweep_points import Point
from edgevit.errors import EdgevitError
from edgevit.progress import Progress


@dataclass(frozen=True, kw_only=True)
class PlannedPoint:
    """One point of a dry run."""

    name: str
    command: str
    seconds: float | None
    """That building it takes, without what is cached, and without pruning and merging; None where it cannot be built."""
    done: bool = False
    """It lies there already."""
    reason: str = ""
    """Why it cannot be built, as far as that is seen before it is tried."""


@dataclass(frozen=True, kw_only=True)
class PlannedSweep:
    """A dry run."""

    points: tuple[PlannedPoint, ...]
    evaluation: float
    """Seconds of evaluating all of them on this machine, in FP32."""

    def summary(self) -> str:
        """One line for people."""
        left = [point for point in self.points if not point.done and point.seconds is not None]
        building = sum(point.seconds or 0.0 for point in left)
        return (
            f"{len(self.points)} points, {len(left)} to build: about {duration(building)} on one machine, beside what makes them "
            f"smaller, and up to {duration(self.evaluation)} to evaluate all"
        )


def plan_sweep(request: SweepRequest) -> PlannedSweep:
    """Look, and do nothing slow. Raises EdgevitError for what is wrong with the first model or the images."""
    keeping = Keeping(request.out, request.bench.cache)
    points, evaluation = [], 0.0
    for number, point in enumerate(request.points):
        try:
            seconds, own = _seconds(point, request)
        except EdgevitError as error:
            if not number:
                raise
            points.append(PlannedPoint(name=point.name, command=point.command(), seconds=None, reason=str(error)))
            continue
        evaluation += own
        done = keeping.find(point) is not None
        points.append(PlannedPoint(name=point.name, command=point.command(), seconds=seconds, done=done))
    return PlannedSweep(points=tuple(points), evaluation=evaluation)


def _seconds(point: Point, request: SweepRequest) -> tuple[float, float]:
    """Of building a point, and of evaluating it."""
    arguments = point.arguments()
    model = arguments.pop("model")
    asked = build_request(model, out=request.out / point.bundle, **arguments | {"recipe": recipe_of(point.recipe)})
    inputs: Inputs = read_inputs(asked, Progress())
    return expected_seconds(replace(asked, compared=False), inputs), expected_evaluation(inputs)
