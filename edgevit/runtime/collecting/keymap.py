"""Which key saves a frame as which class, and the names that a class may have as a folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgevit.errors import ConfigError
from edgevit.images.dataset import UNLABELLED
from edgevit.printable import printable

SPACE, UNDO, QUIT, SKIP = " ", ("u", "\x7f", "\b"), ("q", "\x1b"), ("\r", "\n")
LONGEST = 100  # bytes of a name: files have 255, and what is under way adds some
DIGITS = "123456789"


@dataclass(frozen=True, kw_only=True)
class Keymap:
    """Keys of classes; space, backspace, u, q, Esc and Enter mean the same whatever the classes are."""

    classes: Mapping[str, str]
    """Key, in lower case, to class."""

    def label_of(self, key: str) -> str | None:
        """The class that a key stands for."""
        return self.classes.get(key.casefold())

    def legend(self, *, stepping: bool) -> str:
        """All keys, in a line."""
        keys: dict[str, list[str]] = {}
        for key, label in self.classes.items():
            keys.setdefault(label, []).append(key)
        shown = [f"{'/'.join(own)} {label}" for label, own in keys.items()]
        skip = ["Enter next image"] if stepping else []
        return ", ".join([*shown, f"space {UNLABELLED}", *skip, "u undo", "q end"])


def checked_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """``labels``, if all can be folders that are read as classes. Raises ConfigError."""
    for label in labels:
        problem = None
        if "/" in label or "\\" in label or label in (".", ".."):
            problem = "is a path, and a class is one folder"
        elif label.startswith("."):
            problem = "would be a hidden folder, which nothing reads"
        elif printable(label) != label:
            problem = "holds characters that cannot be seen"
        elif len(os.fsencode(label)) > LONGEST:
            problem = f"is longer than {LONGEST} bytes"
        elif label.casefold() == UNLABELLED:
            problem = "is the folder of pictures without a label"
        if problem:
            msg = f"--label {label!r}: {problem}. Choose another name."
            raise ConfigError(msg)
    return tuple(labels)


def keymap_of(labels: Sequence[str]) -> Keymap:
    """The first nine have 1 to 9; each has its first letter or digit, too, where no other class and no other key has it.

    Raises ConfigError for a class that has no key.
    """
    keys = dict(zip(DIGITS, labels, strict=False))
    firsts = [label[0].casefold() for label in labels]
    counts, taken = Counter(firsts), {SPACE, *UNDO, *QUIT, *SKIP, *keys}
    for label, first in zip(labels, firsts, strict=True):
        if counts[first] == 1 and first not in taken and len(first) == 1:
            keys[first] = label
    if without := [label for label in labels if label not in keys.values()]:
        msg = f"--label: {without[0]!r} has no key: 1 to 9 are taken, and its first letter too. Give fewer, or other names."
        raise ConfigError(msg)
    return Keymap(classes=keys)
