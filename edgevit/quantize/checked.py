"""A checkpoint's graphs beside what torch makes of the same frames: what `edgevit.engine.trusted` holds engines against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.engine.check import HALF_FLOOR_DB
from edgevit.engine.trusted import CheckedGraph
from edgevit.export.variants import Variant
from edgevit.model.checkpoint import Checkpoint
from edgevit.quantize.samples import samples_of

if TYPE_CHECKING:
    from edgevit.preprocess import Frame


def checked_graph(
    variant: Variant, checkpoint: Checkpoint, frames: Frame, name: str = "", compiled: bytes | None = None
) -> CheckedGraph:  # fmt: skip
    """``variant`` of ``checkpoint`` with what it should give for ``frames`` uint8 [N, H, W, 3].

    ``name`` is what it is called, if not by its precision; ``compiled`` is what its engine made of it, if that is done.
    """
    return CheckedGraph(
        precision=name or variant.precision,
        model=variant.model,
        samples=samples_of(checkpoint, frames, variant.plan, half=variant.half),
        compiled=compiled,
        floor_db=HALF_FLOOR_DB if variant.half else None,
    )
