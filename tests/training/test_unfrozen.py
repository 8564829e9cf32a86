"""What learns and what does not, in every family; pictures made of photos; runs that go on after any epoch."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch

from edgevit.cache import Cache
from edgevit.errors import ConfigError
from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.pixels import normalise
from edgevit.model.vit import Vit
from edgevit.training.augment import augmented
from edgevit.training.head import LinearHead
from edgevit.training.run import Lesson, Run, schedule
from edgevit.training.settings import FineTuneSettings
from edgevit.training.train import with_head
from edgevit.training.unfrozen import Cut
from edgevit.training.views import Views
from edgevit.workbench import Workbench
from tests.support import picture
from tests.zoo import ZOO, contract, frames, vit

LABELS = ("a", "b", "c")


def backbone(name: str) -> Checkpoint:
    """With a head for three classes on its own pooling."""
    model = vit(**ZOO[name])
    generator = torch.Generator().manual_seed(1)
    head = LinearHead(
        weight=torch.randn(3, model.config.pooled, generator=generator) / model.config.pooled**0.5, bias=torch.zeros(3)
    )
    plain = Checkpoint(
        model=model, preprocessing=contract(model.config), labels=LABELS, family="edgevit", notes=(), digest="0" * 64
    )
    return with_head(plain, model.config.pooling, head, LABELS)


def photos(checkpoint: Checkpoint, count: int = 8) -> ImageSet:
    array = frames(checkpoint.model.config, count)
    return ImageSet(
        source="photos.npz", names=tuple(map(str, range(count))), class_names=LABELS,
        targets=tuple(i % 3 for i in range(count)), array=array,
    )  # fmt: skip


def lesson(count: int = 8, stop: int = 2, epochs: int = 3) -> Lesson:
    numbers = torch.arange(count)
    return Lesson(learn=numbers[stop:], stop=numbers[:stop], y=numbers % 3, counts=torch.ones(count), epochs=epochs)


@pytest.mark.parametrize("name", ZOO)
def test_only_what_is_unfrozen_learns(name: str, tmp_path: Path) -> None:
    """Bit by bit; and the tokens in front of it lead to the model's own logits."""
    checkpoint = backbone(name)
    settings = FineTuneSettings(unfreeze=1, batch=6)
    images = normalise(torch.from_numpy(frames(checkpoint.model.config, 2)), checkpoint.preprocessing)
    for first in (None, *range(len(checkpoint.model.blocks))):
        cut = Cut(first)
        with torch.no_grad():
            found = cut.logits(checkpoint.model, cut.front(checkpoint.model, images))
            torch.testing.assert_close(found, checkpoint.model(images))
    before = {key: value.clone() for key, value in checkpoint.model.state_dict().items()}
    with Views(checkpoint, photos(checkpoint), settings, Workbench(cache=Cache(root=tmp_path))) as views:
        run = Run(checkpoint.model, views, lesson(), settings)
        run.begin()
        run.step(lambda _: None)
    last = f"blocks.{len(checkpoint.model.blocks) - 1}."
    for key, value in checkpoint.model.state_dict().items():
        learns = key.startswith((last, "norm.", "pooled_norm.", "attention_pool.", "head.")) and not key.endswith("rotary")
        assert torch.equal(value, before[key]) != learns, key


@pytest.mark.parametrize("name", ZOO)
def test_bfloat16_suits_every_family(name: str) -> None:
    """What CUDA trains in, here on the CPU: no product of two formats, and nearly the same logits."""
    model = vit(**ZOO[name])
    images = normalise(torch.from_numpy(frames(model.config, 2)), contract(model.config))
    with torch.autocast("cpu", torch.bfloat16):
        found = model(images).float()
    found.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    with torch.no_grad():
        wanted = model(images)
    assert float((found.detach() - wanted).norm() / wanted.norm()) < 0.05


def test_everything_learns() -> None:
    checkpoint = backbone("rotary")
    before = {key: value.clone() for key, value in checkpoint.model.state_dict().items()}
    settings = FineTuneSettings(unfreeze="all", batch=3)
    with Views(checkpoint, photos(checkpoint), settings, Workbench()) as views:
        run = Run(checkpoint.model, views, lesson(), settings)
        run.begin()
        run.step(lambda _: None)
    for key, value in checkpoint.model.state_dict().items():
        assert torch.equal(value, before[key]) == key.endswith("rotary"), key


def test_rates_fall_towards_the_front() -> None:
    """And no vector decays."""
    model = vit(layer_scale=True)
    groups = Cut(0).groups(model, rate=1.0, layer_decay=0.5, weight_decay=0.1)
    rates = {id(parameter): (group["peak"], group["weight_decay"]) for group in groups for parameter in group["params"]}
    assert rates[id(model.head.weight)] == (1.0, 0.1)
    assert rates[id(model.norm.weight)] == (1.0, 0.0)
    assert rates[id(model.blocks[1].fc1.weight)] == (0.5, 0.1)
    assert rates[id(model.blocks[0].scale1)] == (0.25, 0.0)
    assert id(model.patch_embedding.weight) not in rates
    everything = Cut(None).groups(model, rate=1.0, layer_decay=0.5, weight_decay=0.1)
    assert len([parameter for group in everything for parameter in group["params"]]) == len(list(model.parameters()))
    assert {
        (group["peak"], group["weight_decay"]) for group in everything if any(model.positions is p for p in group["params"])
    } == {(0.125, 0.0)}


