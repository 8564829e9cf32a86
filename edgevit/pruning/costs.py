"""What the sublayers of a model cost on a target, so that time is saved and not just arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from edgevit.model.macs import macs, merging_macs, sublayer_macs
from edgevit.part import Sublayer
from edgevit.vitconfig import BlockConfig, VitConfig

DEPTH = 3  # equal blocks of the models that are timed
STEPS = 6  # sizes between nothing and the whole
ROUND = 8  # tokens that are left of those models' are a multiple of it


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Times of one block's sublayers by size, in any unit that is the same everywhere."""

    source: str
    """Where they come from, for people."""
    attention: dict[int, float]
    """By heads; 0 is nothing but a bias."""
    mlp: dict[int, float]
    """By hidden neurons; 0 is nothing but a bias."""
    maps: tuple[float, float]
    """An affine map in the place of attention, and of the MLP."""
    ends: float
    """Patches and head."""
    falling: float = 1.0
    """Of a sublayer's time, 0..1, the share that falls with its arithmetic where tokens are fewer; weights are read still."""
    merging: float = 0.0
    """Of one multiply-accumulate of `edgevit.model.macs.merging_macs`."""

    def sublayer(self, config: VitConfig, index: int, kind: str, block: BlockConfig) -> float:
        """Of ``attention`` or ``mlp`` of block ``index``, had it the widths of ``block``; between known sizes interpolated.

        The last block carries fewer tokens on, as do those behind a merge: `falling` says what that saves.
        """
        units, is_map, table, place = (
            (block.heads, block.attention_map, self.attention, 0) if kind == "attention" else
            (block.hidden, block.mlp_map, self.mlp, 1)
        )  # fmt: skip
        time = self.maps[place] if is_map else float(np.interp(units, sorted(table), [table[size] for size in sorted(table)]))
        full = sublayer_macs(_uniform(config, block), 0, kind, block)
        return time * (1 - self.falling * (1 - sublayer_macs(config, index, kind, block) / full)) if full else time

    def total(self, config: VitConfig) -> float:
        """Of a whole model."""
        sublayers = sum(
            self.sublayer(config, index, kind, block) for index, block in enumerate(config.blocks) for kind in Sublayer.KINDS
        )
        return self.ends + self.merging * merging_macs(config) + sublayers


def macs_only(config: VitConfig) -> Costs:
    """Multiply-accumulates: what there is where nothing can be measured."""
    return costs_from("multiply-accumulates", config, lambda shape: float(macs(shape)))


def timed_shapes(config: VitConfig, *, merging: bool = True) -> list[VitConfig]:
    """The models of `DEPTH` equal blocks whose times `costs_from` asks for; ``merging``: some of them merge tokens."""
    whole = _whole(config)
    blocks = [whole, *(replace(whole, heads=heads) for heads in _heads(config))]
    blocks += [replace(whole, hidden=hidden) for hidden in _hidden(config)]
    blocks += [replace(whole, heads=0, attention_map=True), replace(whole, hidden=0, mlp_map=True)]
    return [*(_uniform(config, block) for block in dict.fromkeys(blocks)), *(_merging(config) if merging else ())]


def costs_from(source: str, config: VitConfig, time: Callable[[VitConfig], float], *, merging: bool = True) -> Costs:
    """From the ``time`` that each of `timed_shapes` takes."""
    whole = _whole(config)
    total = time(_uniform(config, whole))

    def saved(block: BlockConfig) -> float:
        return (total - time(_uniform(config, block))) / DEPTH

    everything = saved(replace(whole, heads=0)), saved(replace(whole, hidden=0))
    attention = {heads: everything[0] - saved(replace(whole, heads=heads)) for heads in _heads(config)}
    mlp = {hidden: everything[1] - saved(replace(whole, hidden=hidden)) for hidden in _hidden(config)}
    maps = (everything[0] - saved(replace(whole, heads=0, attention_map=True)),
            everything[1] - saved(replace(whole, hidden=0, mlp_map=True)))  # fmt: skip
    ends = max(0.0, total - DEPTH * sum(everything))
    costs = Costs(
        source=source, attention=_rising(attention), mlp=_rising(mlp), maps=(max(0.0, maps[0]), max(0.0, maps[1])), ends=ends
    )
    merged = [(shape, time(shape)) for shape in _merging(config)] if merging else []
    return _with_merging(costs, _uniform(config, whole), merged, total)


def _with_merging(costs: Costs, whole: VitConfig, merging: list[tuple[VitConfig, float]], total: float) -> Costs:
    """``costs`` with what fewer tokens save and what merging takes, of models that merge few and many.

    Each takes, more than the ``total`` of the model that merges none, its merge less what its tokens no longer take: two
    equations, of which `Costs.falling` and `Costs.merging` are the solution.
    """
    if not merging:
        return costs
    sublayers = costs.total(whole) - costs.ends
    saved = [sublayers - (costs.total(shape) - costs.ends) for shape, _ in merging]  # if all fell with the arithmetic
    merged = [merging_macs(shape) for shape, _ in merging]
    more = [time - total for _, time in merging]
    both = saved[1] * merged[0] - saved[0] * merged[1]
    falling = (more[0] * merged[1] - more[1] * merged[0]) / both if both > 0 else 1.0
    falling = min(1.0, max(0.0, falling))
    return replace(costs, falling=falling, merging=max(0.0, (more[-1] + falling * saved[-1]) / merged[-1]))


def _rising(times: dict[int, float]) -> dict[int, float]:
    """Times that never fall as sizes grow: what noise there is does not make a wider layer look cheaper."""
    names = sorted(times)
    return dict(zip(names, np.maximum.accumulate([times[name] for name in names]).tolist(), strict=True))


def _whole(config: VitConfig) -> BlockConfig:
    return BlockConfig(heads=max(block.heads for block in config.blocks), hidden=max(block.hidden for block in config.blocks))


def _heads(config: VitConfig) -> tuple[int, ...]:
    whole = _whole(config).heads
    return tuple(sorted({round(whole * step / STEPS) for step in range(STEPS + 1)}))


def _hidden(config: VitConfig) -> tuple[int, ...]:
    whole = _whole(config).hidden
    return tuple(sorted({whole, *(round(whole * step / STEPS / 32) * 32 for step in range(STEPS))}))


def _uniform(config: VitConfig, block: BlockConfig, merged: int = 0) -> VitConfig:
    """`DEPTH` such blocks, which all carry every token on, but for those ``merged`` in the first."""
    blocks = (replace(block, merged=merged), *(replace(block, merged=0),) * (DEPTH - 1))
    return replace(config, blocks=blocks, pooling=("mean",), pool_heads=0, pool_hidden=0, layer_scale=False, classes=1)


def _merging(config: VitConfig) -> list[VitConfig]:
    """The model that merges the fewest tokens that round the rest, and the one that merges about half; none without patches."""
    tokens, most = config.tokens, (config.tokens - config.prefix_tokens) // 2
    few = min(most, tokens - (tokens - 1) // ROUND * ROUND)
    half = max(few, tokens - -(-(tokens - most) // ROUND) * ROUND)
    return [_uniform(config, _whole(config), merged) for merged in (few, half)] if most and config.merges_tokens else []
