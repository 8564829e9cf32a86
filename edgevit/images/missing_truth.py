"""Why a set of images does not tell what is right for a model, and the next step."""

from __future__ import annotations

from collections.abc import Sequence

from edgevit.images.classes import by_name
from edgevit.images.dataset import ImageSet
from edgevit.images.labelsheet import NAME
from edgevit.problem import MULTI_LABEL


def missing_truth(images: ImageSet, labels: Sequence[str], problem_type: str) -> str:
    """Why `ImageSet.truth_for` knows nothing of ``labels``, and the next step, one sentence for a message."""
    named = f"the model's {len(labels)} labels ({', '.join(labels[:5])}{', ...' if len(labels) > 5 else ''})"
    if problem_type == MULTI_LABEL and images.marks is None:
        return f"{images.source} tells at most one label an image, and the model gives several: write them into a {NAME} there."
    if problem_type == MULTI_LABEL:
        unknown = next((name for name in images.class_names if by_name([name], labels) is None), "")
        return f"{images.source} has labels such as {unknown!r}, which is none of {named}; pass --labels."
    if images.marks is not None and by_name(images.class_names, labels) is not None:
        return f"images of {images.source} have none or several of {named}, of which the model gives one: see --problem-type."
    return f"the {len(images.class_names)} classes of {images.source} are not {named}; pass --labels."
