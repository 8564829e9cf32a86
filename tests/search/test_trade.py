"""What a search takes: of tokens and widths together, the least harm; by hand or not at all, where that is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgevit.errors import ConfigError
from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.macs import macs
from edgevit.pruning.allocation import allocate
from edgevit.pruning.costs import macs_only
from edgevit.search.schedules import Schedule
from edgevit.search.search import trade_for
from edgevit.search.settings import SearchSettings
from edgevit.search.trade import Trade
from edgevit.tokens.merge import merging
from edgevit.tokens.settings import MergeSettings, merged_config
from edgevit.workbench import Workbench


@pytest.fixture(scope="module")
def trade(checkpoint: Checkpoint, images: ImageSet) -> Trade:
    return a_trade(checkpoint, images)


def a_trade(checkpoint: Checkpoint, images: ImageSet, **asked: Any) -> Trade:
    settings = SearchSettings(speedup=1.2, multiple=4, **asked)
    return trade_for(checkpoint, images, settings, "fp32", Workbench(), macs_only(checkpoint.model.config))


@pytest.mark.parametrize("speedup", [1.1, 1.3, 1.6])
def test_of_all_schedules_the_least_harmful_is_taken(trade: Trade, speedup: float) -> None:
    """Against every schedule of every family with its own cuts, none left out."""
    shape, scored = trade.least_harm(speedup), trade.scored
    found = []
    for family in trade.schedules:
        for schedule in family:
            config = merged_config(scored.config, schedule.merges)
            offered, limit = scored.choices(config), scored.seconds(scored.config) / speedup
            fixed = scored.seconds(config) - sum(choices[0].seconds for choices in offered)
            chosen = allocate(
                offered, lambda taken, fixed=fixed, limit=limit: fixed + sum(item.seconds for item in taken) <= limit
            )
            if chosen is not None:
                harms = (choices[number].harm for choices, number in zip(offered, chosen, strict=True))
                found.append(schedule.harm + sum(harms))
    assert len(found) > 3
    assert shape.harm == pytest.approx(min(found))
    assert scored.costs.total(shape.config) * speedup <= 1.02 * scored.costs.total(scored.config)


def test_merges_that_cost_nothing_are_taken_and_those_that_ruin_are_not(trade: Trade) -> None:
    def at(each: float) -> Trade:
        told = [
            [replace(schedule, harm=each * sum(schedule.merges.values())) for schedule in family] for family in trade.schedules
        ]
        return replace(trade, schedules=tuple(map(tuple, told)))

    cheap = at(1e-12).least_harm(1.1)
    assert cheap.merges
    assert all(cut is offered[0].cut for cut, offered in zip(cheap.cuts, trade.scored.candidates, strict=True))
    assert not at(1e3).least_harm(1.1).merges


def test_tokens_are_left_alone_or_merged_by_hand(checkpoint: Checkpoint, images: ImageSet) -> None:
    alone = Schedule(merges={}, harm=0.0)
    assert a_trade(checkpoint, images, tokens=False).schedules == ((alone,),)
    by_hand = a_trade(checkpoint, images, merge=MergeSettings(merges=((0, 4),)))
    assert [[schedule.merges for schedule in family] for family in by_hand.schedules] == [[{0: 4}]]
    assert by_hand.least_harm(1.3).merges == {0: 4}
    merged = checkpoint.with_model(merging(checkpoint.model, {0: 4}))
    assert a_trade(merged, images).least_harm(1.2).merges == {0: 4}
    assert a_trade(merged, images).schedules == ((Schedule(merges={0: 4}, harm=0.0),),)


def test_more_than_there_is(trade: Trade) -> None:
    with pytest.raises(ConfigError, match="a speed-up of 1000 is more than there is to gain"):
        trade.least_harm(1000)


def test_a_shape_has_the_arithmetic_that_it_says(trade: Trade) -> None:
    shape = trade.least_harm(1.4)
    assert macs(shape.config) <= macs(trade.scored.config) / 1.4 * 1.02
    assert [block.merged for block in shape.config.blocks] == [shape.merges.get(i, 0) for i in range(len(shape.config.blocks))]
    assert replace(shape.config, blocks=trade.scored.config.blocks) == trade.scored.config
