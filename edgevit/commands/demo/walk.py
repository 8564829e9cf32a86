"""The way that ``edgevit demo`` goes: what each step means, and the command that does it; and what to type next."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from edgevit.commands.demo.material import Material

REPORT, VIDEO, PICTURE = "report.html", "annotated.mp4", "attention.png"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command, as it would be typed."""

    meaning: str
    arguments: tuple[str, ...]
    """Behind ``edgevit``."""
    shows: bool = False
    """Whether what it prints is what the demo is for."""

    @property
    def typed(self) -> str:
        """For a shell."""
        return shlex.join(self.arguments)


@dataclass(frozen=True, kw_only=True)
class Smaller:
    """Percent of the multiply-accumulates that go before quantization: ``prune`` of heads and neurons, ``merge`` of tokens."""

    prune: int = 0
    merge: int = 0

    @property
    def options(self) -> tuple[str, ...]:
        """For ``edgevit build``."""
        return tuple(word for name, share in self._shares() for word in (f"--{name}", f"{share / 100:g}"))

    @property
    def precision(self) -> str:
        """For ``edgevit compare``."""
        return "+".join(["int8", *(f"{name}{share}" for name, share in self._shares())])

    def _shares(self) -> list[tuple[str, int]]:
        return [(name, share) for name, share in (("prune", self.prune), ("merge", self.merge)) if share]


SMALLER = {"digits": Smaller(prune=40, merge=15), "cells": Smaller(merge=20)}
"""Well below what three merges can save of what pruning leaves."""
MEASURED_ON = {"digits": 1024, "cells": 512}
"""Held-out images at most: three precisions of a DINOv2-S take a while."""


def steps(material: Material) -> tuple[Step, ...]:
    """From the trained model to a video with labels and a report."""
    smaller, limit = SMALLER[material.name], str(MEASURED_ON[material.name])
    bundle, report, video, picture = (str(path) for path in outputs(material))
    images = ("--data", str(material.train))
    return (
        Step(
            meaning="Build: fewer tokens, heads and neurons, then INT8, without training; measured on images held out.",
            arguments=("build", str(material.model), *images, "--eval-data", str(material.test), "--eval-limit", limit,
                       *smaller.options, "-o", bundle),
        ),
        Step(
            meaning="Run: a video is classified as a camera would be, and its labels are drawn into it.",
            arguments=("run", bundle, str(material.video), "--headless", "--save", video),
        ),
        Step(
            meaning="Look: what every head attends to in one image, FP32 beside INT8.",
            arguments=("attention", bundle, str(material.image), "-o", picture),
        ),
        Step(
            meaning="Compare: what each of these steps costs in accuracy and gains in speed, side by side.",
            arguments=("compare", str(material.model), "--data", str(material.test), "--calibration", str(material.train),
                       "--limit", limit, "--precisions", f"fp32,int8,{smaller.precision}", "--html", report),
            shows=True,
        ),
    )  # fmt: skip


def outputs(material: Material) -> tuple[Path, Path, Path, Path]:
    """The bundle, the report, the annotated video and the attention picture."""
    folder = material.folder
    return folder / f"{material.name}.edgevit", folder / REPORT, folder / VIDEO, folder / PICTURE


def next_commands(material: Material, program: str = "edgevit") -> tuple[tuple[str, str], ...]:
    """What to type next, and what for; ``program`` is how edgevit is called here."""
    bundle, report, _, _ = outputs(material)
    return (
        ("read the report", f"python3 -m webbrowser {shlex.quote(report.absolute().as_uri())}"),
        ("classify what camera 0 sees", f"{program} run {shlex.quote(str(bundle))} 0"),
        ("build a model of your own", f"{program} build MODEL --data PHOTOS --speedup 1.5 -o mine.edgevit"),
    )
