"""Whether an engine computes what the model computes: a few frames through it, held against torch's own values.

Engines miscompile ViTs without a word (openvinotoolkit/openvino#30666, #37264; NVIDIA/TensorRT#4373, #4732, #4837), and an
engine compared with itself agrees. So no figure of an engine counts before this check.

The bound. An engine may differ from torch by two things: floating-point sums in another order, which in FP32 leaves over
100 dB; and values that lie on a rounding tie of INT8, which two correct engines may round differently, and which a deep
network carries on. At worst the two roundings are independent: their difference then has twice the power of either. So a
frame's squared error may be `TIES` times the mean power of the quantization noise as simulated, or `FLOOR_DB` below the
signal, whichever is more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.engine import builder, open_session
from edgevit.engine.base import Session
from edgevit.engine.builder import BuildOptions
from edgevit.engine.cut import cut
from edgevit.engines import traits_of
from edgevit.errors import EdgevitError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.engine.samples import Samples, StreamSamples

FLOOR_DB = 60.0
"""Of CPU engines, which compute everything that is not INT8 in FP32."""
HALF_FLOOR_DB = 25.0
"""Of TensorRT, which computes it in FP16 or TF32, with sums of its own choice."""
TIES = 8.0  # measured: at most 3 over models of 2 to 12 blocks (benchmarks/engine_check.py); 2 are independent roundings
REPEATS = 2  # inferences of each frame: what reads memory that is not written is not wrong every time
PEAK = 400.0  # dB that stand for identical values
HEAD = "the head, or what the engine fuses with it"


@dataclass(frozen=True, kw_only=True)
class Check:
    """An engine's values beside torch's."""

    frames: int
    sqnr_db: float
    """Signal over the error of the worst frame; `PEAK` if they are identical, -`PEAK` if some are not finite."""
    bound_db: float
    """What it must reach."""

    @property
    def passed(self) -> bool:
        """Whether the engine may be believed."""
        return self.sqnr_db >= self.bound_db


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found of one graph on one engine of this machine."""

    engine: str
    """Name and version."""
    precision: str
    check: Check
    place: str | None = None
    """Where it first goes wrong, such as ``blocks.3``; None if it does not, or if the samples cannot tell."""
    compiled: bytes | None = None
    """What an engine that is compiled ahead of time made of the graph."""

    @property
    def passed(self) -> bool:
        """Whether the engine may be believed with this graph."""
        return self.check.passed

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, without what the engine made of the graph."""
        return {"engine": self.engine, "precision": self.precision, **asdict(self.check)}

    def __str__(self) -> str:
        """One line for people."""
        check = self.check
        if self.passed:
            close = f"{_db(check.sqnr_db)} on the worst of {check.frames} frames, at least {_db(check.bound_db)} needed"
            return f"{self.engine} computes the {self.precision} graph as torch does: {close}"
        what = "values that are not finite" if check.sqnr_db <= -PEAK else f"{check.sqnr_db:.0f} dB from torch"
        where = f"; it first goes wrong in {self.place}" if self.place else ""
        return (
            f"{self.engine} computes the {self.precision} graph wrongly here: {what} on {check.frames} frames, and at least "
            f"{check.bound_db:.0f} dB are needed{where}"
        )


def verdict_summary(verdicts: Sequence[Verdict]) -> str:
    """What was checked and passed, in a line: each graph's worst frame, and in brackets what it had to reach."""
    parts = [
        f"{item.precision} on {item.engine.split()[0]} {_db(item.check.sqnr_db)} (at least {_db(item.check.bound_db)})"
        for item in verdicts
    ]
    frames = max((item.check.frames for item in verdicts), default=0)
    return f"Checked against torch on {frames} frames, the worst of them: {', '.join(parts)}"


def _db(value: float) -> str:
    return "identical" if value >= PEAK else f"{value:.0f} dB"


