"""What the doctor says, and whom it examines."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgevit.bundle import Bundle
from edgevit.device.apt import SimulatedInstall
from edgevit.device.jetson import Board
from edgevit.device.modules import Module, Python
from edgevit.engines import ENGINES
from edgevit.target import FAMILY, Target, load_target, version_of

LEVELS = ("ok", "note", "warning", "problem")
"""A note is worth knowing, a warning will cost something, with a problem the bundle does not run."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    topic: str
    level: str
    """One of `LEVELS`."""
    text: str
    fix: str = ""
    """What to do; empty where there is nothing to do."""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """What is examined."""

    root: Path
    python: Python
    board: Board | None
    target: Target | None
    """The board's own."""
    packages: dict[str, str]
    """Version by Debian package."""
    bundle: Bundle | None
    groups: frozenset[str] | None = None
    """Names of the groups that this user is in; None for root, who needs none."""
    simulate: Callable[[str], SimulatedInstall | None] = lambda _package: None
    """What installing a package would do; None where that cannot be asked."""

    @property
    def engine(self) -> str:
        """What the bundle runs on; without one, what this machine would."""
        if self.bundle:
            return self._engine_of(self.bundle.manifest.engine)
        return load_target(FAMILY if self.board else "cpu").engine()

    def _engine_of(self, own: str) -> str:
        """A CPU bundle's own engine if it loads here; else, as a session does, the next one that does."""
        cpu = load_target("cpu")
        if own not in cpu.engines.values():
            return own
        modules = self.python.modules
        names = dict.fromkeys((own, cpu.engine(), *cpu.engines.values()))
        return next((name for name in names if name in modules and modules[name].loads), own)

    def module(self, name: str) -> Module:
        """A module of the Python that would run the bundle."""
        return self.python.modules.get(name, Module(missing=f"{name} was not looked for"))

    @property
    def needs_tensorrt(self) -> bool:
        """Whether what this machine runs is compiled by TensorRT, a board's own or pip's."""
        return self.engine in ENGINES and "tensorrt" in ENGINES[self.engine].modules


def new_enough(version: str | None, minimum: str) -> bool:
    """Whether a version is at least ``minimum``; one that has no number in it is taken to be."""
    numbers = re.match(r"\d+(\.\d+)*", version or "")
    return numbers is None or version_of(numbers[0]) >= version_of(minimum)
