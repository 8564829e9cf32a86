"""The part of a camera's picture that the model is given."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgevit.errors import ConfigError
from edgevit.runtime.frame import Box

if TYPE_CHECKING:
    from edgevit.runtime.frame import Frame, Source

PIXELS = re.compile(r"(\d{1,5}),(\d{1,5}),(\d{1,5}),(\d{1,5})")
_SHARE = r"(\d{1,3}(?:\.\d+)?)%"
SHARES = re.compile(",".join([_SHARE] * 4))
FORM = "write X,Y,WIDTH,HEIGHT in pixels, such as 320,180,640,360, or all four in percent, 25%,25%,50%,50%"


@dataclass(frozen=True, kw_only=True)
class Region:
    """A rectangle of any picture: in pixels, or as shares of the picture's sides, 0 to 1."""

    left: float
    top: float
    width: float
    height: float
    shares: bool = False
    text: str
    """As the user wrote it."""

    def box(self, size_wh: tuple[int, int]) -> Box:
        """Where it is in a picture of ``size_wh``. Raises ValueError if it is not within one."""
        across, down = size_wh if self.shares else (1, 1)
        left, top = round(self.left * across), round(self.top * down)
        right, bottom = round((self.left + self.width) * across), round((self.top + self.height) * down)
        if not (left < right <= size_wh[0] and top < bottom <= size_wh[1]):
            msg = f"not within {size_wh[0]}x{size_wh[1]} pixels"
            raise ValueError(msg)
        return Box(left=left, top=top, width=right - left, height=bottom - top)

    def of(self, size_wh: tuple[int, int]) -> Region:
        """The same part of any picture as this is of one of ``size_wh``."""
        if self.shares:
            return self
        across, down = size_wh
        return Region(
            left=self.left / across, top=self.top / down, width=self.width / across, height=self.height / down, shares=True,
            text=self.text,
        )  # fmt: skip


def parse_region(text: str, option: str = "--roi") -> Region:
    """``X,Y,WIDTH,HEIGHT`` in pixels, or all of them in percent.

    Raises ConfigError, about ``option``, for another form, or one without an inside.
    """
    plain = text.replace(" ", "")
    pixels, shares = PIXELS.fullmatch(plain), SHARES.fullmatch(plain)
    match = pixels or shares
    if match is None:
        msg = f"{option} {text!r}: no region; {FORM}"
        raise ConfigError(msg)
    left, top, width, height = (float(each) / (100 if shares else 1) for each in match.groups())
    if not (width and height):
        msg = f"{option} {text!r}: a region has a width and a height; {FORM}"
        raise ConfigError(msg)
    if shares and (left + width > 1 or top + height > 1):
        msg = f"{option} {text!r}: reaches out of the picture, which ends at 100%"
        raise ConfigError(msg)
    return Region(left=left, top=top, width=width, height=height, shares=shares is not None, text=text)


class Placing:
    """Puts a region onto the frames of one source, in order.

    Pixels are those of the source's first picture. A camera that comes back with another size shows the same scene, so the
    region grows or shrinks with the picture, which is told; the images of a folder are each a scene of their own, and the
    pixels stay.
    """

    def __init__(self, region: Region, source: Source, note: Callable[[str], None]) -> None:
        self._region, self._source, self._note = region, source, note
        self._size: tuple[int, int] | None = None
        self._box: Box | None = None

    def __call__(self, frame: Frame) -> Frame:
        """``frame`` with its region. Raises ConfigError if that is not within the picture."""
        height, width = frame.image_bgr.shape[:2]
        before, self._size = self._size, (width, height)
        if before == self._size and not self._source.timeless:
            return replace(frame, region=self._box)
        if before is not None and not self._source.timeless:
            self._region = self._region.of(before)
        try:
            self._box = self._region.box(self._size)
        except ValueError:
            called = f" of {frame.name}" if self._source.timeless else ""
            msg = (
                f"--roi {self._region.text}: not within the picture{called}, which has {width}x{height} pixels "
                f"({self._source.description}). {FORM[0].upper()}{FORM[1:]}"
            )
            raise ConfigError(msg) from None
        if before is not None and not self._source.timeless:
            at = self._box
            self._note(f"{self._source.description}: the picture has {width}x{height} pixels now, after {before[0]}x{before[1]}; "
                       f"the region is {at.left},{at.top},{at.width},{at.height} of it")  # fmt: skip
        return replace(frame, region=self._box)
