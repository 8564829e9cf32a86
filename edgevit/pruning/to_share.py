"""A share of a model's arithmetic removed: heads, hidden neurons and whole sublayers, wherever that does least harm."""

from __future__ import annotations

from edgevit.cache import Kind
from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.pruning.costs import Costs
from edgevit.pruning.first_pass import check_settings, score
from edgevit.pruning.make import made_by, make
from edgevit.pruning.settings import PruneSettings
from edgevit.pruning.smaller import Smaller, kept
from edgevit.workbench import Workbench

PRUNED, PRUNED_REPORT = Kind("pruned", __name__), Kind("pruned-report", __name__)


def prune_to_share(
    checkpoint: Checkpoint, images: ImageSet, settings: PruneSettings, costs: Costs, bench: Workbench
) -> Smaller:  # fmt: skip
    """``checkpoint`` without ``settings.share`` of its multiply-accumulates, refitted on calibration ``images``.

    ``costs`` say what is worth removing. Raises ConfigError for what cannot be reached, DataError and StorageError as
    `edgevit.pruning.first_pass.score`.
    """
    check_settings(checkpoint, images, settings)

    def pruned() -> Smaller:
        scored = score(checkpoint, images, settings, bench, costs)
        made = make(scored, scored.cuts(settings.share), images, bench)
        return Smaller(
            checkpoint=checkpoint.with_model(made.model), report=made.report, summary=f"pruned: {made.pruned.describe()}"
        )

    key = made_by(checkpoint, images, settings, costs)
    return kept(checkpoint, (PRUNED, PRUNED_REPORT), key, "prune and refit", bench, pruned)
