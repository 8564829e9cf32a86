"""Bundles that lie where somebody is typing, and the labels of the one that was named."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import click

MOST = 2000
"""Entries of a folder that are looked at."""
LONGEST = 2**24
"""Bytes of a manifest that is read for its labels."""
MANIFEST = "manifest.json"


def bundles(_: click.Context, incomplete: str) -> list[str]:
    """Bundles, folders and zips, whose path begins with ``incomplete``."""
    start = incomplete.rpartition("/")[2]
    place = incomplete.removesuffix(start)
    try:
        return sorted(f"{place}{name}" for name in _bundles_in(place or ".") if name.startswith(start))
    except OSError:
        return []


def _bundles_in(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in islice(entries, MOST):
            path = Path(entry.path)
            if entry.is_dir():
                if (path / MANIFEST).is_file():
                    yield entry.name
            elif path.suffix in (".edgevit", ".zip") and zipfile.is_zipfile(path):
                yield entry.name


def labels(ctx: click.Context) -> Iterable[str]:
    """The labels of the BUNDLE that is on the line already; none if there is none, or none that can be read."""
    from edgevit.files.fromjson import json_value

    # Click parses no argument of a line that ends with an option without its value.
    bundle = ctx.params.get("bundle") or next(iter(ctx.args), None)
    if bundle is None:
        return []
    try:
        named = json_value(_manifest(Path(bundle)))["labels"]  # the whole check of edgevit.bundle would take three times as long
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):  # it is said when the command runs
        return []
    return [name for name in named if isinstance(name, str)] if isinstance(named, list) else []


def _manifest(bundle: Path) -> bytes:
    from edgevit.files.bounded import read_bounded

    if bundle.is_dir():
        return read_bounded(bundle / MANIFEST, LONGEST)
    with zipfile.ZipFile(bundle) as archive:
        (name,) = (name for name in archive.namelist() if name.rpartition("/")[2] == MANIFEST)
        with archive.open(name) as stream:
            return stream.read(LONGEST)
