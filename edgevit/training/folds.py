"""Photos divided for cross-validation: every class in every part, and photos that are nearly the same in one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevit.errors import DataError
from edgevit.runtime.collecting.earlier import ALIKE


def near_duplicates(x: Tensor, thumbnails: Tensor, alike: float = ALIKE) -> list[tuple[int, int]]:
    """Pairs of photos of which both are nearly the same, features [N, features] and thumbnails [N, pixels], most alike first.

    That is a correlation of at least ``alike``: of features, each less the mean of all, and of thumbnails.

    Either alone is not enough: a backbone that knows the classes sees all of one alike, and thumbnails all photos of one stage.
    """
    unit = F.normalize(x.double() - x.double().mean(0), dim=-1)
    levels = F.normalize(thumbnails.double() - thumbnails.double().mean(1, keepdim=True), dim=-1)
    pairs = list[tuple[float, int, int]]()
    for first, (row, pixels) in enumerate(zip(unit, levels, strict=True)):
        likeness = torch.minimum(unit[first + 1 :] @ row, levels[first + 1 :] @ pixels)
        pairs += [(float(likeness[i]), first, first + 1 + int(i)) for i in (likeness >= alike).nonzero()[:, 0]]
    return [(one, other) for _, one, other in sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))]


def groups_of(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    """To each of ``count`` photos the number of its group: those that ``pairs`` connect have the same."""
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = index = parent[parent[index]]
        return index

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return [root(index) for index in range(count)]


def folds_of(y: Tensor, names: tuple[str, ...], groups: list[int], wanted: int, seed: int) -> Tensor:
    """The part int64 [N] that each photo is in, of at most ``wanted``: groups stay together, classes are spread evenly.

    Raises DataError for a class whose photos are all of one group: then nothing could judge it.
    """
    by_class = {label: sorted({groups[i] for i in (y == label).nonzero()[:, 0].tolist()}) for label in range(len(names))}
    short = min(by_class, key=lambda label: len(by_class[label]))
    if len(by_class[short]) < 2:
        count = int((y == short).sum())
        what = "one photo" if count == 1 else f"{count} photos, all nearly the same" if count else "no photo"
        msg = (
            f"class {names[short]!r} has {what}: at least two different ones are needed to learn from one and judge by the other."
        )
        raise DataError(msg)
    members: dict[int, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    parts = min(wanted, len(members))
    counts = torch.zeros(parts, len(names), dtype=torch.int64)
    found = torch.zeros(len(y), dtype=torch.int64)
    order = torch.randperm(len(members), generator=torch.Generator().manual_seed(seed)).tolist()
    ordered = sorted((list(members.items())[i] for i in order), key=lambda item: -len(item[1]))
    for _, indices in ordered:
        own = torch.bincount(y[indices], minlength=len(names))
        # Where this group's classes are fewest, then where photos are.
        part = min(range(parts), key=lambda p: (int((counts[p] * own).sum()), int(counts[p].sum()), p))
        counts[part] += own
        found[indices] = part
    return found
