"""Where a search may merge how many tokens, and the harm of it: measured on a few images, for every schedule as a whole.

Merges add up badly (what one leaves, the next one finds), so they are not weighed one by one, as sublayers are. There are few
that are worth a look: about equal parts in three places around the middle, or later, for shares of the arithmetic in steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edgevit.cache import Kind
from edgevit.errors import ConfigError
from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.digest import model_digest
from edgevit.model.folded import embed, run_block
from edgevit.model.merging import Tokens
from edgevit.model.rewrites.folding import fold
from edgevit.pruning.candidates import PASSED_ON, logits_of, passed_on
from edgevit.pruning.first_pass import BATCH
from edgevit.tokens.merge import merging
from edgevit.tokens.settings import LATE, PLACES, Merges, MergeSettings, merges_for_share, merges_in, merges_of, merges_text
from edgevit.vitconfig import VitConfig
from edgevit.workbench import Workbench

HARMS = Kind("merge-harms", __name__)
SHARES = tuple(round(0.05 * step, 2) for step in range(1, 10))
"""Of the multiply-accumulates, 5 % to 45 %."""
REFITTED = 0.7
"""Of the harm that a merge does by itself, what the refit leaves: the unit of `edgevit.pruning.candidates` is harm after it."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Tokens merged at places, and what that does."""

    merges: Merges
    harm: float
    """Mean squared change of the logits, over their variance, as if refitted; 0 for those of the model as it is."""


Families = tuple[tuple[Schedule, ...], ...]
"""Of schedules, each from little to much."""


def schedules(
    checkpoint: Checkpoint, images: ImageSet, merge: MergeSettings | None, bench: Workbench, *, tokens: bool = True
) -> Families:  # fmt: skip
    """What a search may merge of a model's tokens: only what ``merge`` asks for, if it does; else nothing, and if ``tokens`` says
    so, what is worth a look. A model that merges already stays as it is.

    The first of ``images`` are looked at, and what was found is kept. Raises ConfigError as `edgevit.tokens.settings.merges_of`,
    DataError for an unreadable image.
    """
    config = checkpoint.model.config
    alone: Merges = merges_in(config)
    wanted: list[list[Merges]]
    if merge is not None:
        wanted = [[merges_of(merge, config)]]
    else:
        wanted = [] if alone or not tokens else [list(_growing(config, places)) for places in (PLACES, LATE)]
    harms = _harms([merges for family in wanted for merges in family], checkpoint, images, bench)
    found = [tuple(Schedule(merges=merges, harm=harms[merges_text(merges)]) for merges in family) for family in wanted]
    return tuple(found) if merge is not None else ((Schedule(merges=alone, harm=0.0),), *found)


def _harms(wanted: Sequence[Merges], checkpoint: Checkpoint, images: ImageSet, bench: Workbench) -> dict[str, float]:
    """Of each of ``wanted``, by its text, as if refitted."""
    if not wanted:
        return {}
    looked_at, names = images.subset(range(min(PASSED_ON * BATCH, len(images)))), [merges_text(merges) for merges in wanted]
    key: dict[str, Any] = {
        "model": model_digest(checkpoint.model), "contract": checkpoint.preprocessing.to_dict(), "images": looked_at.digest(),
        "merges": names,
    }  # fmt: skip
    with bench.stage("score merges", total=len(wanted)) as stage:
        stored = bench.cache.find(HARMS, **key)
        stage.cached = stored is not None
        if stored is None:
            look, found = _Look(checkpoint, looked_at), list[float]()
            for merges in wanted:
                found.append(look.harm(merges))
                stage.advance()
            stored = json.dumps(found).encode()
            bench.cache.store(HARMS, stored, **key)
    return {name: REFITTED * harm for name, harm in zip(names, json.loads(stored), strict=True)}


def _growing(config: VitConfig, places: tuple[float, ...]) -> Iterator[Merges]:
    """What `SHARES` take at ``places``, each once, as far as it goes."""
    last: Merges = {}
    for share in SHARES:
        try:
            merges = merges_for_share(config, share, places)
        except ConfigError:  # more than can go there
            return
        if merges != last:
            yield merges
        last = merges


def can_merge(config: VitConfig) -> bool:
    """Whether a search finds anything to merge in such a model."""
    return (
        config.merges_tokens and not merges_in(config) and any(next(_growing(config, places), None) for places in (PLACES, LATE))
    )


class _Look:
    """Runs a few images through a model that merges and one that does not; what is in front of the first merge, once."""

    def __init__(self, checkpoint: Checkpoint, images: ImageSet) -> None:
        import torch

        self._checkpoint, self._model = checkpoint, fold(checkpoint.model, checkpoint.preprocessing)
        batches = images.prepared(checkpoint.preprocessing, BATCH)
        self._streams = {0: [embed(self._model, torch.from_numpy(frames)) for frames in batches]}
        self._logits = logits_of(self._model, self._streams[0])

    def harm(self, merges: Merges) -> float:
        """Mean squared change of the logits, over their variance."""
        changed = fold(merging(self._checkpoint.model, merges), self._checkpoint.preprocessing)
        first = min(merges)
        return self._logits.harm(passed_on(changed, first, self._into(first)))

    def _into(self, block: int) -> list[Tokens]:
        """What ``block`` takes."""
        if block not in self._streams:
            known = max(earlier for earlier in self._streams if earlier < block)
            self._streams[block] = [self._between(known, block, tokens) for tokens in self._streams[known]]
        return self._streams[block]

    def _between(self, start: int, end: int, tokens: Tokens) -> Tokens:
        for block in range(start, end):
            tokens = run_block(self._model, block, tokens)
        return tokens
