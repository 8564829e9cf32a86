"""What is in a bundle: as an object, as JSON, and as tables for a terminal or a notebook."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgevit.bundle import Bundle
from edgevit.commands.inspect_diff import Difference
from edgevit.commands.inspect_parts import Part
from edgevit.report.bundle_facts import facts_sheet, files_sheet
from edgevit.report.sheet import Sheet

PART_COLUMNS = ("block", "part", "precision", "input step", "weight steps", "MMACs", "weights kB", "ms")
STEPS = "A step is what one INT8 code is worth; where inputs are quantized in steps of 1, their step is in the weights."
TIMES = "ms: the engine's own profiler, which slows it, on a black image; what it fuses counts as the part it names."


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class InspectResult:
    """A bundle whose files are what its manifest says. A notebook shows it as tables."""

    bundle: Bundle
    """``bundle.manifest`` has everything that is known about the model."""
    keys: tuple[Path, ...]
    """Public keys, one of which confirmed the signature; empty if none was required."""
    parts: tuple[Part, ...] | None = None
    """In network order; None if they were not asked for."""
    other: Bundle | None = None
    """What it was compared to."""
    differences: tuple[Difference, ...] | None = None
    """In the manifest's order; None without another bundle."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A record for each part, if they were asked for; else for each difference; else for each fact."""
        if self.parts is not None:
            return [asdict(part) for part in self.parts]
        if self.differences is not None:
            return [asdict(change) for change in self.differences]
        return [{"fact": name, "value": value} for name, value in facts_sheet(self.bundle, self.keys).rows]

    def general(self) -> list[Sheet]:
        """The facts and the files; nothing where parts or differences were asked for."""
        if self.parts is not None or self.differences is not None:
            return []
        return [facts_sheet(self.bundle, self.keys), files_sheet(self.bundle)]

    def of_parts(self) -> list[Sheet]:
        """Every part, and sums of those of a name; nothing where they were not asked for."""
        if self.parts is None:
            return []
        names = dict.fromkeys(part.part for part in self.parts)
        rows = [_row("" if part.block is None else str(part.block), part.part, [part], part) for part in self.parts]
        sums = [_row("", name, [part for part in self.parts if part.part == name]) for name in names]
        everything = Sheet(title=str(self.bundle.path), columns=PART_COLUMNS, rows=[*rows, _row("all", "", self.parts)], left=3)
        by_part = Sheet(title="By part", columns=("part", *PART_COLUMNS[5:]), rows=[(row[1], *row[5:]) for row in sums])
        return [everything, by_part]

    def about_parts(self) -> list[str]:
        """What the columns of `of_parts` mean."""
        if self.parts is None:
            return []
        return [STEPS] + [TIMES] * any(part.milliseconds is not None for part in self.parts)

    def of_differences(self) -> list[Sheet]:
        """Every difference; nothing where there is none."""
        if not self.differences or self.other is None:
            return []
        rows = [(change.key, _value(change.one), _value(change.other)) for change in self.differences]
        return [Sheet(title="Differences", columns=("key", str(self.bundle.path), str(self.other.path)), rows=rows, left=3)]

    def to_dict(self) -> dict[str, Any]:
        """What ``edgevit inspect --json`` prints: the manifest, with ``layers`` and ``differences`` if they were asked for."""
        document: dict[str, Any] = json.loads(self.bundle.manifest.to_json())
        if self.parts is not None:
            document["layers"] = [asdict(part) for part in self.parts]
        if self.differences is not None:
            document["differences"] = [asdict(change) for change in self.differences]
        return document

    def __repr__(self) -> str:
        manifest = self.bundle.manifest
        return f"InspectResult({str(self.bundle.path)!r}, {manifest.precision} for {manifest.target['name']})"

    def _repr_html_(self) -> str:
        from edgevit.report.fragment import fragment, lines, table

        tables = [table(sheet) for sheet in (*self.general(), *self.of_parts(), *self.of_differences())]
        said = [*self.about_parts(), *(self.bundle.manifest.notes if self.general() else ())]
        if self.differences == ():
            said.append("No difference but their names.")
        return fragment(*tables, lines(said))


def _row(block: str, name: str, parts: Sequence[Part], first: Part | None = None) -> tuple[str, ...]:
    """``parts`` summed, under `PART_COLUMNS`; ``first`` is the only one, whose scales are shown."""
    times = [part.milliseconds for part in parts if part.milliseconds is not None]
    scale = first.weight_scale if first else None
    return (
        block,
        name,
        first.precision if first else "",
        f"{first.input_scale:.3g}" if first and first.input_scale is not None else "",
        f"{scale[0]:.2g}..{scale[1]:.2g}" if scale else "",
        f"{sum(part.macs for part in parts) / 1e6:.1f}",
        f"{sum(part.weight_bytes for part in parts) / 1e3:.1f}",
        f"{sum(times):.3f}" if times else "-",
    )


def _value(value: Any) -> str:
    """A value in a table's cell."""
    text = "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
