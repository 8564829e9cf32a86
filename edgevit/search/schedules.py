"""Where a search may merge how many tokens, and the harm of it: measured on a few images, for every schedule as a whole.

Merges add up badly (what one leaves, the next one finds), so they are not weighed one by one, as sublayers are. There are few
that are worth a look: about equal parts in three places around the middle, or later, for shares of the arithmetic in steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from edgevit.cache import Kind
from edgevit.errors import ConfigError
from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.digest import model_digest
from edgevit.model.folded import FoldedVit, embed, run_block, run_head
from edgevit.model.merging import Tokens
from edgevit.model.rewrites.folding import fold
from edgevit.pruning.candidates import PASSED_ON, Logits
from edgevit.pruning.first_pass import BATCH
from edgevit.tokens.merge import merging
from edgevit.tokens.settings import LATE, PLACES, Merges, MergeSettings, merges_for_share, merges_in, merges_of, merges_text
from edgevit.vitconfig import VitConfig
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from torch import Tensor

HARMS = Kind("merge-harms", __name__)
SHARES = tuple(round(0.05 * step, 2) for step in range(1, 10))
"""Of the multiply-accumulates, 5 % to 45 %."""
REFITTED = 0.7
"""Of the harm that a merge does by itself, what the refit leaves: the unit of `edgevit.pruning.candidates` is harm after it."""


class Schedules:
    """What a search may merge of a model's tokens, in families of ever more, and the harm of each, measured once it is asked for.

    The first of the images are looked at, and what was found is kept. A model that merges already stays as it is.
    """

    def __init__(self, checkpoint: Checkpoint, images: ImageSet, bench: Workbench) -> None:
        self._checkpoint, self._bench = checkpoint, bench
        self._images = images.subset(range(min(PASSED_ON * BATCH, len(images))))
        self._harms, self._look = dict[str, float](), cast("_Look | None", None)

    def families(self, merge: MergeSettings | None, *, tokens: bool = True) -> list[list[Merges]]:
        """Each from little to much. Only what ``merge`` asks for, if it does; else nothing at first, and if ``tokens`` may be
        merged, what is worth a look. Raises ConfigError as `edgevit.tokens.settings.merges_of`.
        """
        config = self._checkpoint.model.config
        if merge is not None:
            return [[merges_of(merge, config)]]
        alone: Merges = merges_in(config)
        if alone or not tokens:
            return [[alone]]
        return [[alone], *(list(_growing(config, places)) for places in (PLACES, LATE))]

    def harm(self, merges: Merges) -> float:
        """Mean squared change of the logits, over their variance, as if refitted; 0 if the model does so as it is.

        Raises DataError for an unreadable image.
        """
        checkpoint, name = self._checkpoint, merges_text(merges)
        if merges == merges_in(checkpoint.model.config):
            return 0.0
        if name not in self._harms:
            key: dict[str, Any] = {
                "model": model_digest(checkpoint.model), "contract": checkpoint.preprocessing.to_dict(),
                "images": self._images.digest(), "merges": name,
            }  # fmt: skip
            with self._bench.stage("score merges", total=len(self._images)) as stage:
                stored = self._bench.cache.find(HARMS, **key)
                stage.cached = stored is not None
                if stored is None:
                    self._look = self._look or _Look(checkpoint, self._images)
                    stored = json.dumps(self._look.harm(merges)).encode()
                    stage.advance(len(self._images))
                    self._bench.cache.store(HARMS, stored, **key)
            self._harms[name] = REFITTED * json.loads(stored)
        return self._harms[name]


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


class _Look:
    """Runs a few images through a model that merges and one that does not; what is in front of the first merge, once."""

    def __init__(self, checkpoint: Checkpoint, images: ImageSet) -> None:
        import torch

        self._checkpoint, self._model = checkpoint, fold(checkpoint.model, checkpoint.preprocessing)
        batches = images.prepared(checkpoint.preprocessing, BATCH)
        self._streams = {0: [embed(self._model, torch.from_numpy(frames)) for frames in batches]}
        self._logits = Logits(batches=tuple(self._from(0, self._model)))

    def harm(self, merges: Merges) -> float:
        """Mean squared change of the logits, over their variance."""
        first = min(merges)
        if first not in self._streams:
            known = max(block for block in self._streams if block < first)
            self._streams[first] = [
                _through(self._model, range(known, first), tokens) for tokens in self._streams[known]
            ]  # fmt: skip
        changed = fold(merging(self._checkpoint.model, merges), self._checkpoint.preprocessing)
        return self._logits.harm(self._from(first, changed))

    def _from(self, block: int, model: FoldedVit) -> list[Tensor]:
        return [
            run_head(model, _through(model, range(block, len(model.blocks)), tokens)) for tokens in self._streams[block]
        ]  # fmt: skip


def _through(model: FoldedVit, blocks: range, tokens: Tokens) -> Tokens:
    for block in blocks:
        tokens = run_block(model, block, tokens)
    return tokens
