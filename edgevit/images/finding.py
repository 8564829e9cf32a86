"""Which files of a folder are images that are read, and which look like images and are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgevit.errors import DataError
from edgevit.files.paths import is_file

# What torchvision's ImageFolder reads, with JPEG's and PNM's other names. Every OpenCV of 4.8 and newer reads all of it.
SUFFIXES = (
    ".bmp", ".jfif", ".jif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
# Images, too; but what reads them differs between OpenCV's builds (AVIF, GIF, JPEG 2000), or nothing does.
OTHER_IMAGES = frozenset((
    ".3fr", ".apng", ".arw", ".avif", ".avifs", ".cr2", ".cr3", ".dcm", ".dds", ".dib", ".dicom", ".dng", ".eps", ".erf",
    ".exr", ".fit", ".fits", ".gif", ".hdr", ".heic", ".heics", ".heif", ".heifs", ".hif", ".icns", ".ico", ".iiq", ".j2c",
    ".j2k", ".jp2", ".jpc", ".jpf", ".jpm", ".jps", ".jpx", ".jxl", ".jxr", ".kdc", ".mpo", ".mrw", ".nef", ".nrw", ".orf",
    ".pam", ".pcx", ".pef", ".pfm", ".pic", ".psd", ".qoi", ".raf", ".ras", ".raw", ".rgb", ".rw2", ".rwl", ".sgi", ".sr",
    ".sr2", ".srf", ".srw", ".svg", ".svgz", ".tga", ".wdp", ".x3f", ".xbm", ".xcf", ".xpm",
))  # fmt: skip
SHOWN = 6
"""Kinds, or folders, that a note names."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The image files of a folder, and what was passed over."""

    images: tuple[Path, ...]
    """Sorted by path."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Files that look like images and are not read: how many of each suffix."""
    vanished: tuple[str, ...] = ()
    """Subfolders that hold such files and no image."""

    def note(self, source: object) -> str | None:
        """One line about what was left out of ``source``; None if nothing was."""
        if not self.left_out:
            return None
        count = sum(self.left_out.values())
        kinds = sorted(self.left_out.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join(f"{number} {suffix}" for suffix, number in kinds[:SHOWN]) + (", ..." if len(kinds) > SHOWN else "")
        files = "1 file that looks like an image is" if count == 1 else f"{count} files that look like images are"
        gone = ", ".join(self.vanished[:SHOWN]) + (", ..." if len(self.vanished) > SHOWN else "")
        whole = f"; nothing else lies in {gone}" if gone else ""
        return f"{source}: {files} left out ({listed}){whole}. Convert to PNG or JPEG to use {'it' if count == 1 else 'them'}"


def find_images(folder: Path) -> Found:
    """Every image file below ``folder``. Hidden files and folders are not the user's. Raises DataError."""
    # macOS leaves ._1.jpg, notebooks .ipynb_checkpoints.
    images: list[Path] = []
    others: list[Path] = []
    for file in folder.rglob("*"):
        suffix = file.suffix.lower()
        if suffix not in SUFFIXES and suffix not in OTHER_IMAGES:
            continue
        if not any(part.startswith(".") for part in file.relative_to(folder).parts) and is_file(file, DataError):
            (images if suffix in SUFFIXES else others).append(file)
    held = {_top(file, folder) for file in images}
    vanished = sorted({_top(file, folder) for file in others} - held - {""})
    return Found(images=tuple(sorted(images)), left_out=Counter(file.suffix.lower() for file in others), vanished=tuple(vanished))


def _top(file: Path, folder: Path) -> str:
    parts = file.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else ""
