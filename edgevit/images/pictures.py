"""What a caller may mean by an image: a file's path, a Pillow image, an array."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from edgevit.images.dataset import read_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevit.preprocess import Frame

ORIENTATION = 0x0112  # the EXIF tag
DEEP = ("I", "F")  # first letters of Pillow's modes of more than eight bits; its own conversion cuts them off at 255


@runtime_checkable
class Pillow(Protocol):
    """An image of Pillow, known by what it does: Pillow itself need not be installed."""

    mode: str

    def convert(self, mode: str) -> Any:
        """The same in another mode."""
        ...

    def getexif(self) -> Any:
        """EXIF tags by number."""
        ...


Picture: TypeAlias = "str | os.PathLike[str] | NDArray[np.uint8] | Pillow"


def frame_of(picture: Picture) -> Frame:
    """One picture as a frame, uint8 [H, W, 3] BGR; an array as it is, for `edgevit.preprocess.prepare` to check.

    Args:
        picture: the path of an image file; a Pillow image of any 8-bit mode; or an array, uint8 [H, W, 3] BGR as OpenCV delivers
            it, [H, W, 4] BGRA, [H, W, 1] or [H, W] gray. Files and Pillow images are turned upright by their EXIF tag.

    Raises:
        TypeError: anything else, naming it.
        ValueError: a Pillow image of more than 8 bits.
        DataError: the file is missing or no readable image.
    """
    import numpy as np

    if isinstance(picture, str | os.PathLike):
        return read_image(Path(picture))
    if isinstance(picture, np.ndarray):
        return picture
    if isinstance(picture, Pillow):
        return _of_pillow(picture)
    kind = type(picture)
    got = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    if picture is None:
        got = "None (cv2.imread gives it for a file that it cannot read)"
    msg = f"expected a path, a Pillow image or a uint8 array, got {got}"
    raise TypeError(msg)


def _of_pillow(image: Pillow) -> Frame:
    import numpy as np

    if image.mode.startswith(DEEP):
        msg = f"a Pillow image of mode {image.mode!r} has more than 8 bits, and no known range: scale it to 0 to 255 first"
        raise ValueError(msg)
    rgb = np.asarray(image.convert("RGB"))
    return np.ascontiguousarray(_upright(rgb, image.getexif().get(ORIENTATION, 1))[..., ::-1])


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """``pixels`` [H, W, 3] as the EXIF orientation (1 to 8) means them to be seen; anything else is as it is."""
    if orientation in (5, 6, 7, 8):  # rows are columns
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
