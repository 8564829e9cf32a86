"""What an overlay says of a frame, before it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgevit.runtime.classify import Prediction


@dataclass(frozen=True, kw_only=True)
class Caption:
    """The answer for one frame and how fast it came."""

    predictions: Sequence[Prediction]
    """Likeliest first, at least one."""
    best: Prediction
    """What the title says."""
    labels: Sequence[Prediction] | None
    """Of a multi-label model, all that are there."""
    fps: float | None
    """Frames per second: a camera's as they were classified, or a file's own."""
    processed: float | None
    """Of a file: how many were classified per second, which may be more than it plays."""
    precision: str
    latency_ms: float

    @property
    def title(self) -> str:
        """The label, or the labels with commas between them."""
        return ", ".join(each.label for each in self.labels) if self.labels else self.best.label

    @property
    def confidence(self) -> str:
        """That of the label. Of several none fits; that of a class which is not believed is not the label's."""
        return f"{self.best.confidence:.1%}" if self.labels is None and self.best.index >= 0 else ""

    @property
    def there(self) -> set[int]:
        """Numbers of the classes that stand out among ``predictions``."""
        return {self.predictions[0].index} if self.labels is None else {each.index for each in self.labels}

    @property
    def pace(self) -> str:
        """Frames per second, as short as can be; empty if not known."""
        return "" if self.fps is None else f"{self.fps:.4g} fps" if self.processed is not None else f"{self.fps:.1f} fps"

    @property
    def speed(self) -> str:
        """All that is known of speed: a file's pace is its own, and how fast it was worked through stands beside it."""
        processed = "" if self.processed is None else f"processed at {self.processed:.1f}/s"
        rates = ", ".join(part for part in (self.pace, processed) if part)
        return "   ".join(part for part in (rates, f"{self.latency_ms:.1f} ms") if part)
