"""Photos of one more class, or more of one that is there, from a folder of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgevit.errors import DataError
from edgevit.images.dataset import ImageSet, load_images


def with_class(images: ImageSet, name: str, folder: Path) -> ImageSet:
    """``images``, whose ``targets`` are known, and all images below ``folder`` as the class ``name``; these have absolute names.

    Raises DataError if there are none, or if the one lies in the other: then photos would be there twice.
    """
    if images.array is not None:
        msg = f"{images.source}: photos of an .npz take no --add-class. Put them into a folder, a subfolder for each class."
        raise DataError(msg)
    assert images.targets is not None
    more, own = load_images(folder), Path(images.source)
    if more.array is not None:
        msg = f"{folder}: --add-class takes a folder of photos of one class."
        raise DataError(msg)
    ours, theirs = own.resolve(), folder.resolve()
    if ours == theirs or ours in theirs.parents or theirs in ours.parents:
        msg = f"{folder}: --add-class takes photos that lie elsewhere than {own}: a class folder in it is read as it is."
        raise DataError(msg)
    classes = tuple(sorted({*images.class_names, name}))
    place = {label: index for index, label in enumerate(classes)}
    targets = [place[images.class_names[target]] for target in images.targets] + [place[name]] * len(more)
    notes = [note for note in (images.left_out, more.left_out) if note]
    return replace(
        images, names=(*images.names, *((folder.absolute() / each).as_posix() for each in more.names)), class_names=classes,
        targets=tuple(targets), folders=tuple(sorted({*images.folders, name})), left_out="; ".join(notes) or None,
    )  # fmt: skip
