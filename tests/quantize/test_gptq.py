"""Rounding with the inputs in view moves a GEMM's output less than rounding each weight to the nearest code."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgevit.model.rounding import quantize_weight
from edgevit.numberformat import INT8
from edgevit.quantize import gptq
from edgevit.quantize.gptq import round_gptq


def inputs(channels: int = 48, tokens: int = 400) -> Tensor:
    """Correlated channels, as GEMMs in a network have them: 8 sources, and a little noise."""
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(tokens, 8, generator=generator) @ torch.randn(8, channels, generator=generator)
    return mixed + 0.1 * torch.randn(tokens, channels, generator=generator)


def weights(channels: int = 48) -> Tensor:
    return torch.randn(20, channels, generator=torch.Generator().manual_seed(1))


def test_the_output_moves_less() -> None:
    x, weight = inputs(), weights()
    nearest, scale = quantize_weight(weight, INT8)
    codes = round_gptq(weight, scale, x.T @ x / len(x), INT8)

    def error(quantized: Tensor) -> float:
        return float((x @ (quantized * scale[:, None] - weight).T).square().mean())

    assert error(codes) < 0.5 * error(nearest)


def test_codes_are_int8_near_the_weights() -> None:
    """Within +-127, and moved by a few steps, not more."""
    x, weight = inputs(), weights()
    _, scale = quantize_weight(weight, INT8)
    codes = round_gptq(weight, scale, x.T @ x / len(x), INT8)
    assert codes.dtype == torch.int8
    assert codes.shape == weight.shape
    assert codes.abs().max() <= 127
    assert (codes * scale[:, None] - weight).abs().max() < 8 * scale.max()


def test_independent_inputs_give_the_nearest_codes() -> None:
    """Nothing can make up for an error where no channel says anything about another."""
    weight = weights()
    nearest, scale = quantize_weight(weight, INT8)
    assert torch.equal(round_gptq(weight, scale, torch.diag(torch.rand(48) + 0.5), INT8), nearest)


@pytest.mark.parametrize("blocks", [(1, 1), (7, 3), (48, 48), (1000, 16), (16, 1000)])
def test_the_blocks_change_no_result(blocks: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = inputs(), weights()
    _, scale = quantize_weight(weight, INT8)
    expected = round_gptq(weight, scale, x.T @ x / len(x), INT8)
    monkeypatch.setattr(gptq, "BLOCKS", blocks)
    assert (round_gptq(weight, scale, x.T @ x / len(x), INT8) != expected).float().mean() < 0.01  # float32 sums in another order


def test_dead_inputs() -> None:
    """Channels that are always zero, or all of them: the matrix is singular and the codes are finite."""
    x, weight = inputs(), weights()
    x[:, ::5] = 0
    nearest, scale = quantize_weight(weight, INT8)
    codes = round_gptq(weight, scale, x.T @ x / len(x), INT8)
    assert torch.equal(codes[:, ::5], nearest[:, ::5])
    assert torch.equal(round_gptq(weight, scale, torch.zeros(48, 48), INT8), nearest)


def test_arguments_are_left_alone() -> None:
    x, weight = inputs(), weights()
    moment = x.T @ x / len(x)
    before = weight.clone(), moment.clone()
    round_gptq(weight, quantize_weight(weight, INT8)[1], moment, INT8)
    assert torch.equal(weight, before[0])
    assert torch.equal(moment, before[1])


def test_inputs_that_are_all_alike() -> None:
    """Their moment has rank one, and where it should have zeros float32 may leave what damping does not lift above zero."""
    weight = weights()
    row = torch.randn(48, generator=torch.Generator().manual_seed(2))
    moment = torch.outer(row, row)
    moment -= 0.03 * moment.diagonal().mean() * torch.eye(48)
    nearest, scale = quantize_weight(weight, INT8)
    codes = round_gptq(weight, scale, moment, INT8)
    assert (codes.float() - nearest.float()).abs().max() < 20

    def error(quantized: Tensor) -> float:
        return float((row @ (quantized * scale[:, None] - weight).T).square().mean())

    assert error(codes) < error(nearest)
