"""What `edgevit profile` does: a bundle's stages on real frames, and the parts of its model by the engine's profiler."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgevit.bundle import MODEL, Bundle
from edgevit.engine.base import Session
from edgevit.engine.of_bundle import compiled_here
from edgevit.engine.profiling import LayerTime, layer_times
from edgevit.errors import ConfigError, SourceError
from edgevit.measure.parts import PartTime, part_times
from edgevit.measure.stages import StageTime, stage_times
from edgevit.preprocess import prepare
from edgevit.progress import Progress
from edgevit.runtime.frame import Frame, Source


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Where a frame's time goes."""

    stages: tuple[StageTime, ...]
    parts: tuple[PartTime, ...]
    """Empty where the engine has no profiler here."""
    layers: tuple[LayerTime, ...]
    without: str = ""
    """Why there are no parts."""


def profile_bundle(
    bundle: Bundle, source: Source, session: Session, engine: str | None, *, threads: int | None, runs: int, progress: Progress,
    device: str | None = None,
) -> Profile:  # fmt: skip
    """Time ``runs`` frames of ``source`` through ``session``, then ``runs`` inferences under the engine's profiler.

    ``engine`` is the session's if it is not the bundle's own, ``device`` the one that was chosen for it. Raises SourceError when
    the source ends before that.
    """
    manifest = bundle.manifest
    frames = iter(source)
    with progress.stage("time stages", total=runs) as stage:
        stages = stage_times(
            lambda: _next(frames, source).image_bgr,
            session,
            manifest.preprocessing,
            manifest.labels,
            problem_type=manifest.problem_type,
            runs=runs,
            precision=manifest.precision,
            stage=stage,
        )
    ready = np.stack([prepare(_next(frames, source).image_bgr, manifest.preprocessing)])
    try:
        with progress.stage("profile layers"):
            name, own = session.engine.split()[0], None if engine else compiled_here(bundle)
            layers = layer_times(name, bundle.read(MODEL), ready, threads=threads, runs=runs, compiled=own, device=device)
    except ConfigError as error:
        return Profile(stages=tuple(stages), parts=(), layers=(), without=str(error))
    return Profile(stages=tuple(stages), parts=tuple(part_times(layers)), layers=tuple(layers))


def _next(frames: Iterator[Frame], source: Source) -> Frame:
    frame = next(frames, None)
    if frame is None:
        msg = f"{source.description}: no more frames. Give a longer source, or fewer --runs."
        raise SourceError(msg)
    return frame
