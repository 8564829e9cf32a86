"""A model that merges tokens, refitted in closed form to do on them what it did on all of them.

The same least squares as pruning's (`edgevit.pruning.compensation`): behind every sublayer the merged stream is drawn to the
unmerged model's, averaged over the tokens that became one. Labels are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from edgevit.cache import Kind
from edgevit.errors import ConfigError
from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.devices import compute_device
from edgevit.model.digest import model_digest
from edgevit.model.macs import macs
from edgevit.model.rewrites.folding import fold
from edgevit.model.rewrites.unfolding import unfold
from edgevit.model.token_store import TokenStream
from edgevit.model.vit import Vit
from edgevit.part import named
from edgevit.pruning.compensation import Compensation, compensate
from edgevit.pruning.first_pass import LEAST, write_embedded
from edgevit.pruning.smaller import Smaller, kept
from edgevit.tokens.merge import merging
from edgevit.tokens.settings import MergeSettings, merges_in, merges_of, merges_text
from edgevit.vitconfig import VitConfig
from edgevit.workbench import Workbench

MERGED, MERGED_REPORT = Kind("merged", __name__), Kind("merged-report", __name__)
PROBED = 32  # images whose gradients are taken
BATCH = 4  # images per forward pass; bounds memory


def merge(
    checkpoint: Checkpoint, settings: MergeSettings, images: ImageSet | None, bench: Workbench,
    reference: Checkpoint | None = None,
) -> Smaller:  # fmt: skip
    """``checkpoint`` with tokens merged as ``settings`` ask, refitted on ``images`` to do what ``reference`` does.

    ``reference`` merges nothing and has blocks of the same width; None is ``checkpoint`` itself, as it also is where embedding
    or head are others (a model that was trained since): blocks fitted to another's would not suit them. Without `LEAST` images,
    and where the settings say so, nothing is refitted. Raises ConfigError for merges that the model cannot have, and for one that
    merges already, DataError for an unreadable image.
    """
    merges = require_mergeable(checkpoint, settings)
    if images is None or not is_refitted(settings, images):
        why = f"; not refitted, which takes {LEAST} images" if settings.refit else "; not refitted"
        return _merged(checkpoint, merging(checkpoint.model, merges), [], why)
    towards = reference if reference is not None and _same_ends(reference.model, checkpoint.model) else checkpoint
    chosen, _ = images.split(settings.images, settings.seed)
    chosen = chosen.subset(np.random.default_rng(settings.seed).permutation(len(chosen)).tolist())
    key: dict[str, Any] = {
        "model": model_digest(checkpoint.model), "reference": model_digest(towards.model), "images": chosen.digest(),
        "merges": merges_text(merges), "contract": checkpoint.preprocessing.to_dict(), "seed": settings.seed,
    }  # fmt: skip
    return kept(
        checkpoint, (MERGED, MERGED_REPORT), key, "merge and refit", bench,
        lambda: _merged(checkpoint, *_refit(towards, merging(checkpoint.model, merges), chosen, settings.seed, bench)),
    )  # fmt: skip


def merged_report(before: VitConfig, after: VitConfig) -> dict[str, Any]:
    """JSON-ready: ``merges`` by block, tokens and multiply-accumulates before and after."""
    merges = {str(block): count for block, count in merges_in(after).items()}
    return {
        "merges": merges, "tokens_before": before.tokens, "tokens": after.tokens_into(len(after.blocks) - 1),
        "macs_before": macs(before), "macs": macs(after), "share": 1 - macs(after) / macs(before),
    }  # fmt: skip


def merged_summary(before: VitConfig, after: VitConfig) -> str:
    """``257 tokens to 128 (65@4,64@7)``."""
    return f"{before.tokens} tokens to {after.tokens_into(len(after.blocks) - 1)} ({merges_text(merges_in(after))})"


def _merged(checkpoint: Checkpoint, changed: Vit, made: Sequence[Compensation], why: str = "") -> Smaller:
    """``checkpoint`` with the model ``changed``, and what is said of it."""
    before, after = checkpoint.model.config, changed.config
    report = merged_report(before, after) | {"refit": [named(item) for item in made]}
    summary = f"merged: {merged_summary(before, after)}, {100 * report['share']:.1f} % of the MACs less{why}"
    return Smaller(checkpoint=checkpoint.with_model(changed), report=report, summary=summary)


def require_mergeable(checkpoint: Checkpoint, settings: MergeSettings) -> dict[int, int]:
    """What ``settings`` ask of ``checkpoint``, by block. Raises ConfigError as `merge` does."""
    if already := merges_in(checkpoint.model.config):
        msg = f"--merge: this model merges tokens already, {merges_text(already)}. Build it as it is, or merge the one before."
        raise ConfigError(msg)
    return merges_of(settings, checkpoint.model.config)


def is_refitted(settings: MergeSettings, images: ImageSet | None) -> bool:
    """Whether there is anything to refit on, and it is wanted."""
    return settings.refit and images is not None and len(images) >= LEAST


def _same_ends(one: Vit, other: Vit) -> bool:
    """Whether all but the blocks is the same in both."""
    states = [
        {key: value for key, value in model.state_dict().items() if not key.startswith("blocks.")} for model in (one, other)
    ]
    return states[0].keys() == states[1].keys() and all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def _refit(
    reference: Checkpoint, changed: Vit, images: ImageSet, seed: int, bench: Workbench
) -> tuple[Vit, list[Compensation]]:  # fmt: skip
    from edgevit.pruning.gradients import influences

    contract = reference.preprocessing
    probed = images.subset(range(min(PROBED, len(images))))
    with bench.stage("influence of tokens", total=len(probed)) as stage:
        device, batches = compute_device(bench.device), probed.prepared(contract, BATCH)
        counted = influences(reference.model, contract, batches, seed, stage.advance, device)
    model = fold(reference.model, contract)
    with bench.stage("merge and refit", total=2 * len(model.blocks)) as stage, TokenStream() as wanted, TokenStream() as got:
        write_embedded(model, images, reference, wanted, got)
        blocks, made = compensate(model, fold(changed, contract), (wanted, got), counted, "ridge", stage.advance)
    return unfold(changed, blocks), made
