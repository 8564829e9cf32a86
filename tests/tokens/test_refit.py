"""The refit behind merging: closer to the unmerged model on images it has not seen, kept, left out where it cannot be made."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgevit.cache import Cache
from edgevit.errors import ConfigError
from edgevit.images.dataset import ImageSet, load_images
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.folded import forward
from edgevit.model.rewrites.folding import fold
from edgevit.progress import Progress, Stage
from edgevit.pruning.first_pass import score
from edgevit.pruning.second_pass import prune
from edgevit.pruning.settings import PruneSettings
from edgevit.tokens.merge import merging
from edgevit.tokens.refit import merge
from edgevit.tokens.settings import MergeSettings
from edgevit.vitconfig import BlockConfig
from edgevit.workbench import Workbench
from tests import support
from tests.zoo import CLASSES, contract, vit

MERGES = {0: 6}
SETTINGS = MergeSettings(merges=tuple(MERGES.items()))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return load_images(support.write_images(tmp_path_factory.mktemp("others"), 16, first=700))


def logits(checkpoint: Checkpoint, images: ImageSet) -> torch.Tensor:
    frames = np.concatenate(list(images.prepared(checkpoint.preprocessing)))
    return forward(fold(checkpoint.model, checkpoint.preprocessing), torch.from_numpy(frames))


def error(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).square().sum() / other.square().sum())


@pytest.mark.parametrize("pooling", [("class",), ("class", "mean"), ("mean",)], ids="+".join)
def test_it_comes_closer_to_the_unmerged_model(pooling: tuple[str, ...], images: ImageSet, others: ImageSet) -> None:
    """On images that it has not seen, of a deeper model of which two thirds of the patches go."""
    blocks = (BlockConfig(heads=4, hidden=48),) * 4
    model = vit(image_size=(32, 32), patch_size=4, blocks=blocks, pooling=pooling)
    labels = tuple(map(str, range(CLASSES)))
    whole = Checkpoint(model=model, preprocessing=contract(model.config), labels=labels, family="", notes=(), digest="")
    merges = {0: 32, 1: 16}
    wanted, plain = logits(whole, others), whole.with_model(merging(model, merges))
    done = merge(whole, MergeSettings(merges=tuple(merges.items())), images, Workbench())
    assert error(logits(done.checkpoint, others), wanted) < 0.8 * error(logits(plain, others), wanted)
    assert [block.merged for block in done.checkpoint.model.config.blocks] == [32, 16, 0, 0]


def test_what_is_told_of_it(checkpoint: Checkpoint, images: ImageSet) -> None:
    done = merge(checkpoint, SETTINGS, images, Workbench())
    tokens = checkpoint.model.config.tokens
    assert (done.report["tokens_before"], done.report["tokens"]) == (tokens, tokens - 6)
    assert done.report["merges"] == {"0": 6}
    assert [item["name"] for item in done.report["refit"]][:2] == ["blocks.0.attention", "blocks.0.mlp"]
    assert all(item["error"] <= item["error_before"] for item in done.report["refit"])
    assert done.summary.startswith(f"merged: {tokens} tokens to {tokens - 6} (6@0), ")
    assert "not refitted" not in done.summary


def test_a_pruned_model_is_drawn_to_the_unpruned_one(checkpoint: Checkpoint, images: ImageSet, others: ImageSet) -> None:
    scored = score(checkpoint, images, PruneSettings(share=0.3, multiple=8), Workbench())
    pruned = checkpoint.with_model(prune(scored, scored.cuts(0.3), Workbench()).model)
    wanted = logits(checkpoint, others)
    towards = [logits(merge(pruned, SETTINGS, images, Workbench(), to).checkpoint, others) for to in (checkpoint, None)]
    assert error(towards[0], wanted) <= 1.02 * error(towards[1], wanted)


@pytest.mark.parametrize(("changes", "count", "said"), [({"refit": False}, 96, "; not refitted"), ({}, 7, "takes 8 images")])
def test_without_a_refit_the_weights_stay(
    checkpoint: Checkpoint, images: ImageSet, changes: dict[str, bool], count: int, said: str
) -> None:
    done = merge(checkpoint, replace(SETTINGS, **changes), images.subset(range(count)), Workbench())
    assert said in done.summary
    assert done.report["refit"] == []
    state = checkpoint.model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in done.checkpoint.model.state_dict().items())


class Noted(Progress):
    def __init__(self) -> None:
        self.cached: dict[str, bool] = {}

    def end(self, stage: Stage) -> None:
        self.cached[stage.name] = stage.cached


def test_it_is_kept(checkpoint: Checkpoint, images: ImageSet, tmp_path: Path) -> None:
    cache, first, again = Cache(root=tmp_path), Noted(), Noted()
    one = merge(checkpoint, SETTINGS, images, Workbench(cache=cache, progress=first))
    other = merge(checkpoint, SETTINGS, images, Workbench(cache=cache, progress=again))
    assert (first.cached, again.cached) == ({"influence of tokens": False, "merge and refit": False}, {"merge and refit": True})
    assert one.report == other.report
    assert one.checkpoint.digest == other.checkpoint.digest
    third = Noted()
    merge(checkpoint, replace(SETTINGS, merges=((0, 5),)), images, Workbench(cache=cache, progress=third))
    assert not third.cached["merge and refit"]


def test_a_model_that_merges_is_not_merged_again(checkpoint: Checkpoint, images: ImageSet) -> None:
    done = merge(checkpoint, replace(SETTINGS, refit=False), images, Workbench())
    with pytest.raises(ConfigError, match="merges tokens already, 6@0"):
        merge(done.checkpoint, SETTINGS, images, Workbench())


def test_a_model_that_was_trained_since_is_drawn_to_itself(checkpoint: Checkpoint, images: ImageSet) -> None:
    """Its embedding and head are others: blocks fitted to what those of before saw and gave would not suit them."""
    trained = checkpoint.with_model(copy.deepcopy(checkpoint.model))
    with torch.no_grad():
        trained.model.head.weight += 0.01
    alone, beside = (merge(trained, SETTINGS, images, Workbench(), to).checkpoint for to in (None, checkpoint))
    assert alone.digest == beside.digest
