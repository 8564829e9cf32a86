"""What the page shows of each camera: the state, the picture, the small picture, the attention."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgevit.preview.attention import AttentionFeed, Look
from edgevit.preview.feed import Feed
from edgevit.preview.picture import Pictures, SmallPicture

if TYPE_CHECKING:
    from edgevit.runtime.frame import Image


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """One camera on the page."""

    feed: Feed
    pictures: Pictures
    small: SmallPicture
    attention: AttentionFeed

    @classmethod
    def of(cls, info: Mapping[str, Any], look: Look | None) -> View:
        """A view without a result yet; ``info`` as `Feed` takes it."""
        feed = Feed(info)
        return cls(feed=feed, pictures=Pictures(feed), small=SmallPicture(feed), attention=AttentionFeed(feed, look))


class Views:
    """All cameras of a run, by name; one alone may have none."""

    def __init__(self, info: Mapping[str, Any], sources: Mapping[str | None, str], look: Look | None) -> None:
        """``info`` is of all; ``sources`` tells people what each is. One look at the attention at a time, whoever asks."""
        look = None if look is None else _one_at_a_time(look)
        self.each = {name: View.of({**info, "source": source, **_called(name)}, look) for name, source in sources.items()}

    def named(self, name: str | None) -> View | None:
        """The view called ``name``, the first for None; None if there is no such camera."""
        return next(iter(self.each.values())) if name is None else self.each.get(name)

    def rows(self) -> dict[str, Any]:
        """JSON-ready: a few values of each of several cameras, none of one alone."""
        return {"cameras": [view.feed.row() for view in self.each.values()]} if len(self.each) > 1 else {}

    @property
    def viewers(self) -> int:
        """Of all pictures."""
        return sum(view.pictures.viewers for view in self.each.values())


def _called(name: str | None) -> dict[str, str]:
    return {} if name is None else {"camera": name}


def _one_at_a_time(look: Look) -> Look:
    lock = threading.Lock()

    def looked(image_bgr: Image) -> Image:
        with lock:
            return look(image_bgr)

    return looked
