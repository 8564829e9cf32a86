"""How to train a head, and how to fine-tune what is in front of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

WIDTH_TIMES_RATE = 0.04  # 1e-4 for 384 channels, 5e-5 for 768: what ViT-S and ViT-B are fine-tuned with


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


@dataclass(frozen=True, kw_only=True)
class FineTuneSettings:
    """Of `edgevit.training.fine_tune.fine_tune`."""

    unfreeze: int | Literal["all"]
    """How many blocks, counted from the last, learn beside the final norm and the head; ``all``: every weight."""
    epochs: int = 15
    """At most; the cosine of the learning rate ends there."""
    rate: float | None = None
    """Peak learning rate of the head; None: by the model's width."""
    patience: int = 8
    """Epochs without a lower loss of the stopping part before it ends."""
    batch: int = 16
    """Photos of a step, at most."""
    warm_up: float = 0.1
    """Share of all steps in which the learning rate rises."""
    layer_decay: float = 0.75
    """Learning rate of each block, times that of the one behind it (arXiv 2106.08254)."""
    weight_decay: float = 0.05
    """Of matrices; vectors have none."""
    smoothing: float = 0.0
    """Label smoothing."""
    flip: bool = True
    """Whether photos are mirrored."""
    balanced: bool = False
    """Whether every class counts the same."""
    seed: int = 0

    def rate_for(self, width: int) -> float:
        """Peak learning rate of the head of a model of ``width`` channels."""
        return WIDTH_TIMES_RATE / width if self.rate is None else self.rate
