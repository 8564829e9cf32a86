"""What pruning is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from edgevit.errors import ConfigError, did_you_mean

GREATEST = 0.9  # share of the MACs that may go
SCORES = ("obs", "wifv", "variance", "taylor")
COMPENSATIONS = ("ridge", "bias", "none")


@dataclass(frozen=True, kw_only=True)
class PruneMethod:
    """How to prune, however much."""

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
        for name, value, least in (("multiple", self.multiple, 1), ("images", self.images, 1), ("recover", self.recover, 0)):
            if value < least:
                msg = f"--{name} {value}: at least {least}."
                raise ConfigError(msg)
        for name, chosen, known in (("score", self.score, SCORES), ("compensation", self.compensation, COMPENSATIONS)):
            if chosen not in known:
                msg = f"--{name}: unknown {chosen!r}. {did_you_mean(chosen, known)}"
                raise ConfigError(msg)


@dataclass(frozen=True, kw_only=True)
class PruneSettings(PruneMethod):
    """How much to prune, and how."""

    share: float
    """Of the multiply-accumulates to remove, 0..1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= GREATEST:
            msg = f"--prune {self.share:g}: the share of the MACs to remove is above 0 and at most {GREATEST:g}; 0.2 is moderate."
            raise ConfigError(msg)
