"""The engine that figures are taken from: the wanted one if it computes what torch does, else the next, with a note."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevit.engine.check import Verdict, check_outputs
from edgevit.engines import traits_of
from edgevit.errors import EngineError

if TYPE_CHECKING:
    from edgevit.engine.samples import Samples


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckedGraph:
    """A graph with what it should give."""

    precision: str
    model: bytes
    """ONNX."""
    samples: Samples
    compiled: bytes | None = None
    """What the engine made of it, if that is done."""
    floor_db: float | None = None
    """See `edgevit.engine.check.floor_of`, which is taken for None."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trusted:
    """An engine that all graphs passed on."""

    engine: str
    verdicts: tuple[Verdict, ...]
    """One a graph, in order."""
    notes: tuple[str, ...] = ()
    """Why it is not the first that was wanted."""


def trusted_engine(names: Sequence[str], graphs: Sequence[CheckedGraph], *, threads: int | None = None) -> Trusted:
    """The first of the engines called ``names`` that computes every graph as torch did.

    Raises EngineError, naming the place where each goes wrong, if none does or one refuses a graph.
    """
    failed: list[str] = []
    for name in names:
        verdicts: list[Verdict] = []
        for graph in graphs:
            verdict = check_outputs(name, graph.model, graph.samples, precision=graph.precision, threads=threads,
                              compiled=graph.compiled, floor_db=graph.floor_db)  # fmt: skip
            verdicts.append(verdict)
            if not verdict.passed:
                failed.append(str(verdict))
                break
        else:
            notes = tuple(f"engine: {text}. {name} is taken instead" for text in failed)
            return Trusted(engine=name, verdicts=tuple(verdicts), notes=notes)
    raise EngineError(wrong_here(failed) if traits_of(names[0]).ahead_of_time else wrong_everywhere(failed))


def wrong_here(failed: Sequence[str]) -> str:
    """What to say where a device's one engine is wrong: TensorRT, which on a Jetson is as new as JetPack lets it be."""
    return (
        f"{'; '.join(failed)}. Build with --precision fp32; or build on another machine and compile here (edgevit compile "
        "BUNDLE), which tries more careful forms of the graph"
    )


def wrong_everywhere(failed: Sequence[str]) -> str:
    """What to say where no CPU engine is left."""
    return f"{'; '.join(failed)}. No engine is left that is right. Update it, or install another: pip install 'edgevit[cpu]'"
