"""Whether a set's class folders are a model's classes in the order that is assumed: asked of the model itself.

A model without names was trained on folders that some program sorted, and programs differ. Where more than one order is possible,
or the model's labels say nothing, its own answers on a few labelled images tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.images.classes import SORTED_BY, Match, are_generic, classes_in_order, doubled_labels
from edgevit.images.datalevel import check_level
from edgevit.images.dataset import ImageSet, load_images
from edgevit.problem import MULTI_LABEL, SINGLE_LABEL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevit.progress import Progress

    Answers = Callable[[ImageSet], NDArray[np.float32]]

ASKED = 64
"""Images that a model is asked about, at most."""
STEP = 16
"""Images after which it is looked whether they suffice."""
SURE = 0.001
"""Probability below which chance is ruled out: every eight or ten images that only one order has right."""
CLEAR = 0.5
"""Share of right answers from which on the folders' names are the model's."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A set of images whose classes are matched with a model's."""

    images: ImageSet
    notes: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None
    """Names for the model's classes, where it has none and its answers show that the folders' are true."""


def open_images(path: Path, labels: Sequence[str], progress: Progress, option: str = "--data") -> tuple[ImageSet, list[str]]:
    """All images of ``path``, readable and on the level of a model with these ``labels``, and notes.

    Raises DataError for those that are not: a level too high or too low (without ``labels`` this is not looked at), unreadable
    files, none at all.
    """
    images = load_images(path)
    notes = check_level(images, labels, option) if labels else []
    with progress.stage("check images", total=len(images)) as stage:
        images.check(stage.advance)
    return images, [*notes, *([images.left_out] if images.left_out else [])]


def like(images: ImageSet, labels: Sequence[str], other: ImageSet) -> ImageSet:
    """``images`` with their classes seen as those of ``other`` were, which the model was asked about."""
    order = other.match.order if other.match else None
    found = next((match for match in images.matches(labels) if match.order == order), None)
    return replace(images, match=found) if found else images


def matched(
    images: ImageSet, labels: Sequence[str], answers: Answers, progress: Progress, order: str | None = None,
    problem_type: str = SINGLE_LABEL,
) -> Labelled:  # fmt: skip
    """``images`` with the way in which their classes are the model's, where that is not a matter of names.

    Args:
        images: what accuracy is measured on.
        labels: the model's classes.
        answers: logits float32 [N, classes] of a set of images; asked of at most `ASKED`, and not at all where names tell.
        order: ``text`` or ``natural``: taken without asking.
        problem_type: what the logits mean. Folders do not tell which labels of several an image has, so nothing is asked then.
    """
    possible = () if problem_type == MULTI_LABEL else images.matches(labels)
    if not possible or images.targets is None:
        return Labelled(images=images)
    if order is not None:
        # Where there is one way alone, it is the same in any order.
        return Labelled(images=replace(images, match=next((match for match in possible if match.order == order), possible[0])))
    first = possible[0]
    if first.order in ("names", "numbers") or len(labels) == 1:
        return Labelled(images=replace(images, match=first), notes=_doubled(first, labels))
    with progress.stage("match classes") as stage:
        count = _count(images, possible, answers)
        stage.advance(count.asked)
    above_chance = tail(max(count.right), count.asked, 1 / len(labels)) < SURE
    if first.guess and not above_chance:
        return Labelled(images=images)
    best, second = _two_best(count.right)
    decided = len(possible) == 1 or tail(count.right[best], count.right[best] + count.right[second], 0.5) < SURE
    match = possible[best if decided else 0]
    note = _note(images, possible, match, count, decided=decided, above_chance=above_chance)
    sure = decided and above_chance and max(count.right) >= CLEAR * count.asked
    names = _names(images, match, labels) if sure else None
    if names is not None:
        note += "; its classes are named after them"
    return Labelled(images=replace(images, match=match), notes=(note,), labels=names)


def tail(least: int, trials: int, chance: float) -> float:
    """Probability of at least ``least`` successes in ``trials`` of which each succeeds with ``chance``: the binomial's tail."""
    return sum(math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(least, trials + 1))


@dataclass(frozen=True)
class _Count:
    asked: int
    right: tuple[int, ...]
    """Per match, how many images the model has right in it."""


def _count(images: ImageSet, possible: Sequence[Match], answers: Answers) -> _Count:
    """Ask the model about images of classes that the matches see differently, until it is decided or `ASKED` are asked."""
    assert images.targets is not None
    telling = {
        i for i in range(len(images.class_names)) if len(possible) == 1 or len({match.classes[i] for match in possible}) > 1
    }
    few, _ = images.subset([i for i, target in enumerate(images.targets) if target in telling]).split(ASKED, seed=0)
    asked, right = 0, [0] * len(possible)
    while asked < len(few):
        part = few.subset(range(asked, min(asked + STEP, len(few))))
        asked += len(part)
        for winner, target in zip(answers(part).argmax(1).tolist(), part.targets or (), strict=True):
            for i, match in enumerate(possible):
                right[i] += winner == match.classes[target]
        best, second = _two_best(right)
        if len(possible) > 1 and tail(right[best], right[best] + right[second], 0.5) < SURE:
            break
    return _Count(asked, tuple(right))


def _two_best(right: Sequence[int]) -> tuple[int, int]:
    ordered = sorted(range(len(right)), key=lambda i: (-right[i], i))
    return ordered[0], ordered[-1] if len(ordered) < 2 else ordered[1]


def _doubled(match: Match, labels: Sequence[str]) -> tuple[str, ...]:
    every = doubled_labels(labels)
    if not match.doubled:
        return ()
    named = ", ".join(f"{name!r} ({', '.join(map(str, every[name]))})" for name in match.doubled)
    return (f"labels: several classes have one name: {named}; accuracy counts them as one",)


def _note(
    images: ImageSet, possible: Sequence[Match], match: Match, count: _Count, *, decided: bool, above_chance: bool
) -> str:  # fmt: skip
    own = count.right[possible.index(match)]
    taken = (
        f"the class folders of {images.source} are taken in {match.order} order ({classes_in_order(images.class_names, match)})"
    )
    others = [(other.order, right) for other, right in zip(possible, count.right, strict=True) if other is not match]
    figures = f"{own} of {count.asked} images right" + "".join(f", and {right} in {order} order" for order, right in others)
    change = f"; --class-order {others[0][0]} to change" if others else ""
    if not above_chance:
        return (
            f"labels: the model has {figures}, which is what guessing gives: are these its classes, in the order of training? "
            f"{taken[0].upper()}{taken[1:]}{change}, or pass --labels"
        )
    if not decided:
        return f"labels: {taken}, {SORTED_BY[match.order]}; the model does not tell ({figures}){change}"
    why = "none is called like a class of the model; " if match.guess else ""
    return f"labels: {why}{taken}, {SORTED_BY[match.order]}: the model has {figures}{change}"


def _names(images: ImageSet, match: Match, labels: Sequence[str]) -> tuple[str, ...] | None:
    """The folders' names in the model's order, where it has none and every class has a folder."""
    if not are_generic(labels) or len(images.class_names) != len(labels):
        return None
    names = tuple(name for _, name in sorted(zip(match.classes, images.class_names, strict=True)))
    return names if names != tuple(labels) else None
