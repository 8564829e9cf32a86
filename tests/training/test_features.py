"""What a frozen backbone sees of photos, and what of it is found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgevit.cache import Cache
from edgevit.images.dataset import load_images
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.pixels import normalise
from edgevit.training import features as module
from edgevit.training.features import features_of, pooled, poolings_of, views_of
from edgevit.training.settings import TrainSettings
from edgevit.workbench import Workbench
from tests.support import picture, write_images
from tests.zoo import ZOO, contract, frames, vit


def test_views_are_the_photo_its_mirror_and_crops_of_it(checkpoint: Checkpoint) -> None:
    """The same ones whenever it is seen, others of another photo."""
    settings = TrainSettings(crops=3)
    photo = picture("disc", 1)
    views = views_of(photo, checkpoint.preprocessing, settings, "ab" * 32)
    assert len(views) == settings.views == 5
    np.testing.assert_array_equal(views[1], views[0][:, ::-1])
    np.testing.assert_array_equal(views, views_of(photo, checkpoint.preprocessing, settings, "ab" * 32))
    assert (views[2] != views_of(photo, checkpoint.preprocessing, settings, "cd" * 32)[2]).any()
    assert len(views_of(photo, checkpoint.preprocessing, TrainSettings(flip=False, crops=0), "ab" * 32)) == 1


@pytest.mark.parametrize("name", ["plain", "registers", "mean pooling", "distilled", "attention pooling", "features of length 1",
                                  "norm after pooling"])  # fmt: skip
def test_pooled_is_what_the_head_would_read(name: str) -> None:
    """Of every pooling that a head is tried on, as a model with that pooling computes it."""
    model = vit(**ZOO[name])
    images = normalise(torch.from_numpy(frames(model.config, 2)), contract(model.config))
    found = pooled(model, images)
    for pooling, columns in poolings_of(model.config).items():
        changes = {"pooling": pooling, "projected": 0, "unit_features": False, "classes": 5}
        other = vit(**(ZOO[name] | changes))
        state = {key: value for key, value in model.state_dict().items() if not key.startswith(("head", "projection"))}
        other.load_state_dict(state, strict=False)
        with torch.inference_mode():
            torch.testing.assert_close(found[:, columns], other.features(images), rtol=1e-5, atol=1e-5)


def test_only_new_photos_are_computed(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By content: renamed photos are known, and with other views nothing is."""
    computed: list[int] = []
    real = module.pooled

    def counted(model: object, images: torch.Tensor) -> torch.Tensor:
        computed.append(len(images))
        return real(model, images)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "pooled", counted)
    bench, settings = Workbench(cache=Cache(root=tmp_path / "cache")), TrainSettings(crops=1)
    photos = write_images(tmp_path / "photos", 4)
    first = features_of(checkpoint, load_images(photos), settings, bench)
    assert len(computed) == 12
    assert first.views.shape[:2] == (12, 3)
    again = features_of(checkpoint, load_images(photos), settings, bench)
    assert len(computed) == 12
    assert torch.equal(again.views, first.views)
    photos.rename(tmp_path / "moved")
    write_images(tmp_path / "moved", 1, first=4)
    more = features_of(checkpoint, load_images(tmp_path / "moved"), settings, bench)
    assert len(computed) == 15
    assert len(more.views) == 15
    features_of(checkpoint, load_images(tmp_path / "moved"), replace(settings, flip=False), bench)
    assert len(computed) == 30
