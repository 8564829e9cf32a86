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
from edgevit.search.schedules import Schedules
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
    return trade_for(checkpoint, images, settings, Workbench(), macs_only(checkpoint.model.config))


@pytest.mark.parametrize("speedup", [1.1, 1.3, 1.6])
def test_of_all_schedules_the_least_harmful_is_taken(trade: Trade, speedup: float) -> None:
    """Against every schedule of every family with its own cuts, none left out."""
    shape, scored = trade.least_harm(speedup), trade.scored
    found = []
    for family in trade.families:
        for merges in family:
            config = merged_config(scored.config, merges)
            offered, limit = scored.choices(config), scored.seconds(scored.config) / speedup
            fixed = scored.seconds(config) - sum(choices[0].seconds for choices in offered)
            chosen = allocate(
                offered, lambda taken, fixed=fixed, limit=limit: fixed + sum(item.seconds for item in taken) <= limit
            )
            if chosen is not None:
                harms = (choices[number].harm for choices, number in zip(offered, chosen, strict=True))
                found.append(trade.schedules.harm(merges) + sum(harms))
    assert len(found) > 3
    assert shape.harm == pytest.approx(min(found))
    assert scored.costs.total(shape.config) * speedup <= 1.02 * scored.costs.total(scored.config)


def test_merges_that_cost_nothing_are_taken_and_those_that_ruin_are_not(trade: Trade, monkeypatch: pytest.MonkeyPatch) -> None:
    def harm(each: float) -> Any:
        return lambda _self, merges: each * sum(merges.values())

    monkeypatch.setattr(Schedules, "harm", harm(1e-12))
    assert trade.least_harm(1.1).merges
    assert all(cut.left == "part" and candidates[0].cut is cut for cut, candidates in
               zip(trade.least_harm(1.1).cuts, trade.scored.candidates, strict=True))  # fmt: skip
    monkeypatch.setattr(Schedules, "harm", harm(1e3))
    assert not trade.least_harm(1.1).merges


def test_tokens_are_left_alone_or_merged_by_hand(checkpoint: Checkpoint, images: ImageSet) -> None:
    assert a_trade(checkpoint, images, tokens=False).families == [[{}]]
    by_hand = a_trade(checkpoint, images, merge=MergeSettings(merges=((0, 4),)))
    assert by_hand.families == [[{0: 4}]]
    assert by_hand.least_harm(1.3).merges == {0: 4}
    merged = checkpoint.with_model(merging(checkpoint.model, {0: 4}))
    assert a_trade(merged, images).least_harm(1.2).merges == {0: 4}
    assert a_trade(merged, images).schedules.harm({0: 4}) == 0


def test_more_than_there_is(trade: Trade) -> None:
    with pytest.raises(ConfigError, match="a speed-up of 1000 is more than there is to gain"):
        trade.least_harm(1000)


def test_a_shape_has_the_arithmetic_that_it_says(trade: Trade) -> None:
    shape = trade.least_harm(1.4)
    assert macs(shape.config) <= macs(trade.scored.config) / 1.4 * 1.02
    assert [block.merged for block in shape.config.blocks] == [shape.merges.get(i, 0) for i in range(len(shape.config.blocks))]
    assert replace(shape.config, blocks=trade.scored.config.blocks) == trade.scored.config
