"""``edgevit compile``: a bundle's engine, compiled on the device that runs it and kept in the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgevit.bundle import ENGINE, MODEL, SAMPLES, TIMING_CACHE, Bundle, Manifest, open_bundle, write_bundle
from edgevit.device.jetson import detect
from edgevit.engine import backend, runs_here
from edgevit.engine.base import processor
from edgevit.engine.check import HALF_FLOOR_DB
from edgevit.engine.check import examine as examine_engine
from edgevit.engine.of_bundle import lacking
from edgevit.engine.samples import load_samples
from edgevit.engine.tensorrt import Advance, BuildOptions, BuiltEngine, build_engine, stamp_here
from edgevit.errors import ConfigError, EngineError
from edgevit.problem import SINGLE_LABEL
from edgevit.progress import Progress
from edgevit.report.accuracy import measure
from edgevit.report.latency import Latency, summary, take_turns
from edgevit.report.preflight import examine
from edgevit.writing import require_writable

RUNS = 50  # timed inferences


@dataclass(frozen=True, kw_only=True)
class SpotCheck:
    """What a fresh engine makes of the bundle's samples."""

    images: int
    agreement: float
    """Share of them with FP32's class; of several labels see `edgevit.report.multilabel.agreement`."""
    sqnr_db: float | None
    """Of the logits against FP32; None if they are equal."""
    expected_db: float | None
    """The same as simulated at build time."""


def compile_bundle(
    path: Path, options: BuildOptions, advance: Advance | None = None, *, keys: Sequence[Path] = ()
) -> tuple[Bundle, BuiltEngine]:
    """Compile the bundle at ``path`` for this machine and put the engine into it, whole or not at all.

    ``keys`` as in `open_bundle`. What is written has no signature: it is other content than was signed.

    Raises ConfigError if there is nothing to compile, EngineError if this machine cannot run the result or the result
    computes something else, StorageError, before it compiles, if the bundle cannot be written.
    """
    bundle = open_bundle(path, keys)
    manifest, name = bundle.manifest, bundle.manifest.engine
    if backend(name).just_in_time:
        msg = f"{path}: {name} compiles in a second at every start; there is nothing to keep. Run it: edgevit run {path} SOURCE"
        raise ConfigError(msg)
    if not runs_here(name):
        msg = f"{path}: an engine of {name} is compiled on the machine that runs it, and this one cannot: {lacking(name)}"
        raise EngineError(msg)
    require_writable(path)
    files = {file: bundle.read(file) for file in manifest.files}
    built = build_engine(files[MODEL], options, advance, engine=name, timing_cache=files.get(TIMING_CACHE, b""))
    check = None
    if SAMPLES in files:
        check = spot_check(name, files[MODEL], built.engine, files[SAMPLES], manifest.problem_type)
    latency = timed(name, built.engine, manifest.preprocessing.size)
    manifest = replace(_with_engine(manifest, built, stamp_here(name), check), latency=_measured(manifest, built, latency))
    return write_bundle(path, manifest, files | {ENGINE: built.engine, TIMING_CACHE: built.timing_cache}), built


def timed(name: str, engine: bytes, size: tuple[int, int]) -> Latency:
    """What one inference with a fresh engine takes on this machine as it is: its power mode, its clocks, its heat."""
    frames = {name: np.random.default_rng(0).integers(0, 256, (4, *size, 3), np.uint8)}
    with backend(name).load(engine) as session, Progress().stage("measure latency") as stage:
        return summary(take_turns({name: session}, frames, runs=RUNS, stage=stage)[name])


def spot_check(name: str, model: bytes, engine: bytes, samples: bytes, problem_type: str = SINGLE_LABEL) -> SpotCheck:
    """Run a fresh ``engine``, of ONNX ``model``, on the bundle's samples; `edgevit.engine.check` says how the bound is set.

    ``problem_type`` is what the logits mean.

    Raises EngineError, with the block where it first goes wrong, if it is not what was simulated.
    """
    held = load_samples(samples)
    verdict = examine_engine(name, model, held, precision="bundle's", compiled=engine, floor_db=HALF_FLOOR_DB)
    if not verdict.passed:
        msg = f"{verdict}. This TensorRT compiles it wrongly: update it, or build with --precision fp32."
        raise EngineError(msg)
    with backend(name).load(engine) as session:
        found = session.infer(held.frames)
    measured = measure(found, held.logits, None, problem_type)
    return SpotCheck(
        images=len(held.frames),
        agreement=measured.agreement,
        sqnr_db=measured.sqnr_db,
        expected_db=measure(held.expected, held.logits, None, problem_type).sqnr_db,
    )


def _measured(manifest: Manifest, built: BuiltEngine, latency: Latency) -> dict[str, Any]:
    """As a build on its own device keeps it, with what the figures depend on."""
    board = detect()
    conditions = {"engine": built.version, "device": board.model if board else processor(), "batch": 1, "runs": latency.runs,
                  "mode": board.mode if board else None, "gpu_mhz": board.gpu_mhz if board else None}  # fmt: skip
    return {manifest.precision: asdict(latency), "conditions": conditions}


def _with_engine(manifest: Manifest, built: BuiltEngine, stamp: dict[str, str], check: SpotCheck | None) -> Manifest:
    """What the manifest says once the engine is the device's own: its plan takes the place of the stand-in's."""
    bare = [i for i, block in enumerate(manifest.blocks) if "qkv" not in block]
    found = examine(built, blocks=len(manifest.blocks), bare=bare)
    compiled = (manifest.compiled or {}) | {"plan": found.summary() | {"stand_in": False}, "engine": stamp}
    compiled["check"] = asdict(check) if check else None
    notes = [text for text in manifest.notes if not text.startswith(("plan: ", "preflight: "))]
    return replace(manifest, compiled=compiled, notes=(*notes, *(f"plan: {warning}" for warning in found.warnings)))
