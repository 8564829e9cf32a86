"""What is asked to be compared, and one model of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgevit.commands.compare_names import Precision
from edgevit.engine.trusted import CheckedGraph
from edgevit.measure.details import Layer
from edgevit.plan.device_plan import DevicePlan
from edgevit.preprocess import Preprocessing
from edgevit.recipe import Recipe
from edgevit.target import Target


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked to be compared."""

    models: tuple[Path, ...]
    """Bundles or checkpoints; the first precision of the first is the reference."""
    data: Path
    """Images to compare on."""
    precisions: tuple[Precision, ...] = ()
    """Empty: all of a bundle, `edgevit.commands.compare_names.DEFAULT` of a checkpoint."""
    calibration: Path | None = None
    """Images to calibrate checkpoints on; None takes some of ``data``, which are then left out."""
    limit: int = 1024
    """Images compared on at most."""
    recipe: Recipe = field(default_factory=Recipe)
    target: Target | None = None
    """What checkpoints are written, and where it has a compiler compiled, for; None is this machine's CPU."""
    class_order: str | None = None
    """How the trainer sorted class folders, `edgevit.images.classes.ORDERS`, where a model has no names; None asks the model."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of `load_checkpoint`; a bundle takes none."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model to compare: its graphs by precision, the reference first."""

    name: str
    models: dict[str, bytes]
    contract: Preprocessing
    labels: tuple[str, ...]
    problem_type: str
    engine: str
    kind: str
    """``bundle`` or ``checkpoint``."""
    sha256: str
    """Of a bundle's manifest, which names all its files; of a checkpoint's weights."""
    calibrated: frozenset[str]
    """Fingerprints of the images it was fitted to: calibrated, pruned or refitted on."""
    notes: tuple[str, ...] = ()
    layers: dict[str, tuple[Layer, ...]] = field(default_factory=dict)
    """By precision, what quantization made of each GEMM."""
    plans: dict[str, DevicePlan] = field(default_factory=dict)
    """By precision, what compiling for the device showed, where that is another machine."""
    compiled: dict[str, bytes] = field(default_factory=dict)
    """By precision, what the target's compiler made of the graph, if this machine is the target."""
    checks: dict[str, CheckedGraph] = field(default_factory=dict)
    """By precision, the graph with what torch makes of it; empty for bundles of before, which carry no samples."""
    timed: bool = True
    """Whether milliseconds on ``engine`` say anything about the target."""
    earlier: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """By precision, what it had at build time, as a bundle's manifest tells it."""
