"""Bias correction: a planted error goes, what holds on one half of the images only stays away."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from edgevit.model.folded import FoldedVit, forward
from edgevit.model.quantplan import QuantPlan, simulate
from edgevit.part import Part
from edgevit.quantize.bias_correction import _held_out_shift, correct_biases
from edgevit.recipe import QuantizeSettings, Recipe
from tests.quantize.float_means import float_means
from tests.zoo import folded, frames, int8

PLAIN = Recipe(quantize=QuantizeSettings(bias="layer", attention="off"))


@pytest.fixture(scope="module")
def model() -> FoldedVit:
    return folded()


@pytest.fixture(scope="module")
def plan(model: FoldedVit) -> QuantPlan:
    return int8(model, PLAIN)


@pytest.fixture(scope="module")
def images(model: FoldedVit) -> Tensor:
    return torch.from_numpy(frames(model.config, 32, seed=5))


def corrected_on(plan: QuantPlan, images: Tensor) -> tuple[QuantPlan, set[Part]]:
    """By what the float model gives for the same images."""
    return correct_biases(plan, images, float_means(plan.model, images))


def planted(plan: QuantPlan, part: Part, shift: Tensor | float) -> QuantPlan:
    return replace(plan, linears=plan.linears | {part: replace(plan.linears[part], bias=plan.linears[part].bias + shift)})


@pytest.mark.parametrize("part", [Part(0, "qkv"), Part(0, "fc1"), Part(1, "proj"), Part(1, "fc2")], ids=str)
def test_a_planted_error_is_removed(model: FoldedVit, plan: QuantPlan, images: Tensor, part: Part) -> None:
    wrong = planted(plan, part, 0.5 * torch.randn(len(plan.linears[part].bias), generator=torch.Generator().manual_seed(0)))
    right, corrected = corrected_on(wrong, images)
    assert part in corrected
    wanted = forward(model, images)
    before, after, clean = (float((simulate(each, images) - wanted).square().sum()) for each in (wrong, right, plan))
    # Queries' and keys' biases change little; where the planted error shows, what is left is that of the plan without it.
    assert after < 1.5 * clean + 1e-6
    assert before > after
    error = (right.linears[part].bias - plan.linears[part].bias).abs().mean()
    assert error < 0.1 * (wrong.linears[part].bias - plan.linears[part].bias).abs().mean()


def test_only_biases_of_the_named_gemms_change(plan: QuantPlan, images: Tensor) -> None:
    wrong = planted(plan, Part(0, "fc1"), 0.3)
    before = {name: linear.bias.clone() for name, linear in wrong.linears.items()}
    right, corrected = corrected_on(wrong, images)
    assert corrected <= set(plan.linears)
    for name, linear in right.linears.items():
        assert torch.equal(linear.bias, before[name]) != (name in corrected), name
        assert torch.equal(linear.weight, wrong.linears[name].weight)
        assert linear.input_scale == wrong.linears[name].input_scale
    assert all(torch.equal(linear.bias, before[name]) for name, linear in wrong.linears.items())  # the argument is left alone


def test_a_float_model_has_nothing_to_correct(model: FoldedVit, images: Tensor) -> None:
    assert corrected_on(QuantPlan(model=model), images)[1] == set()


def test_gemms_in_floating_point_are_passed_over(model: FoldedVit, images: Tensor) -> None:
    some = int8(model, Recipe(quantize=QuantizeSettings(linears=("fc1",), bias="layer", attention="off")))
    right, corrected = corrected_on(planted(some, Part(1, "fc1"), 0.4), images)
    assert Part(1, "fc1") in corrected <= {Part(0, "fc1"), Part(1, "fc1")}
    assert set(right.linears) == set(some.linears)


@pytest.mark.parametrize(
    ("errors", "wanted"),
    [
        ([[1.0, 2.0], [1.0, 2.0]], [1.0, 2.0]),
        ([[1.0, 2.0], [0.8, 2.4]], [0.9, 2.2]),
        ([[1.0, 0.0], [-1.0, 0.0]], None),  # opposite
        ([[1.0, 0.0], [0.0, 1.0]], None),  # one half knows nothing of the other
        ([[1.0, 0.0], [0.0, 0.0]], None),  # on one half alone
        ([[0.0, 0.0], [0.0, 0.0]], None),
    ],
)
def test_a_correction_must_hold_on_the_other_half(errors: list[list[float]], wanted: list[float] | None) -> None:
    shift = _held_out_shift(torch.tensor(errors))
    assert (shift is None) if wanted is None else (shift is not None and shift.tolist() == pytest.approx(wanted))


def test_an_error_of_one_half_is_not_corrected(plan: QuantPlan, images: Tensor) -> None:
    """Frames of two kinds, one in each half: what quantization does to them in the mean is not the same, and is left."""
    dark, light = torch.zeros_like(images[:16]), images[:16]
    together, turns = torch.cat([dark, light]), torch.stack([dark, light], 1).flatten(0, 1)
    apart, mixed = corrected_on(plan, together)[1], corrected_on(plan, turns)[1]
    assert len(apart) < len(mixed)
    assert mixed
