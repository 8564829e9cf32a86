"""The first pass of pruning: what every sublayer of a block could be cut to, the harm of it, and what should go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.cache import Kind
from edgevit.errors import ConfigError, DataError
from edgevit.images.dataset import ImageSet
from edgevit.images.missing_truth import missing_truth
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.devices import compute_device
from edgevit.model.digest import model_digest
from edgevit.model.folded import FoldedVit
from edgevit.model.macs import macs, sublayer_macs
from edgevit.model.rewrites.folding import fold
from edgevit.model.token_store import EVERY, TokenStream
from edgevit.part import Sublayer
from edgevit.pruning.allocation import Choice, allocate
from edgevit.pruning.candidate_file import Found, dump_found, load_found
from edgevit.pruning.candidates import CutCandidate, candidates, logits_of, observe, read_passed_on
from edgevit.pruning.costs import Costs, macs_only
from edgevit.pruning.settings import PruneMethod
from edgevit.pruning.shapes import cut_config
from edgevit.pruning.sublayers import Cut, sublayers
from edgevit.vitconfig import VitConfig
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from torch import Tensor

    from edgevit.pruning.gradients import Influence

SCORES = Kind("prune-scores", __name__)
BATCH = 4  # images per forward pass; bounds memory
SCORED = 128  # images that the first pass takes at most: what to cut shows on fewer than what makes up for it
PROBED = 32  # images whose gradients are taken
ARITHMETIC = 0.05  # weight of multiply-accumulates beside times in what a cut saves
LEAST = 8  # images, below which too little can be held out


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What the first pass found: every sublayer's candidates, with the costs they are weighed against."""

    checkpoint: Checkpoint
    images: ImageSet
    """In random order; the first `SCORED` of them were looked at."""
    settings: PruneMethod
    candidates: tuple[tuple[CutCandidate, ...], ...]
    """Per sublayer in network order; the first leaves the sublayer whole."""
    costs: Costs
    influences: tuple[Influence, ...]
    """Per sublayer, how much each token counts."""

    @property
    def config(self) -> VitConfig:
        """Of the unpruned model."""
        return self.checkpoint.model.config

    def cuts(self, share: float) -> tuple[Cut, ...]:
        """What to cut so that ``share`` of the MACs goes, for the least harm. Raises ConfigError if that cannot be."""
        limit, offered = (1 - share) * macs(self.config), self.choices(self.config)
        fixed = macs(self.config) - sum(choices[0].macs for choices in offered)
        chosen = allocate(offered, lambda chosen: fixed + sum(choice.macs for choice in chosen) <= limit)
        if chosen is None:
            msg = (
                f"{100 * share:g} % of the MACs is more than can be pruned: it is not reached with every attention and MLP gone. "
                "Ask for less."
            )
            raise ConfigError(msg)
        return self.cuts_of(chosen)

    def cuts_of(self, chosen: Sequence[int]) -> tuple[Cut, ...]:
        """The cuts of one candidate per sublayer, by number."""
        return tuple(offered[number].cut for offered, number in zip(self.candidates, chosen, strict=True))

    def choices(self, config: VitConfig) -> list[list[Choice]]:
        """What the candidates cost in a model of shapes ``config``: the unpruned model's, or with tokens merged."""
        places = [Sublayer(block, kind) for block in range(len(config.blocks)) for kind in Sublayer.KINDS]
        return [
            [self._choice(config, sublayer, candidate) for candidate in offered]
            for sublayer, offered in zip(places, self.candidates, strict=True)
        ]

    def seconds(self, config: VitConfig) -> float:
        """What a model of shapes ``config`` takes, in the unit of `choices`."""
        return self.costs.total(config) + self._arithmetic(macs(config))

    def _choice(self, config: VitConfig, sublayer: Sublayer, candidate: CutCandidate) -> Choice:
        block = cut_config(config.blocks[sublayer.block], sublayer.kind, candidate.cut)
        count = sublayer_macs(config, sublayer.block, sublayer.kind, block)
        seconds = self.costs.sublayer(config, sublayer.block, sublayer.kind, block) + self._arithmetic(count)
        return Choice(seconds=seconds, macs=count, harm=candidate.harm)

    def _arithmetic(self, count: int) -> float:
        """What so many multiply-accumulates add: a sublayer whose time is lost in the noise still has something to save."""
        return self._each * count

    @cached_property
    def _each(self) -> float:
        """What one adds."""
        return ARITHMETIC * self.costs.total(self.config) / macs(self.config)


def check_settings(checkpoint: Checkpoint, images: ImageSet, settings: PruneMethod) -> None:
    """Raise, before anything slow: ConfigError for settings that fit no model of this shape, DataError for too few images."""
    widest = max(block.hidden for block in checkpoint.model.config.blocks)
    if not 1 <= settings.multiple < widest:
        msg = f"--multiple {settings.multiple}: the widest MLP has {widest} neurons, which leaves nothing to choose. Take less."
        raise ConfigError(msg)
    if settings.images < LEAST:
        msg = f"--prune-images {settings.images}: it takes {LEAST} at least, and hundreds to be good."
        raise ConfigError(msg)
    if len(images) < LEAST:
        few = f"{len(images)} images left to prune on" if len(images) else "no images"
        msg = f"{images.source}: {few}; it takes {LEAST} at least, and hundreds to be good. Pass more with --data."
        raise DataError(msg)
    if settings.score == "taylor" and images.truth_for(checkpoint.labels, checkpoint.problem_type) is None:
        msg = (
            f"--score taylor needs labels, and {missing_truth(images, checkpoint.labels, checkpoint.problem_type)} "
            "Or take --score obs, which needs none."
        )
        raise DataError(msg)
    if settings.score == "taylor" and images.is_ambiguous(checkpoint.labels):
        msg = "--score taylor needs to know the class of each image, and several classes have one name. Take --score obs."
        raise DataError(msg)


