"""Transforms are judged on images that their ranges have not seen: leave one out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgevit.model.folded import Linear
from edgevit.model.rewrites.migration import Transform
from edgevit.numberformat import INT8
from edgevit.quantize.ranges import percentile
from edgevit.quantize.smoothing_search import OFF, NoiseMeasure, SmoothingCandidate, best_candidate, clip_value
from edgevit.quantize.statistics import TOP, Collector, Extremes, InputStatistics
from edgevit.recipe import QuantizeSettings

IMAGES, TOKENS, CHANNELS = 12, 10, 8


def inputs(images: int = IMAGES) -> Tensor:
    return torch.randn(images, TOKENS, CHANNELS, generator=torch.Generator().manual_seed(0))


def linear() -> Linear:
    return Linear(torch.randn(6, CHANNELS, generator=torch.Generator().manual_seed(1)), torch.zeros(6))


def observed(x: Tensor) -> InputStatistics:
    """Statistics of x [N, T, C], all tokens sampled."""
    collector = Collector(images=len(x), tokens=len(x) * x.shape[1], seed=0, products=False)
    for image in x:
        collector("a", image[None], linear())
    return collector.statistics["a"]


@pytest.mark.parametrize("images", [2, 3, TOP, TOP + 1, 40])
def test_left_out_extremes_are_those_of_the_other_images(images: int) -> None:
    largest = inputs(images).amax(1)
    extremes = Extremes.none(CHANNELS)
    for start in range(0, images, 3):  # in batches
        extremes.add(largest[start : start + 3], start)
    left = extremes.without(torch.arange(images))
    assert left.shape == (images, CHANNELS, TOP - 1)
    for i in range(images):
        others = torch.cat([largest[:i], largest[i + 1 :]])
        wanted = others.topk(min(TOP - 1, images - 1), dim=0).values.T
        assert torch.equal(left[i, :, : wanted.shape[1]], wanted), i
        assert (left[i, :, wanted.shape[1] :] == -torch.inf).all()


def test_equal_images_leave_one_another() -> None:
    """Two images that reach the same extreme: without either, the other's is left."""
    extremes = Extremes.none(1)
    extremes.add(torch.tensor([[4.0], [4.0], [1.0]]), 0)
    assert extremes.without(torch.tensor([0, 1, 2]))[:, 0, :2].tolist() == [[4, 1], [4, 1], [4, 4]]


def test_a_channel_that_one_image_drives_out_is_given_room() -> None:
    """The full exponent evens it to the ranges of the other images, and the one image is clipped: the judge sees that."""
    calm, driven = inputs(), inputs()
    driven[3, :, 2] *= 30
    tight = SmoothingCandidate(alpha=1.0, tail=0.0, centring=True)
    wide = SmoothingCandidate(alpha=1.0, tail=1.0, centring=True)
    noise = {name: [NoiseMeasure.of(observed(x), linear(), "gptq", INT8).noise(candidate) for candidate in (tight, wide)]
             for name, x in (("calm", calm), ("driven", driven))}  # fmt: skip
    assert noise["driven"][0] > 20 * noise["calm"][0]  # unseen by ranges, so clipped
    # Two images that go far in turn: the room that one left is what the other needs.
    twice = driven.clone()
    twice[7, :, 2] *= 45
    judge = NoiseMeasure.of(observed(twice), linear(), "gptq", INT8)
    assert judge.noise(wide) < judge.noise(tight)
    offered = QuantizeSettings(migration=(1.0,), tails=(0.0, 1.0))
    chosen = best_candidate(observed(twice), linear(), offered, INT8)
    assert chosen == OFF or chosen.tail == 1.0 or chosen.alpha == 0.0


def test_an_outlier_channel_is_evened_and_an_offset_channel_centred() -> None:
    wide, shifted = inputs(), inputs()
    wide[..., 2] *= 40
    shifted[..., 5] += 60
    settings, small = QuantizeSettings(tails=(0.25,)), linear()
    small.weight[:, 2] /= 40  # as behind trained LayerNorms: what is wide is read with small weights
    assert best_candidate(observed(wide), small, settings, INT8).alpha > 0
    assert best_candidate(observed(shifted), linear(), settings, INT8).centring
    assert not best_candidate(observed(shifted), linear(), QuantizeSettings(centring=False), INT8).centring


def test_off_wins_ties() -> None:
    """Where every candidate is without noise: nothing is done."""
    dead = Linear(torch.zeros(6, CHANNELS), torch.zeros(6))
    assert best_candidate(observed(inputs()), dead, QuantizeSettings(), INT8) == OFF
    assert best_candidate(observed(torch.zeros(IMAGES, TOKENS, CHANNELS)), linear(), QuantizeSettings(), INT8) == OFF
    assert best_candidate(observed(inputs()), linear(), QuantizeSettings(migration=(), centring=False), INT8) == OFF


@pytest.mark.parametrize("images", [1, 2, 3])
def test_few_images(images: int) -> None:
    """One image alone is judged by its own ranges; with two or three, those of the others are all there is."""
    x = inputs(images)
    x[..., 2] *= 40
    known = observed(x)
    noise = NoiseMeasure.of(known, linear(), "nearest", INT8).noise(SmoothingCandidate(alpha=0.75, tail=0.5, centring=True))
    assert 0 < noise < float("inf")
    chosen = best_candidate(known, linear(), QuantizeSettings(), INT8)
    transform, largest = chosen.transform(known.highs.values, known.lows.values, linear().weight.abs().amax(0))
    assert torch.isfinite(transform.scales).all()
    assert torch.isfinite(transform.centre).all()
    assert 0 < float(largest) < float("inf")
    assert images > 1 or chosen.alpha > 0


def test_a_transform_reaches_what_it_says() -> None:
    """The largest magnitude after the transform is that of the widened ranges; without a tail, that of the tokens."""
    x = inputs() + torch.arange(CHANNELS)
    known = observed(x)
    for centring in (True, False):
        transform, largest = SmoothingCandidate(alpha=0.5, tail=0.0, centring=centring).transform(
            known.highs.values, known.lows.values, linear().weight.abs().amax(0)
        )
        assert float(transform(x).abs().max()) == pytest.approx(float(largest), rel=1e-5)
        assert bool(transform.centre.any()) == centring


@pytest.mark.parametrize("ranges", ["minmax", "percentile", "entropy", "mse", "output"])
def test_clip_values(ranges: str) -> None:
    known = observed(inputs())
    transform = Transform(centre=torch.zeros(CHANNELS), scales=torch.ones(CHANNELS))
    largest = float(inputs().abs().max())
    clip = clip_value(known, transform, largest, linear(), QuantizeSettings(ranges=ranges, percentile=90.0), INT8)
    assert 0 < clip <= largest * (1 + 1e-6)
    if ranges == "minmax":
        assert clip == largest
    if ranges == "percentile":
        assert clip == percentile(known.tokens.abs(), 90.0)
