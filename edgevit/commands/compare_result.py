"""A finished comparison: as an object, as JSON, CSV, Markdown and HTML, and as a notebook shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgevit.commands.compare_field import CheckedField
from edgevit.engine.check import Verdict, verdict_summary
from edgevit.measure.comparison import Comparison, Recommendation
from edgevit.workbench import Workbench


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CompareResult:
    """A finished comparison. A notebook shows it as tables; ``pandas.DataFrame(result.rows)`` takes them."""

    comparison: Comparison
    field: CheckedField
    """The models and images it was made of."""
    bench: Workbench

    @property
    def recommendation(self) -> Recommendation:
        """What to use, in a sentence with its figures."""
        return self.comparison.recommendation

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A flat record for each variant."""
        return self.comparison.records()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the figures suspect, to be read before them."""
        return self.comparison.warnings

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed or left out, one sentence each."""
        return self.field.notes

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Each graph on the engine that its figures are from, held against torch."""
        return self.field.verdicts

    def to_dict(self) -> dict[str, Any]:
        """What ``edgevit compare --json`` prints."""
        return {**self.comparison.to_dict(), "checks": [item.to_dict() for item in self.verdicts], "notes": self.notes}

    def to_csv(self) -> str:
        """The rows as CSV."""
        return self.comparison.to_csv()

    def to_markdown(self) -> str:
        """The report as Markdown."""
        from edgevit.report.table import to_markdown

        return to_markdown(self.comparison, self.notes)

    def to_html(self) -> str:
        """The report as one page: nothing in it is fetched. Profiles the layers of every row that was timed: it takes a while."""
        from edgevit.report.html import to_html

        return to_html(self.comparison, self.field.background(self.comparison, self.bench))

    def __repr__(self) -> str:
        return f"CompareResult({len(self.comparison.rows)} rows, {self.recommendation.headline!r})"

    def _repr_html_(self) -> str:
        from edgevit.report.fragment import comparison_parts, fragment, lines

        checked = [f"{verdict_summary(self.verdicts)}."] if self.verdicts else []
        return fragment(comparison_parts(self.comparison), lines((*self.notes, *checked)))
