"""Costs from times: what fewer tokens save and what merging takes is told apart."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from edgevit.model.macs import macs, merging_macs
from edgevit.pruning import layer_times
from edgevit.pruning.costs import costs_from, macs_only, timed_shapes
from edgevit.target import load_target
from edgevit.tokens.settings import merged_config
from edgevit.vitconfig import BlockConfig, VitConfig
from edgevit.workbench import Workbench

CONFIG = VitConfig(image_size=(224, 224), patch_size=16, width=192, head_dim=64, classes=10,
                   blocks=(BlockConfig(heads=3, hidden=768),) * 12)  # fmt: skip
MERGED = merged_config(CONFIG, {4: 41, 6: 40, 8: 40})


@pytest.mark.parametrize("pooling", [("class",), ("mean",)])
@pytest.mark.parametrize("merged", [False, True])
def test_arithmetic_alone_is_counted_exactly(pooling: tuple[str, ...], merged: bool) -> None:
    config = replace(MERGED if merged else CONFIG, pooling=pooling)
    costs = macs_only(CONFIG)
    assert costs.total(config) == pytest.approx(macs(config), rel=1e-3)
    assert (costs.falling, costs.merging) == (pytest.approx(1.0), pytest.approx(1.0))


@pytest.mark.parametrize(("falling", "merging"), [(0.4, 30.0), (0.9, 2.0), (1.0, 0.0)])
def test_what_a_machine_saves_and_what_merging_takes_there(falling: float, merging: float) -> None:
    """A machine that saves only part of the arithmetic that fewer tokens spare, and takes so long for a merge."""

    def time(shape: VitConfig) -> float:
        alone = merged_config(shape, {})
        spared = macs(alone) - (macs(shape) - merging_macs(shape))
        return 100.0 + macs(alone) - falling * spared + merging * merging_macs(shape)

    costs = costs_from("a machine", CONFIG, time)
    assert costs.falling == pytest.approx(falling, rel=0.01)
    assert costs.merging == pytest.approx(merging, rel=0.05, abs=0.05)
    for shape in timed_shapes(CONFIG):
        assert costs.total(shape) == pytest.approx(time(shape), rel=0.02)


def test_a_model_without_patches_to_merge_is_timed_without_merges() -> None:
    tiny = replace(CONFIG, image_size=(16, 16))
    assert not any(block.merged for shape in timed_shapes(tiny) for block in shape.blocks)
    assert macs_only(tiny).merging == 0


def test_noise_never_makes_fewer_tokens_dearer() -> None:
    """Times that say nothing sensible are read as no gain, not as a loss that pays."""
    costs = costs_from("noise", CONFIG, lambda shape: 1e9 + macs(merged_config(shape, {})))
    assert 0 <= costs.falling <= 1
    assert costs.merging >= 0


def test_a_sequence_that_no_graph_could_merge_is_timed_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """FP16 counts to 2,048: a model of more tokens is pruned for TensorRT all the same."""
    long = replace(CONFIG, image_size=(736, 736), width=16, head_dim=8, blocks=(BlockConfig(heads=2, hidden=32),) * 2)
    assert long.tokens > 2048
    shapes = []

    class Builder:
        def build(self, model: bytes, _options: object) -> bytes:
            shapes.append(model)
            return model

    monkeypatch.setattr(layer_times, "backend", lambda _engine: SimpleNamespace(version="a builder"))
    monkeypatch.setattr(layer_times, "builder", lambda _engine: Builder())
    monkeypatch.setattr(layer_times, "read_plan", lambda built, blocks: SimpleNamespace(plan=built))
    monkeypatch.setattr(layer_times, "best_estimates", lambda plan, _boards: [SimpleNamespace(milliseconds=float(len(plan)))])
    monkeypatch.setattr(layer_times, "random_graph", lambda shape, *_: bytes(any(block.merged for block in shape.blocks)))
    found = layer_times.estimated(long, load_target("jetson-orin-nano-8gb"), "int8", Workbench())
    assert not any(map(any, shapes))
    assert (found.falling, found.merging) == (1.0, 0.0)
    assert "roofline" in found.source
