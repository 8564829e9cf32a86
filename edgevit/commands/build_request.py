"""What a build is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgevit.cache import Cache
from edgevit.commands.steps import Quantize, Step
from edgevit.progress import Progress
from edgevit.recipe import Recipe
from edgevit.target import Target
from edgevit.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What a build is asked to do."""

    model: Path
    target: Target
    recipe: Recipe
    out: Path
    precision: str = "int8"
    data: Path | None = None
    """Images to calibrate on; those left over are evaluated on, unless ``eval_data`` has others."""
    eval_data: Path | None = None
    eval_limit: int = 1024
    """Images evaluated at most."""
    max_drop: float | None = None
    """Points of `edgevit.measure.accuracy.Accuracy.score` (of agreement, without labels) that INT8 may cost; more than that, and
    parts stay in FP32."""
    reference: bool = True
    """Keep the FP32 graph in the bundle, so that `compare` works from the bundle alone, and take the frames that engines are
    checked with from the images. False: neither; they are synthetic."""
    compared: bool = True
    """Measure what was built beside the model as it came. False, for what is compared with many others later: it is not measured,
    and the bundle keeps no FP32 graph."""
    features: bool = False
    """Graphs give the features beside the logits."""
    unknown: bool = False
    """The bundle tells what is unlike the images of ``data``; it gives features then."""
    threads: int | None = None
    device: str = "auto"
    """Where torch computes what is heavy; see `edgevit.model.devices.compute_device`."""
    smaller: tuple[Step, ...] = ()
    """What is done to the model before it is quantized, in order: pruning, merging."""
    class_order: str | None = None
    """How the trainer sorted class folders, `edgevit.images.classes.ORDERS`, where the model has no names; None asks it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of `load_checkpoint`."""
    command: str = ""
    """What was typed, for the conditions of what is measured."""

    @property
    def steps(self) -> tuple[Step, ...]:
        """What is done to the model, in order."""
        return (*self.smaller, Quantize(self.precision, self.recipe))

    def bench(self, cache: Cache, progress: Progress) -> Workbench:
        """Where it is done."""
        return Workbench(target=self.target, cache=cache, progress=progress, threads=self.threads, device=self.device)
