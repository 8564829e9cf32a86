"""Which photos the blocks of a fine-tuned model learned from: where it is a backbone again, these look better than they are."""

from __future__ import annotations

from pathlib import Path

from edgevit.commands.train_result import REPORT
from edgevit.files.bounded import read_bounded
from edgevit.files.fromjson import conform, json_value
from edgevit.images.dataset import ImageSet

KEY = "learned_from"
"""Of a report: `mark` of each photo."""
MOST_BYTES = 1 << 26
DIGITS = 16


def learned_from(backbone: Path) -> frozenset[str]:
    """As the report in ``backbone``, a folder that `train` wrote, or beside its weights has it; none where there is no report."""
    folder = backbone if backbone.is_dir() else backbone.parent
    try:
        if not backbone.exists():  # a name on a hub
            return frozenset()
        data = json_value(read_bounded(folder / REPORT, MOST_BYTES))
        return frozenset(conform(data[KEY], list[str], KEY))
    except (OSError, ValueError, KeyError, TypeError):  # any other model's folder, with whatever is called so there
        return frozenset()


def marks_of(images: ImageSet) -> tuple[str, ...]:
    """What tells each photo by its content: the first digits of its `ImageSet.fingerprint`."""
    return tuple(images.fingerprint(index)[:DIGITS] for index in range(len(images)))


def seen_note(images: ImageSet, backbone: Path, learned: frozenset[str]) -> tuple[str, ...]:
    """A line where the backbone learned from some of ``images``."""
    if not learned or not (known := sum(mark in learned for mark in marks_of(images))):
        return ()
    return (
        f"backbone: {backbone} was fine-tuned on {known:,} of these {len(images):,} photos, so all figures here are better than "
        "they will be on new ones; those of its own report are honest",
    )
