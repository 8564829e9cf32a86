"""What the answers of a model say about the labels of the images, and classes that share a name. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgevit.labelmatch import SURE, tail

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.images import ImageSet
    from edgevit.report.accuracy import Logits

LEAST = 16
"""Images below which nothing is said."""
SHOWN = 3


def label_doubt(logits: Logits, targets: NDArray[np.int64] | None, labels: Sequence[str]) -> str | None:
    """A line if the labels of the images look wrong: in another order, or no better than guessed. None where they look right.

    ``logits`` [N, classes] are those of the reference, ``targets`` [N]. Another order is told where the images of every class are
    mostly answered with one class, each with its own, and more than twice as many are right in it, and half of all.
    """
    if targets is None or len(targets) < LEAST or len(labels) < 2:
        return None
    winners = logits.argmax(1)
    right = float((winners == targets).mean())
    present = np.unique(targets)
    counts = {int(target): np.bincount(winners[targets == target], minlength=len(labels)) for target in present}
    modes = {target: int(count.argmax()) for target, count in counts.items()}
    moved = {target: mode for target, mode in modes.items() if mode != target}
    share = sum(int(count.max()) for count in counts.values()) / len(targets)
    if moved and len(set(modes.values())) == len(modes) > 1 and share >= max(0.5, 2 * right):
        shown = [f"{labels[target]!r} is answered {labels[mode]!r}" for target, mode in list(moved.items())[:SHOWN]]
        examples = ", ".join(shown) + (", ..." if len(moved) > SHOWN else "")
        return (
            f"labels: top-1 is {100 * right:.1f} %, and {100 * share:.1f} % in another order ({examples}): pass --labels in the "
            "order of training"
        )
    if tail(int((winners == targets).sum()), len(targets), 1 / len(labels)) < SURE:
        return None
    return (
        f"labels: top-1 of {100 * right:.1f} % is what guessing among {len(labels)} classes gives: are these the model's "
        "classes, its kind of images, and its preprocessing?"
    )


def comparable(
    logits: Sequence[Logits], images: ImageSet, labels: Sequence[str]
) -> tuple[list[Logits], NDArray[np.int64] | None, tuple[str, ...]]:
    """``logits`` [N, classes] of models, with targets [N] and names of their columns; no targets where classes do not fit.

    Classes of one name, where names decide, become one: its logit is the largest of theirs. So an answer is right if its name
    is, which is all that people are shown.
    """
    targets = images.targets_for(labels)
    match = next(iter(images.matches(labels)), None)
    if targets is None or match is None or not match.doubled:
        return list(logits), targets, tuple(labels)
    groups: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        groups.setdefault(label, []).append(index)
    position = {index: place for place, group in enumerate(groups.values()) for index in group}
    merged = [np.stack([own[:, group].max(1) for group in groups.values()], axis=1) for own in logits]
    return merged, np.array([position[target] for target in targets.tolist()], np.int64), tuple(groups)
