"""How many tokens are to be merged where: as asked for by hand, and in two places for a share of the arithmetic."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgevit.errors import ConfigError
from edgevit.model.macs import macs
from edgevit.share import meant_by, share_of
from edgevit.vitconfig import VitConfig

Merges = Mapping[int, int]
"""Tokens merged away, by block."""

GREATEST = 0.9  # share of the MACs that may be asked for


@dataclass(frozen=True, kw_only=True)
class MergeSettings:
    """How many tokens are merged, and whether the rest is refitted. Exactly one of ``share`` and ``merges`` is set."""

    share: float | None = None
    """Of the multiply-accumulates to remove, 0..1; see `merges_for_share`."""
    merges: tuple[tuple[int, int], ...] = ()
    """Blocks, each with how many tokens are merged away behind its attention."""
    refit: bool = True
    images: int = 128
    """Calibration images that the refit is made on, at most."""
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.share is None) == (not self.merges):
            msg = "--merge: give a share of the MACs, as in 0.35 or 35%, or tokens at blocks, as in 64@2,64@5."
            raise ConfigError(msg)


def merge_settings(text: str) -> MergeSettings:
    """What ``--merge`` asks for: ``0.35``, ``35%`` or ``64@2,64@5``.

    Raises ConfigError; what fits no model is found when it is read.
    """
    share = share_of(text)
    if share is None:
        return MergeSettings(merges=tuple(sorted(_by_hand(text).items())))
    _require_share(share)
    return MergeSettings(share=share)


def merges_of(settings: MergeSettings, config: VitConfig) -> dict[int, int]:
    """What ``settings`` ask of a model. Raises ConfigError for what it cannot merge."""
    if settings.share is not None:
        return merges_for_share(config, settings.share)
    merges = dict(settings.merges)
    merged_config(config, merges)
    return merges


PLACES = (1 / 3, 1 / 2, 2 / 3)
"""Of a network's depth, where a share is merged: behind attention of blocks 4, 6 and 8 of 12. On DINOv2-S a third of the MACs
merged there keeps 5 dB more of the logits than at two places before the middle (docs/tokens.md): patches of early blocks are not
alike yet."""
LATE = (5 / 12, 7 / 12, 3 / 4)
"""The same, later: less is saved by as many tokens, at less harm."""
STEP = 8
"""Tokens that stay are a multiple of it: OpenVINO leaves attention of a prime number of tokens unfused where threads outnumber
heads, and INT8 tiles are filled. Of fewer than 64 tokens an even number stays."""
_MERGE = re.compile(r"(\d{1,6})@(\d{1,4})")


def merged_config(config: VitConfig, merges: Merges) -> VitConfig:
    """``config`` with those merges, and no others. Raises ConfigError for a block that cannot merge as many."""
    if unknown := sorted(set(merges) - set(range(len(config.blocks)))):
        msg = f"--merge: there is no block {unknown[0]}; blocks are 0 to {len(config.blocks) - 1}, and the last merges nothing."
        raise ConfigError(msg)
    try:
        return replace(
            config, blocks=tuple(replace(block, merged=merges.get(i, 0)) for i, block in enumerate(config.blocks))
        )  # fmt: skip
    except ValueError as error:
        msg = f"--merge {merges_text(merges)}: {error}."
        raise ConfigError(msg) from error


def _by_hand(text: str) -> dict[int, int]:
    found: dict[int, int] = {}
    for part in text.split(","):
        match = _MERGE.fullmatch(part.strip())
        if match is None or not int(match[1]):
            msg = f"--merge {text}: expected tokens at blocks, as in 64@2,64@5, or a share of the MACs, as in 0.35 or 35%."
            raise ConfigError(msg)
        count, block = int(match[1]), int(match[2])
        if block in found:
            msg = f"--merge {text}: block {block} is named twice."
            raise ConfigError(msg)
        found[block] = count
    return found


def merges_in(config: VitConfig) -> dict[int, int]:
    """Those of a model."""
    return {index: block.merged for index, block in enumerate(config.blocks) if block.merged}


def merges_text(merges: Merges) -> str:
    """``64@2,64@5``, which `merge_settings` reads."""
    return ",".join(f"{count}@{block}" for block, count in sorted(merges.items()))


def merges_for_share(config: VitConfig, share: float, depths: tuple[float, ...] = PLACES) -> dict[int, int]:
    """The fewest merged tokens, in equal parts at ``depths`` (0..1), with which ``share`` of the MACs goes, as pruning counts it.

    Merges that ``config`` has are replaced. Raises ConfigError for a share that is none, and for one that is too much.
    """
    _require_share(share)
    bare = merged_config(config, {})
    limit, most, places = (1 - share) * macs(bare), 0.0, _places(bare, depths)
    for count in range(1, (bare.tokens - bare.prefix_tokens) // 2 + 1):
        merges = _rounded(bare, places, count)
        left = macs(merged_config(bare, merges))
        if left <= limit:
            return merges
        most = max(most, 1 - left / macs(bare))
    msg = (
        f"--merge {share:g}: merging in {len(places)} places removes {most:.2f} of this model's MACs at most. "
        "Ask for less, or say where, as in 64@4,64@5."
    )
    raise ConfigError(msg)


def _require_share(share: float) -> None:
    if not 0 < share <= GREATEST:
        msg = (
            f"--merge {share:g}: the share of the MACs to remove lies above 0 and at most at {GREATEST:g}; 0.35 is moderate. "
            f"Tokens are given with their block, as in 64@4.{meant_by(f'{share:g}')}"
        )
        raise ConfigError(msg)


def _places(config: VitConfig, depths: tuple[float, ...]) -> list[int]:
    """The blocks nearest to ``depths``, the last block left out; fewer in a model that has not so many."""
    able = range(len(config.blocks) - 1)
    wanted = [place * len(config.blocks) for place in depths]
    return sorted({min(able, key=lambda index: abs(index - place)) for place in wanted}) if able else []


def _rounded(config: VitConfig, places: list[int], count: int) -> dict[int, int]:
    """About ``count`` merged at each of ``places``, so that what stays is rounded down to `STEP`, as far as half of it can go."""
    merges, tokens = dict[int, int](), config.tokens
    for place in places:
        most = (tokens - config.prefix_tokens) // 2
        wanted = tokens - min(count, most)
        step = STEP if wanted >= STEP * STEP else 2
        down = wanted // step * step
        left = down if tokens - down <= most else -(-wanted // step) * step
        if left >= tokens:
            continue
        merges[place], tokens = tokens - left, left
    return merges
