"""Tokens of many images on their way through the blocks, in a temporary file: memory stays that of one batch."""

from __future__ import annotations

import tempfile
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from edgevit.errors import storage_errors
from edgevit.model.merging import Tokens

EVERY = 4  # of so many batches, one is held out


class TokenStream:
    """Batches of float32 tokens [N, T, width] with their sizes, written and read by number, in any order once all are there.

    Use it in a ``with``; the file has no name, and is gone afterwards. Batches may differ in N.
    """

    def __init__(self) -> None:
        with storage_errors(tempfile.gettempdir(), "TMPDIR"):
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._shapes: list[tuple[int, ...]] = []
        self._further: list[tuple[tuple[int, ...], ...]] = []
        self._room: list[int] = []

    def __enter__(self) -> TokenStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._shapes)

    def append(self, tokens: Tokens) -> None:
        """Write one more batch. Raises StorageError if the disk is full."""
        images, count, width = tokens.x.shape
        self._shapes.append((images, count, width))
        self._further.append(())
        self._room.append(
            images * count * (width + 1 + count)
        )  # sizes and places come with the first merge; a hole takes no room
        self.replace(len(self) - 1, tokens)

    def replace(self, number: int, tokens: Tokens) -> None:
        """Write batch ``number`` anew, with as many tokens or fewer. Raises StorageError if the disk is full."""
        further = [part for part in (tokens.sizes, tokens.places) if part is not None]
        parts = [tokens.x, *further]
        if sum(part.numel() for part in parts) > self._room[number]:
            msg = f"batch {number} has room for {self._room[number]} values, got {tuple(tokens.x.shape)}"
            raise ValueError(msg)
        self._shapes[number], self._further[number] = tuple(tokens.x.shape), tuple(tuple(part.shape) for part in further)
        with storage_errors(tempfile.gettempdir(), "TMPDIR"):
            self._file.seek(self._offset(number))
            for part in parts:
                self._file.write(part.contiguous().numpy().data)
            self._file.flush()  # now, not at the next read: the error belongs here

    def read(self, number: int) -> Tokens:
        """Batch ``number``."""
        shape = self._shapes[number]
        self._file.seek(self._offset(number))
        return Tokens(self._next(shape), *map(self._next, self._further[number]))

    def _next(self, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(np.fromfile(self._file, np.float32, int(np.prod(shape))).reshape(shape))

    def _offset(self, number: int) -> int:
        return 4 * sum(self._room[:number])


def is_held_out(batch: int) -> bool:
    """Whether a batch is kept out of every fit, to judge what was fitted."""
    return batch % EVERY == EVERY - 1
