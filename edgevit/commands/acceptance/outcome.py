"""What came of a step, and the processes that it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgevit.runtime.redact import redacted, without_secrets

TAIL = 60
"""Lines of a program's output that are kept: its end, where the result is."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one step."""

    step: str
    status: Literal["passed", "failed", "skipped"]
    text: str
    """What was found; of a skipped step, why."""
    expected: str = ""
    """What should be found."""
    command: tuple[str, ...] = ()
    seconds: float = 0.0
    output: str = ""
    """The end of what the command printed."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A process that has ended, or was ended."""

    command: tuple[str, ...]
    code: int | None
    """Its exit code; None if its time was up."""
    output: str
    """All that it printed."""
    seconds: float

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        return f"not done after {self.seconds:.0f} s" if self.code is None else f"exit code {self.code}"

    @property
    def last(self) -> str:
        """The last line that it printed, where the result or the error is; how it ended if it printed nothing."""
        return next((line for line in reversed(self.output.splitlines()) if line.strip()), self.ending)

    def outcome(self, step: str, text: str, *, good: bool, expected: str) -> Outcome:
        """As the outcome of ``step``: to be shown and sent, so without passwords."""
        lines = self.output.expandtabs(4).splitlines()[-TAIL:]
        return Outcome(
            step=step, status="passed" if good else "failed", text=without_secrets(text), expected=expected,
            command=tuple(map(_shown, self.command)), seconds=self.seconds, output="\n".join(map(without_secrets, lines)),
        )  # fmt: skip


def _shown(word: str) -> str:
    """A word of a command as it may be shown; the text of a program is left out."""
    if "\n" in word:
        return "..."
    return redacted(word) if "://" in word or word.startswith("gst:") else word


def run(command: Sequence[str], limit_s: float, *, folder: Path) -> Done:
    """Run ``command`` in ``folder``; what is not done after ``limit_s`` is ended, with all that it started."""
    began = time.monotonic()
    process = subprocess.Popen(
        list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        cwd=folder, start_new_session=True, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    code: int | None
    try:
        output, _ = process.communicate(timeout=limit_s)
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        code = None
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return Done(command=tuple(command), code=code, output=output, seconds=time.monotonic() - began)
