"""What makes a comparison's figures suspect before any of them is read: said first. Pure functions over arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.measure.doubt import count
from edgevit.measure.multilabel import there
from edgevit.measure.statistics import fisher, mcnemar, wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.measure.accuracy import Logits, Truth
    from edgevit.measure.comparison import Row
    from edgevit.measure.multilabel import Marks

    Classes = NDArray[np.int64]

RARE = 0.01
"""A difference that chance makes less often than this is said: a test at every comparison may not cry wolf in one of twenty."""
UNEVEN = 10
"""Times as many images of one class as of another from which top-1 says little about the small one."""
ENOUGH = 20
"""Images from which one answer to all of them is odd even without labels, and chance is told from luck."""
NAMED = 3  # classes named in a sentence


def suspicions(
    rows: Sequence[Row],
    logits: Sequence[Logits],
    targets: Truth | None,
    labels: Sequence[str],
    earlier: Sequence[Mapping[str, Any] | None],
) -> tuple[str, ...]:
    """One sentence for each thing that is odd about the models' answers or the images; empty if nothing is.

    ``logits`` float32 [N, classes] and ``earlier``, what a row had at build time (``top1``, ``agreement``, ``images``), are
    one per row. ``targets`` are what is true, as `edgevit.measure.accuracy.measure_accuracy` takes it, None without labels.
    Most of it is about shares of right images, which models of several labels do not have: of those, only one answer to
    everything is told.
    """
    if rows[0].accuracy.multi_label:
        return tuple(_constant_labels(rows, [there(own) for own in logits], targets, labels))
    answers = [own.argmax(1) for own in logits]
    constant = _constant(rows, answers, targets, labels)
    found = [*constant, *_unlike_the_build(rows, earlier)]
    if targets is None:
        return tuple(found)
    if not any(sentence.startswith(rows[0].name) for sentence in constant):
        found += _chance(rows[0].name, answers[0], targets)
    return (*found, *_order(rows[0].name, answers[0], targets, labels), *_balance(targets, labels))


def _constant(rows: Sequence[Row], answers: Sequence[Classes], targets: Classes | None, labels: Sequence[str]) -> list[str]:
    """Models that give all images one class, though these are of several."""
    several = len(answers[0]) >= ENOUGH if targets is None else len(np.unique(targets)) > 1
    named: dict[int, list[str]] = {}
    for row, own in zip(rows, answers, strict=True):
        if several and (own == own[0]).all():
            named.setdefault(int(own[0]), []).append(row.name)
    return [
        f"{' and '.join(names)}: every one of {count(len(answers[0]))} is answered {labels[answer]}. "
        "Is it the right checkpoint, and are its mean, std and colour order those of training?"
        for answer, names in named.items()
    ]


def _constant_labels(
    rows: Sequence[Row], given: Sequence[Marks], truth: Truth | None, labels: Sequence[str]
) -> list[str]:  # fmt: skip
    """Models that give all images the same labels, or none, though these have several."""
    several = len(given[0]) >= ENOUGH if truth is None else bool((truth != truth[0]).any())
    found = []
    for row, own in zip(rows, given, strict=True):
        if several and (own == own[0]).all():
            names = [label for label, given_here in zip(labels, own[0], strict=True) if given_here]
            shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
            found.append(
                f"{row.name}: every one of {count(len(own))} is given {shown or 'no label'}. Is it the right checkpoint, "
                "are its mean, std and colour order those of training, and is 0.5 its threshold?"
            )
    return found


def _unlike_the_build(rows: Sequence[Row], earlier: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """Of each model the first row whose top-1, or without labels agreement, is far from that at build time."""
    found: dict[str, str] = {}
    for i, (row, before) in enumerate(zip(rows, earlier, strict=True)):
        seen = row.accuracy
        keys = [("top1", "right", seen.top1)]
        if i and seen.top1 is None and row.subject == rows[0].subject:
            keys.append(("agreement", f"in the class of {rows[0].name}", seen.agreement))
        for key, what, now in keys:
            then, images = (before or {}).get(key), (before or {}).get("images")
            if now is None or not isinstance(then, float) or type(images) is not int or images < 1 or not 0 <= then <= 1:
                continue
            if row.subject not in found and fisher(round(now * seen.images), seen.images, round(then * images), images) < RARE:
                found[row.subject] = (
                    f"these images are not like those at build time: {row.name} has {100 * now:.1f} % of {seen.images:,} {what}, "
                    f"and then had {100 * then:.1f} % of {images:,}. Another camera, other shares of the classes, "
                    "or labels in another order?"
                )
    return list(found.values())


def _chance(name: str, answers: Classes, targets: Classes) -> list[str]:
    """A model that is no better than one that gives the same answers to images at random."""
    images, right = len(targets), int((answers == targets).sum())
    if len(np.unique(targets)) < 2:
        return []
    classes = int(max(answers.max(), targets.max())) + 1
    luck = float(np.bincount(answers, minlength=classes) @ np.bincount(targets, minlength=classes)) / images**2
    if wilson(right, images)[0] > luck or (images < ENOUGH and right / images > luck):
        return []
    return [f"{name} has {right:,} of {count(images)} right, {100 * right / images:.1f} %, and the same answers in random order "
            f"{100 * luck:.1f} %: no better than chance. Are the labels in the order of training, "
            "and mean, std and colour order, too?"]  # fmt: skip


def _order(name: str, answers: Classes, targets: Classes, labels: Sequence[str]) -> list[str]:
    """Whether other names for the answers would make the model right: learned on half of the images, checked on the others."""
    learned = np.zeros(len(targets), bool)
    for label in np.unique(targets):
        learned[np.flatnonzero(targets == label)[::2]] = True
    names = _renamed(answers[learned], targets[learned], len(labels))
    moved = np.flatnonzero(names != np.arange(len(labels)))
    answers, targets = answers[~learned], targets[~learned]
    if not len(moved) or not len(targets):
        return []
    before, after = answers == targets, names[answers] == targets
    if after.sum() <= before.sum() or mcnemar(int((before & ~after).sum()), int((after & ~before).sum())) >= RARE:
        return []
    shown = ", ".join(f"{labels[names[i]]} is answered {labels[i]}" for i in moved[:NAMED])
    more = f" and {len(moved) - NAMED} more" if len(moved) > NAMED else ""
    return [f"the labels may be in another order: {shown}{more}. With those exchanged {name} would have "
            f"{100 * after.mean():.1f} % right instead of {100 * before.mean():.1f} %."]  # fmt: skip


def _renamed(answers: Classes, targets: Classes, classes: int) -> Classes:
    """For each answer the class that it stands for: the pairs seen most often, each class and answer once; else itself."""
    table = np.zeros((classes, classes), int)
    np.add.at(table, (answers, targets), 1)
    pairs = sorted(zip(*(axis.tolist() for axis in table.nonzero()), strict=True), key=lambda pair: -table[pair])
    names: dict[int, int] = {}
    taken: set[int] = set()
    # What was never seen keeps its name if that is free.
    for answer, target in (*pairs, *((i, i) for i in range(classes))):
        if answer not in names and target not in taken:
            names[answer] = target
            taken.add(target)
    others = iter([i for i in range(classes) if i not in taken])
    return np.array([names[i] if i in names else next(others) for i in range(classes)])


def _balance(targets: Classes, labels: Sequence[str]) -> list[str]:
    """Classes without an image, and classes with many more than others."""
    counts = np.bincount(targets, minlength=len(labels))
    missing, present = np.flatnonzero(counts == 0), np.flatnonzero(counts)
    found = []
    if len(missing):
        shown = ", ".join(labels[i] for i in missing[:NAMED])
        more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
        of = f"{len(missing):,} of the model's {len(labels):,} classes {'has' if len(missing) == 1 else 'have'} no image here"
        found.append(f"{of}: {shown}{more}. Nothing here tells how often they are right.")
    few, many = present[counts[present].argmin()], present[counts[present].argmax()]
    if counts[many] >= UNEVEN * counts[few]:
        found.append(
            f"the classes are uneven, from {count(int(counts[few]))} ({labels[few]}) to {counts[many]:,} ({labels[many]}): "
            "top-1 mostly tells about the large ones, balanced accuracy counts all alike."
        )
    return found
