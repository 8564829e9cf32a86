"""What was collected: as an object, as JSON, and in lines for people."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edgevit.report.sheet import Sheet
from edgevit.runtime.collecting.album import TABLE, Contents, Snapshot
from edgevit.runtime.collecting.chooser import Reason

Ended = Literal["limit", "seconds", "budget", "end", "quit", "interrupted", "error"]
ENDED: dict[Ended, str] = {
    "limit": "as many as were wanted", "seconds": "the time is over", "budget": "the folder holds as much as --most-mib allows",
    "end": "the source ended", "quit": "by key", "interrupted": "interrupted", "error": "by an error",
}  # fmt: skip
CHANGED_BY: dict[Reason, str] = {
    "too soon": "--every", "dark": "--any-light", "overexposed": "--any-light", "flat": "--any-light", "blurred": "--sharp",
    "unchanged": "--change", "duplicate": "--alike", "certain": "--below",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, repr=False)
class CollectResult:
    """The snapshots of a session, and what became of the other frames. A notebook shows it as a table."""

    path: Path
    """The folder."""
    source: str
    snapshots: tuple[Snapshot, ...]
    frames: int
    """That the source gave."""
    left_out: Mapping[Reason, int]
    """Frames by their first reason; empty where keys decided."""
    skipped: int
    """Pictures that could not be decoded."""
    faults: str | None
    """What went wrong with a camera and was recovered from."""
    seconds: float
    """That it took."""
    ended: Ended
    contents: Contents
    """Of the folder, earlier sessions included."""
    mib: float
    """Size of all pictures there."""
    guessed: bool
    """Whether a model chose the frames."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A record for each snapshot."""
        return [asdict(each) for each in self.snapshots]

    def sheet(self) -> Sheet:
        """The same as a table."""
        columns = ("file", "label", "guess", "confidence", "sharpness", "change")
        rows = [tuple("" if row[name] is None else str(row[name]) for name in columns) for row in self.rows]
        return Sheet(title=f"Snapshots in {self.path}", columns=columns, rows=rows, left=3)

    @property
    def headline(self) -> str:
        """How many were kept, of how many."""
        kept = len(self.snapshots)
        return f"{self.path}: {kept} of {self.frames} frames kept in {self.seconds:.1f} s ({ENDED[self.ended]})"

    def lines(self) -> list[str]:
        """What was left out and why, what the folder holds, and what to do with it."""
        said = []
        if any(self.left_out.values()):
            reasons = [f"{count} {reason}" for reason, count in self.left_out.items() if count]
            options = dict.fromkeys(CHANGED_BY[reason] for reason, count in self.left_out.items() if count)
            said.append(f"left out          {', '.join(reasons)}  ({', '.join(options)})")
        if self.skipped:
            said.append(f"skipped           {self.skipped} unreadable")
        if self.faults:
            said.append(f"faults            {self.faults}")
        return [*said, f"folder            {self._holds()}", *self.next_steps()]

    def next_steps(self) -> list[str]:
        """The commands that come next, with what stands in their way."""
        folder, found = shlex.quote(str(self.path)), self.contents
        if found.classes and found.loose:
            said = "lie beside the folders of classes, so no labels are read: move them into one of these, or elsewhere"
            return [f"Next: {_count(found.loose, 'picture')} {said}"]
        if found.classes:
            build = f"edgevit build MODEL --data {folder}"
            if len(found.classes) == 1:
                return [f"Next: another class: edgevit collect SOURCE -o {folder} --label NAME; or calibrate with it: {build}"]
            return [f"Next: edgevit train {folder} --backbone MODEL, or {build}"]
        if not found.loose + found.unlabelled:
            return []
        calibrate = f"edgevit build MODEL --data {folder}"
        if self.guessed:
            where = f"a folder per class in {folder} ({TABLE} and the names tell what the model took them for)"
            return [f"Next: move the pictures into {where}, then edgevit train {folder} --backbone MODEL"]
        return [f"Next: calibrate with it: {calibrate}"]

    def to_dict(self) -> dict[str, Any]:
        """The summary of ``edgevit collect --json``."""
        return {
            "folder": str(self.path), "source": self.source, "frames": self.frames, "kept": len(self.snapshots),
            "left_out": {reason.replace(" ", "_"): self.left_out.get(reason, 0) for reason in CHANGED_BY},
            "skipped": self.skipped, "faults": self.faults, "seconds": round(self.seconds, 3), "ended": self.ended,
            "labels": {label: sum(each.label == label for each in self.snapshots) for label in self._labels()},
            "contents": asdict(self.contents), "mib": round(self.mib, 3), "next": self.next_steps(),
        }  # fmt: skip

    def _labels(self) -> list[str]:
        return list(dict.fromkeys(each.label for each in self.snapshots if each.label is not None))

    def _holds(self) -> str:
        found = self.contents
        parts = [f"{_count(len(found.classes), 'class', 'es')} ({', '.join(found.classes)})"] if found.classes else []
        parts += [f"{_count(found.loose, 'picture')} without a class"] if found.loose else []
        parts += [f"{found.unlabelled} in unlabelled/"] if found.unlabelled else []
        return f"{', '.join(parts) or 'no pictures'}; {self.mib:.1f} MiB"

    def __repr__(self) -> str:
        return f"CollectResult({str(self.path)!r}, {len(self.snapshots)} of {self.frames} frames)"

    def _repr_html_(self) -> str:
        from edgevit.report.fragment import fragment, lines, strong, table

        return fragment(strong(self.headline), table(self.sheet()), lines(self.lines()))


def _count(number: int, name: str, ending: str = "s") -> str:
    return f"{number} {name}{'' if number == 1 else ending}"
