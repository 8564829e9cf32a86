"""How many tokens go where, asked for by hand and by share; and the model that merges them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgevit.errors import ConfigError
from edgevit.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edgevit.model.macs import macs
from edgevit.tokens.merge import merging
from edgevit.tokens.settings import MergeSettings, merge_settings, merged_config, merges_for_share, merges_of, merges_text
from edgevit.vitconfig import BlockConfig, VitConfig
from tests.zoo import CLASSES, contract, frames, normalised, vit

BLOCKS = (BlockConfig(heads=6, hidden=1536),)


def config(blocks: int = 12, side: int = 224, patch: int = 14, **changes: object) -> VitConfig:
    settings = {"image_size": (side, side), "patch_size": patch, "width": 384, "head_dim": 64, "classes": 8} | changes
    return VitConfig(blocks=BLOCKS * blocks, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.35])
@pytest.mark.parametrize("patch", [14, 16])
def test_a_share_goes_in_three_places(share: float, patch: int) -> None:
    """At least the share, little more, at blocks 4, 6 and 8 of 12; a multiple of eight stays, or an even number."""
    whole = config(patch=patch)
    merges = merges_for_share(whole, share)
    after = merged_config(whole, merges)
    assert set(merges) == {4, 6, 8}
    assert share <= 1 - macs(after) / macs(whole) < share + 0.035
    left = [after.tokens_into(index) for index in (5, 7, 9)]
    assert all(tokens % (8 if tokens >= 64 else 2) == 0 for tokens in left)
    assert share > 0.3 or max(merges.values()) - min(merges.values()) < 10  # at the last place at most half of what is left goes


def test_places_grow_with_depth_and_shrink_with_it() -> None:
    assert set(merges_for_share(config(24), 0.3)) == {8, 12, 16}
    assert set(merges_for_share(config(4), 0.1)) == {1, 2}
    assert set(merges_for_share(config(2), 0.1)) == {0}


def test_blocks_without_heads_merge_like_others() -> None:
    gone = BlockConfig(heads=0, hidden=1536, attention_map=True)
    blocks = [*BLOCKS * 12]
    blocks[4] = blocks[6] = gone
    whole = config()
    assert set(merges_for_share(VitConfig(**(vars(whole) | {"blocks": tuple(blocks)})), 0.2)) == {4, 6, 8}


@pytest.mark.parametrize(("share", "said"), [(0, "above 0 and at most"), (1, "above 0"), (0.89, "Ask for less, or say where")])
def test_shares_that_cannot_be(share: float, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        merges_for_share(config(), share)


def asked(text: str) -> dict[int, int]:
    """What ``--merge TEXT`` does to a model."""
    return merges_of(merge_settings(text), config())


def test_by_hand() -> None:
    assert asked("64@2, 64@5") == {2: 64, 5: 64}
    assert asked("0.35") == merges_for_share(config(), 0.35)
    assert merges_text({5: 64, 2: 65}) == "65@2,64@5"


@pytest.mark.parametrize(
    ("text", "said"),
    [("64", "lies above 0 and at most at 0.9"), ("64@2,", "expected tokens at blocks"), ("0@2", "expected tokens"),
     ("@", "expected"), ("64@2,3@2", "block 2 is named twice"), ("64@12", "there is no block 12; blocks are 0 to 11"),
     ("64@11", "block 11 cannot merge 64"), ("200@2", "block 2 cannot merge 200 tokens away: 256 patches come in")],
)  # fmt: skip
def test_what_cannot_be_asked_for(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        asked(text)


@pytest.fixture
def checkpoint() -> Checkpoint:
    model = vit(blocks=(BlockConfig(heads=4, hidden=48),) * 3)
    labels = tuple(map(str, range(CLASSES)))
    return Checkpoint(
        model=model, preprocessing=contract(model.config), labels=labels, family="edgevit", notes=("one",), digest=""
    )  # fmt: skip


def test_a_checkpoint_with_merges(checkpoint: Checkpoint, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Same weights, another function; it survives a file, and an empty mapping undoes it."""
    merged = checkpoint.with_model(merging(checkpoint.model, {0: 5, 1: 4}))
    assert merged.digest != checkpoint.digest
    images = normalised(frames(checkpoint.model.config, 2), checkpoint.preprocessing)
    with torch.inference_mode():
        before, after = checkpoint.model(images), merged.model(images)
        assert not torch.allclose(before, after, atol=1e-3)
        save_checkpoint(merged.model, tmp_path / "m.safetensors", preprocessing=merged.preprocessing, labels=merged.labels)
        again = load_checkpoint(tmp_path / "m.safetensors").model
        assert again.config == merged.model.config
        assert torch.equal(again(images), after)
        assert torch.equal(merging(merged.model, {})(images), before)


def test_one_way_to_say_how_much() -> None:
    with pytest.raises(ConfigError, match="give a share"):
        MergeSettings()
    with pytest.raises(ConfigError, match="give a share"):
        MergeSettings(share=0.3, merges=((2, 64),))


def test_at_a_size_with_too_few_patches(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "merging.safetensors"
    merged = checkpoint.with_model(merging(checkpoint.model, {0: 8}))
    save_checkpoint(merged.model, path, preprocessing=merged.preprocessing, labels=merged.labels)
    with pytest.raises(ConfigError, match=r"--image-size 8x8: block 0 cannot merge 8 tokens away: 4 patches come in"):
        load_checkpoint(path, image_size=8)
