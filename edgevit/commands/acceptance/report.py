"""The report: Markdown that can be read in a terminal, pasted into an issue, and sent."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from edgevit.commands.acceptance.outcome import Outcome
from edgevit.files.own_kinds import ACCEPTANCE_MARK
from edgevit.printable import printable

FENCE = "````"


def markdown(outcomes: Iterable[Outcome], *, version: str, bundle: str) -> str:
    """A table of all steps, then each one with its command and the end of its output. Home folders are not in it."""
    found = list(outcomes)
    lines = [ACCEPTANCE_MARK, "", f"# edgevit {version} on this machine", "", counts(found), "", f"Bundle: {bundle}", ""]
    lines += ["| step | | found | seconds |", "|---|---|---|---|"]
    lines += [f"| {_cell(each.step)} | {each.status} | {_cell(each.text)} | {each.seconds:.1f} |" for each in found]
    for each in found:
        lines += ["", f"## {each.step}: {each.status}", "", each.text]
        lines += [f"\nExpected: {each.expected}."] if each.expected else []
        if each.command:
            lines += ["", FENCE, f"$ {shlex.join(each.command)}", each.output.rstrip(), FENCE]
        elif each.output:
            lines += ["", FENCE, each.output.rstrip(), FENCE]
    home = f"{Path.home()}/"
    text = "\n".join(lines).replace(home, "~/") if home != "//" else "\n".join(lines)
    return "\n".join(printable(line) for line in text.splitlines()) + "\n"


def counts(outcomes: Iterable[Outcome]) -> str:
    """How many steps passed, failed and were skipped."""
    states = [each.status for each in outcomes]
    return ", ".join(f"{states.count(status)} {status}" for status in ("passed", "failed", "skipped"))


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("\n", " ")