def score(
    checkpoint: Checkpoint, images: ImageSet, settings: PruneMethod, bench: Workbench, costs: Costs | None = None
) -> Scored:
    """The first pass: what every sublayer of ``checkpoint`` could be cut to, from the cache if it was asked before.

    ``costs`` are what the target's time is; without, multiply-accumulates. Raises as `check_settings` does, DataError for an
    unreadable image.
    """
    check_settings(checkpoint, images, settings)
    chosen, _ = images.split(settings.images, settings.seed)
    # Shuffled, so that every batch, held out or not, is like the others.
    chosen = chosen.subset(np.random.default_rng(settings.seed).permutation(len(chosen)).tolist())
    looked_at = chosen.subset(range(min(SCORED, len(chosen))))
    truth = looked_at.truth_for(checkpoint.labels, checkpoint.problem_type) if settings.score == "taylor" else None
    key: dict[str, Any] = {
        "model": model_digest(checkpoint.model), "contract": checkpoint.preprocessing.to_dict(), "images": looked_at.digest(),
        "targets": None if truth is None else truth.tolist(), "seed": settings.seed, "score": settings.score,
        "multiple": settings.multiple, "problem_type": checkpoint.problem_type,
    }  # fmt: skip
    stored = bench.cache.find(SCORES, **key)
    if stored is not None:
        with bench.stage("score") as stage:
            stage.cached = True
            offered, influences = load_found(stored)
    else:
        offered, influences = _look(checkpoint, looked_at, settings, bench)
        bench.cache.store(SCORES, dump_found(offered, influences), **key)
    return Scored(
        checkpoint=checkpoint, images=chosen, settings=settings, candidates=offered,
        costs=costs or macs_only(checkpoint.model.config), influences=influences,
    )  # fmt: skip


def _look(checkpoint: Checkpoint, images: ImageSet, settings: PruneMethod, bench: Workbench) -> Found:
    """Run ``images`` through the network, sublayer by sublayer, and find what each sublayer could be cut to."""
    model = fold(checkpoint.model, checkpoint.preprocessing)
    shares = _contributions(checkpoint, images, settings, bench)
    influence_of = _influences(checkpoint, images, settings, bench)
    found: list[tuple[CutCandidate, ...]] = []
    with bench.stage("score", total=len(images) * 2 * len(model.blocks)) as stage, TokenStream() as stream:
        write_embedded(model, images, checkpoint, stream)
        wanted = logits_of(model, read_passed_on(stream))
        for sublayer, influence in zip(sublayers(model), influence_of, strict=True):
            if sublayer.kind == "attention":
                batches = read_passed_on(stream)
            seen = observe(model, sublayer, stream, influence, stage.advance)
            offered = candidates(
                model, sublayer, seen, batches, wanted, root=influence.root, contributions=shares.get(sublayer),
                score=settings.score, multiple=settings.multiple if sublayer.kind == "mlp" else 1,
            )  # fmt: skip
            found.append(tuple(offered))
    return tuple(found), tuple(influence_of)


def write_embedded(model: FoldedVit, images: ImageSet, checkpoint: Checkpoint, *streams: TokenStream) -> None:
    """Write what block 0 takes to all ``streams``."""
    import torch

    from edgevit.model.folded import embed

    # Few images make small batches: there is always one to hold out.
    for frames in images.prepared(checkpoint.preprocessing, min(BATCH, len(images) // EVERY)):
        tokens = embed(model, torch.from_numpy(frames))
        for stream in streams:
            stream.append(tokens)


def _influences(checkpoint: Checkpoint, images: ImageSet, settings: PruneMethod, bench: Workbench) -> list[Influence]:
    from edgevit.pruning.gradients import influences

    probed = images.subset(range(min(PROBED, len(images))))
    with bench.stage("gradients", total=len(probed)) as stage:
        batches = probed.prepared(checkpoint.preprocessing, BATCH)
        device = compute_device(bench.device)
        return influences(checkpoint.model, checkpoint.preprocessing, batches, settings.seed, stage.advance, device)


def _contributions(checkpoint: Checkpoint, images: ImageSet, settings: PruneMethod, bench: Workbench) -> dict[Sublayer, Tensor]:
    """By sublayer, for `taylor`; nothing for other scores."""
    if settings.score != "taylor":
        return {}
    from edgevit.pruning.gradients import contributions

    targets = images.truth_for(checkpoint.labels, checkpoint.problem_type)
    assert targets is not None  # `check_settings`
    with bench.stage("gradients of the loss", total=len(images)) as stage:
        return contributions(
            checkpoint.model, checkpoint.preprocessing, images.prepared(checkpoint.preprocessing, BATCH), targets, stage.advance,
            checkpoint.problem_type, compute_device(bench.device),
        )  # fmt: skip
