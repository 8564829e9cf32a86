"""How to train a head."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Of `edgevit.training.train.train_head`."""

    folds: int = 5
    """Parts that photos are divided into; each is judged by a head that was fitted to the others."""
    flip: bool = True
    """Whether mirrored photos are trained on, too."""
    crops: int = 2
    """How many small crops of each photo are trained on, too."""
    balanced: bool = False
    """Whether every class counts the same, however many photos it has."""
    seed: int = 0

    @property
    def views(self) -> int:
        """Pictures that a photo is trained by: itself first."""
        return 1 + self.flip + self.crops
