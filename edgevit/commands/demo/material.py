"""What a demo begins with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Material:
    """A trained model, and images to build, measure and show it with."""

    name: str
    """What the bundle is called."""
    folder: Path
    """What the demo writes lies there."""
    model: Path
    train: Path
    """A folder per class, and so is ``test``."""
    test: Path
    """Held out from training."""
    video: Path
    image: Path
    """One of ``test``, to look at."""
