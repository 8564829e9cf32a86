"""Distillation of a pruned checkpoint from the unpruned one, epoch by epoch kept, so that an interrupted run goes on."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.cache import Cache
from edgevit.compress.recover import Examples, RecoverSettings, Training
from edgevit.errors import ConfigError
from edgevit.images import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.pixels import normalise
from edgevit.model.vit import Vit
from edgevit.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """A student after distillation."""

    model: Vit
    before: float
    """Mean loss on the held-out images, without training."""
    after: float
    kept: bool
    """Whether training lowered it; else ``model`` is as it was."""


def recover(
    student: Vit, checkpoint: Checkpoint, images: ImageSet, settings: RecoverSettings, cache: Cache, progress: Progress
) -> Recovered:
    """``student`` trained to answer as ``checkpoint``'s model does on ``images``; both are left alone.

    Whether that helped is told on every eighth image, which is not trained on; if not, the student stays as it was. On CUDA
    where torch has it. Raises ConfigError if the loss does not stay finite, DataError for an unreadable image, StorageError if
    an epoch cannot be kept.
    """
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    contract, targets = checkpoint.preprocessing, images.truth_for(checkpoint.labels, checkpoint.problem_type)

    def deliver(numbers: list[int]) -> Tensor:
        frames = np.concatenate(list(images.subset(numbers).prepared(contract)))
        return normalise(torch.from_numpy(frames), contract)

    examples = Examples(
        count=len(images), images=deliver, targets=None if targets is None else torch.from_numpy(np.asarray(targets))
    )
    training = Training(
        copy.deepcopy(student).to(device),
        copy.deepcopy(checkpoint.model),
        examples,
        settings,
        problem_type=checkpoint.problem_type,
    )
    key: dict[str, Any] = {"weights": checkpoint.digest, "images": images.digest(), "settings": asdict(settings),
                           "student": _digest(student), "device": device.type,
                           "problem_type": checkpoint.problem_type}  # fmt: skip
    before = training.loss_on(examples.held_out)
    with progress.stage("recover", total=settings.epochs * len(examples.trained)) as stage:
        for epoch in range(settings.epochs, 0, -1):
            stored = cache.find("recover", **key, epoch=epoch)
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
            cache.store("recover", training.dump(), **key, epoch=training.epoch)
    training.student.eval()
    after = training.loss_on(examples.held_out)
    if not after < before:
        return Recovered(model=copy.deepcopy(student), before=before, after=after, kept=False)
    return Recovered(model=training.student.cpu().requires_grad_(True), before=before, after=after, kept=True)


def _digest(model: Vit) -> str:
    digest = hashlib.sha256(repr(model.config).encode())
    for value in model.state_dict().values():
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
