"""A pruned checkpoint that was written: as an object, as JSON, and as a notebook shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit.measure.comparison import Comparison
from edgevit.report.sheet import Sheet


@dataclass(frozen=True, kw_only=True, repr=False)
class PruneResult:
    """A pruned checkpoint that was written. A notebook shows what is left; ``pandas.DataFrame(result.rows)`` takes it."""

    path: Path
    report: Mapping[str, Any]
    """By step, ``pruning`` and ``merging``: each as `edgevit.pruning.smaller.Smaller.report`."""
    comparison: Comparison | None
    """In FP32, before and after; None without images to measure on."""
    notes: tuple[str, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A record for each half of each block, in network order: what it was cut to, and the error that this leaves."""
        halves = self.report["pruning"]["halves"] if "pruning" in self.report else self.report["merging"]["refit"]
        return [dict(half) for half in halves]

    def sheet(self) -> Sheet:
        """The same as a table, a row for each block."""
        rows, halves, merges = list[tuple[str, ...]](), self.rows, self.report.get("merging", {}).get("merges", {})
        for number, (attention, mlp) in enumerate(zip(halves[::2], halves[1::2], strict=True)):
            name, error = attention["name"].rpartition(".")[0], f"{100 * mlp['error']:.2f} %"
            cells = (str(merges.get(str(number), "-")), *((_left(attention), _left(mlp)) if "left" in mlp else ()))
            rows.append((name, *(cells if merges else cells[1:]), error))
        columns = (
            "block",
            *(("tokens merged",) if merges else ()),
            *(("heads", "hidden neurons") if "pruning" in self.report else ()),
        )
        return Sheet(title="What is left", columns=(*columns, "error of the stream"), rows=rows)

    def to_dict(self) -> dict[str, Any]:
        """What ``edgevit prune --json`` prints."""
        return {
            "checkpoint": str(self.path),
            "bytes": self.path.stat().st_size,
            **self.report,
            "comparison": self.comparison.to_dict() if self.comparison else None,
            "notes": self.notes,
        }

    def __repr__(self) -> str:
        return f"PruneResult({str(self.path)!r}, {self.path.stat().st_size / 1e6:.1f} MB)"

    def _repr_html_(self) -> str:
        from edgevit.report.fragment import comparison_parts, fragment, lines, strong, table

        size = f"{self.path}: {self.path.stat().st_size / 1e6:.1f} MB"
        return fragment(strong(size), comparison_parts(self.comparison), table(self.sheet()), lines(self.notes))


def _left(half: dict[str, Any]) -> str:
    if half["left"] != "part":
        return f"{half['before']} -> {'an affine map' if half['left'] == 'map' else 'a bias'}"
    return str(half["before"]) if half["before"] == half["after"] else f"{half['before']} -> {half['after']}"
