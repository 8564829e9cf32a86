"""Which tokens become one, and what becomes of those that stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from edgevit.engine import CPU_ENGINES, open_session
from edgevit.export.graph import write_graph
from edgevit.model.folded import forward
from edgevit.model.macs import macs
from edgevit.model.merging import Merge, Tokens, compared, matched
from edgevit.model.quantplan import QuantPlan
from edgevit.model.rewrites.folding import fold
from edgevit.model.vit import Vit
from edgevit.vitconfig import BlockConfig, VitConfig
from tests.zoo import PLAIN, ZOO, contract, frames, normalised, vit

MERGING = [name for name in ZOO if name.startswith("merging")]


def directions(*degrees: float) -> Tensor:
    """[1, T, 2] of these angles and of length one."""
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], -1)[None]


def reference(unit: Tensor, prefix: int, merged: int) -> list[list[int]]:
    """The groups of one image's tokens [T, depth], by loops."""
    sources, others = range(prefix, len(unit), 2), range(prefix + 1, len(unit), 2)
    likeness = {a: max(float(unit[a] @ unit[b]) for b in others) for a in sources}
    order = sorted(sources, key=lambda a: (-likeness[a], a))
    groups = {b: [b] for b in others}
    for a in order[:merged]:
        groups[max(others, key=lambda b: float(unit[a] @ unit[b]))].append(a)
    alone = [*range(prefix), *reversed(order[merged:])]
    return [*([token] for token in alone), *(sorted(group) for group in groups.values())]


def as_lists(merge: Merge) -> list[list[int]]:
    return [(merge.groups[0] == place).nonzero().flatten().tolist() for place in range(merge.kept)]


def test_the_most_alike_become_one() -> None:
    """Sources are tokens 1, 3, 5; destinations 2 and 4. Token 0 stays, though it is like token 2 exactly."""
    merge = matched(directions(40, 0, 41, 80, 75, 200), prefix=1, merged=1)
    assert as_lists(merge) == [[0], [5], [1], [2], [3, 4]]
    assert as_lists(matched(directions(40, 0, 41, 80, 75, 200), prefix=1, merged=2)) == [[0], [5], [1, 2], [3, 4]]


@pytest.mark.parametrize(("prefix", "tokens", "merged"), [(0, 16, 8), (1, 17, 5), (3, 12, 4), (1, 4, 1), (2, 5, 1)])
def test_every_match_is_that_of_loops(prefix: int, tokens: int, merged: int) -> None:
    x = compared(3 + torch.randn(4, tokens, 6, generator=torch.Generator().manual_seed(tokens)))
    torch.testing.assert_close(x.norm(dim=-1), torch.ones(4, tokens), rtol=0, atol=1e-4)
    torch.testing.assert_close(x.mean(-1), torch.zeros(4, tokens), rtol=0, atol=1e-6)
    for image in x:
        assert as_lists(matched(image[None], prefix=prefix, merged=merged)) == reference(image, prefix, merged)


def test_averages_are_weighted_by_what_tokens_stand_for() -> None:
    x = torch.tensor([[[1.0], [2.0], [4.0], [10.0]]])
    once = Tokens(x).merged(Merge(groups=torch.tensor([[0, 1, 1, 2]]), kept=3))
    assert once.x.flatten().tolist() == [1, 3, 10]
    assert once.sizes is not None
    assert once.sizes.tolist() == [[1, 2, 1]]
    twice = once.merged(Merge(groups=torch.tensor([[0, 1, 1]]), kept=2))
    assert twice.x.flatten().tolist() == pytest.approx([1, 16 / 3])
    assert twice.sizes is not None
    assert twice.sizes.tolist() == [[1, 3]]
    assert twice.mean(1).tolist() == [[pytest.approx(16 / 3)]]
    assert once.mean(0).tolist() == [[pytest.approx(17 / 4)]]


