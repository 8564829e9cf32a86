"""A trained classifier that was written: as an object, as JSON, and as tables for people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit.report.sheet import Sheet, percent
from edgevit.training.findings import Findings, Photo
from edgevit.training.fine_tune import Report
from edgevit.training.unknown import LeftOut

WEIGHTS, REPORT = "model.safetensors", "report.json"
MOST_CONFUSED = 3


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainResult:
    """A trained classifier, and how sure it is. A notebook shows it as tables."""

    path: Path
    """A folder that `build`, `compare` and `prune` read."""
    findings: Findings
    """Of cross-validation: every photo was judged by a model that had not seen it, nor one that is nearly the same. Of what is
    written: where fine-tuning was kept, those of the frozen head are in ``fine_tuning``."""
    pooling: tuple[str, ...]
    """What the head reads."""
    penalty: float
    """Of the squared weights."""
    seconds: float
    notes: tuple[str, ...]
    fine_tuning: Report | None = None
    """What fine-tuning took and brought, and whether it was kept; None where nothing was unfrozen."""
    learned_from: tuple[str, ...] = ()
    """Photos that blocks learned from, now or when the backbone was made: see `edgevit.commands.learned`."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A record for each class: photos, how many were seen right, what it was taken for."""
        found = []
        for label, row in zip(self.findings.classes, self.findings.confusion, strict=True):
            index = self.findings.classes.index(label)
            others = sorted(((count, name) for name, count in zip(self.findings.classes, row, strict=True)
                             if name != label and count), key=lambda item: (-item[0], item[1]))  # fmt: skip
            found.append(
                {"class": label, "photos": sum(row), "right": row[index], "taken for": {name: count for count, name in others}}
            )
        return found

    def sheet(self) -> Sheet:
        """The same as a table."""
        rows = [
            (row["class"], str(row["photos"]), percent(row["right"] / row["photos"] if row["photos"] else None),
             ", ".join(f"{name} {count}" for name, count in list(row["taken for"].items())[:MOST_CONFUSED]))
            for row in self.rows
        ]  # fmt: skip
        return Sheet(
            title=f"Each photo judged by a {'model' if self.tuned else 'head'} that had not seen it",
            columns=("class", "photos", "right", "taken for"),
            rows=rows,
        )

    @property
    def headline(self) -> str:
        """How many are right, and between what that lies."""
        found = self.findings
        low, high = found.interval
        return (
            f"{100 * found.accuracy:.1f} % of {found.photos} photos right ({100 * low:.1f} to {100 * high:.1f} % with 95 % "
            f"certainty), {100 * found.balanced:.1f} % where every class counts the same."
        )

    def lines(self) -> list[str]:
        """What to do about it."""
        found = self.findings
        said = [f"looks wrong: {photo.name} is {photo.label!r}, and looks like {photo.seen!r} ({100 * photo.other:.0f} %)"
                for photo in found.suspicious]  # fmt: skip
        said += [f"nearly the same, in two classes: {one} and {other}" for one, other in found.contradicting]
        if found.alike:
            one, other = found.alike[0]
            said.append(f"nearly the same: {one} and {other}; {len(found.alike)} pairs are listed in {REPORT}")
        head = ", of the head on frozen features" if self.tuned else ""
        if found.left_out:
            said.append(f"unknown objects: {unknown_line(found.left_out)}{head}")
        half, whole, gain = dict(found.curve).get(0.5), dict(found.curve).get(1.0), found.doubled
        if half is not None and whole is not None:
            more = (
                f"twice as many may add about {100 * gain:.1f} points"
                if gain >= 0.001
                else "more photos like these may add little"
            )
            said.append(f"photos: {100 * half:.1f} % right with half of them, {100 * whole:.1f} % with all{head}; {more}")
        if self.fine_tuning is not None:
            said.append(self.fine_tuning.judgement.line)
        return said

    @property
    def tuned(self) -> bool:
        """Whether what is written was fine-tuned."""
        return self.fine_tuning is not None and self.fine_tuning.judgement.helped

    def epochs_sheet(self) -> Sheet | None:
        """How fine-tuning went, by epoch; None where nothing was unfrozen."""
        if self.fine_tuning is None:
            return None
        rows = [
            ("0, frozen" if not row["epoch"] else str(row["epoch"]), str(row["parts"]),
             f"{row['loss']:.3f}" if "loss" in row else "-", f"{row['stop_loss']:.3f}", percent(row["stop_right"]))
            for row in self.fine_tuning.curve
        ]  # fmt: skip
        return Sheet(title="Fine-tuning, mean of the parts",
                     columns=("epoch", "parts", "loss", "stopping loss", "right"), rows=rows)  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """What ``edgevit train --json`` prints, and what lies beside the weights."""
        found: dict[str, Any] = {
            "model": str(self.path),
            "headline": self.headline,
            "pooling": list(self.pooling),
            "penalty": self.penalty,
            "seconds": self.seconds,
            "classes": self.rows,
            "findings": self.findings.to_dict(),
            "notes": list(self.notes),
        }
        if self.fine_tuning is not None:
            found["fine_tuning"] = self.fine_tuning.to_dict()
        return found | ({"learned_from": list(self.learned_from)} if self.learned_from else {})

    def __repr__(self) -> str:
        return f"TrainResult({str(self.path)!r}, {100 * self.findings.accuracy:.1f} % right)"

    def _repr_html_(self) -> str:
        from edgevit.report.fragment import fragment, lines, strong, table

        epochs = self.epochs_sheet()
        return fragment(strong(self.headline), table(self.sheet()), *([] if epochs is None else [table(epochs)]),
                        table(worst_sheet(self.findings.worst)), lines(self.lines()))  # fmt: skip


def unknown_line(left_out: tuple[LeftOut, ...]) -> str:
    """How well they are told from what is known."""
    distance, confidence = (sum(getattr(each, name) for each in left_out) / len(left_out) for name in ("distance", "confidence"))
    hardest = min(left_out, key=lambda each: each.distance)
    return (
        f"a class left out is told from the others with AUROC {distance:.2f} by its distance (build --unknown), {confidence:.2f} "
        f"by low confidence; hardest is {hardest.label!r}, {hardest.distance:.2f}"
    )


def worst_sheet(photos: tuple[Photo, ...]) -> Sheet:
    """Photos that were seen wrong, the most certain first."""
    rows = [(photo.name, photo.label, f"{photo.seen} {100 * photo.other:.0f} %", f"{100 * photo.own:.0f} %") for photo in photos]
    return Sheet(title="Wrong, the surest first", columns=("photo", "is", "taken for", "its own class"), rows=rows, left=2)
