"""Steps, each in a process of its own with a limit, so that what one does to its process or its GPU the others do not feel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

SHORTEST = 3.0
"""Seconds without which no step is begun."""
TAIL = 40
"""Lines of a failed step's output that are kept."""


class SkippedError(Exception):
    """A step cannot be done here; says why."""


@dataclass(frozen=True)
class Figure:
    """A number that a step found."""

    name: str
    value: float | str
    unit: str = ""

    def __str__(self) -> str:
        value = (
            self.value if isinstance(self.value, str) else f"{self.value:.4g}" if abs(self.value) < 1e4 else f"{self.value:.0f}"
        )
        return f"{self.name} {value}{' ' if self.unit else ''}{self.unit}"


@dataclass
class Report:
    """What a step says while it runs. Written at every word: what was found stays, whatever happens next."""

    path: Path
    """The JSON file that it is written to."""
    work: Path
    """A folder that the steps share."""
    packed: Path | None = None
    """What `packing.pack` made."""
    result: Literal["running", "ok", "failed", "skipped"] = "running"
    reason: str = ""
    figures: list[Figure] = field(default_factory=list)

    def figure(self, name: str, value: float | str, unit: str = "") -> None:
        """Keep a number."""
        self.figures.append(Figure(name, value, unit))
        self.write()

    def write(self) -> None:
        """Write all there is."""
        told = {"result": self.result, "reason": self.reason, "figures": [asdict(figure) for figure in self.figures]}
        beside = self.path.with_suffix(".part")
        beside.write_text(json.dumps(told), encoding="utf-8")
        beside.replace(self.path)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing to find out."""

    name: str
    does: Callable[[Report], None]
    """Raises SkippedError for what cannot be done here, and anything else for what fails."""
    limit_s: float
    needs: tuple[str, ...] = ()
    """Steps that must have been ok."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """How a step went."""

    step: str
    result: str
    reason: str = ""
    seconds: float = 0.0
    figures: tuple[Figure, ...] = ()
    output: str = ""
    """The end of what a failed one printed."""


def do(step: Step, report: Report) -> int:
    """Do ``step`` in this process; returns its exit code."""
    report.write()
    try:
        step.does(report)
    except SkippedError as error:
        report.result, report.reason = "skipped", str(error)
    except BaseException as error:
        report.result, report.reason = "failed", " ".join(f"{type(error).__name__}: {error}".split())[:400]
        report.write()
        raise
    else:
        report.result = "ok"
    report.write()
    return 0


def run_steps(
    steps: Sequence[Step], command: Callable[[Step, Path], list[str]], work: Path, limit_s: float
) -> Iterator[Row]:  # fmt: skip
    """Run ``steps`` in turn, all within ``limit_s`` seconds; ``command`` starts a step that reports to a file."""
    end, done = time.monotonic() + limit_s, dict[str, str]()
    for step in steps:
        left = end - time.monotonic()
        lacking = [name for name in step.needs if done.get(name) != "ok"]
        if lacking:
            row = Row(step=step.name, result="skipped", reason=f"needs {lacking[0]}, which was {done.get(lacking[0], 'not run')}")
        elif left < SHORTEST:
            row = Row(step=step.name, result="skipped", reason=f"no time was left of {limit_s:g} s")
        else:
            row = run_step(step.name, partial(command, step), work, min(step.limit_s, left))
        done[step.name] = row.result
        yield row


def run_step(name: str, command: Callable[[Path], list[str]], work: Path, limit_s: float) -> Row:
    """Run one, which is ended with all that it started after ``limit_s`` seconds, or if it leaves something behind."""
    path, log = work / f"{name}.json", work / f"{name}.log"
    path.unlink(missing_ok=True)
    start, late = time.monotonic(), False
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command(path), stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        ) as child,
    ):
        try:
            code = child.wait(limit_s)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            _end(child.pid)
        code = child.wait()
    seconds = round(time.monotonic() - start, 1)
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        told = {"result": "running", "reason": "", "figures": []}
    figures = tuple(Figure(**each) for each in told["figures"])
    lines = log.read_text(errors="replace").splitlines()[-TAIL:]
    result, reason = told["result"], told["reason"]
    if late:
        result, reason = "failed", f"it took longer than {limit_s:.0f} s"
    elif result == "running" or (code and result != "failed"):
        result, reason = "failed", f"it ended with {_ending(code)}: {lines[-1] if lines else 'nothing was said'}"
    output_text = "\n".join(lines) if result == "failed" else ""
    return Row(step=name, result=result, reason=reason, seconds=seconds, figures=figures, output=output_text)


def _end(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def table(rows: Sequence[Row]) -> str:
    """A line or more per step: its result, its seconds, and below it what it found and why it went so."""
    wide = max(len(row.step) for row in rows)
    lines = [f"{'step':{wide}}  result   seconds"]
    for row in rows:
        lines.append(f"{row.step:{wide}}  {row.result:7}  {row.seconds:7.1f}")
        lines += [f"{'':{wide}}  {line}" for line in [row.reason] if line]
        lines += [f"{'':{wide}}  {figure}" for figure in row.figures]
    return "\n".join(lines)


def document(rows: Sequence[Row], limit_s: float) -> dict[str, Any]:
    """What gpu_check.json holds."""
    return {
        "python": sys.version.split()[0], "limit_s": limit_s, "seconds": round(sum(row.seconds for row in rows), 1),
        "steps": [asdict(row) for row in rows],
    }  # fmt: skip
