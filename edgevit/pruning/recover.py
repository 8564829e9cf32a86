"""Distillation of a pruned checkpoint from the unpruned one, epoch by epoch kept, so that an interrupted run goes on."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.cache import Kind
from edgevit.errors import ConfigError
from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.devices import compute_device
from edgevit.model.digest import model_digest
from edgevit.model.pixels import normalise
from edgevit.model.vit import Vit
from edgevit.pruning.distillation import Examples, RecoverSettings, Training
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from torch import Tensor

EPOCH = Kind("recover", __name__)


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """A student after distillation."""

    model: Vit
    before: float
    """Mean loss on the held-out images, without training."""
    after: float
    kept: bool
    """Whether training lowered it; else ``model`` is as it was."""


def recover(student: Vit, checkpoint: Checkpoint, images: ImageSet, settings: RecoverSettings, bench: Workbench) -> Recovered:
    """``student`` trained to answer as ``checkpoint``'s model does on ``images``; both are left alone.

    Whether that helped is told on every eighth image, which is not trained on; if not, the student stays as it was. On CUDA
    where torch has it. Raises ConfigError if the loss does not stay finite, DataError for an unreadable image.
    """
    import torch

    device = compute_device(bench.device)
    contract, targets = checkpoint.preprocessing, images.truth_for(checkpoint.labels, checkpoint.problem_type)
    if images.is_ambiguous(checkpoint.labels):  # which class is meant is unknown: distil alone
        targets = None

    def deliver(numbers: list[int]) -> Tensor:
        frames = np.concatenate(list(images.subset(numbers).prepared(contract)))
        return normalise(torch.from_numpy(frames), contract)

    examples = Examples(
        count=len(images), images=deliver, targets=None if targets is None else torch.from_numpy(np.asarray(targets))
    )
    teacher, kind = checkpoint.model, checkpoint.problem_type
    training = Training(copy.deepcopy(student).to(device), copy.deepcopy(teacher), examples, settings, problem_type=kind)
    key: dict[str, Any] = {
        "teacher": model_digest(teacher), "student": model_digest(student), "contract": contract.to_dict(),
        "images": images.digest(), "targets": None if targets is None else targets.tolist(), "settings": asdict(settings),
        "device": device.type, "problem_type": kind,
    }  # fmt: skip
    before = training.loss_on(examples.held_out)
    with bench.stage("recover", total=settings.epochs * len(examples.trained)) as stage:
        for epoch in range(settings.epochs, 0, -1):
            stored = bench.cache.find(EPOCH, **key, epoch=epoch)
            if stored is not None:
                training.resume(stored)
                stage.advance(epoch * len(examples.trained))
                stage.cached = epoch == settings.epochs
                break
        while training.epoch < settings.epochs:
            try:
                training.run_epoch(stage.advance)
            except ValueError as error:
                msg = f"--recover: {error}. The model is not one that this training suits; prune without it."
                raise ConfigError(msg) from error
            bench.cache.store(EPOCH, training.dump(), **key, epoch=training.epoch)
    training.student.eval()
    after = training.loss_on(examples.held_out)
    if not after < before:
        return Recovered(model=copy.deepcopy(student), before=before, after=after, kept=False)
    return Recovered(model=training.student.cpu().requires_grad_(True), before=before, after=after, kept=True)
