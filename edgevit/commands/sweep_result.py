"""A finished sweep: as an object, as JSON, as a page, and as a notebook shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgevit.measure.comparison import Recommendation
from edgevit.report.sweep import Sweep, SweptPoint, sweep_html, sweep_plot, sweep_sheet


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SweepResult:
    """A finished sweep. Bundles of its points lie in `folder`; what the best one's command builds has its FP32 graph, too."""

    folder: Path
    sweep: Sweep
    settings: Mapping[str, Mapping[str, Any]]
    """By point, the arguments of `edgevit.build`."""
    seconds: Mapping[str, float]
    """By point, what building it took, when it was built."""

    @property
    def points(self) -> tuple[SweptPoint, ...]:
        """All of them, in the order in which they were asked for."""
        return self.sweep.points

    @property
    def recommendation(self) -> Recommendation:
        """What to use, in a sentence with its figures."""
        return self.sweep.comparison.recommendation

    @property
    def best(self) -> SweptPoint:
        """The recommended point, with the command that builds it."""
        return self.sweep.best

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A flat record for each point."""
        records, fronts = self.sweep.comparison.records(), self.sweep.fronts
        found = []
        for point in self.points:
            measured = {} if point.row is None else records[point.row]
            on = {f"on_front_of_{name}": point.row in front for name, front in fronts.items()}
            told = {"point": point.name, "command": point.command, "reason": point.reason}
            found.append(told | {"seconds_to_build": self.seconds.get(point.name)} | on | measured)
        return found

    def to_dict(self) -> dict[str, Any]:
        """What ``sweep.json`` holds, and ``edgevit sweep --json`` prints."""
        comparison, fronts = self.sweep.comparison.to_dict(), self.sweep.fronts
        points = []
        for point in self.points:
            row = None if point.row is None else comparison["rows"][point.row]
            points.append({
                **asdict(point),
                "settings": _jsonable(self.settings[point.name]),
                "seconds_to_build": self.seconds.get(point.name),
                "fronts": [name for name, front in fronts.items() if point.row in front],
                "measured": row,
            })  # fmt: skip
        best = {"point": self.best.name, "command": self.best.command}
        rest = {name: value for name, value in comparison.items() if name != "rows"}
        return {"sweep": best, "points": points, **rest, "notes": self.sweep.notes}

    def to_html(self) -> str:
        """The report as one page: nothing in it is fetched."""
        return sweep_html(self.sweep, f"sweep of {len(self.points)} points")

    def to_svg(self) -> str:
        """The plot as a file of its own; empty where no times are known."""
        from edgevit.report.plots import alone

        plot = sweep_plot(self.sweep)
        return alone(plot) if plot is not None else ""

    def __repr__(self) -> str:
        return f"SweepResult({len(self.points)} points, {self.recommendation.headline!r})"

    def _repr_html_(self) -> str:
        from edgevit.report.fragment import fragment, lines, strong, table

        return fragment(strong(self.recommendation.headline), table(sweep_sheet(self.sweep)), lines(self.sweep.notes))


def _jsonable(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value if isinstance(value, int | float | str | None) else str(value) for name, value in arguments.items()}
