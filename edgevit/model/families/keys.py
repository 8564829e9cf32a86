"""The keys of a state dict, ticked off one by one, so that nothing is missed and nothing left over."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from edgevit.errors import CheckpointError

Shape = tuple[int | None, ...]
"""Expected sizes; None stands for any."""


class Keys:
    """Tensors by key that remembers which were taken; ``origin`` names the file in messages."""

    def __init__(self, tensors: Mapping[str, Tensor], origin: object, *, headless: bool = False) -> None:
        """``headless``: a model without a head is read, too, as one that gives its features."""
        self._left = dict(tensors)
        self.all = tuple(tensors)
        self.origin, self.headless = origin, headless

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of ``key``, which stays to be taken. Raises CheckpointError if it is missing."""
        return tuple(self._require(key, "").shape)

    def take(self, key: str, *shape: int | None) -> Tensor:
        """The tensor ``key``, ticked off. Raises CheckpointError if it is missing or not of ``shape``."""
        tensor = self._require(key, f" of shape {_written(shape)}")
        if len(shape) != tensor.ndim or any(want not in (None, have) for want, have in zip(shape, tensor.shape, strict=True)):
            msg = f"{self.origin}: {key!r} has shape {_written(tuple(tensor.shape))}, expected {_written(shape)}."
            raise CheckpointError(msg)
        if not tensor.is_floating_point():
            msg = f"{self.origin}: {key!r} holds {tensor.dtype} values. Give the float weights, from before any quantization."
            raise CheckpointError(msg)
        del self._left[key]
        return tensor

    def supply(self, key: str, tensor: Tensor) -> None:
        """A tensor that the model does not have, for `take` to find."""
        self._left[key] = tensor

    def find(self, key: str, *shape: int | None) -> Tensor | None:
        """Like `take`, but None if there is no such key."""
        return self.take(key, *shape) if key in self else None

    def left(self, prefix: str) -> list[str]:
        """Keys below ``prefix`` that nobody took yet."""
        return [key for key in self._left if key.startswith(prefix)]

    def first(self, *names: str, suffix: str = ".weight") -> str:
        """The first of ``names`` that is there with ``suffix``, else the first name, for `take` to miss."""
        return next((name for name in names if name + suffix in self), names[0])

    def ignore(self, pattern: str) -> None:
        """Tick off every key that matches, for parts that inference does not use."""
        self._left = {key: value for key, value in self._left.items() if not re.search(pattern, key)}

    def rename(self, pattern: str, replacement: str) -> None:
        """`re.sub` over the keys that are left."""
        self._left = {re.sub(pattern, replacement, key): value for key, value in self._left.items()}

    def count(self, prefix: str) -> int:
        """How many consecutive numbers from 0 follow ``prefix``, as in ``blocks.0.``; gaps are counted, too."""
        numbers = [int(m[1]) for key in self._left if (m := re.match(re.escape(prefix) + r"(\d+)\.", key))]
        return max(numbers, default=-1) + 1

    def require_empty(self, family: str) -> None:
        """Raise CheckpointError for a key that nothing asked for: its effect would be lost."""
        if self._left:
            key = min(self._left)
            msg = (
                f"{self.origin}: {key!r} is no part of a {family} ViT that edgevit knows ({len(self._left)} unknown keys), "
                "and leaving it out would change the results."
            )
            raise CheckpointError(msg)

    def _require(self, key: str, expected: str) -> Tensor:
        if key not in self._left:
            msg = f"{self.origin}: the key {key!r}{expected} is missing. Is this the whole model?"
            raise CheckpointError(msg)
        return self._left[key]


def _written(shape: Shape) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"
