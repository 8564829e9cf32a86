"""Sets of images for calibration and evaluation: a folder, or an ``.npz``; decoded one at a time."""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit import labelsheet
from edgevit.errors import DataError, needs_extra
from edgevit.preprocess import Preprocessing, prepare
from edgevit.problem import MULTI_LABEL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevit.preprocess import Frame

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images with optional labels. Nothing is decoded before `frame` asks for it."""

    source: str
    """Where the images come from, for messages."""
    names: tuple[str, ...]
    """Path of each image relative to the source, or its position in the array."""
    class_names: tuple[str, ...]
    """Names of the classes, sorted; empty without labels."""
    targets: tuple[int, ...] | None
    """Index into ``class_names`` of each image; None without labels."""
    array: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)
    """Images of an ``.npz``, BGR [N, H, W, 3]; None for a folder."""
    marks: NDArray[np.bool_] | None = field(default=None, repr=False, compare=False)
    """Of several labels an image, bool [N, classes]: whether it has each of ``class_names``; ``targets`` is None, then."""

    def __len__(self) -> int:
        return len(self.names)

    def frame(self, index: int) -> Frame:
        """Image ``index`` as uint8 [H, W, 3] BGR. Raises DataError for a file that is no image."""
        if self.array is not None:
            frame: Frame = self.array[index]
            return frame
        return read_image(Path(self.source) / self.names[index])

    def prepared(self, contract: Preprocessing, batch: int = 1) -> Iterator[Frame]:
        """Model inputs uint8 [<= batch, height, width, 3], in order; memory is one batch."""
        import numpy as np

        for start in range(0, len(self), batch):
            indices = range(start, min(start + batch, len(self)))
            yield np.stack([prepare(self.frame(index), contract) for index in indices])

    def subset(self, indices: Sequence[int]) -> ImageSet:
        """The images at ``indices``, in that order."""
        return ImageSet(
            source=self.source,
            names=tuple(self.names[i] for i in indices),
            class_names=self.class_names,
            targets=None if self.targets is None else tuple(self.targets[i] for i in indices),
            array=None if self.array is None else self.array[list(indices)],
            marks=None if self.marks is None else self.marks[list(indices)],
        )

    def split(self, count: int, seed: int) -> tuple[ImageSet, ImageSet]:
        """A random sample of ``count`` images that visits every class in turn, and all the others."""
        chosen = _sample(self, count, seed)
        taken = set(chosen)
        return self.subset(chosen), self.subset([i for i in range(len(self)) if i not in taken])

    def targets_for(self, labels: Sequence[str]) -> NDArray[np.int64] | None:
        """Class indices of a model with these ``labels``, int64 [N]; None where the names do not fit.

        Folder names match label names; as many classes as the model has, all named by number,
        match by position.
        """
        import numpy as np

        if self.marks is not None:
            marks = self.marks_for(labels)
            one = marks is not None and (marks.sum(1) == 1).all()
            return marks.argmax(1) if marks is not None and one else None
        if self.targets is None:
            return None
        position = {label: index for index, label in enumerate(labels)}
        if all(name in position for name in self.class_names):
            return np.array([position[self.class_names[target]] for target in self.targets])
        generic = all(label.isdigit() or re.fullmatch(r"LABEL_\d+", label) for label in labels)
        if not generic or len(self.class_names) != len(labels):
            return None
        # Folders that are numbers keep them: sorted as text, 10 comes before 2.
        numbers = [int(name) if name.isdecimal() else -1 for name in self.class_names]
        numbered = sorted(numbers) == list(range(len(labels)))
        return np.array([numbers[target] for target in self.targets] if numbered else self.targets)

    def marks_for(self, labels: Sequence[str]) -> NDArray[np.bool_] | None:
        """Which of a model's ``labels`` each image has, bool [N, labels]; None where that is not known, or of other labels.

        Names match; columns without names match by position. A label that none of the images is said to have is on none. Folders
        do not tell: an image lies in one of them, whatever else it shows.
        """
        import numpy as np

        if self.marks is None:
            return None
        if self.class_names == tuple(map(str, range(len(labels)))):
            return self.marks
        if not set(self.class_names) <= set(labels):
            return None
        nowhere = np.zeros(len(self), bool)
        own = {name: self.marks[:, i] for i, name in enumerate(self.class_names)}
        return np.stack([own.get(label, nowhere) for label in labels], 1)

    def truth_for(self, labels: Sequence[str], problem_type: str) -> NDArray[Any] | None:
        """What is right for a model of that kind: `targets_for`, or of a multi-label model `marks_for`."""
        return self.marks_for(labels) if problem_type == MULTI_LABEL else self.targets_for(labels)

    def fingerprint(self, index: int) -> str:
        """SHA-256 of the content of image ``index``, hexadecimal: the file's bytes, or the array's."""
        if self.array is not None:
            frame = self.array[index]
            return hashlib.sha256(repr(frame.shape).encode() + frame.tobytes()).hexdigest()
        try:
            return hashlib.sha256((Path(self.source) / self.names[index]).read_bytes()).hexdigest()
        except OSError as error:
            msg = f"{Path(self.source) / self.names[index]}: cannot read this image: {error.strerror}"
            raise DataError(msg) from error

    def fingerprints(self) -> set[str]:
        """`fingerprint` of every image."""
        return {self.fingerprint(index) for index in range(len(self))}

    def held_out(self, limit: int, seed: int, used: Collection[str]) -> ImageSet:
        """A sample of at most ``limit`` images, none of whose fingerprints is in ``used``.

        By content, because folders may overlap and hold copies; no more files are read than that takes.
        """
        sample, _ = self.split(limit + len(used), seed)
        fresh = [i for i in range(len(sample)) if sample.fingerprint(i) not in used]
        return sample.subset(fresh[:limit])

    def digest(self) -> str:
        """SHA-256 over names and contents, hexadecimal."""
        digest = hashlib.sha256()
        for index, name in enumerate(self.names):
            digest.update(f"{name}\0{self.fingerprint(index)}\0".encode())
        return digest.hexdigest()


def load_images(path: str | Path) -> ImageSet:
    """Find the images of a folder (class per subfolder, or flat) or of an ``.npz``.

    An ``.npz`` holds ``images``, uint8 RGB [N, H, W, 3] or gray [N, H, W], and optionally integer
    ``labels`` [N] and ``classes``, the class names. Where an image has several labels, ``labels`` are 0 and 1, [N, classes];
    in a folder a ``labels.csv`` tells, whatever the subfolders: `edgevit.labelsheet.read_sheet`.

    Raises DataError if there are none, saying what was looked for.
    """
    with needs_extra("cpu"):
        import cv2  # noqa: F401 (all images are prepared with it: say so here, once)
    path = Path(path)
    if path.is_file() and path.suffix.lower() == ".npz":
        return _from_npz(path)
    if not path.is_dir():
        found = "is not a folder or an .npz" if path.exists() else "does not exist"
        msg = f"{path}: {found}. Give a folder of images (one subfolder per class gives labels) or an .npz with 'images'."
        raise DataError(msg)
    files = find_images(path)
    if not files:
        msg = f"{path}: no images in this folder (looked for {', '.join(SUFFIXES)}, subfolders included)."
        raise DataError(msg)
    names = tuple(file.relative_to(path).as_posix() for file in files)
    if (path / labelsheet.NAME).is_file():
        classes, marks = labelsheet.read_sheet(path / labelsheet.NAME, names)
        return ImageSet(source=str(path), names=names, class_names=classes, targets=None, marks=marks)
    folders = [Path(name).parts[0] if "/" in name else "" for name in names]
    labelled = all(folders)
    classes = tuple(sorted(set(folders))) if labelled else ()
    targets = tuple(classes.index(folder) for folder in folders) if labelled else None
    return ImageSet(source=str(path), names=names, class_names=classes, targets=targets)


def find_images(folder: Path) -> list[Path]:
    """Every image file below ``folder``, sorted by path."""
    # Hidden files and folders are not the user's: macOS leaves ._1.jpg, notebooks .ipynb_checkpoints.
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    )


def read_image(path: Path) -> Frame:
    """One image file as uint8 [H, W, 3] BGR, turned upright by its EXIF tag. Raises DataError naming the file."""
    with needs_extra("cpu"):
        import cv2
    import numpy as np

    # cv2.imread fails on some non-ASCII names; Python opens them all.
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        msg = f"{path}: cannot read this image: {error.strerror}"
        raise DataError(msg) from error
    frame: Any = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if frame is None:
        msg = f"{path}: not a readable image ({len(data)} bytes). Remove or replace it."
        raise DataError(msg)
    return frame


def _from_npz(path: Path) -> ImageSet:
    import numpy as np

    try:
        # Opened here, so that it is closed where numpy refuses it. TypeError: an .npy under this name.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            # A member that is no array comes as bytes.
            arrays = {key: np.asarray(stored[key]) for key in ("images", "labels", "classes") if key in stored}
    except (OSError, ValueError, TypeError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        msg = f"{path}: not a readable .npz: {error}"
        raise DataError(msg) from error
    images = arrays.get("images")
    if images is None or images.dtype != np.uint8 or images.ndim not in (3, 4) or not images.size:
        found = "missing" if images is None else f"{images.dtype} {images.shape}"
        msg = f"{path}: 'images' must be uint8 [N, H, W, 3] RGB or [N, H, W] gray, and is {found}."
        raise DataError(msg)
    if images.ndim == 4 and images.shape[3] not in (1, 3):
        msg = f"{path}: 'images' must have 1 or 3 channels last, and is {images.shape}."
        raise DataError(msg)
    gray = images.ndim == 3 or images.shape[3] == 1
    bgr = np.repeat(images.reshape(*images.shape[:3], 1), 3, axis=3) if gray else images[..., ::-1]
    names = tuple(str(index) for index in range(len(images)))
    if (labels := arrays.get("labels")) is not None and labels.ndim == 2:
        classes, marks = _npz_marks(path, labels, arrays.get("classes"), len(images))
        return ImageSet(source=str(path), names=names, class_names=classes, targets=None, array=bgr, marks=marks)
    targets, classes = _npz_labels(path, arrays, len(images))
    return ImageSet(source=str(path), names=names, class_names=classes, targets=targets, array=bgr)


def _npz_labels(path: Path, arrays: dict[str, NDArray[np.generic]], count: int) -> tuple[tuple[int, ...] | None, tuple[str, ...]]:
    labels = arrays.get("labels")
    if labels is None:
        return None, ()
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or labels.min() < 0:
        msg = f"{path}: 'labels' must be {count} integers from 0, one per image, and is {labels.dtype} {labels.shape}."
        raise DataError(msg)
    targets = tuple(int(label) for label in labels)
    classes = arrays.get("classes")
    names = tuple(map(str, classes)) if classes is not None else tuple(map(str, range(max(targets) + 1)))
    if max(targets) >= len(names):
        msg = f"{path}: label {max(targets)} has no name: 'classes' holds {len(names)}."
        raise DataError(msg)
    return targets, names


def _npz_marks(
    path: Path, labels: NDArray[np.generic], classes: NDArray[np.generic] | None, count: int
) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    import numpy as np

    if len(labels) != count or labels.dtype.kind not in "biuf" or not np.isin(labels, (0, 1)).all():
        msg = f"{path}: 'labels' of several an image must be 0 and 1, [{count}, classes], and is {labels.dtype} {labels.shape}."
        raise DataError(msg)
    names = tuple(map(str, range(labels.shape[1]) if classes is None else classes))
    if len(names) != labels.shape[1] or len(set(names)) < len(names):
        msg = f"{path}: 'classes' must be {labels.shape[1]} different names, one per column of 'labels', and is {len(names)}."
        raise DataError(msg)
    return names, labels.astype(bool)


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
