"""What every source delivers, and what every source is."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from edgevit.runtime.faults import Faults

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

    Image = NDArray[np.uint8]

Policy = Literal["latest", "every"]
"""Which frames are classified: the newest each time, or all of them."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle of a picture, in its pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One picture and where it came from."""

    image_bgr: Image
    """uint8 [H, W, 3], OpenCV channel order."""
    captured: float
    """`time.perf_counter` seconds at which the grab of the picture returned."""
    index: int
    """Counts what the source delivered, from 0."""
    name: str
    """The image's path inside its folder, else the video or camera."""
    seconds: float | None = None
    """Of a recording: from its first frame to this one, by its own time stamps; None of what is captured now, and of images."""
    region: Box | None = None
    """What of the picture is looked at; None: all of it."""

    @property
    def seen(self) -> Image:
        """What the model is given, uint8 [H', W', 3]: the region of the picture, not a copy."""
        if (box := self.region) is None:
            return self.image_bgr
        return self.image_bgr[box.top : box.top + box.height, box.left : box.left + box.width]

    @property
    def clock(self) -> datetime:
        """The wall clock, in UTC, when the frame was captured."""
        return datetime.fromtimestamp(time.time() - (time.perf_counter() - self.captured), timezone.utc)

    def __repr__(self) -> str:
        height, width = self.image_bgr.shape[:2]
        return f"Frame({self.name!r}, {self.index}, {width}x{height})"


class Source(ABC):
    """An iterable of frames that may hold a device open; use it as a context manager.

    Iterating a file source again starts over. Iteration raises SourceError when a source fails midway.
    """

    live: bool = False
    """Frames come at their own pace and a late reader loses some: a camera, not a file."""
    captures: bool = False
    """Reads on a thread of its own, so that iterating only takes what is there."""
    timeless: bool = False
    """Its pictures are as many moments, with no time between them that means anything: the images of a folder."""
    fps: float | None = None
    """Nominal frames per second, where the source states them."""
    description: str
    """The source in a few words, for people."""
    skipped: int = 0
    """Images or video frames that could not be decoded, so far."""
    first_skipped: str | None = None
    """The name of the first of them."""
    note: str | None = None
    """What of the source is left out, in a line."""
    faults: Faults | None = None
    """What went wrong and was recovered from; None where nothing of the kind can happen."""

    asked_policy: Policy | None = None

    @property
    def policy(self) -> Policy:
        """As asked for, else `latest` for what is live and `every` for what waits."""
        return self.asked_policy or ("latest" if self.live else "every")

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...

    def skip(self, name: str, count: int = 1) -> None:
        """Count pictures that cannot be decoded, ``name`` the first of them."""
        self.first_skipped = self.first_skipped or name
        self.skipped += count

    def close(self) -> None:  # noqa: B027 (most sources hold nothing between frames)
        """Free the device; an iteration under way ends. Closing twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