def test_more_blocks_than_there_are() -> None:
    assert Cut.of(vit().config, 2) == Cut(0)
    with pytest.raises(ConfigError, match="the backbone has 2 blocks"):
        Cut.of(vit().config, 3)


def test_parts_of_a_batch_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory holds one photo, the step is the same."""

    def stepped() -> Vit:
        checkpoint = backbone("plain")
        settings = FineTuneSettings(unfreeze=1, batch=4)
        with Views(checkpoint, photos(checkpoint), settings, Workbench()) as views:
            views.prepare()
            run = Run(checkpoint.model, views, lesson(), settings)
            run.begin()
            run.step(lambda _: None)
        return checkpoint.model

    whole = stepped()
    monkeypatch.setattr("edgevit.training.unfrozen.WORKSPACE", 1)
    assert Cut(1).at_once(whole.config, 4) == 1
    parts = stepped()
    images = normalise(torch.from_numpy(frames(whole.config, 4)), contract(whole.config))
    before = backbone("plain").model(images)
    torch.testing.assert_close(whole(images), parts(images), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(whole(images), before, rtol=1e-2, atol=1e-2)


def test_a_run_goes_on_bit_by_bit(tmp_path: Path) -> None:
    """After any epoch, from its state alone."""
    settings = FineTuneSettings(unfreeze=1, batch=3, epochs=3)
    bench = Workbench(cache=Cache(root=tmp_path))

    def fresh(views: Views) -> Run:
        return Run(backbone("merging").model, views, lesson(), settings)

    checkpoint = backbone("merging")
    with Views(checkpoint, photos(checkpoint), settings, bench) as views:
        views.prepare()
        whole, states = fresh(views), []
        whole.begin()
        while not whole.finished:
            whole.step(lambda _: None)
            states.append(whole.dump())
        for after, state in enumerate(states, 1):
            other = fresh(views)
            other.resume(state)
            assert (other.epoch, other.finished) == (after, after == len(states))
            while not other.finished:
                other.step(lambda _: None)
            assert [(p.number, p.loss, p.stop_loss) for p in other.curve] == [
                (p.number, p.loss, p.stop_loss) for p in whole.curve
            ]
            assert other.dump()[-1000:] == states[-1][-1000:]
            other.take_best()
            for name, value in whole._best.items():
                assert torch.equal(other.model.state_dict()[name], value)


def test_tokens_are_kept_and_their_pictures_change(tmp_path: Path) -> None:
    """By epoch; without room, they are computed each time: the photo as it is is the same, but for float16."""
    checkpoint, settings = backbone("merging"), FineTuneSettings(unfreeze=1)
    bench = Workbench(cache=Cache(root=tmp_path))
    with Views(checkpoint, photos(checkpoint), settings, bench) as views, pytest.MonkeyPatch.context() as patch:
        views.prepare()
        kept = len(list(tmp_path.glob("front-tokens/*")))
        assert kept == 8
        patch.setattr("edgevit.training.views.ROOM", 0)
        with Views(checkpoint, photos(checkpoint), settings, bench) as fresh:
            fresh.prepare()
            one, other = views([3, 5]), fresh([3, 5])
            torch.testing.assert_close(one.x, other.x, rtol=1e-3, atol=1e-3)
            assert torch.equal(one.sizes, other.sizes)
            assert not torch.equal(fresh([3], 1).x, fresh([3], 9).x)
        assert not torch.equal(views([3], 1).x, views([3], 2).x)
        assert torch.equal(views([3], 1).x, views([3], 9).x)
    assert len(list(tmp_path.glob("front-tokens/*"))) == kept


def test_augmentation_is_moderate() -> None:
    """Gray stays gray, nothing is mirrored unasked, and the same draw gives the same picture."""
    settings = contract(vit(image_size=(32, 32)).config)
    photo = picture("disc", 3)
    photo[:, :16] = photo[:, :16] // 4  # dark at the left
    gray = np.repeat(photo[..., :1], 3, 2)
    darker_left, seen = 0, set()
    for seed in range(40):
        view = augmented(photo, settings, np.random.default_rng(seed), flip=False)
        assert (view.shape, view.dtype) == ((32, 32, 3), np.uint8)
        np.testing.assert_array_equal(view, augmented(photo, settings, np.random.default_rng(seed), flip=False))
        darker_left += view[:, :10].mean() < view[:, -10:].mean()
        seen.add(augmented(photo, settings, np.random.default_rng(seed), flip=True)[:, :10].mean() < 60)
        alike = augmented(gray, settings, np.random.default_rng(seed), flip=True)
        assert (alike == alike[..., :1]).all()
    assert darker_left == 40
    assert seen == {True, False}


def test_the_schedule() -> None:
    assert [schedule(step, 10, 0.2) for step in (0, 1, 2)] == [0.5, 1.0, 1.0]
    assert schedule(6, 10, 0.2) == pytest.approx(0.5)
    assert schedule(9, 10, 0.2) < 0.04


def test_a_rate_that_diverges_is_said() -> None:
    checkpoint = backbone("plain")
    settings = FineTuneSettings(unfreeze="all", rate=1e30, warm_up=0.0)
    with Views(checkpoint, photos(checkpoint), settings, Workbench()) as views:
        run = Run(checkpoint.model, views, lesson(), settings)
        run.begin()
        with pytest.raises(ConfigError, match=r"the loss is (nan|inf) in epoch \d\. Give a smaller --lr than 1e\+30"):
            deque(run.step(lambda _: None) for _ in range(3))
