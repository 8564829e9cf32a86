"""Which class of a model each class of a set of images is: by name, or by the order that a trainer gave its folders."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

ORDERS = ("text", "natural")
"""How trainers sort class folders: torchvision, datasets and Keras as text (1, 10, 2), timm naturally (1, 2, 10)."""
SORTED_BY = {"text": "as torchvision sorts", "natural": "as timm sorts"}


@dataclass(frozen=True, kw_only=True)
class Match:
    """One way to see the classes of a set of images as a model's."""

    order: str
    """``names``, ``numbers``, or the sorting that gave positions: ``text``, ``natural``."""
    classes: tuple[int, ...]
    """For each class of the set, the model's."""
    guess: bool = False
    """Whether the model has other names for them, so that only its answers can tell if this is so."""
    doubled: tuple[str, ...] = ()
    """Names that several classes of the model have, of those that are matched by name: which of them is meant is unknown."""


def possible_matches(
    class_names: Sequence[str], labels: Sequence[str], *, folders: Sequence[str] = (), numbered: bool = False
) -> tuple[Match, ...]:
    """Every way in which the classes of a set of images can be a model's, the likelier first; none if they are others.

    Args:
        class_names: classes that have images, in the order of the set's targets.
        labels: the model's classes.
        folders: all class folders, also those without an image: these have positions, too.
        numbered: the targets were given as numbers, which are the model's own, and are no positions of sorted folders.
    """
    if tuple(class_names) == tuple(labels):
        return (Match(order="names", classes=tuple(range(len(labels)))),)
    named = by_name(class_names, labels)
    generic = are_generic(labels)
    if named is not None and not generic:
        return (named,)
    if numbered:
        fits = len(class_names) <= len(labels) and (generic or are_generic(class_names))
        return (Match(order="numbers", classes=tuple(range(len(class_names)))),) if fits else ()
    # Folders of other names that are as many, such as n01440764 for "tench"; not where some names are the model's and some not.
    if not generic and any(by_name([name], labels) for name in class_names):
        return ()
    found = [*_by_number(class_names, folders, labels), *_by_position(class_names, folders, len(labels))]
    if named is not None:  # LABEL_2 or 2, which is what sorting naturally gives
        found.insert(0, replace(named, order="natural"))
    different: dict[tuple[int, ...], Match] = {}
    for match in found:
        different.setdefault(match.classes, replace(match, guess=not generic))
    return tuple(different.values())


def are_generic(labels: Sequence[str]) -> bool:
    """Whether labels are no names, but the numbers of the classes: ``2`` or ``LABEL_2``."""
    return all(label in (str(i), f"LABEL_{i}") for i, label in enumerate(labels))


def doubled_labels(labels: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The names that several classes have, and which."""
    counts = Counter(labels)
    return {name: tuple(i for i, label in enumerate(labels) if label == name) for name, count in counts.items() if count > 1}


def classes_in_order(class_names: Sequence[str], match: Match, shown: int = 5) -> str:
    """The classes in the model's order, for people: ``0, 1, 10, 11, 2, ...``."""
    ordered = [name for _, name in sorted(zip(match.classes, class_names, strict=True))]
    return ", ".join(ordered[:shown]) + (", ..." if len(ordered) > shown else "")


def by_name(class_names: Sequence[str], labels: Sequence[str]) -> Match | None:
    """By the same text; else by the same text but for case, blanks, underscores and hyphens, where that is unique."""
    for form in (_composed, _loose):
        position: dict[str, int] = {}
        for index, label in enumerate(labels):
            position.setdefault(form(label), index)
        names = [form(name) for name in class_names]
        if not all(name in position for name in names) or len(set(names)) != len(names):
            continue
        if form is _loose and len(position) != len(set(labels)):
            continue
        classes = tuple(position[name] for name in names)
        doubled = doubled_labels(labels)
        return Match(order="names", classes=classes, doubled=tuple(dict.fromkeys(
            labels[index] for index in classes if labels[index] in doubled)))  # fmt: skip
    return None


def _composed(text: str) -> str:
    """Characters as one code point each: macOS takes accents apart in the names of folders."""
    return unicodedata.normalize("NFC", text).strip()


def _loose(text: str) -> str:
    return re.sub(r"[\s_-]+", " ", _composed(text).casefold())


def _by_number(class_names: Sequence[str], folders: Sequence[str], labels: Sequence[str]) -> list[Match]:
    """Folders that are called like the model's numbers: as these, and as trainers that sort them as text number them."""
    if not are_generic(labels) or not all(re.fullmatch(r"\d{1,9}", name, re.ASCII) for name in class_names):
        return []
    numbers = [int(name) for name in class_names]
    if len(set(numbers)) != len(numbers) or max(numbers) >= len(labels):
        return []
    found = [Match(order="natural", classes=tuple(numbers))]
    # Where folders are missing, those that must be there tell the positions; but not how they would be padded with zeros.
    every = sorted(folders) if len(folders) == len(labels) else sorted(map(str, range(len(labels))))
    if all(name in every for name in class_names):
        found.append(Match(order="text", classes=tuple(map(every.index, class_names))))
    return found


def _by_position(class_names: Sequence[str], folders: Sequence[str], count: int) -> list[Match]:
    every = next((names for names in (folders, class_names) if len(names) == count), None)
    if every is None:
        return []
    orders = {"text": sorted(every), "natural": sorted(every, key=_natural)}
    return [Match(order=order, classes=tuple(map(names.index, class_names))) for order, names in orders.items()]


def _natural(text: str) -> list[tuple[int, str]]:
    """timm's key: numbers by size, letters without case."""
    # Split keeps the digits at odd places, so numbers only ever meet numbers.
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text.lower())]
