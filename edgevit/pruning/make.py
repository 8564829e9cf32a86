"""A pruned model that could be kept: cut and refitted on all images, and recovered by distillation if that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.digest import model_digest
from edgevit.model.vit import Vit
from edgevit.pruning.costs import Costs
from edgevit.pruning.distillation import RecoverSettings
from edgevit.pruning.first_pass import Scored
from edgevit.pruning.recover import recover
from edgevit.pruning.second_pass import Pruned, prune
from edgevit.pruning.settings import PruneMethod
from edgevit.pruning.sublayers import Cut
from edgevit.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class Made:
    """What was made of a checkpoint."""

    pruned: Pruned
    """As it was refitted."""
    model: Vit
    """The same, recovered if that was asked for."""
    report: dict[str, Any]
    """JSON-ready: what went, at what error, and what recovery did."""


def make(
    scored: Scored, cuts: Sequence[Cut], images: ImageSet, bench: Workbench, onto: Vit | None = None
) -> Made:  # fmt: skip
    """The model that ``cuts`` leave; ``images`` are those of recovery. ``onto`` as `edgevit.pruning.second_pass.prune` takes it.

    Raises ConfigError and DataError as `edgevit.pruning.recover.recover`.
    """
    pruned, settings = prune(scored, cuts, bench, onto=onto), scored.settings
    report = pruned.to_dict() | {"settings": asdict(settings)}
    if not settings.recover:
        return Made(pruned=pruned, model=pruned.model, report=report)
    epochs = RecoverSettings(epochs=settings.recover, seed=settings.seed)
    recovered = recover(pruned.model, scored.checkpoint, images, epochs, bench)
    trained = {"loss_before": recovered.before, "loss": recovered.after, "kept": recovered.kept}
    return Made(pruned=pruned, model=recovered.model, report=report | {"recovery": trained})


def made_by(checkpoint: Checkpoint, images: ImageSet, settings: PruneMethod, costs: Costs) -> dict[str, Any]:
    """What `make` depends on, beside its code and what is cut: for a cache."""
    targets = images.truth_for(checkpoint.labels, checkpoint.problem_type)  # recovery and `taylor` read them
    return {
        "model": model_digest(checkpoint.model), "contract": checkpoint.preprocessing.to_dict(), "images": images.digest(),
        "targets": None if targets is None else targets.tolist(), "problem_type": checkpoint.problem_type,
        "settings": asdict(settings), "costs": asdict(costs),
    }  # fmt: skip
