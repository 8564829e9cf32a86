"""Which answers of a model are right where several classes share a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.images import ImageSet
    from edgevit.report.accuracy import Logits


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
