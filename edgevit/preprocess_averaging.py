"""A picture shrunk by averaging over areas, as two products with narrow matrices: what OpenCV's INTER_AREA computes, faster.

OpenCV goes through every source row pixel by pixel before it adds rows up. Rows first leaves a fraction of that work, matrix
products use the processor's vector units for it, and an area may begin anywhere, so that a crop costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

GROUP = 4
"""Result rows or columns per product: more wastes multiplications by zero, fewer wastes calls."""
ALONE = 1 << 18
"""Multiplications up to which OpenBLAS works on the calling thread; its own threads would spin against the engine's."""
FAST = ("openblas", "mkl", "accelerate", "blis", "armpl")
"""Matrix libraries that are worth it. The reference BLAS, Debian's default, is slower than OpenCV."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Band:
    """A few neighbouring results along one side, and the source pixels that they are the means of."""

    start: int
    stop: int
    weights: NDArray[np.float32]
    """[results, stop - start]"""


@cache
def worthwhile() -> bool:
    """Whether numpy multiplies matrices fast here. Older than 1.26 it does not tell, which counts as no."""
    try:
        # numpy's stubs leave the dictionary out.
        config: Any = np.show_config(mode="dicts")  # type: ignore[call-overload,unused-ignore]
        name = str(config["Build Dependencies"]["blas"]["name"])
    except (TypeError, KeyError):
        return False
    return any(each in name.lower() for each in FAST)


def averaged(
    image: NDArray[np.uint8], height: int, width: int, kept: tuple[int, int], first: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """The part of ``kept`` (height, width) that begins at ``first`` (row, column) of ``image`` shrunk to ``height`` x ``width``.

    Args:
        image: uint8 [H, W, channels]; neither side is shorter than the result's.
        height, width: of the whole result.
        kept: what is computed of it.
        first: where that begins; None takes its centre.

    Returns:
        uint8 [*kept, channels]. A value that lies between two levels may be rounded to the other one than by OpenCV.
    """
    row, column = first or ((height - kept[0]) // 2, (width - kept[1]) // 2)
    rows = _bands(image.shape[0], height, row, kept[0])
    columns = _bands(image.shape[1], width, column, kept[1])
    left, right, channels = columns[0].start, columns[-1].stop, image.shape[2]
    flat = image[:, left:right].reshape(len(image), -1)
    source = np.empty((max(band.stop - band.start for band in rows), flat.shape[1]), np.float32)
    tall = np.empty((kept[0], flat.shape[1]), np.float32)
    for number, band in enumerate(rows):
        part = source[: band.stop - band.start]
        np.copyto(part, flat[band.start : band.stop])
        _multiply(band.weights, part, tall[GROUP * number : GROUP * number + len(band.weights)])
    result = np.empty((kept[0], kept[1] * channels), np.float32)
    for number, (band, weights) in enumerate(zip(columns, _interleaved(columns, channels), strict=True)):
        first = GROUP * number * channels
        part = tall[:, (band.start - left) * channels : (band.stop - left) * channels]
        _multiply(part, weights, result[:, first : first + weights.shape[1]])
    return np.rint(result, out=result).astype(np.uint8).reshape(*kept, channels)


@lru_cache(maxsize=64)
def _bands(length: int, scaled: int, first: int, kept: int) -> tuple[Band, ...]:
    """``kept`` of the ``scaled`` means over ``length`` pixels, from ``first`` on."""
    results = range(first, first + kept)
    return tuple(_band(length, scaled, results[i : i + GROUP]) for i in range(0, kept, GROUP))


def _band(length: int, scaled: int, results: range) -> Band:
    # In units of 1 / scaled pixel all borders are whole numbers.
    start, stop = results[0] * length // scaled, -(-(results[-1] + 1) * length // scaled)
    pixels = np.arange(start, stop)[None, :] * scaled
    begins = np.array(results)[:, None] * length
    overlap = np.minimum(pixels + scaled, begins + length) - np.maximum(pixels, begins)
    return Band(start=start, stop=stop, weights=(np.maximum(overlap, 0) / length).astype(np.float32))


@lru_cache(maxsize=64)
def _interleaved(columns: tuple[Band, ...], channels: int) -> list[NDArray[np.float32]]:
    """Each band's weights for pixels whose channels lie side by side: [source values, result values]."""
    return [np.kron(band.weights.T, np.eye(channels, dtype=np.float32)) for band in columns]


def _multiply(a: NDArray[np.float32], b: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """``a @ b`` in pieces of at most `ALONE` multiplications, along the longer side."""
    (rows, inner), columns = a.shape, b.shape[1]
    if rows > columns:
        step = max(1, ALONE // (inner * columns))
        for i in range(0, rows, step):
            np.matmul(a[i : i + step], b, out=out[i : i + step])
    else:
        step = max(1, ALONE // (inner * rows))
        for i in range(0, columns, step):
            np.matmul(a, b[:, i : i + step], out=out[:, i : i + step])
