"""Layers find their part of the ViT by name, by kind, or by their neighbours, as the engines call them."""

from __future__ import annotations

import pytest

from edgevit.engine.profiling import LayerTime
from edgevit.measure.parts import PARTS, by_part, part_times


def layers(*names: str) -> list[LayerTime]:
    """Layers ``name`` or ``name:kind`` of 1 ms."""
    return [LayerTime(name=name.partition(":")[0], kind=name.partition(":")[2], milliseconds=1.0) for name in names]


def found(*names: str) -> dict[tuple[int | None, str], float]:
    return {(item.block, item.part): item.milliseconds for item in part_times(layers(*names))}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("embed/MatMul", (None, "embed")),
        ("blocks.11/norm1/LayerNormalization", (11, "norm")),
        ("blocks.3/qkv/MatMul/DequantizationMultiply", (3, "qkv")),
        ("blocks.3/attention/merge/Transpose", (3, "attention")),
        ("blocks.0/act/Gelu", (0, "activation")),
        ("blocks.0/fc1/MatMul", (0, "fc1")),
        ("blocks.0/residual2/Add", (0, "residual")),
        ("head/norm/LayerNormalization", (None, "head")),
        ("logits", (None, "head")),
    ],
)
def test_by_name(name: str, place: tuple[int | None, str]) -> None:
    assert found(name) == {place: 1.0}


def test_made_up_names_belong_to_the_part_before() -> None:
    assert found("blocks.2/attention/q/QuantizeLinear", "Squeeze_token_3:Squeeze", "blocks.2/proj/MatMul") == {
        (2, "attention"): 2.0,
        (2, "proj"): 1.0,
    }


def test_a_fused_activation_is_told_by_its_kind() -> None:
    assert found("blocks.2/fc1/MatMul", "BiasGelu_token_511:BiasGelu")[2, "activation"] == 1.0


def test_a_norm_belongs_to_the_block_that_follows() -> None:
    assert found("embed/Add", "MVN_7:MVN", "blocks.0/qkv/MatMul")[0, "norm"] == 1.0


def test_nothing_is_lost() -> None:
    assert sum(found("odd", "odder:MVN", "oddest").values()) == 3.0
    assert found("odd") == {(None, "other"): 1.0}


def test_in_network_order() -> None:
    times = part_times(layers("head/Add", "blocks.10/fc2/MatMul", "blocks.2/fc2/MatMul", "blocks.2/qkv/MatMul", "embed/Add"))
    assert [(item.block, item.part) for item in times] == [(None, "embed"), (2, "qkv"), (2, "fc2"), (10, "fc2"), (None, "head")]


def test_sums_over_blocks() -> None:
    times = part_times(layers("blocks.0/fc2/MatMul", "blocks.1/fc2/MatMul", "embed/Add"))
    assert by_part(times) == {"embed": 1.0, "fc2": 2.0}
    assert list(by_part(times)) == [part for part in PARTS if part in ("embed", "fc2")]
