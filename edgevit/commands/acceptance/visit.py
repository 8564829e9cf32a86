"""What the steps work on, and what one tells the next."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgevit.bundle import Bundle
from edgevit.commands.acceptance.outcome import Done, run
from edgevit.device.jetson import ROOT, Board
from edgevit.engines import ENGINES


@dataclass(kw_only=True)
class Visit:
    """One machine and one bundle."""

    bundle: Bundle
    folder: Path
    """To work in; empty at first, removed afterwards."""
    board: Board | None
    sources: tuple[str, ...] = ()
    """Sources to read beside the cameras that are found."""
    root: Path = ROOT
    found: dict[str, float] = field(default_factory=dict)
    """Figures that a later step is held against, by name."""

    @property
    def copy(self) -> Path:
        """The bundle that is compiled and run."""
        return self.folder / self.bundle.path.name

    @property
    def uses_tensorrt(self) -> bool:
        """Whether the bundle is compiled by JetPack's TensorRT."""
        engine = self.bundle.manifest.engine
        return engine in ENGINES and "tensorrt" in ENGINES[engine].modules

    def copy_bundle(self) -> None:
        """Make `copy`."""
        if self.bundle.path.is_dir():
            shutil.copytree(self.bundle.path, self.copy)
        else:
            shutil.copy(self.bundle.path, self.copy)

    def edgevit(self, *arguments: object, limit_s: float) -> Done:
        """Run a command of edgevit's with this Python."""
        return self.run([sys.executable, "-m", "edgevit", *map(str, arguments)], limit_s)

    def run(self, command: Sequence[str], limit_s: float) -> Done:
        """Run any command."""
        return run(command, limit_s, folder=self.folder)


def last_json(output: str) -> dict[str, Any]:
    """The last line of ``output`` that is a JSON object; empty if none is."""
    for line in reversed(output.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return {}
