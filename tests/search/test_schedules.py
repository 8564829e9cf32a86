"""The harm of merging tokens, against the torch model run on the same images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgevit.cache import Cache
from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.pixels import normalise
from edgevit.model.vit import Vit
from edgevit.progress import Progress, Stage
from edgevit.search.schedules import REFITTED, SHARES, Schedule, schedules
from edgevit.tokens.merge import merging
from edgevit.tokens.settings import MergeSettings
from edgevit.workbench import Workbench
from tests.zoo import CLASSES, contract, vit


@pytest.mark.parametrize("merges", [{0: 6}, {0: 5}])
def test_harm_is_the_change_of_the_logits_over_their_variance(
    checkpoint: Checkpoint, images: ImageSet, merges: dict[int, int]
) -> None:
    few = images.subset(range(8))
    frames = np.concatenate(list(few.prepared(checkpoint.preprocessing)))

    def logits(model: Vit) -> torch.Tensor:
        with torch.inference_mode():
            return model(normalise(torch.from_numpy(frames), checkpoint.preprocessing)).double()

    whole, merged = logits(checkpoint.model), logits(merging(checkpoint.model, merges).eval())
    wanted = (merged - whole).square().mean() / (whole - whole.mean(0)).square().mean()
    ((found,),) = schedules(checkpoint, few, MergeSettings(merges=tuple(merges.items())), Workbench())
    assert found.merges == merges
    assert found.harm == pytest.approx(REFITTED * float(wanted), rel=0.01)


def test_more_merging_harms_more_and_what_is_in_front_is_run_once(images: ImageSet) -> None:
    """Of a deeper model, whose schedules begin behind different blocks: the same figures as for each alone."""
    blocks = vit(image_size=(32, 32), patch_size=4).config.blocks[:1] * 12
    model = vit(image_size=(32, 32), patch_size=4, blocks=blocks)
    labels = tuple(map(str, range(CLASSES)))
    deep = Checkpoint(model=model, preprocessing=contract(model.config), labels=labels, family="", notes=(), digest="")
    families = schedules(deep, images, None, Workbench())
    assert families[0] == (Schedule(merges={}, harm=0.0),)
    assert [min(family[0].merges) for family in families[1:]] == [4, 5]
    assert all(1 < len(family) <= len(SHARES) for family in families[1:])
    assert families[1][0].harm < families[1][-1].harm
    for wanted in (families[1][0], families[2][-1]):
        ((alone,),) = schedules(deep, images, MergeSettings(merges=tuple(wanted.merges.items())), Workbench())
        assert alone == wanted


class Noted(Progress):
    def __init__(self) -> None:
        self.cached: list[bool] = []

    def end(self, stage: Stage) -> None:
        self.cached.append(stage.cached)


def test_what_was_measured_is_kept(checkpoint: Checkpoint, images: ImageSet, tmp_path: Path) -> None:
    noted, cache = Noted(), Cache(root=tmp_path)
    asked = MergeSettings(merges=((0, 4),))
    found = [schedules(checkpoint, images, asked, Workbench(cache=cache, progress=noted)) for _ in range(2)]
    assert found[0] == found[1]
    assert found[0][0][0].harm > 0
    assert noted.cached == [False, True]
