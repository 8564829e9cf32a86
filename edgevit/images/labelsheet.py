"""Several labels an image, from a ``labels.csv`` beside the images."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.errors import DataError
from edgevit.files.bounded import read_bounded
from edgevit.problem import split_labels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "labels.csv"
FORM = "a header, then the image's path in the folder and either its labels with | between them, or a column of 0 and 1 per label"


def read_sheet(path: Path, images: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    """The labels' names, and whether each of ``images`` has each of them, bool [images, labels].

    The first row is a header. The first column is an image's path relative to the folder. With one more column, and not 0 and
    1 in it, that holds the labels, ``dog|car``, empty where there are none (names are sorted, then); else every column is a
    label and holds 0 or 1. Rows of images that are not there are passed over.

    Raises DataError for another form, and for images without a row.
    """
    import numpy as np

    header, rows = _read(path)
    if twice := [name for name in header[1:] if header.count(name) > 1]:
        msg = f"{path}: two columns are called {twice[0]!r}. Write {FORM}."
        raise DataError(msg)
    cells = [cell.strip() for row in rows.values() for cell in row]
    marked = len(header) > 2 or (bool(cells) and set(cells) <= {"0", "1"})
    if marked and (wrong := next((cell for cell in cells if cell not in ("0", "1")), None)) is not None:
        msg = f"{path}: {wrong!r} is neither 0 nor 1. Write {FORM}."
        raise DataError(msg)
    missing = [name for name in images if name not in rows]
    if missing:
        msg = f"{path}: {len(missing)} of {len(images)} images have no row, first {missing[0]}. Add them, or move them away."
        raise DataError(msg)
    if marked:
        return tuple(header[1:]), np.array([[cell.strip() == "1" for cell in rows[name]] for name in images])
    own = {name: set(split_labels(row[0])) for name, row in rows.items()}
    names = tuple(sorted(set().union(*own.values()) - {""}))
    return names, np.array([[label in own[name] for label in names] for name in images], bool).reshape(len(images), -1)


MOST_BYTES = 256 * 2**20
"""Of a table: a million images with a hundred labels each."""


def _read(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """The header, and by image the cells behind its name."""
    try:
        text = read_bounded(path, MOST_BYTES).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read as labels: {error}. Write {FORM}, in UTF-8."
        raise DataError(msg) from error
    first = text.partition("\n")[0]
    table = csv.reader(text.splitlines(), delimiter=";" if ";" in first and "," not in first else ",")
    lines = [[cell.strip() for cell in line] for line in table if any(cell.strip() for cell in line)]
    rows: dict[str, list[str]] = {}
    for name, *cells in lines[1:]:
        name = name.replace("\\", "/").removeprefix("./")
        if len(cells) != len(lines[0]) - 1 or not cells or name in rows:
            wrong = "has two rows" if name in rows else f"has {len(cells) + 1} cells under a header of {len(lines[0])}"
            msg = f"{path}: {name!r} {wrong}. Write {FORM}."
            raise DataError(msg)
        rows[name] = cells
    if not rows:
        msg = f"{path}: has no rows. Write {FORM}."
        raise DataError(msg)
    return lines[0], rows