def check_session(session: Session, samples: Samples, floor_db: float = FLOOR_DB) -> Check:
    """Hold a loaded engine against ``samples``. Raises EngineError if inference fails."""
    noise = float(np.square(samples.expected - samples.logits).mean())
    return _check(session, samples.frames, lambda found: found, samples.expected, noise, floor_db)


def floor_of(engine: str, device: str | None = None) -> float:
    """`FLOOR_DB` or `HALF_FLOOR_DB`, for the engine called ``engine``, or its ``device``."""
    traits = traits_of(engine)
    elsewhere = device is not None and device.upper() not in traits.devices[:1]
    return FLOOR_DB if traits.exact_fp32 and not elsewhere else HALF_FLOOR_DB


def check_outputs(
    engine: str, model: bytes, samples: Samples, *, precision: str, threads: int | None = None, compiled: bytes | None = None,
    floor_db: float | None = None,
) -> Verdict:  # fmt: skip
    """Compile ``model``, ONNX, with the engine called ``engine`` unless it is ``compiled``, load it and check it.

    If it fails, shorter graphs are compiled to find where it first does. Raises EngineError if the engine refuses the model.
    """
    if traits_of(engine).ahead_of_time and compiled is None:
        compiled = builder(engine).build(model, BuildOptions()).engine
    floor = floor_of(engine) if floor_db is None else floor_db
    with open_session(engine, model, threads=threads) if compiled is None else builder(engine).load(compiled) as session:
        check = check_session(session, samples, floor)
        name = session.engine
    place = None
    if not check.passed:

        def opened(graph: bytes) -> Session:
            return open_session(engine, graph, threads=threads)

        place = first_wrong(opened, model, samples, floor)
    return Verdict(engine=name, precision=precision, check=check, place=place, compiled=compiled)


def first_wrong(opened: Callable[[bytes], Session], model: bytes, samples: Samples, floor_db: float) -> str | None:
    """The first place of ``model`` whose output is wrong, by bisection: ``embed``, a block such as ``blocks.3``, or `HEAD`.

    ``opened`` compiles and loads a graph. None if the samples have no streams.
    """

    def wrong(stream: StreamSamples) -> bool:
        try:
            with opened(cut(model, stream.tensor)) as session:
                found = _check(
                    session, samples.frames[: len(stream.values)], lambda x: x[:, stream.tokens], stream.values, stream.noise,
                    floor_db,
                )  # fmt: skip
        except (EdgevitError, ValueError, IndexError):
            return False
        return not found.passed

    streams = samples.streams
    if not streams:
        return None
    if not wrong(streams[-1]):
        return HEAD
    low, high = -1, len(streams) - 1  # right at low, wrong at high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if wrong(streams[middle]) else (middle, high)
    return streams[high].place


def _check(
    session: Session, frames: NDArray[np.uint8], pick: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    expected: NDArray[np.float32], noise: float, floor_db: float,
) -> Check:  # fmt: skip
    """``pick`` takes what is compared with ``expected`` out of what the engine gives; the worst frame of all repeats counts."""
    errors = []
    for _ in range(REPEATS):
        found = pick(np.concatenate([session.infer(frame[None]) for frame in frames]))
        with np.errstate(over="ignore", invalid="ignore"):
            errors.append(np.square(found.astype(np.float64) - expected).reshape(len(frames), -1).mean(1).max())
    worst, signal = max(errors, key=lambda error: error if math.isfinite(error) else math.inf), float(np.square(expected).mean())
    allowed = max(signal * 10 ** (-floor_db / 10), TIES * noise)
    return Check(frames=len(frames), sqnr_db=_decibel(signal, float(worst)), bound_db=_decibel(signal, allowed))


def _decibel(signal: float, noise: float) -> float:
    if not math.isfinite(noise):
        return -PEAK
    return min(PEAK, 10 * math.log10(signal / noise)) if noise and signal else PEAK if not noise else -PEAK
