"""What every output is, and how it reports what became of what it was given."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from edgevit.runtime.decide import Decision

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

Note = Callable[[str], None]
"""Tells the user one line while the run goes on; called from any thread."""
_COUNTING = threading.Lock()


class Sink(Protocol):
    """Takes every decision, in order. Close it with `contextlib.closing`."""

    def __call__(self, decision: Decision, /) -> bool:
        """Take one decision; False asks to end the run."""
        ...

    def close(self) -> None:
        """Finish what was begun. Closing twice is harmless."""
        ...


class Screen(Protocol):
    """Takes every picture, uint8 [H, W, 3] BGR; otherwise as `Sink`."""

    def __call__(self, image_bgr: Image, /) -> bool:
        """Take one picture; False asks to end the run."""
        ...

    def close(self) -> None:
        """Finish what was begun. Closing twice is harmless."""
        ...


@dataclass(kw_only=True)
class Delivery:
    """What became of what an output was given. Counts grow while the run goes on."""

    name: str
    sent: int = 0
    failed: int = 0
    """Tried, and given up."""
    dropped: int = 0
    """Never tried: the output was slower than the events, or is waiting after a failure."""
    error: str | None = None
    """The latest failure, in one line."""
    failing: bool = field(default=False, compare=False)
    """Whether it does not work now: nothing has gone through since that failure."""

    def drop(self, count: int = 1) -> None:
        """Count what is never tried. Safe from any thread: an output's own and the loop's both leave things out."""
        with _COUNTING:
            self.dropped += count

    @property
    def complete(self) -> bool:
        """Whether nothing was lost."""
        return not self.failed and not self.dropped

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: what became of it, not how it is just now."""
        return {key: value for key, value in asdict(self).items() if key != "failing"}

    def line(self) -> str:
        """The same for people."""
        lost = [f"{count} {word}" for count, word in ((self.failed, "failed"), (self.dropped, "dropped")) if count]
        reason = f" ({self.error})" if self.error and lost else ""
        return f"{self.name:<17} {', '.join([f'{self.sent} sent', *lost])}{reason}"


class Receiver(Protocol):
    """Takes the decisions that are events; never waits for whatever it sends them to."""

    delivery: Delivery

    def send(self, decision: Decision) -> None:
        """Take one decision."""
        ...

    def close(self) -> None:
        """Send what is left, within seconds, and stop. Closing twice is harmless."""
        ...
