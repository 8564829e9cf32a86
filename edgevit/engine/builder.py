"""What engines share that are compiled ahead of time: how they are asked, what they return, how they refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from edgevit.engine.base import Backend, Session
from edgevit.errors import EngineError

Advance = Callable[[str, int, int], None]
"""Called with a phase of the builder, its step, and the number of its steps."""


class NoBuilderError(EngineError):
    """The builder is installed and cannot start: TensorRT's without a GPU, without a driver, or with another than it wants."""


class BuilderRefusedError(EngineError):
    """The parser or the builder refuses the graph; ``blocks``, such as ``blocks.3``, are those that its messages name."""

    def __init__(self, message: str, blocks: tuple[str, ...]) -> None:
        super().__init__(message)
        self.blocks = blocks


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How an engine is compiled; a builder leaves aside what it knows nothing of.

    Version- and hardware-compatible engines are left out: slower kernels, the second not legal on a Jetson, the first
    with code of its own in the plan. `edgevit compile` makes the right engine in a minute.

    So is DLA, a Jetson's other accelerator: the runtime would have to be told the core, too; NVIDIA's DLA does not take
    explicit Q/DQ graphs in FP16, which ours are; and Orin Nano and Thor have none.
    """

    batch: tuple[int, int, int] = (1, 1, 1)
    """Smallest, likeliest and largest number of frames per inference: the optimization profile."""
    workspace: int | None = None
    """Bytes of scratch memory that a kernel may want. None: where the GPU's memory is the system's (a Jetson), a quarter of
    what is free and at least 256 MiB, so that building does not push out everything else; elsewhere all the GPU has."""
    optimization_level: int | None = None
    """0 to 5; None leaves it to TensorRT."""
    tf32: bool = True
    """Multiply FP32 in TF32 (10 bits of mantissa), as TensorRT does by itself. False: FP32 products in FP32, for an
    accuracy reference. Of no effect on FP16 and INT8."""


@dataclass(frozen=True, kw_only=True)
class BuiltEngine:
    """What the builder returned."""

    engine: bytes
    timing_cache: bytes
    """Empty where the builder has none."""
    version: str
    seconds: float
    peak_mib: float
    """Most memory that the builder's process held while it compiled."""
    layers: tuple[str, ...]
    """The compiled plan, a line per layer, as the builder logs it; empty of a builder that lists none."""
    inspector: str | None
    """The plan as the engine inspector's JSON; None without a GPU to load the engine on, or if that failed."""
    warnings: tuple[str, ...]
    """The builder's, and why a plan on a GPU was not inspected."""


class Builder(Backend, Protocol):
    """An engine that is compiled ahead of time: where it runs, or elsewhere to see what it would be given there."""

    def build(
        self, model: bytes, options: BuildOptions, advance: Advance | None = None, *, timing_cache: bytes = b""
    ) -> BuiltEngine:  # fmt: skip
        """Compile an ONNX model. ``timing_cache`` is what an earlier build returned, or empty.

        Raises BuilderRefusedError for what the parser or the builder refuses, NoBuilderError if it cannot start, EngineError
        if it fails in another way, MissingPackageError without one.
        """
        ...

    def load(self, engine: bytes, *, graph: bool = True) -> Session:
        """Load what was built on this machine. Raises EngineError if it is of another version.

        ``graph`` lets a GPU replay a CUDA graph where that is faster.
        """
        ...


class AheadOfTime:
    """What engines share that are compiled ahead of time: ``stamp``, ``build`` and ``load`` are all that differs."""

    def stamp(self) -> dict[str, str]:
        """See `edgevit.engine.base.Backend.stamp`."""
        raise NotImplementedError

    def build(
        self, model: bytes, options: BuildOptions, advance: Advance | None = None, *, timing_cache: bytes = b""
    ) -> BuiltEngine:  # fmt: skip
        """See `Builder.build`."""
        raise NotImplementedError

    def load(self, engine: bytes, *, graph: bool = True) -> Session:
        """See `Builder.load`."""
        raise NotImplementedError

    def open(self, model: bytes, *, threads: int | None = None, batch: int = 1) -> Session:
        """See `edgevit.engine.base.Backend.open`; ``threads`` is of no meaning to a device, and its graphs fix the batch."""
        return self.load(self.build(model, BuildOptions()).engine)

    def computes_bf16(self) -> bool:
        """See `edgevit.engine.base.Backend.computes_bf16`: its graphs say what they compute in."""
        return False

    def check_stamp(self, stamp: Mapping[str, str]) -> None:
        """See `edgevit.engine.base.Backend.check_stamp`: all that ``stamp`` says now must be as it was."""
        differs = {key: value for key, value in self.stamp().items() if stamp.get(key) != value}
        changed = [f"{key} was {stamp.get(key, 'unknown')} and is {value}" for key, value in differs.items()]
        if changed:
            msg = f"this engine was compiled elsewhere: {', '.join(changed)}. Compile it here: edgevit compile BUNDLE"
            raise EngineError(msg)
