"""Calibration block by block against that in one pass: the same, to the bit."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from edgevit.model.planfile import dump_plan
from edgevit.quantize.linears import collect, quantize
from edgevit.quantize.statistics import Extremes, InputStatistics
from edgevit.quantize.streaming import Streamed
from edgevit.recipe import Calibrate, Recipe
from tests.zoo import ZOO, folded, frames

RECIPE = Recipe(calibrate=Calibrate(tokens=64))


def assert_same(one: InputStatistics, other: InputStatistics) -> None:
    for field in fields(InputStatistics):
        pair = getattr(one, field.name), getattr(other, field.name)
        if isinstance(pair[0], Extremes):
            pair = torch.cat([pair[0].values, pair[0].images], 1), torch.cat([pair[1].values, pair[1].images], 1)
        if field.name in ("sample", "owners", "weights"):  # what is not used is of no meaning
            pair = pair[0][: one.used], pair[1][: other.used]
        if field.name == "output_means":
            pair = torch.stack(pair[0]), torch.stack(pair[1])
        assert torch.equal(*pair) if isinstance(pair[0], torch.Tensor) else pair[0] == pair[1], field.name


@pytest.mark.parametrize("name", ZOO)
def test_statistics_are_those_of_one_pass(name: str) -> None:
    model = folded(**ZOO[name])
    batches = np.array_split(frames(model.config, 11), 4)
    whole, told = collect(model, batches, images=11, recipe=RECIPE), list[int]()
    with Streamed(model, batches, images=11, recipe=RECIPE, advance=told.append) as streamed:
        assert torch.equal(streamed.frames.frames, whole.frames.frames)
        assert streamed.frames.numbers == whole.frames.numbers
        for index in range(len(model.blocks)):
            found = streamed.of_block(index)
            assert found.keys() == whole.of_block(index).keys()
            for part, known in found.items():
                assert_same(known, whole.statistics[part])
    assert sum(told) == 11 * len(model.blocks)


@pytest.mark.parametrize("name", ["plain", "merging", "layer scale"])
def test_plans_are_the_same_bytes(name: str) -> None:
    model = folded(**ZOO[name])
    batches = np.array_split(frames(model.config, 16), 2)
    whole = quantize(model, collect(model, batches, images=16, recipe=Recipe()), Recipe()).plan
    with Streamed(model, batches, images=16, recipe=Recipe()) as streamed:
        assert dump_plan(quantize(model, streamed, Recipe()).plan) == dump_plan(whole)


def test_blocks_are_run_in_order() -> None:
    model = folded()
    with (
        Streamed(model, [frames(model.config, 4)], images=4, recipe=RECIPE) as streamed,
        pytest.raises(ValueError, match="0 is next"),
    ):
        streamed.of_block(1)
