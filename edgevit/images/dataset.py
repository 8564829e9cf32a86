"""Sets of images for calibration and evaluation: a folder, or an ``.npz``; decoded one at a time."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.errors import DataError, needs_extra
from edgevit.files.bounded import open_regular
from edgevit.files.paths import is_file
from edgevit.files.recognition import not_images
from edgevit.images import labelsheet
from edgevit.images.arrays import read_arrays
from edgevit.images.classes import Match, by_name, possible_matches
from edgevit.images.finding import SUFFIXES, find_images
from edgevit.images.reading import problem_of, read_image
from edgevit.preprocess import Preprocessing, prepare
from edgevit.problem import MULTI_LABEL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevit.preprocess import Frame

__all__ = ["SUFFIXES", "ImageSet", "load_images", "read_image"]

UNLABELLED = "unlabelled"
"""A folder beside those of classes that is none: what `edgevit collect` keeps there has no label yet."""
SKEW = 0.01
"""A sample is called out of proportion if so large a share of it would have to be of other classes."""
MOST_IMAGES = 1 << 21
"""Of an ``.npz``: 133 million of one pixel each would fit into 400 kB."""
LISTED = 10
"""Unreadable images that an error names."""


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images with optional labels. Nothing is decoded before `frame` asks for it."""

    source: str
    """Where the images come from, for messages."""
    names: tuple[str, ...]
    """Path of each image relative to the source, or its position in the array."""
    class_names: tuple[str, ...]
    """Names of the classes that have images, sorted; empty without labels."""
    targets: tuple[int, ...] | None
    """Index into ``class_names`` of each image; None without labels."""
    array: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)
    """Images of an ``.npz``, BGR [N, H, W, 3] or gray [N, H, W]; None for a folder."""
    rows: tuple[int, ...] | None = field(default=None, repr=False, compare=False)
    """Where in ``array`` each image is; None: in order."""
    marks: NDArray[np.bool_] | None = field(default=None, repr=False, compare=False)
    """Of several labels an image, bool [N, classes]: whether it has each of ``class_names``; ``targets`` is None, then."""
    folders: tuple[str, ...] = ()
    """All class folders, also those without an image; empty for an ``.npz``."""
    match: Match | None = None
    """Which of a model's classes ``class_names`` are, where more than their names decided it."""
    left_out: str | None = None
    """A line about files that look like images and are not read."""
    population: int = field(default=0, compare=False)
    """How many images these were drawn from, if they are a sample for evaluation; else 0."""
    drawn: str = field(default="", compare=False)
    """How they were drawn, for people: ``drawn in proportion to their classes, seed 0``."""

    def __len__(self) -> int:
        return len(self.names)

    def frame(self, index: int) -> Frame:
        """Image ``index`` as uint8 [H, W, 3] BGR. Raises DataError for a file that is no image."""
        if self.array is not None:
            frame: Frame = self.array[index if self.rows is None else self.rows[index]]
            return frame if frame.ndim == 3 else frame[..., None].repeat(3, axis=2)
        return read_image(Path(self.source) / self.names[index])

    def prepared(self, contract: Preprocessing, batch: int = 1) -> Iterator[Frame]:
        """Model inputs uint8 [<= batch, height, width, 3], in order; memory is one batch."""
        import numpy as np

        for start in range(0, len(self), batch):
            indices = range(start, min(start + batch, len(self)))
            yield np.stack([prepare(self.frame(index), contract) for index in indices])

    def subset(self, indices: Sequence[int]) -> ImageSet:
        """The images at ``indices``, in that order."""
        rows = self.rows
        if self.array is not None:
            rows = tuple(i if rows is None else rows[i] for i in indices)
        return replace(
            self,
            names=tuple(self.names[i] for i in indices),
            targets=None if self.targets is None else tuple(self.targets[i] for i in indices),
            rows=rows,
            marks=None if self.marks is None else self.marks[list(indices)],
        )

    def split(self, count: int, seed: int) -> tuple[ImageSet, ImageSet]:
        """A balanced random sample of ``count`` images, which visits every class in turn, and all the others.

        For calibration, which has to see every class. What it measures is not the whole's: for evaluation there is `held_out`.
        """
        chosen = _sample(self, count, seed)
        taken = set(chosen)
        return self.subset(chosen), self.subset([i for i in range(len(self)) if i not in taken])

    def to_fit(self, count: int, balanced: int, seed: int) -> ImageSet:
        """``count`` images to prune on, at least the first ``balanced``, which are those that `split` calibrates on.

        With the others all of them are in proportion, so that what is left to measure on keeps the classes' shares.
        """
        chosen = dict.fromkeys(_sample(self, balanced, seed))
        for index in _in_proportion(self, seed, lambda _index: True):
            if len(chosen) >= count:
                break
            chosen[index] = None
        return self.subset(list(chosen))

    def divide(self, count: int, seed: int) -> tuple[ImageSet, ImageSet]:
        """A random sample of ``count`` images in proportion to the classes, and all the others; both stay samples of the same."""
        chosen = list(islice(_in_proportion(self, seed, lambda _index: True), count))
        taken = set(chosen)
        rest = [i for i in range(len(self)) if i not in taken]
        one, other = (
            replace(self.subset(indices), population=self.population or len(self), drawn=self.drawn or _how(self, seed))
            for indices in (chosen, rest)
        )
        return one, other

    def matches(self, labels: Sequence[str]) -> tuple[Match, ...]:
        """Every way in which the classes can be those of a model with these ``labels``, as `possible_matches` has it."""
        if self.targets is None:
            return ()
        if self.match is not None:
            return (self.match,)
        return possible_matches(self.class_names, labels, folders=self.folders, numbered=self.array is not None)

    def is_ambiguous(self, labels: Sequence[str]) -> bool:
        """Whether several of a model's classes share a name that decides, so that the class of an image is unknown."""
        return any(match.doubled for match in self.matches(labels)[:1])

    def targets_for(self, labels: Sequence[str]) -> NDArray[np.int64] | None:
        """Class indices of a model with these ``labels``, int64 [N]; None where the classes are not the model's.

        Of a name that several classes have, the first. Where names leave several ways to see it, the likeliest; `matched` by
        the model's own answers tells which is true.
        """
        import numpy as np

        if self.marks is not None:
            marks = self.marks_for(labels)
            return marks.argmax(1) if marks is not None and (marks.sum(1) == 1).all() else None
        found = next((match for match in self.matches(labels) if not match.guess or match is self.match), None)
        if found is None or self.targets is None:
            return None
        return np.array([found.classes[target] for target in self.targets], np.int64)

    def check(self, advance: Callable[[], None] = lambda: None) -> None:
        """Raise DataError if images cannot be read, naming them together: as far as headers and ends of files tell."""
        if self.array is not None:
            return
        bad = []
        for name in self.names:
            if problem := problem_of(Path(self.source) / name):
                bad.append(f"{name} ({problem})")
            advance()
        if bad:
            more = f" and {len(bad) - LISTED:,} more" if len(bad) > LISTED else ""
            listed = f"{', '.join(bad[:LISTED])}{more}. Remove or replace {'it' if len(bad) == 1 else 'them'}."
            msg = f"{self.source}: {len(bad):,} of {len(self):,} images cannot be read: {listed}"
            raise DataError(msg)

    def marks_for(self, labels: Sequence[str]) -> NDArray[np.bool_] | None:
        """Which of a model's ``labels`` each image has, bool [N, labels]; None where that is not known, or of other labels.

        Names match as `by_name` has it; columns without names match by position. A label that none of the images is said to have
        is on none. Folders do not tell: an image lies in one of them, whatever else it shows.
        """
        import numpy as np

        if self.marks is None:
            return None
        if self.class_names == tuple(map(str, range(len(labels)))):
            return self.marks
        match = by_name(self.class_names, labels)
        if match is None:
            return None
        nowhere = np.zeros(len(self), bool)
        own = {labels[index]: self.marks[:, i] for i, index in enumerate(match.classes)}
        return np.stack([own.get(label, nowhere) for label in labels], 1)

    def truth_for(self, labels: Sequence[str], problem_type: str) -> NDArray[Any] | None:
        """What is right for a model of that kind: `targets_for`, or of a multi-label model `marks_for`."""
        return self.marks_for(labels) if problem_type == MULTI_LABEL else self.targets_for(labels)

    def fingerprint(self, index: int) -> str:
        """SHA-256 of the content of image ``index``, hexadecimal: the file's bytes, or the array's."""
        if self.array is not None:
            frame = self.frame(index)
            return hashlib.sha256(repr(frame.shape).encode() + frame.tobytes()).hexdigest()
        try:
            with open_regular(Path(self.source) / self.names[index]) as stream:
                return hashlib.sha256(stream.read()).hexdigest()
        except OSError as error:
            msg = f"{Path(self.source) / self.names[index]}: cannot read this image: {error.strerror}"
            raise DataError(msg) from error

    def fingerprints(self) -> set[str]:
        """`fingerprint` of every image."""
        return {self.fingerprint(index) for index in range(len(self))}

    def held_out(self, limit: int, seed: int, used: Collection[str]) -> ImageSet:
        """A random sample of at most ``limit`` images, none of whose fingerprints is in ``used``: what to evaluate on.

        In proportion to the classes of the whole set, so that shares of the sample are shares of the set, with less variance
        than drawing at random. Where ``used`` left too few of a class, that class falls short, and ``drawn`` says so.

        By content, because folders may overlap and hold copies; no more files are read than that takes.
        """
        fresh = _in_proportion(self, seed, lambda index: not used or self.fingerprint(index) not in used)
        chosen = list(islice(fresh, limit))
        found = self.subset(chosen)
        if len(found) == len(self):
            return found
        how = _how(self, seed) if len(found) == limit else "all that no model was fitted to"
        return replace(found, population=len(self), drawn=f"{how}{_short_class(self, found)}")

    def digest(self) -> str:
        """SHA-256 over names and contents, hexadecimal."""
        digest = hashlib.sha256()
        for index, name in enumerate(self.names):
            # A name that is no UTF-8 comes as surrogates.
            digest.update(f"{name}\0{self.fingerprint(index)}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def load_images(path: str | Path) -> ImageSet:
    """Find the images of a folder (class per subfolder, or flat) or of an ``.npz``.

    An ``.npz`` holds ``images``, uint8 RGB [N, H, W, 3] or gray [N, H, W], and optionally integer
    ``labels`` [N] and ``classes``, the class names. Where an image has several labels, ``labels`` are 0 and 1, [N, classes];
    in a folder a ``labels.csv`` tells, whatever the subfolders: `edgevit.images.labelsheet.read_sheet`.

    Raises DataError if there are none, saying what was looked for.
    """
    with needs_extra("cpu"):
        import cv2  # noqa: F401 (all images are prepared with it: say so here, once)
    path = Path(path)
    if is_file(path, DataError) and path.suffix.lower() == ".npz":
        return _from_npz(path)
    if not path.is_dir():
        what = not_images(path).rstrip(".") or ("is not a folder or an .npz" if path.exists() else "does not exist")
        msg = f"{path}: {what}. Give a folder of images (one subfolder per class gives labels) or an .npz with 'images'."
        raise DataError(msg)
    found = find_images(path)
    note = found.note(path)
    if not found.images:
        looked = f"looked for {', '.join(SUFFIXES)}, subfolders included"
        nothing = f"{path}: {not_images(path) or f'no images in this folder ({looked}).'}"
        msg = nothing if note is None else f"{note}. Nothing else lies there."
        raise DataError(msg)
    names = tuple(file.relative_to(path).as_posix() for file in found.images)
    if (path / labelsheet.NAME).is_file():
        classes, marks = labelsheet.read_sheet(path / labelsheet.NAME, tuple(map(_text, names)))
        return ImageSet(source=str(path), names=names, class_names=classes, targets=None, marks=marks, left_out=note)
    names, note = _of_classes(path, names, note)
    tops = [name.partition("/")[0] if "/" in name else "" for name in names]
    if not all(tops) or set(tops) == {UNLABELLED}:
        return ImageSet(source=str(path), names=names, class_names=(), targets=None, left_out=note)
    position = {folder: index for index, folder in enumerate(sorted(set(tops)))}
    return ImageSet(
        source=str(path),
        names=names,
        class_names=tuple(map(_text, position)),
        targets=tuple(position[folder] for folder in tops),
        folders=tuple(
            _text(folder.name)
            for folder in sorted(path.iterdir())
            if folder.is_dir() and folder.name[0] != "." and folder.name != UNLABELLED
        ),
        left_out=note,
    )


def _of_classes(path: Path, names: tuple[str, ...], note: str | None) -> tuple[tuple[str, ...], str | None]:
    """Without those in `UNLABELLED`, and a note about them, where all others lie in folders of classes."""
    named = tuple(name for name in names if not name.startswith(f"{UNLABELLED}/"))
    count = len(names) - len(named)
    if not named or not count or not all("/" in name for name in named):
        return names, note
    what = "1 image" if count == 1 else f"{count} images"
    more = f"{path}: {UNLABELLED}/ ({what}) is left out: it is no class"
    return named, more if note is None else f"{note}; {more}"


def _text(name: str) -> str:
    """A folder's name as text: where Python takes file names for ASCII, UTF-8 in them comes as surrogates."""
    return os.fsencode(name).decode("utf-8", "replace")


def _from_npz(path: Path) -> ImageSet:
    import numpy as np

    arrays = read_arrays(path, ("images", "labels", "classes"))
    images = arrays.get("images")
    if images is None or images.dtype != np.uint8 or images.ndim not in (3, 4) or not images.size:
        found = "missing" if images is None else f"{images.dtype} {images.shape}"
        msg = f"{path}: 'images' must be uint8 [N, H, W, 3] RGB or [N, H, W] gray, and is {found}."
        raise DataError(msg)
    if images.ndim == 4 and images.shape[3] not in (1, 3):
        msg = f"{path}: 'images' must have 1 or 3 channels last, and is {images.shape}."
        raise DataError(msg)
    if len(images) > MOST_IMAGES:
        msg = f"{path}: holds {len(images):,} images, more than {MOST_IMAGES:,}. Give fewer."
        raise DataError(msg)
    if images.ndim == 4:
        images = images[..., 0] if images.shape[3] == 1 else images[..., ::-1]
    unlabelled = ImageSet(
        source=str(path),
        names=tuple(str(index) for index in range(len(images))),
        class_names=(),
        targets=None,
        array=images.astype(np.uint8, copy=False),
    )
    if (labels := arrays.get("labels")) is None:
        return unlabelled
    named = _npz_names(path, arrays.get("classes"))
    if labels.ndim == 2:
        class_names, marks = _npz_marks(path, labels, named, len(images))
        return replace(unlabelled, class_names=class_names, marks=marks)
    class_names, targets = _npz_targets(path, labels, named, len(images))
    return replace(unlabelled, class_names=class_names, targets=targets)


def _npz_names(path: Path, classes: NDArray[np.generic] | None) -> tuple[str, ...] | None:
    if classes is None:
        return None
    if classes.ndim != 1 or classes.dtype.kind not in "USiu":
        msg = f"{path}: 'classes' must be a list of names, and is {classes.dtype} {classes.shape}."
        raise DataError(msg)
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in classes)


