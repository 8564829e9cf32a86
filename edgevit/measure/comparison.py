"""The rows of a comparison, and what was kept to explain them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from edgevit.images.dataset import ImageSet
from edgevit.measure.accuracy import Accuracy, Change
from edgevit.measure.energy import Energy
from edgevit.measure.latency import Latency
from edgevit.measure.startup import Startup
from edgevit.plan.device_plan import DevicePlan
from edgevit.printable import cell
from edgevit.problem import MULTI_LABEL, SINGLE_LABEL

if TYPE_CHECKING:
    from edgevit.measure.accuracy import Logits, Truth
    from edgevit.measure.latency import Turns


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    precision: str
    engine: str
    """Name and version."""
    bytes: int
    """Size of the ONNX model."""
    accuracy: Accuracy
    latency: Latency | None
    """None where nothing was timed: the engine that judged is not the target's."""
    speedup: float | None
    """p50 of the first row on the same engine, which is FP32, over this p50."""
    subject: str = ""
    """Which model, where several are compared."""
    speedup_interval: tuple[float, float] | None = None
    """95 % bootstrap interval of ``speedup``, resampling turns; if it holds 1, the difference is inside the noise."""
    change: Change | None = None
    """Against the first row; None without labels, and for the first row itself."""
    startup: Startup | None = None
    """None where it was not asked for."""
    device: DevicePlan | None = None
    """Its plan and estimates on the device it is for; None where that was not compiled."""
    energy: Energy | None = None
    """None where the board has no power monitors."""
    name: str = ""
    """Subject, precision and engine, as far as they differ between rows."""
    sha256: str = ""
    """Of the ONNX model, hexadecimal: a bundle's manifest names it, too."""

    @property
    def estimated_ms(self) -> float | None:
        """Of the device's first board in its fastest mode, by the roofline; None without a plan."""
        best = self.device.best if self.device else None
        return best.milliseconds if best else None

    @property
    def inside_noise(self) -> bool:
        """Whether the speed-up may be none."""
        return self.speedup_interval is not None and self.speedup_interval[0] <= 1 <= self.speedup_interval[1]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the rows were computed from."""

    logits: tuple[Logits, ...]
    """Per row, float32 [N, classes]."""
    images: ImageSet
    labels: tuple[str, ...]
    targets: Truth | None
    """int64 [N], or of a multi-label model bool [N, classes]; None without labels that fit."""
    turns: tuple[Turns | None, ...]
    """Per row, milliseconds of every timed inference, turn by turn."""
    problem_type: str = SINGLE_LABEL
    """What the logits mean, one of `edgevit.problem.PROBLEM_TYPES`."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The answer, and what stands behind it."""

    row: int
    """Position of the recommended row."""
    baseline: int
    """Position of the row that its gain is stated against: the reference's precision on the engine that it is fastest on."""
    headline: str
    reasons: tuple[str, ...]
    """One sentence each: what was close, what was faster but worse, what the images cannot tell."""
    enough: bool = True
    """Whether there were images enough to tell; if not, the headline says so first."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All rows, and the conditions they were measured under. The first row is the reference."""

    rows: tuple[Row, ...]
    conditions: dict[str, Any]
    recommendation: Recommendation
    evidence: Evidence = field(repr=False, compare=False)
    warnings: tuple[str, ...] = ()
    """What makes the figures suspect, to be read before them: `edgevit.measure.suspicions`."""

    @property
    def multi_label(self) -> bool:
        """Whether images may have several labels."""
        return self.evidence.problem_type == MULTI_LABEL

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, without the evidence."""
        rows = [asdict(row) for row in self.rows]
        return {
            "warnings": self.warnings,
            "recommendation": asdict(self.recommendation),
            "rows": rows,
            "conditions": self.conditions,
        }

    def records(self) -> list[dict[str, Any]]:
        """A flat record per row, nested fields joined by underscores; an interval becomes two; classes are left out."""
        return [_flat(asdict(row)) for row in self.rows]

    def to_csv(self) -> str:
        """One line per row: `records`. A name that a spreadsheet would take for a formula has a ``'`` before it."""
        lines = [{key: cell(value) for key, value in record.items()} for record in self.records()]
        fields = list(dict.fromkeys(key for line in lines for key in line))
        stream = io.StringIO()
        # Older Pythons put into quotes only what ends lines here.
        writer = csv.DictWriter(stream, fieldnames=fields, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(lines)
        return stream.getvalue().replace("\r\n", "\n")


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            flat |= {f"{key}_{name}": item for name, item in _flat(value).items()}
        elif key == "interval" or key.endswith("_interval"):
            low, high = value or (None, None)
            flat |= {f"{key}_low": low, f"{key}_high": high}
        elif key == "estimates":
            flat |= {f"ms_{item['target']}_{item['mode']}": item["milliseconds"] for item in value}
        elif key not in ("classes", "assumptions"):
            flat[key] = value
    return flat


def row_names(parts: Sequence[tuple[str, str, str]]) -> list[str]:
    """A name per row of (subject, precision, engine): what all rows share is left out.

    Two rows that would be called the same are told apart by their number.
    """
    subjects, engines = len({subject for subject, _, _ in parts}) > 1, len({engine for _, _, engine in parts}) > 1
    names = [
        f"{subject + ' ' if subjects else ''}{precision}{' on ' + engine if engines else ''}"
        for subject, precision, engine in parts
    ]
    return [f"{name} (row {i + 1})" if names.count(name) > 1 else name for i, name in enumerate(names)]
