"""What putting one part back into floating point changes, and the search for how many."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.distributions import Bernoulli, kl_divergence

from edgevit.model.folded import FoldedVit, forward
from edgevit.model.quantplan import QuantizedAttention, QuantPlan, simulate
from edgevit.part import Part
from edgevit.problem import MULTI_LABEL
from edgevit.quantize.accuracy_control import search
from edgevit.quantize.sensitivity import Sensitivity, bernoulli_kl, by_cost, divergence, int8_parts, mac_shares, revert, scan
from tests.zoo import folded, frames, int8


@pytest.fixture(scope="module")
def model() -> FoldedVit:
    return folded()


@pytest.fixture(scope="module")
def plan(model: FoldedVit) -> QuantPlan:
    """Everything INT8, attention of the first block, too."""
    steps = QuantizedAttention(query_step=0.05, key_step=0.05, value_step=0.05, probability_step=1 / 127)
    return replace(int8(model), attention={Part(0, "attention"): steps})


def test_everything_reverted_is_the_float_model(model: FoldedVit, plan: QuantPlan) -> None:
    images = torch.from_numpy(frames(model.config, 3))
    torch.testing.assert_close(simulate(revert(plan, int8_parts(plan)), images), forward(model, images), rtol=1e-4, atol=1e-4)


def test_attention_goes_with_its_qkv_and_its_proj(plan: QuantPlan) -> None:
    for part in ("qkv", "proj", "attention"):
        assert not revert(plan, {Part(0, part)}).attention
    for part in (Part(0, "fc1"), Part(1, "qkv")):
        assert revert(plan, {part}).attention == plan.attention
        assert set(plan.linears) - set(revert(plan, {part}).linears) == {part}


def test_scan_finds_the_part_that_was_spoiled(model: FoldedVit, plan: QuantPlan) -> None:
    """A step sixteen times too coarse in one GEMM makes it the most sensitive; its own measurement is exact."""
    worst = Part(1, "fc1")
    spoiled = replace(plan, attention={}, linears=plan.linears | {worst: replace(plan.linears[worst], input_scale=16.0)})
    batch = frames(model.config, 8)
    found = {item.part: item for item in scan(model, spoiled, batch)}
    assert list(found) == int8_parts(spoiled)
    assert max(found.values(), key=lambda item: item.noise).part == worst
    assert by_cost(list(found.values()))[0].part == worst
    images = torch.from_numpy(batch)
    wanted, full, without = forward(model, images), simulate(spoiled, images), simulate(revert(spoiled, {worst}), images)
    assert found[worst].kl == pytest.approx(divergence(wanted, full) - divergence(wanted, without), rel=1e-4)


def test_divergence_of_several_labels_is_the_sum_of_bernoullis(model: FoldedVit, plan: QuantPlan) -> None:
    """Against torch.distributions; a common shift of all logits, which a softmax does not see, counts."""
    generator = torch.Generator().manual_seed(0)
    wanted, logits = 5 * torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    apart = kl_divergence(Bernoulli(logits=wanted), Bernoulli(logits=logits)).sum(1).mean()
    assert divergence(wanted, logits, MULTI_LABEL) == pytest.approx(float(apart), rel=1e-9)
    assert divergence(wanted, wanted + 1, MULTI_LABEL) > 0.01
    assert divergence(wanted, wanted + 1) == pytest.approx(0, abs=1e-9)
    assert bernoulli_kl(torch.full((1, 1), 500.0), torch.full((1, 1), -500.0)).item() == 500  # no overflow
    images = torch.from_numpy(frames(model.config, 8))
    float_logits, full = forward(model, images), simulate(plan, images)
    for part in scan(model, plan, frames(model.config, 8), problem_type=MULTI_LABEL)[:2]:
        without = simulate(revert(plan, {part.part}), images)
        gain = divergence(float_logits, full, MULTI_LABEL) - divergence(float_logits, without, MULTI_LABEL)
        assert part.kl == pytest.approx(gain, rel=1e-3, abs=1e-9)


def test_shares_of_the_arithmetic_add_up(plan: QuantPlan) -> None:
    shares = mac_shares(plan)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[Part(0, "fc1")] > shares[Part(1, "fc1")]  # the last block carries the class token alone


def test_parts_that_remove_no_noise_are_never_put_back() -> None:
    parts = [Sensitivity(part=Part(i, "fc1"), kl=0, noise=noise, macs=0.1) for i, noise in enumerate((0.1, -0.2, 0.4, 0.0))]
    assert [item.part.block for item in by_cost(parts)] == [2, 0]


# --- search ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("needed", range(11))
def test_search_finds_the_shortest_prefix(needed: int) -> None:
    tried: list[int] = []

    def drop_without(parts: tuple[Part, ...]) -> float:
        tried.append(len(parts))
        return 0.1 if len(parts) >= needed else 2.0

    found = search([Part(i, "fc1") for i in range(10)], drop_without, 0.5)
    assert found.met
    assert found.parts == tuple(Part(i, "fc1") for i in range(needed))
    assert found.drop == 0.1
    assert len(tried) == len(set(tried)) <= 6
    assert [item.parts for item in found.tries] == tried


def test_a_budget_that_cannot_be_met_gives_the_best_that_was_found() -> None:
    found = search([Part(i, "fc1") for i in range(3)], lambda parts: 3.0 - 0.5 * len(parts), 0.5)
    assert not found.met
    assert (found.parts, found.drop) == (tuple(Part(i, "fc1") for i in range(3)), 1.5)


def test_nothing_to_put_back() -> None:
    assert search([], lambda _parts: 0.0, 0.0).met
    assert not search([], lambda _parts: 1.0, 0.5).met
