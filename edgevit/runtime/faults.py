"""What went wrong with a live source and was recovered from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(kw_only=True)
class Faults:
    """Counts of one run. Damaged frames are counted as skipped, by the source itself."""

    lost: int = 0
    """Connections that ended: unplugged, server gone, stalled."""
    stalled: int = 0
    """Those of them that ended because no frame came for too long."""
    reconnected: int = 0
    stale: int = 0
    """Frames of a connection that was given up, thrown away when they came after all."""
    resized: int = 0
    """Changes of the picture's size."""
    down_seconds: float = 0.0
    """Time without a connection, outages that ended only."""
    last: str | None = None
    """The latest reason, in words."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    def line(self) -> str:
        """The counts that are not zero, for people; empty if all are."""
        counts = {"lost": self.lost, "stalled": self.stalled, "reconnected": self.reconnected, "stale": self.stale}
        shown = [f"{name} {count}" for name, count in {**counts, "resized": self.resized}.items() if count]
        down = [f"down {self.down_seconds:.1f} s"] if self.down_seconds else []
        return ", ".join(shown + down) + (f" (last: {self.last})" if self.last else "")
