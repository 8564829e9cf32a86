"""Warnings with a figure, about the images that a build is given: one line each, for its notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.images.dataset import ImageSet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

READ = 512
"""Images decoded at most."""
CONSTANT = 2
"""An image whose levels differ by no more than this in every channel shows nothing."""
LEVELS = 32
"""A set of images that uses fewer of the 256 levels is hardly one of photographs."""


def calibration_notes(images: ImageSet, classes: int) -> list[str]:
    """What is odd about ``images`` as calibration data of a model with ``classes`` classes; empty if nothing is.

    Decodes the first `READ` images. Raises DataError for one that cannot be read.
    """
    notes = []
    if len(images) < classes:
        notes.append(
            f"calibration: {_count(len(images), 'image')} for {_count(classes, 'class', 'es')}, so some are never seen; "
            f"pass more images or a recipe with calibrate.images = {classes}"
        )
    copies = len(images) - len(images.fingerprints())
    if copies:
        notes.append(
            f"calibration: {copies} of {_count(len(images), 'image')} {'is a copy' if copies == 1 else 'are copies'} of others"
        )
    return notes + _pixel_notes(images)


def _pixel_notes(images: ImageSet) -> list[str]:
    import numpy as np

    read = min(len(images), READ)
    used, constant = np.zeros(256, bool), 0
    for index in range(read):
        frame = images.frame(index)
        constant += int(np.ptp(frame, axis=(0, 1)).max()) <= CONSTANT
        if used.sum() < LEVELS:  # enough of them, and no more need be looked for
            used[frame] = True
    notes = []
    if constant:
        notes.append(f"calibration: {constant} of {_count(read, 'image')} {_are(constant)} constant, of one color all over")
    return notes + _level_notes(used)


def _level_notes(used: NDArray[np.bool_]) -> list[str]:
    levels = used.nonzero()[0]
    if not len(levels) or len(levels) >= LEVELS:
        return []
    seen = f"{len(levels)} of 256 levels, from {levels[0]} to {levels[-1]}"
    if levels[-1] <= 1:
        return [f"calibration: the images use {seen}: pixels of 0 to 1 that were stored as integers? Scale them to 0 to 255"]
    return [f"calibration: the images use only {seen}; check how they were stored"]


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
