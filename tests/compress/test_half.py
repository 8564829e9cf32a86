"""FP16: a stream that outgrows it is divided without changing logits, what cannot be helped is refused, scales keep meaning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgevit.compress.half import LARGEST, SMALLEST, can_divide, divided, fit, peaks, simulate_half, with_half_scales
from edgevit.errors import ConfigError
from edgevit.model.folded import FoldedVit, Linear, forward
from edgevit.model.quantplan import QuantPlan, simulate
from edgevit.recipe import Quantize, Recipe
from tests.zoo import ZOO, folded, frames, int8

DIVISIBLE = [name for name in ZOO if can_divide(folded(**ZOO[name]))]


def grown(model: FoldedVit, factor: float) -> FoldedVit:
    """The same model with a residual stream ``factor`` times as large: proj and fc2 write more, norms do not care."""
    return replace(
        model,
        patch=model.patch * factor,
        positions=model.positions * factor,
        blocks=[replace(block, proj=Linear(block.proj.weight * factor, block.proj.bias * factor),
                        fc2=Linear(block.fc2.weight * factor, block.fc2.bias * factor)) for block in model.blocks],
    )  # fmt: skip


def sqnr(wanted: torch.Tensor, found: torch.Tensor) -> float:
    return float(10 * torch.log10(wanted.square().sum() / (found - wanted).square().sum()))


def test_peaks_are_the_largest_magnitudes() -> None:
    model = folded()
    images = frames(model.config, 6)
    seen: dict[str, float] = {}

    def linear(name: str, x: torch.Tensor, weights: Linear) -> torch.Tensor:
        seen[f"{name} input"] = float(x.abs().max())
        seen[name] = float((x @ weights.weight.T + weights.bias).abs().max())
        return x @ weights.weight.T + weights.bias

    forward(model, torch.from_numpy(images), linear)
    found = peaks(model, [images[:2], images[2:]])
    assert {name: found[name] for name in seen} == pytest.approx(seen, rel=1e-5)
    assert {"stream", "blocks.0.attention", "blocks.1.attention"} <= set(found)
    assert found["stream"] > 0


@pytest.mark.parametrize("name", DIVISIBLE)
def test_a_divided_stream_changes_no_logit(name: str) -> None:
    model = folded(**ZOO[name])
    images = torch.from_numpy(frames(model.config, 4))
    assert torch.equal(forward(divided(model, 0), images), forward(model, images))
    assert (forward(divided(model, 7), images) - forward(model, images)).abs().max() < 1e-4


def test_what_reads_the_stream_without_a_norm_cannot_be_divided() -> None:
    assert set(ZOO) - set(DIVISIBLE) == {"no final norm", "no norm in blocks"}


def test_a_stream_beyond_fp16_is_divided_and_then_holds() -> None:
    model = grown(folded(), 3e5)
    images = frames(model.config, 8)
    tensor = torch.from_numpy(images)
    wanted = forward(model, tensor)
    assert not torch.isfinite(simulate_half(QuantPlan(model=model), tensor)).all()
    fitted = fit(model, peaks(model, [images]))
    assert fitted.shift > 0
    assert f"divided by {2**fitted.shift}" in fitted.notes[0]
    assert peaks(fitted.model, [images])["stream"] <= LARGEST / 2
    assert sqnr(wanted, simulate_half(QuantPlan(model=fitted.model), tensor)) > 40


def test_a_model_that_fits_is_left_alone() -> None:
    model = folded()
    fitted = fit(model, peaks(model, [frames(model.config, 4)]))
    assert (fitted.model, fitted.shift, fitted.notes) == (model, 0, ())


@pytest.mark.parametrize(
    ("name", "found", "place"),
    [
        ("plain", {"stream": 1.0, "blocks.1.fc1": 1e5}, r"blocks\.1\.fc1 reaches 100,000"),
        ("plain", {"blocks.0.attention": 5e4}, r"blocks\.0\.attention reaches 50,000"),
        ("plain", {"stream": float("inf")}, "stream reaches inf"),
        ("plain", {"stream": float("nan")}, "stream reaches nan"),
        ("no norm in blocks", {"stream": 1e5}, "stream reaches 100,000"),
    ],
)
def test_what_nothing_helps_against_is_refused_with_place_and_figure(name: str, found: dict[str, float], place: str) -> None:
    with pytest.raises(ConfigError, match=f"FP16 cannot hold this model: {place}.*--precision fp32"):
        fit(folded(**ZOO[name]), found)


@pytest.mark.parametrize("name", ["plain", "layer scale", "pruned blocks"])
def test_half_scales_are_fp16_values_and_cost_next_to_nothing(name: str) -> None:
    plan = int8(folded(**ZOO[name]), Recipe(quantize=Quantize(attention="full")))
    half = with_half_scales(plan)
    for linear in half.linears.values():
        assert torch.equal(linear.weight_scale.half().float(), linear.weight_scale)
        assert float(np.float16(linear.input_scale)) == linear.input_scale
    for steps in half.attention.values():
        for step in (steps.query_step, steps.key_step, steps.value_step, steps.probability_step):
            assert float(np.float16(step)) == step
    images = torch.from_numpy(frames(plan.model.config, 16, seed=7))
    assert sqnr(simulate(plan, images), simulate(half, images)) > 25


def test_scales_below_fp16_range_get_codes_of_their_own() -> None:
    """A channel whose scale has three digits left in FP16 keeps its weights to half a step of the new scale."""
    plan = int8(folded())
    name = "blocks.0.proj"
    old = plan.linears[name]
    tiny = replace(old, weight_scale=old.weight_scale * 0 + torch.logspace(-9, -5, len(old.weight_scale)))
    half = with_half_scales(replace(plan, linears=plan.linears | {name: tiny})).linears[name]
    wanted, found = tiny.weight * tiny.weight_scale[:, None], half.weight * half.weight_scale[:, None]
    assert (half.weight_scale >= SMALLEST).all()
    inside = wanted.abs() <= 127 * half.weight_scale[:, None]
    assert ((wanted - found).abs() <= 0.5001 * half.weight_scale[:, None])[inside].all()
    naive = tiny.weight * half.weight_scale[:, None]
    assert (wanted - found).square().sum() < (wanted - naive).square().sum() / 4
