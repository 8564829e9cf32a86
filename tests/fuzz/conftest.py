"""How many inputs each kind gets, and the table of what became of them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import pytest

from tests.fuzz.limits import TooSlowError, limited
from tests.support import Outcome

INTERNAL, FINDINGS = 70, 1
"""Exit codes: a fault of ours; doctor found problems, and has printed them."""
HOUR = "EDGEVIT_FUZZ_SECONDS"
"""Environment variable: how long all kinds together go on, with new seeds. Without it each kind has its few inputs."""
KINDS = 14
TABLE: dict[str, Counter[str]] = {}


@dataclass
class Fuzz:
    """One kind of input."""

    kind: str
    edgevit: Callable[..., Outcome]
    found: Counter[str] = field(default_factory=Counter)

    def seeds(self, count: int) -> Iterator[Random]:
        """A source of chance for each of ``count`` inputs; for longer, if the environment says so."""
        seconds = float(os.environ.get(HOUR, 0)) / KINDS
        end, number = time.monotonic() + seconds, 0
        while number < count or time.monotonic() < end:
            yield Random(f"{self.kind} {number}")
            number += 1

    def command(self, *arguments: object) -> Outcome:
        """Run a command; it must end in time, with one line and a code that says what is wrong, or do what it was asked to."""
        __tracebackhide__ = True
        try:
            with limited():
                outcome = self.edgevit(*arguments)
        except TooSlowError:
            pytest.fail(f"takes too long: edgevit {' '.join(map(str, arguments))}")
        said = [line for line in outcome.stderr.splitlines() if line.startswith("edgevit: ")]
        assert outcome.code != INTERNAL, outcome.stderr
        assert "Traceback" not in outcome.stderr
        assert "\x1b]" not in outcome.stdout + outcome.stderr
        assert "not enough memory" not in outcome.stderr, outcome.stderr
        if outcome.code and not (outcome.code == FINDINGS and arguments[0] == "doctor"):
            assert len(said) == 1, outcome.stderr
        self.found["refused" if outcome.code else "accepted"] += 1
        return outcome

    def call(self, function: Callable[[], object], *allowed: type[Exception]) -> None:
        """Call ``function``, which may raise one of ``allowed`` and nothing else, in time and within bounds."""
        __tracebackhide__ = True
        try:
            with limited():
                function()
        except allowed:
            self.found["refused"] += 1
        except TooSlowError:
            pytest.fail("takes too long")
        else:
            self.found["accepted"] += 1


@pytest.fixture
def fuzz(request: pytest.FixtureRequest, edgevit: Callable[..., Outcome]) -> Iterator[Fuzz]:
    """The inputs of one test, counted."""
    found = Fuzz(request.node.name.removeprefix("test_"), edgevit)
    yield found
    TABLE[found.kind] = found.found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Of what ran in this process: with several workers there is none."""
    if TABLE:
        terminalreporter.section("inputs")
        terminalreporter.line(f"{'kind':<24}{'inputs':>8}{'refused':>9}{'accepted':>10}")
        for kind, found in TABLE.items():
            terminalreporter.line(f"{kind:<24}{found.total():>8}{found['refused']:>9}{found['accepted']:>10}")
