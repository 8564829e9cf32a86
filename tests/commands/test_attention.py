"""A glance: one map over what of a frame reaches the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgevit.attention_maps.maps import Attention
from edgevit.attention_maps.picture import overlay
from edgevit.attention_maps.probe import Glance, Probe
from edgevit.bundle import MODEL, open_bundle
from edgevit.commands.attention import last_of_all
from edgevit.commands.attention_result import View
from edgevit.errors import ConfigError
from edgevit.preprocess import prepare
from edgevit.runtime.classify import Prediction


@pytest.fixture(scope="module")
def probe(bundle_path: Path) -> Probe:
    bundle = open_bundle(bundle_path)
    return Probe(bundle.read(MODEL), bundle.manifest.model, threads=1)


def glance(bundle_path: Path, part: str) -> Glance:
    bundle = open_bundle(bundle_path)
    return Glance(bundle.read(MODEL), bundle.manifest.model, bundle.manifest.preprocessing, part)


@pytest.mark.parametrize("part", ["rollout", "last", "0"])
def test_glance_is_the_map_over_the_models_input(bundle_path: Path, probe: Probe, part: str) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)
    seen = prepare(frame, open_bundle(bundle_path).manifest.preprocessing)
    _, attention = probe.look(seen)
    heat = {"rollout": attention.rollout(), "last": attention.maps(probe.blocks[-1]).mean(0), "0": attention.maps(0).mean(0)}[
        part
    ]
    picture = glance(bundle_path, part)(frame)
    assert max(picture.shape[:2]) == 448
    step = 448 // seen.shape[1]
    small = overlay(seen.repeat(step, 0).repeat(step, 1), heat, float(np.percentile(heat, 99)))
    assert picture.shape == small.shape
    # Enlarged smoothly in one, in blocks in the other.
    assert np.abs(picture.astype(int) - small).mean() < 25
    assert np.corrcoef(picture.ravel(), small.ravel())[0, 1] > 0.8


def test_glance_has_a_title(bundle_path: Path, probe: Probe) -> None:
    assert glance(bundle_path, "rollout").title == "rollout"
    assert glance(bundle_path, "last").title == f"block {probe.blocks[-1]}, mean of heads"


@pytest.mark.parametrize("part", ["first", "99", "-1", "", "1.5"])
def test_unknown_maps_are_refused(bundle_path: Path, part: str) -> None:
    with pytest.raises(ConfigError, match=r"no such map\. Known: rollout, last, and the blocks 0, 1"):
        glance(bundle_path, part)


def test_the_picture_has_the_last_block_in_which_all_look() -> None:
    """Pruning may leave a block without attention, where FP32 has one."""
    weights, label = np.full((1, 4, 4), 0.25, np.float32), Prediction(label="a", index=0, confidence=1.0)

    def view(*blocks: int) -> View:
        attention = Attention(weights=dict.fromkeys(blocks, weights), grid=(2, 2), class_token=False)
        return View(precision="int8", prediction=label, attention=attention)

    assert last_of_all((0, 1, 2), [view(0, 1, 2), view(0, 1)]) == (1,)
    assert last_of_all((0, 1, 2), [view(0, 1, 2), view(0, 1, 2)]) == (2,)
    assert last_of_all((0, 1, 2), [view(1, 2), view(0)]) == (2,)
