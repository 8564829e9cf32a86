"""Calibration block by block: what belongs to one block is all that is in memory, however deep the model is.

Tokens of all images wait between blocks in a temporary file. Statistics are those of one pass, to the bit: every batch goes
through every block once, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

import torch

from edgevit.model.devices import CPU
from edgevit.model.folded import FoldedVit, embed, placed, run_block
from edgevit.model.token_store import TokenStream
from edgevit.part import Part
from edgevit.quantize.fp16 import PeakMeter
from edgevit.quantize.linears import FrameKeeper, KeptFrames, collector_for
from edgevit.quantize.statistics import InputStatistics
from edgevit.recipe import Recipe

if TYPE_CHECKING:
    from edgevit.preprocess import Frame


class Streamed:
    """A `edgevit.quantize.linears.Calibration` that runs a block when it is asked for. Use it in a ``with``."""

    def __init__(
        self, model: FoldedVit, batches: Iterable[Frame], *, images: int, recipe: Recipe,
        advance: Callable[[int], None] = lambda _images: None, meter: PeakMeter | None = None, device: torch.device = CPU,
    ) -> None:  # fmt: skip
        """Embed ``images`` frames, uint8 [N, H, W, 3] per batch; ``advance`` is told of every image in every block.

        ``meter``, of the same model, sees on the way what FP16 would have to hold. Blocks run on ``device``, and what is
        collected of them is there.

        Raises DataError for an unreadable image, StorageError if the temporary folder is full.
        """
        self._model, self._images, self._recipe, self._advance = model, images, recipe, advance
        self._stream, self._next, self._meter, self._device = TokenStream(), 0, meter, device
        keeper = FrameKeeper(images=images, tokens=model.config.tokens)
        try:
            for batch in batches:
                frames = torch.from_numpy(batch)
                self._stream.append(meter.embed(frames) if meter else embed(model, frames))
                keeper.add(frames)
        except BaseException:
            self._stream.__exit__(None, None, None)
            raise
        self._frames = keeper.kept(recipe.calibrate.seed)

    @property
    def frames(self) -> KeptFrames:
        """See `edgevit.quantize.linears.Calibration.frames`."""
        return self._frames

    def of_block(self, index: int) -> Mapping[Part, InputStatistics]:
        """See `edgevit.quantize.linears.Calibration.of_block`."""
        if index != self._next:
            msg = f"block {self._next} is next, not {index}"
            raise ValueError(msg)
        collector = collector_for(self._images, self._recipe)
        run = self._meter.run_block if self._meter else partial(run_block, placed(self._model, index, self._device))
        for batch in range(len(self._stream)):
            tokens = self._stream.read(batch)
            self._stream.replace(batch, run(index, tokens.to(self._device), collector).to(CPU))
            self._advance(len(tokens.x))
        self._next += 1
        return collector.statistics

    def __enter__(self) -> Streamed:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stream.__exit__(kind, error, trace)
