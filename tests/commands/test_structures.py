"""Models that are no plain ViT, from a trained checkpoint to a bundle that classifies: rotary, gated, normed inside, pooled by
attention.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevit.model import load_checkpoint
from edgevit.model.macs import macs
from edgevit.vitconfig import Rotary
from tests.support import Outcome, trained

STRUCTURES: dict[str, dict[str, Any]] = {
    "rotary": {"rotary": Rotary(coordinates="centred"), "position_embedding": False, "registers": 2, "layer_scale": True},
    "sub-LN": {"rotary": Rotary(reference=(4, 4)), "gated": True, "activation": "silu", "mlp_norm": True, "attention_norm": True,
               "pooling": ("mean",), "final_norm": "after_pooling"},
    "attention pooling": {"class_token": False, "pooling": ("attention",), "pool_heads": 2, "pool_hidden": 64, "query_norm": True,
                          "score_bias": True},
}  # fmt: skip


@pytest.fixture(scope="module", params=STRUCTURES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("structure") / "model.safetensors", **STRUCTURES[request.param])


@pytest.mark.parametrize("target", ["cpu", "jetson"])
def test_int8_answers_as_the_model_does(
    edgevit: Callable[..., Outcome], model: Path, image_folder: Path, tmp_path: Path, target: str
) -> None:
    """On the engine of a CPU, and on the one that stands in for a Jetson's."""
    done = edgevit("build", model, "--data", image_folder, "-o", tmp_path / "o.edgevit", "--target", target, "--json")
    assert done.code == 0, done.stderr
    rows = json.loads(done.stdout)["comparison"]["rows"]
    assert [row["precision"] for row in rows][:2] == ["fp32", "int8"]
    assert rows[1]["accuracy"]["top1"] > 0.9
    assert rows[1]["accuracy"]["sqnr_db"] > 20
    assert "structure " in edgevit("inspect", tmp_path / "o.edgevit").stdout


def test_fewer_heads_and_neurons(edgevit: Callable[..., Outcome], model: Path, image_folder: Path, tmp_path: Path) -> None:
    """The pruned checkpoint is read again, and is what was measured."""
    out = tmp_path / "small.safetensors"
    done = edgevit("prune", model, "--data", image_folder, "--share", 0.2, "--multiple", 8, "-o", out, "--json")
    assert done.code == 0, done.stderr
    rows = json.loads(done.stdout)["comparison"]["rows"]
    assert rows[1]["accuracy"]["top1"] > 0.8
    before, after = (load_checkpoint(path).model.config for path in (model, out))
    assert macs(after) <= 0.8 * macs(before)


def test_rotary_models_merge_tokens(edgevit: Callable[..., Outcome], image_folder: Path, tmp_path: Path) -> None:
    model = trained(tmp_path / "model.safetensors", **STRUCTURES["rotary"])
    done = edgevit("build", model, "--data", image_folder, "-o", tmp_path / "o.edgevit", "--merge", "4@0", "--json")
    assert done.code == 0, done.stderr
    rows = json.loads(done.stdout)["comparison"]["rows"]
    assert rows[-1]["accuracy"]["top1"] > 0.9
    assert "4 behind attention of block 0" in edgevit("inspect", tmp_path / "o.edgevit").stdout


def test_relative_positions_merge_none(edgevit: Callable[..., Outcome], image_folder: Path, tmp_path: Path) -> None:
    model = trained(tmp_path / "model.safetensors", **STRUCTURES["attention pooling"])
    done = edgevit("build", model, "--data", image_folder, "-o", tmp_path / "o.edgevit", "--merge", "4@0")
    assert done.code == 2
    assert "has no relative position" in done.stderr
    faster = edgevit("prune", model, "--data", image_folder, "--speedup", 1.05, "--multiple", 8, "-o", tmp_path / "s.safetensors")
    assert faster.code == 0, faster.stderr
