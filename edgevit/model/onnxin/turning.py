"""Rotary positions, told by what they do: by which angle each pair of channels is turned at each patch.

Angles give frequencies and coordinates as `edgevit.model.rotary` has them, whatever way an exporter pairs channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgevit.model.onnxin.matrix import separated
from edgevit.model.onnxin.pieces import Parts, tensor
from edgevit.model.onnxin.values import Array, MisfitError, Operand, Term, View
from edgevit.vitconfig import Rotary, VitConfig

_NEAR = 2e-3
"""Radians between a table in float32, at the far end of an image, and what frequencies make of it."""
_EVEN = 2e-3
"""Of the length that turning keeps, in tables of half precision."""
_ALIASES = range(-3, 4)
"""Whole turns that a step of one patch may hide: in the tables of a small grid."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Turned:
    """Queries or keys of one block, as they are before they are turned, pairs half a head apart."""

    view: View
    angles: Array
    """Radians float64 [heads, tokens, head_dim / 2], each in -pi..pi."""


def is_turned(view: View) -> bool:
    """Whether elements are sums of two, or scaled by token."""
    scale = view.terms[0].scale
    return len(view.terms) > 1 or not (scale.strides[0] == 0 or bool((scale == scale[:1]).all()))


def turned(view: View, heads: int) -> Turned:
    """Take apart ``view`` [tokens, heads * head_dim]. Raises MisfitError if it is no rotation of pairs of channels."""
    if len(view.terms) != 2:
        msg = f"positions that make each channel of {len(view.terms)}"
        raise MisfitError(msg)
    tokens, width = view.shape
    both = [separated(view, term, width) for term in view.terms]
    columns = np.stack([found[1] for found in both])
    scales = np.stack([np.broadcast_to(term.scale, view.shape) for term in view.terms])
    swap = (scales[0, 0] == 0) & (scales[1, 0] != 0)
    own, partner = np.where(swap, columns[1], columns[0]), np.where(swap, columns[0], columns[1])
    kept, mixed = np.where(swap, scales[1], scales[0]), np.where(swap, scales[0], scales[1])
    place = {int(channel): number for number, channel in enumerate(own)}
    if len(place) != width or any(int(channel) not in place for channel in partner):
        msg = "positions that do not turn pairs of channels"
        raise MisfitError(msg)
    other = np.asarray([place[int(channel)] for channel in partner])
    order = _halves(other, heads)
    first, second = order[:, : order.shape[1] // 2].reshape(-1), order[:, order.shape[1] // 2 :].reshape(-1)
    length = np.sqrt(kept**2 + mixed**2)
    if np.ptp(length) > _EVEN * length.max() or np.abs(kept[:, first] - kept[:, second]).max() > _EVEN * length.max():
        msg = "positions that scale channels while they turn them"
        raise MisfitError(msg)
    angles = np.arctan2(-mixed[:, first], kept[:, first])
    if np.abs(mixed[:, first] + mixed[:, second]).max() > _EVEN * length.max():
        msg = "positions that do not turn both channels of a pair alike"
        raise MisfitError(msg)
    radius = float(np.median(length))
    shift = _turned_back(np.broadcast_to(view.shift, view.shape)[0], angles[0], first, second)
    flat = order.reshape(-1)
    chosen = np.where(swap, view.indices(view.terms[1]), view.indices(view.terms[0]))[:, flat]
    term = Term(chosen, np.broadcast_to(radius, view.shape))
    plain = View(view.root, (term,), np.broadcast_to(shift[flat], view.shape), view.shape)
    by_head = angles.reshape(tokens, heads, -1).transpose(1, 0, 2)
    return Turned(view=plain, angles=by_head)


def _halves(other: Array, heads: int) -> Array:
    """Places [heads, head_dim] of the first channel of each pair, then those of the second."""
    found = []
    for head in np.arange(len(other)).reshape(heads, -1):
        first = [place for place in head if place < other[place]]
        if any(other[other[place]] != place or other[place] not in head for place in head):
            msg = "positions that turn channels of several heads together"
            raise MisfitError(msg)
        found.append([*first, *(int(other[place]) for place in first)])
    return np.asarray(found)


def _turned_back(shift: Array, angles: Array, first: Array, second: Array) -> Array:
    found = shift.copy()
    cosines, sines = np.cos(angles), np.sin(angles)
    found[first] = cosines * shift[first] + sines * shift[second]
    found[second] = cosines * shift[second] - sines * shift[first]
    return found


def put_rotary(parts: Parts, config: VitConfig, sides: list[tuple[int, Operand, Operand]]) -> VitConfig:
    """Store the frequencies of each block; returns ``config`` with their coordinates."""
    if len(sides) != sum(block.heads > 0 for block in config.blocks):
        msg = "rotary positions in some blocks and not in others"
        raise MisfitError(msg)
    angles = []
    for number, q, k in sides:
        pair = [turned(side.view, side.heads).angles for side in (q, k) if side.view is not None]
        if len(pair) != 2 or np.abs(_wrapped(pair[0] - pair[1])).max() > _NEAR:
            msg = f"block {number}, attention: queries and keys are turned in different ways"
            raise MisfitError(msg)
        angles.append(pair[0])
    whole = [_by_patch(table, config) for table in angles]
    by_head = any(np.abs(_wrapped(table - table[:1])).max() > _NEAR for table in whole)
    whole = whole if by_head else [table[:1] for table in whole]
    for rotary in (Rotary(by_head=by_head), Rotary(coordinates="centred", by_head=by_head), Rotary(offset=1.0, by_head=by_head)):
        found = [_frequencies(table, rotary) for table in whole]
        if all(frequencies is not None for frequencies in found):
            for (number, _, _), frequencies in zip(sides, found, strict=True):
                assert frequencies is not None
                parts.state[f"blocks.{number}.rotary"] = tensor(frequencies)
            return replace(config, rotary=rotary)
    msg = "rotary positions by coordinates that edgevit does not know"
    raise MisfitError(msg)


def _by_patch(table: Array, config: VitConfig) -> Array:
    """[heads, rows, columns, pairs], of patches. Raises MisfitError if prefix tokens are turned, too."""
    if np.abs(table[:, : config.prefix_tokens]).max(initial=0.0) > _NEAR:
        msg = "rotary positions that turn prefix tokens"
        raise MisfitError(msg)
    return table[:, config.prefix_tokens :].reshape(len(table), *config.grid, -1)


def _frequencies(table: Array, rotary: Rotary) -> Array | None:
    """Radians [heads, 2, pairs] per unit of row and column; None if the angles are not of such coordinates."""
    rows, columns = table.shape[1:3]
    steps = np.stack([_step(table[:, :, 0]), _step(table[:, 0])], axis=1)  # [heads, 2, pairs]
    best, least = steps, np.full(steps[:, 0].shape, np.inf)
    for turns in np.ndindex(len(_ALIASES), len(_ALIASES)):
        if rotary.coordinates == "index" and turns != (_ALIASES.index(0),) * 2:
            continue
        tried = steps + 2 * np.pi * np.asarray([_ALIASES[turn] for turn in turns])[:, None]
        along, start = _coordinates(rows, columns, rotary)
        frequencies = tried / along[:, None]
        off = np.abs(_wrapped((frequencies * start[:, None]).sum(1) - table[:, 0, 0]))
        # Where several fit, the one that turns along one direction alone, and slowly, is how such models are made.
        off = off + 1e-6 * np.abs(frequencies).sum(1)
        better = off < least
        best, least = np.where(better[:, None], frequencies, best), np.where(better, off, least)
    at = [_places(size, rotary) for size in (rows, columns)]
    made = best[:, None, None, 0] * at[0][:, None, None] + best[:, None, None, 1] * at[1][:, None]
    return best if np.abs(_wrapped(made - table)).max() < _NEAR else None


def _places(size: int, rotary: Rotary) -> Array:
    index = np.arange(size, dtype=np.float64)
    return 2 * (index + 0.5) / size - 1 if rotary.coordinates == "centred" else index + rotary.offset


def _coordinates(rows: int, columns: int, rotary: Rotary) -> tuple[Array, Array]:
    """Units [2] that one patch is along rows and columns, and the place of the first."""
    places = [_places(size, rotary) for size in (rows, columns)]
    units = [2 / size if rotary.coordinates == "centred" else 1.0 for size in (rows, columns)]
    return np.asarray(units), np.asarray([place[0] for place in places])


def _step(line: Array) -> Array:
    """Angle [heads, pairs] from one patch to the next along ``line`` [heads, patches, pairs], to the precision of the far end."""
    count = line.shape[1]
    if count < 2:
        return np.zeros((len(line), line.shape[2]))
    step = _wrapped(line[:, 1] - line[:, 0])
    for number in range(2, count):
        step = step + _wrapped(line[:, number] - line[:, 0] - number * step) / number
    return step


def _wrapped(angle: Array) -> Array:
    return (angle + np.pi) % (2 * np.pi) - np.pi
