"""Preprocessing in the graph: what is done to pixels before the patch embedding takes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevit.model.onnxin.pieces import described
from edgevit.model.onnxin.values import Array, MisfitError, Pixels, Resized, View

_BYTES = 0.05
"""A scale below it is for pixels of 0..255: the largest standard deviation of 0..1 would make it 0.02 and less."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a graph does to pixels. ``mean`` and ``std`` are of 0..1, one a channel, in the order that the weights have."""

    mean: tuple[float, ...] | None
    """None where the graph does nothing."""
    std: tuple[float, ...] | None
    color: str | None
    """``rgb`` or ``bgr``: the order of the weights, where the graph tells."""
    flips: bool
    """Whether it reverses the channels."""
    bytes: bool
    """Whether its input is 0..255."""
    resized: tuple[int, int] | None
    """(height, width) of its input, where it resizes that."""


def look_of(view: View, kind: str) -> Look:
    """What stands between the input and ``view``, which the patch embedding takes. Raises MisfitError for what is unknown."""
    order, scale, shift, resized = _channels(view)
    whole = kind == "uint8"
    plain = not whole and (scale == 1).all() and not shift.any()
    small = whole or (not plain and float(scale.max()) < _BYTES)
    if plain:
        mean = std = None
    else:
        deviation = 1 / (scale * (255 if small else 1))
        std, mean = _rounded(deviation), _rounded(-shift * deviation)
    if (scale <= 0).any():
        msg = "pixels that are scaled by nothing, or negated"
        raise MisfitError(msg)
    flips = len(order) == 3 and tuple(order) == (2, 1, 0)
    if not flips and tuple(order) != tuple(range(len(order))):
        msg = f"channels in the order {list(order)}"
        raise MisfitError(msg)
    return Look(mean=mean, std=std, color=_color(mean), flips=flips, bytes=small, resized=resized)


def _color(mean: tuple[float, ...] | None) -> str | None:
    """Photos have more red than blue, so a mean tells the order that the weights were trained on."""
    if mean is None or len(mean) != 3 or abs(mean[0] - mean[2]) < 0.01:
        return None
    return "rgb" if mean[0] > mean[2] else "bgr"


def _rounded(values: Array) -> tuple[float, ...]:
    """Seven digits, which float32 has: 0.485 is written so."""
    return tuple(0.0 if abs(value) < 1e-9 else float(f"{value:.6g}") for value in values)


def _channels(view: View) -> tuple[Array, Array, Array, tuple[int, int] | None]:
    """Which channel of the input each is, scale and shift of each, and the size of an input that is resized."""
    if len(view.terms) != 1 or len(view.shape) != 4:
        msg = "pixels that are mixed before the patch embedding"
        raise MisfitError(msg)
    scale, shift = (_per_channel(array) for array in (view.terms[0].scale, view.shift))
    root = view.root
    if not isinstance(root, Pixels | Resized):
        msg = f"the patch embedding takes {described(root)}, not the image"
        raise MisfitError(msg)
    order = _order(view.indices(view.terms[0])[0], root.shape)
    if isinstance(root, Pixels):
        return order, scale, shift, None
    inner, inner_scale, inner_shift, _ = _channels(_channels_first(root.source))
    before = _spatial(root.source)
    return inner[order], scale * inner_scale[order], scale * inner_shift[order] + shift, before


def _channels_first(view: View) -> View:
    return view.moved(lambda array: array.transpose(0, 3, 1, 2)) if view.shape[1] not in (1, 3) else view


def _spatial(view: View) -> tuple[int, int]:
    height, width = _channels_first(view).shape[2:]
    return height, width


def _per_channel(array: Array) -> Array:
    """[N, channels, H, W] as [channels]. Raises MisfitError where pixels of a channel differ."""
    found = array[:1, :, :1, :1]
    if (array != found).any():
        msg = "pixels of one channel that are scaled in different ways"
        raise MisfitError(msg)
    return found.reshape(-1).astype(np.float64)


def _order(index: Array, shape: tuple[int, ...]) -> Array:
    """Which channel of the root [N, C, H, W] or [N, H, W, C] each of ``index`` [channels, H, W] is of."""
    first = shape[1] in (1, 3)
    channels, height, width = (shape[1], *shape[2:]) if first else (shape[3], *shape[1:3])
    if index.shape[1:] != (height, width):
        msg = f"a part of the image, {index.shape[1]}x{index.shape[2]} of {height}x{width}, is cut out in the graph"
        raise MisfitError(msg)
    whole = np.arange(channels * height * width).reshape(shape[1:])
    whole = whole if first else whole.transpose(2, 0, 1)
    order = []
    for channel in index:
        found = [number for number in range(channels) if np.array_equal(channel, whole[number])]
        if not found:
            msg = "an image that is flipped, rotated or mixed in the graph"
            raise MisfitError(msg)
        order.append(found[0])
    return np.asarray(order)
