"""What a model's outputs mean: one class out of several, or any number of labels at once.

The names are those of ``problem_type`` in a config.json of transformers. Either way a graph ends in logits: the scores of a
single-label model are their softmax, those of a multi-label model the sigmoid of each.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

SINGLE_LABEL = "single_label_classification"
MULTI_LABEL = "multi_label_classification"
PROBLEM_TYPES = (SINGLE_LABEL, MULTI_LABEL)

THRESHOLD = 0.5
"""From this score on a multi-label model's label is taken to be there: a logit of 0."""
DIVIDER = "|"


def describe(problem_type: str) -> str:
    """A few words for people."""
    return "several labels an image (sigmoid of each)" if problem_type == MULTI_LABEL else "one class an image (softmax)"


def join_labels(labels: Sequence[str]) -> str:
    """Labels in one cell of a table, with ``|`` between them; one that holds a ``|`` or a ``"`` is quoted, as in CSV."""
    cell = io.StringIO()
    csv.writer(cell, delimiter=DIVIDER, lineterminator="").writerow(labels)
    return cell.getvalue() if labels else ""


def split_labels(cell: str) -> tuple[str, ...]:
    """Inverse of `join_labels`; blanks around a label are not part of it."""
    rows = list(csv.reader([cell], delimiter=DIVIDER)) if cell.strip() else []
    return tuple(label.strip() for row in rows for label in row)