def _npz_targets(
    path: Path, labels: NDArray[np.generic], names: tuple[str, ...] | None, count: int
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or labels.min() < 0:
        msg = f"{path}: 'labels' must be {count} integers from 0, one per image, and is {labels.dtype} {labels.shape}."
        raise DataError(msg)
    targets = tuple(int(label) for label in labels)
    if max(targets) >= MOST_IMAGES:
        msg = f"{path}: label {max(targets)} is no number of a class."
        raise DataError(msg)
    names = tuple(map(str, range(max(targets) + 1))) if names is None else names
    if max(targets) >= len(names):
        msg = f"{path}: label {max(targets)} has no name: 'classes' holds {len(names)}."
        raise DataError(msg)
    return names, targets


def _npz_marks(
    path: Path, labels: NDArray[np.generic], names: tuple[str, ...] | None, count: int
) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    import numpy as np

    if len(labels) != count or labels.dtype.kind not in "biuf" or not np.isin(labels, (0, 1)).all():
        msg = f"{path}: 'labels' of several an image must be 0 and 1, [{count}, classes], and is {labels.dtype} {labels.shape}."
        raise DataError(msg)
    names = tuple(map(str, range(labels.shape[1]))) if names is None else names
    if len(names) != labels.shape[1] or len(set(names)) < len(names):
        msg = f"{path}: 'classes' must be {labels.shape[1]} different names, one per column of 'labels', and is {len(names)}."
        raise DataError(msg)
    return names, labels.astype(bool)


def _how(images: ImageSet, seed: int) -> str:
    return f"drawn {'at random' if images.targets is None else 'in proportion to their classes'}, seed {seed}"


def _short_class(images: ImageSet, sample: ImageSet) -> str:
    """Which class ``sample`` has too few of, where it is not in proportion to ``images``; else nothing."""
    if images.targets is None or sample.targets is None or not len(sample):
        return ""
    whole, part = Counter(images.targets), Counter(sample.targets)
    missing = {label: count * len(sample) / len(images) - part[label] for label, count in whole.items()}
    if sum(max(0.0, short - 1) for short in missing.values()) < SKEW * len(sample):  # one less is rounding
        return ""
    label = max(missing, key=lambda label: missing[label])
    shares = f"{100 * part[label] / len(sample):.1f} % of these and {100 * whole[label] / len(images):.1f} % of all images"
    return f"; {images.class_names[label]} is {shares}, because others of it were fitted to"


def _in_proportion(images: ImageSet, seed: int, wanted: Callable[[int], bool]) -> Iterator[int]:
    """Positions of ``wanted`` images in a random order of which every beginning has the classes' shares in ``images``.

    Systematic sampling: the j-th image that a class of n gives stands at (j + u) / n, with a random u of its own, 0 to 1.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    order: list[int] = random.permutation(len(images)).tolist()
    if images.targets is None:
        yield from filter(wanted, order)
        return
    queues: dict[int, list[int]] = {}
    for index in order:
        queues.setdefault(images.targets[index], []).append(index)
    left = {target: filter(wanted, queue) for target, queue in queues.items()}
    # (place, class) of the next image of every class; classes in their own order, so that a seed means one sample.
    turns = [(float(random.random()) / len(queues[target]), target) for target in sorted(queues)]
    heapify(turns)
    while turns:
        place, target = heappop(turns)
        for index in islice(left[target], 1):
            yield index
            heappush(turns, (place + 1 / len(queues[target]), target))


def _sample(images: ImageSet, count: int, seed: int) -> list[int]:
    import numpy as np

    order: list[int] = np.random.default_rng(seed).permutation(len(images)).tolist()
    if images.targets is None:
        return order[:count]
    queues: dict[int, list[int]] = {}
    for index in order:
        queues.setdefault(images.targets[index], []).append(index)
    # The first image of every class, then the second of every class, and so on.
    turns = sorted((turn, target, index) for target, queue in queues.items() for turn, index in enumerate(queue))
    return [index for _, _, index in turns[:count]]
