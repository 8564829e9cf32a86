"""Which answers of a model are right, also where several classes share a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgevit.problem import MULTI_LABEL, SINGLE_LABEL

if TYPE_CHECKING:
    from edgevit.images.dataset import ImageSet
    from edgevit.measure.accuracy import Logits, Truth


def comparable(
    logits: Sequence[Logits], images: ImageSet, labels: Sequence[str], problem_type: str = SINGLE_LABEL
) -> tuple[list[Logits], Truth | None, tuple[str, ...]]:
    """``logits`` [N, classes] of models, with what is true and the names of their columns; nothing is, where classes do not fit.

    True are classes int64 [N], or of a multi-label model whether an image has a label, bool [N, classes].

    Classes of one name, where names decide, become one: its logit is the largest of theirs. So an answer is right if its name
    is, which is all that people are shown. Labels of several an image are each judged alone.
    """
    targets = images.truth_for(labels, problem_type)
    if targets is None or problem_type == MULTI_LABEL or not images.is_ambiguous(labels):
        return list(logits), targets, tuple(labels)
    groups: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        groups.setdefault(label, []).append(index)
    position = {index: place for place, group in enumerate(groups.values()) for index in group}
    merged = [np.stack([own[:, group].max(1) for group in groups.values()], axis=1) for own in logits]
    return merged, np.array([position[target] for target in targets.tolist()], np.int64), tuple(groups)
