"""What pruning is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from edgevit.errors import ConfigError, did_you_mean

GREATEST = 0.9  # share of the MACs that may go
FASTEST = 10.0  # speed-up that may be asked for
SCORES = ("obs", "wifv", "variance", "taylor")
COMPENSATIONS = ("ridge", "bias", "none")


@dataclass(frozen=True, kw_only=True)
class PruneSettings:
    """How much, and how. Exactly one of ``share``, ``speedup`` and ``auto`` is set."""

    share: float | None = None
    """Of the multiply-accumulates to remove, 0..1."""
    speedup: float | None = None
    """Time before over time after to reach, by what the target's layers cost."""
    auto: bool = False
    """As much as an accuracy budget allows."""
    multiple: int = 32
    """MLP widths stay a multiple of it: INT8 tensor cores compute in tiles of 32."""
    images: int = 512
    """Calibration images at most."""
    seed: int = 0
    score: str = "obs"
    """Which units go first within a sublayer; see `edgevit.pruning.scores`. ``taylor`` needs labels."""
    compensation: str = "ridge"
    """What makes up for them: ``ridge``, ``bias`` alone, or ``none``."""
    recover: int = 0
    """Epochs of distillation from the unpruned model afterwards."""

    def __post_init__(self) -> None:
        if sum((self.share is not None, self.speedup is not None, self.auto)) != 1:
            msg = "say how much to prune in one way: a share of the MACs (--prune 0.2), --speedup 1.2, or --prune auto."
            raise ConfigError(msg)
        if self.share is not None and not 0 < self.share <= GREATEST:
            msg = f"--prune {self.share:g}: the share of the MACs to remove is above 0 and at most {GREATEST:g}; 0.2 is moderate."
            raise ConfigError(msg)
        if self.speedup is not None and not 1 < self.speedup <= FASTEST:
            msg = f"--speedup {self.speedup:g}: what pruning is to gain lies above 1 and at most at {FASTEST:g}; 1.2 is moderate."
            raise ConfigError(msg)
        for name, value, least in (("multiple", self.multiple, 1), ("images", self.images, 1), ("recover", self.recover, 0)):
            if value < least:
                msg = f"--{name} {value}: at least {least}."
                raise ConfigError(msg)
        for name, chosen, known in (("score", self.score, SCORES), ("compensation", self.compensation, COMPENSATIONS)):
            if chosen not in known:
                msg = f"--{name}: unknown {chosen!r}. {did_you_mean(chosen, known)}"
                raise ConfigError(msg)
