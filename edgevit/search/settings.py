"""What a search is asked for: a speed-up, or as much as an accuracy budget allows."""

from __future__ import annotations

from dataclasses import dataclass

from edgevit.errors import ConfigError
from edgevit.pruning.settings import PruneMethod
from edgevit.tokens.settings import MergeSettings

FASTEST = 10.0  # speed-up that may be asked for


@dataclass(frozen=True, kw_only=True)
class SearchSettings(PruneMethod):
    """How far, and with what. Exactly one of ``speedup`` and ``auto`` is set."""

    speedup: float | None = None
    """Time before over time after to reach, by what the target's layers cost."""
    auto: bool = False
    """As far as an accuracy budget allows."""
    merge: MergeSettings | None = None
    """Tokens that are merged in any case, by hand; None leaves that to the search."""
    tokens: bool = True
    """Whether the search merges tokens where ``merge`` is None."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.speedup is None) == (not self.auto):
            msg = "say how much to prune in one way: a share of the MACs (--prune 0.2), --speedup 1.2, or --prune auto."
            raise ConfigError(msg)
        if self.speedup is not None and not 1 < self.speedup <= FASTEST:
            msg = f"--speedup {self.speedup:g}: what is to be gained lies above 1 and at most at {FASTEST:g}; 1.2 is moderate."
            raise ConfigError(msg)
