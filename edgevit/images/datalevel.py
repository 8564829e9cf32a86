"""``--data`` a level too high (that of ``train`` and ``test``) or too low (one class's): found before anything slow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgevit.errors import DataError
from edgevit.images.classes import are_generic, possible_matches
from edgevit.images.dataset import ImageSet

SPLITS = frozenset((
    "train", "training", "val", "valid", "validation", "test", "testing", "eval", "evaluation", "calib", "calibration", "dev",
    "holdout", "heldout", "held-out", "held_out", "images", "data",
))  # fmt: skip
SHOWN = 5


def check_level(images: ImageSet, labels: Sequence[str], option: str = "--data") -> list[str]:
    """Raise DataError if another level of the folders has the classes of a model with these ``labels``, and this one has not.

    Where the labels are no names, numbers of folders are compared, which is a guess: then a line about it is returned.
    """
    path = Path(images.source)
    if not path.is_dir() or images.marks is not None:  # a labels.csv lies on the level that is meant
        return []
    return _too_high(path, images, labels, option) or _too_low(path, images, labels, option)


def _too_high(path: Path, images: ImageSet, labels: Sequence[str], option: str) -> list[str]:
    if any(not match.guess for match in images.matches(labels)) and not are_generic(labels):
        return []
    holding = {name.partition("/")[0] for name in images.names if "/" in name}
    below = {name: _subfolders(path / name) for name in sorted(holding)}
    inside = [name for name, names in below.items() if len(names) > 1 and _fits(names, labels)]
    if not inside:
        return []
    if are_generic(labels):
        # Nothing but folders of the same folders, and several of them or one of a well-known name.
        alike = len(inside) == len(below) and len({tuple(names) for names in below.values()}) == 1
        deep = all(name.count("/") > 1 for name in images.names)
        if not (alike and deep and (len(inside) > 1 or inside[0].lower() in SPLITS)):
            return []
    shown = ", ".join(inside[:SHOWN]) + (", ..." if len(inside) > SHOWN else "")
    what = (
        "is no class of the model, but holds its classes"
        if len(inside) == 1
        else "are no classes of the model, but hold its classes"
    )
    msg = f"{path}: {shown} {what}: did you mean {' or '.join(f'{option} {path / name}' for name in inside[:2])}?"
    raise DataError(msg)


def _too_low(path: Path, images: ImageSet, labels: Sequence[str], option: str) -> list[str]:
    if len(labels) < 2 or images.matches(labels):
        return []
    own = path.resolve()
    beside = _subfolders(own.parent)
    if own.name not in beside or len(beside) < 2 or not _fits(beside, labels):
        return []
    others = ", ".join(name for name in beside if name != own.name) if len(beside) <= SHOWN else f"{len(beside) - 1} others"
    meant = f"did you mean {option} {path.parent if path.name == own.name else own.parent}?"
    if not are_generic(labels):
        msg = f"{path}: the images of one class, which lies beside {others}: {meant}"
        raise DataError(msg)
    return [f"{path} lies beside {others}, as many folders as the model has classes. If it is one of them, {meant}"]


def _fits(folders: Sequence[str], labels: Sequence[str]) -> bool:
    """Whether folders can be classes of the model: by name, or where it has no names by their number."""
    return any(not match.guess for match in possible_matches(folders, labels, folders=folders))


def _subfolders(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []
