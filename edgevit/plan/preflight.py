"""What the compiled plan tells before the board is touched."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from edgevit.engine.builder import BuiltEngine
from edgevit.plan.kernels import CompiledPlan, Kernel, parse_inspector, parse_layers


@dataclass(frozen=True, kw_only=True)
class BlockRow:
    """One block of the ViT in the plan."""

    block: str
    kernels: int
    fused_attention: int
    gmacs: float
    int8_share: float
    """Of its multiply-accumulates."""
    megabytes: float


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """A compiled plan, what it amounts to, and what is wrong with it."""

    plan: CompiledPlan
    rows: tuple[BlockRow, ...]
    warnings: tuple[str, ...]
    peak_mib: float = 0.0
    """Most memory that the builder's process held."""

    def summary(self) -> dict[str, Any]:
        """The plan's figures, JSON-ready."""
        plan = self.plan
        return {
            "builder": plan.builder,
            "seconds": round(plan.seconds, 2),
            "kernels": len(plan.kernels),
            "megabytes": round(plan.megabytes, 1),
            "gmacs": round(sum(kernel.macs for kernel in plan.kernels) / 1e9, 3),
            "int8_share": round(plan.int8_share, 4),
            "fused_attention": plan.fused_attention,
            "engine_bytes": plan.engine_bytes,
            "builder_mib": round(self.peak_mib),
            "warnings": list(self.warnings),
        }

    def to_dict(self) -> dict[str, Any]:
        """The same, block by block and kernel by kernel."""
        kernels = [
            {"name": kernel.name, "kind": kernel.kind, "block": kernel.block, "dtype": kernel.dtype, "macs": kernel.macs,
             "bytes": kernel.bytes, "nodes": kernel.nodes}
            for kernel in self.plan.kernels
        ]  # fmt: skip
        return self.summary() | {"blocks": [asdict(row) for row in self.rows], "layers": kernels}


def read_plan(built: BuiltEngine, *, blocks: int, bare: Collection[int] = ()) -> Preflight:
    """The preflight of an engine for a ViT of so many blocks, of which ``bare`` have no attention.

    Without kernels and with a warning if its plan cannot be read.
    """
    kernels, problem = _kernels(built)  # the engine is good whatever is wrong with its description
    plan = CompiledPlan(kernels=kernels, engine_bytes=len(built.engine), builder=built.version, seconds=built.seconds)
    unread = f"the plan cannot be read, so neither fusion nor INT8 coverage is checked: {problem}"
    warnings = (unread,) if problem else plan.warnings(blocks, bare)
    return Preflight(plan=plan, rows=tuple(_rows(plan)), warnings=warnings, peak_mib=built.peak_mib)


def _kernels(built: BuiltEngine) -> tuple[tuple[Kernel, ...], str | None]:
    """From the inspector, or if that is missing or strange from the builder's log; else none and why."""
    problem = "the builder listed no layers"
    for read in (lambda: parse_inspector(built.inspector or '{"Layers": []}'), lambda: parse_layers(built.layers)):
        try:
            kernels = read()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problem = str(error)
        else:
            if kernels:
                return kernels, None
    return (), problem


def _rows(plan: CompiledPlan) -> list[BlockRow]:
    rows = []
    for block, kernels in plan.by_block().items():
        part = CompiledPlan(kernels=kernels, engine_bytes=0, builder=plan.builder, seconds=0.0)
        rows.append(
            BlockRow(
                block=block,
                kernels=len(kernels),
                fused_attention=part.fused_attention,
                gmacs=sum(kernel.macs for kernel in kernels) / 1e9,
                int8_share=part.int8_share,
                megabytes=part.megabytes,
            )
        )
    return rows
