"""No output of a command is one of its inputs, or another of its outputs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevit.errors import ConfigError, StorageError
from edgevit.files.paths import looked_at

READ = (
    ".bin", ".bmp", ".jpeg", ".jpg", ".json", ".npy", ".npz", ".onnx", ".plan", ".png", ".pt", ".pth", ".safetensors", ".sig",
    ".tif", ".tiff", ".webp",
)  # fmt: skip
"""Suffixes of what is read out of a folder: of images, of a model, of a bundle. A report in such a folder is no input."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """Something that a command is to write."""

    name: str
    """What the user calls it: ``--save``."""
    path: Path
    replaced: bool = False
    """Whether, being a folder, it is replaced with all that is in it."""


def refuse_clashes(outputs: Sequence[Output], inputs: Sequence[Path]) -> None:
    """Raise ConfigError if any of ``outputs`` is the same file or folder as another, or as one of ``inputs`` or in it.

    Names do not count but what they lead to: links of both kinds are seen through. Nothing is opened.
    Raises StorageError for an output that cannot be looked at.
    """
    for position, output in enumerate(outputs):
        found = looked_at(output.path, StorageError)
        for other in outputs[:position]:
            if _same(output.path, other.path):
                msg = f"{output.path}: {output.name} and {other.name} are one file. Give each a name of its own."
                raise ConfigError(msg)
        for path in inputs:
            if _same(output.path, path) or (found is not None and _is_in(output.path, found, path)):
                msg = f"{output.path}: is read by this command, and {output.name} would overwrite it. Choose another name."
                raise ConfigError(msg)
            if output.replaced and output.path.is_dir() and _below(path, output.path):
                msg = f"{path}: lies in {output.path}, which is replaced as a whole. Move it elsewhere first."
                raise ConfigError(msg)


def _same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one place, there or not."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return os.path.realpath(one) == os.path.realpath(other) if _sound(one, other) else False


def _sound(*paths: Path) -> bool:
    return not any("\0" in str(path) for path in paths)


def _below(path: Path, folder: Path) -> bool:
    return _sound(path, folder) and Path(os.path.realpath(folder)) in Path(os.path.realpath(path)).parents


def _is_in(path: Path, found: os.stat_result, folder: Path) -> bool:
    """Whether the file ``path`` is one of those that are read out of ``folder``, under this or another name."""
    if path.suffix.lower() not in READ or not _sound(folder) or not os.path.isdir(folder):  # noqa: PTH112 (never raises)
        return False
    return _below(path, folder) or (found.st_nlink > 1 and any(found.st_ino == number for number in _numbers(folder)))


def _numbers(folder: Path) -> Iterator[int]:
    """Inode numbers of all files below ``folder``."""
    for place, _, names in os.walk(folder):
        if names:
            with os.scandir(place) as entries:
                yield from (entry.inode() for entry in entries)