def test_a_merge_of_equal_tokens_changes_nothing() -> None:
    """Sizes make up for it in every later block and in the mean: logits are those of the model that merges nothing."""
    changes: dict[str, Any] = {"position_embedding": False, "pooling": ("class", "mean"), "registers": 1}
    whole, merging = vit(**changes, blocks=blocks(0, 0)), vit(**changes, blocks=blocks(8, 4))
    image = torch.ones(1, 3, 16, 16) * torch.randn(1, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(merging(image), whole(image), rtol=1e-5, atol=1e-5)


def blocks(*counts: int) -> tuple[BlockConfig, ...]:
    return tuple(BlockConfig(heads=4, hidden=48, merged=count) for count in (*counts, 0))


@pytest.mark.parametrize("engine", sorted(CPU_ENGINES))
@pytest.mark.parametrize("merged", [3, 5, 8])
def test_which_of_equal_tokens_goes_does_not_matter(engine: str, merged: int) -> None:
    """Without positions the patches of a flat picture, or of one with two colours, are equal: all matches tie.

    Torch and engines round differently, and may each let another of equal patches go: the same average, of the same weight.
    """
    model = vit(position_embedding=False, pooling=("class", "mean"), blocks=blocks(merged))
    settings = contract(model.config)
    flat = frames(model.config, 4)
    flat[0], flat[1] = 127, (10, 200, 30)
    flat[2, :, :8], flat[2, :, 8:] = 90, 210
    flat[3, :8], flat[3, 8:] = 127, (250, 3, 7)
    with torch.inference_mode():
        expected = model(normalised(flat, settings))
    folded = fold(model, settings)
    torch.testing.assert_close(forward(folded, torch.from_numpy(flat)), expected, rtol=1e-4, atol=1e-4)
    with open_session(engine, write_graph(QuantPlan(model=folded)), threads=1) as session:
        torch.testing.assert_close(torch.from_numpy(session.infer(flat)), expected, rtol=1e-4, atol=1e-4)


def test_of_equal_matches_the_first_counts() -> None:
    """In torch, and in the graph as it is written."""
    assert as_lists(matched(directions(0, 0, 0, 0, 0, 0), prefix=0, merged=2)) == [[4], [0, 1, 2], [3], [5]]


@pytest.mark.parametrize("name", MERGING)
def test_a_merging_model_trains(name: str) -> None:
    """Every weight that logits depend on gets a gradient, through the averages."""
    model = vit(**ZOO[name]).train()
    images = normalised(frames(model.config, 2), contract(model.config))
    model(images).square().sum().backward()
    without = [key for key, value in model.named_parameters() if value.grad is None or not bool(value.grad.abs().sum())]
    assert without == []


@pytest.mark.parametrize(
    ("counts", "said"),
    [((9, 0), "block 0 cannot merge 9 tokens away: 16 patches come in, and at most half of them can go"),
     ((8, 5), "block 1 cannot merge 5 tokens away: 8 patches come in"),
     ((0, 0, 1), "block 2 cannot merge 1 tokens away: behind the last block's attention they save nothing")],
)  # fmt: skip
def test_what_cannot_be_merged_is_refused(counts: tuple[int, ...], said: str) -> None:
    widths = tuple(BlockConfig(heads=4, hidden=48, merged=count) for count in (*counts, 0)[:3])
    with pytest.raises(ValueError, match=said):
        VitConfig(**(PLAIN | {"blocks": widths}))


def test_token_counts() -> None:
    """17 tokens, of which 5 and then 4 go; everything that counts reads it here."""
    config = VitConfig(**(PLAIN | {"blocks": blocks(5, 4)}))
    whole = VitConfig(**(PLAIN | {"blocks": blocks(0, 0)}))
    assert [config.tokens_into(i) for i in range(3)] == [17, 12, 8]
    assert [config.tokens_attended(i) for i in range(3)] == [17, 12, 1]
    assert [config.tokens_after(i) for i in range(3)] == [12, 8, 1]
    assert [config.merges_before(i) for i in range(3)] == [False, True, True]
    mean = VitConfig(**(PLAIN | {"blocks": blocks(5, 4), "class_token": False, "pooling": ("mean",)}))
    assert mean.output_tokens == mean.tokens_after(2) == 16 - 9
    inner = width = 32
    saved = 5 * 2 * width * 48 + 4 * 2 * width * 48  # MLPs of the blocks that merge
    saved += 5 * width * 3 * inner + 2 * (17**2 - 12**2) * inner + 5 * width * inner + 5 * 2 * width * 48  # block 1
    saved += 9 * width * 3 * inner + 2 * (17 - 8) * inner  # block 2, one query
    saved -= 17 * width * (17 + 12) + 12 * width * (12 + 8)  # what the merges take
    assert macs(whole) - macs(config) == saved


def test_models_without_merging_are_written_as_before() -> None:
    config = VitConfig(**PLAIN)
    assert all("merged" not in block for block in config.to_dict()["blocks"])
    assert VitConfig.from_dict(config.to_dict()) == config
    merging = VitConfig(**(PLAIN | {"blocks": blocks(5, 4)}))
    assert [block.get("merged") for block in merging.to_dict()["blocks"]] == [5, 4, None]
    assert VitConfig.from_dict(merging.to_dict()) == merging


def test_an_unmerged_block_is_a_plain_one() -> None:
    """``Block`` on tokens without sizes gives what it gave before there were any."""
    model = Vit(VitConfig(**PLAIN)).eval()
    x = torch.randn(2, 17, 32)
    with torch.inference_mode():
        found = model.blocks[0](Tokens(x))
    assert found.sizes is None
    assert found.x.shape == x.shape
