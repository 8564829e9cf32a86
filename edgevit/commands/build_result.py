"""A finished build: as an object, as JSON, and as a notebook shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgevit.bundle import Bundle
from edgevit.commands.target_graph import Compiled
from edgevit.engine.check import Verdict, verdict_summary
from edgevit.measure.comparison import Comparison
from edgevit.target import Target


@dataclass(frozen=True, kw_only=True, repr=False)
class BuildResult:
    """A finished build. A notebook shows its figures as tables; ``pandas.DataFrame(result.rows)`` takes them."""

    bundle: Bundle
    target: Target
    comparison: Comparison | None
    """FP32 and what was built, on images held out; None without images."""
    compiled: Compiled
    """The target's engine, or what compiling for it here showed."""
    seconds: dict[str, float]
    """Wall time by stage, of all its turns together."""
    verdicts: tuple[Verdict, ...] = ()
    """Each graph on the engine that its figures are from, held against torch."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A flat record for each precision that was measured; empty without images."""
        return self.comparison.records() if self.comparison else []

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed or left out, one sentence each, without the comparison's warnings."""
        return self.bundle.manifest.notes[len(self.comparison.warnings) if self.comparison else 0 :]

    def to_dict(self) -> dict[str, Any]:
        """What ``edgevit build --json`` prints."""
        manifest = self.bundle.manifest
        return {
            "bundle": str(self.bundle.path),
            "bytes": self.bundle.bytes,
            "seconds": self.seconds,
            "input": manifest.provenance["input"],
            "comparison": self.comparison.to_dict() if self.comparison else None,
            "compiled": manifest.compiled,
            "checks": manifest.checks,
            "notes": manifest.notes,
        }

    def __repr__(self) -> str:
        return f"BuildResult({str(self.bundle.path)!r}, {self.bundle.manifest.precision}, {self.bundle.bytes / 1e6:.1f} MB)"

    def _repr_html_(self) -> str:
        from edgevit.report.fragment import comparison_parts, fragment, lines, strong

        size = f"{self.bundle.path}: {self.bundle.bytes / 1e6:.1f} MB, input {self.bundle.manifest.input}"
        return fragment(
            strong(size), comparison_parts(self.comparison), lines((*self.notes, f"{verdict_summary(self.verdicts)}."))
        )
