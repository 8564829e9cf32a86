"""A ViT from nothing in half a minute: large in what it computes for a picture, small in what a step of training costs.

A step sees every second row and every third column of a picture's patches, from a random one on: as with patch dropout
(arXiv 2208.07220), cost falls with their number, and what is learned holds for all of them, since positions are kept. The last
epoch sees all. Matrices are trained by Muon, which here takes half of AdamW's epochs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW, Muon
from torch.optim.lr_scheduler import OneCycleLR

from edgevit.cache import Kind
from edgevit.model.checkpoint import checkpoint_bytes
from edgevit.model.merging import Tokens
from edgevit.model.vit import Vit
from edgevit.preprocess import Preprocessing
from edgevit.vitconfig import VitConfig
from edgevit.workbench import Workbench

KIND = Kind("demo-model", __name__)
PEAK_RATE, DECAY = 1e-3, 0.05
MATRIX_RATE = 2e-3  # Muon's, of updates as large as AdamW's
SMOOTHING = 0.1
SHIFT = 3 / 32  # of the side
WAVES = 100.0  # the longest wave of a position, over 2 pi, in patches


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long, and on how much of a picture."""

    epochs: int = 8
    """The last one sees all patches."""
    stride: tuple[int, int] = (2, 3)
    """Of the rows and columns of patches that a step sees before."""
    batch: int = 32

    def steps(self, images: int) -> int:
        """Of training on so many ``images``."""
        return self.epochs * (images // self.batch)


def trained_checkpoint(
    config: VitConfig, contract: Preprocessing, images: Tensor, targets: Tensor, *,
    schedule: Schedule, labels: tuple[str, ...], bench: Workbench,
) -> bytes:  # fmt: skip
    """What `trained` gives as a checkpoint, or as it was kept. Deterministic on one machine."""
    shown = hashlib.sha256(images.numpy().tobytes() + targets.numpy().tobytes()).hexdigest()
    key: dict[str, Any] = {
        "config": config.to_dict(),
        "contract": contract.to_dict(),
        "schedule": asdict(schedule),
        "images": shown,
    }
    with bench.stage("train a ViT on them", total=schedule.steps(len(images))) as stage:
        found = bench.cache.find(KIND, **key)
        stage.cached = found is not None
        if found is None:
            torch.manual_seed(0)
            model = trained(config, images, targets, schedule, stage.advance)
            found = checkpoint_bytes(model, preprocessing=contract, labels=labels)
            bench.cache.store(KIND, found, **key)
    return found


def trained(config: VitConfig, images: Tensor, targets: Tensor, schedule: Schedule, advance: Callable[[], None]) -> Vit:
    """A ViT of ``config`` without prefix tokens, in eval mode, trained on normalised ``images`` [N, channels, H, W].

    ``targets`` are int64 [N]. Torch's own generator decides; ``advance`` is called behind every step.
    """
    model = Vit(config)
    _initialise(model)
    optimizers = _optimizers(model)
    rates = [OneCycleLR(each, each.defaults["lr"], total_steps=schedule.steps(len(images)), pct_start=0.2) for each in optimizers]
    for batch, stride in _batches(len(images), schedule):
        logits = _logits_of_some(model, _shifted(images[batch]), stride)
        loss = F.cross_entropy(logits, targets[batch], label_smoothing=SMOOTHING)
        model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.step()
            rate.step()
        advance()
    return model.eval()


def _batches(images: int, schedule: Schedule) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Which images a step sees, and the stride of their patches."""
    for epoch in range(schedule.epochs):
        last = epoch == schedule.epochs - 1
        whole = images // schedule.batch * schedule.batch
        for batch in torch.randperm(images)[:whole].split(schedule.batch):
            yield batch, ((1, 1) if last else schedule.stride)


def _initialise(model: Vit) -> None:
    """Wider than for long training, so that attention has something to tell apart from the first step; positions as sines."""
    for weight in _matrices(model):
        nn.init.xavier_uniform_(weight)
    assert model.positions is not None
    rows, columns = model.config.grid
    with torch.no_grad():
        model.positions.copy_(0.5 * _sines(rows, columns, model.config.width))


def _sines(rows: int, columns: int, width: int) -> Tensor:
    """Sines and cosines of rows and columns (arXiv 2205.01580), [rows * columns, width]."""
    rates = WAVES ** -(torch.arange(width // 4) / (width // 4))
    row, column = (torch.arange(count)[:, None] * rates for count in (rows, columns))
    of_row, of_column = (torch.cat([angle.sin(), angle.cos()], 1) for angle in (row, column))
    return torch.cat([of_row.repeat_interleave(columns, 0), of_column.repeat(rows, 1)], 1)


def _matrices(model: Vit) -> list[Tensor]:
    """The weights of all blocks' layers."""
    return [module.weight for module in model.blocks.modules() if isinstance(module, nn.Linear)]


def _optimizers(model: Vit) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Muon (arXiv 2502.16982) for the blocks' matrices, AdamW for all else."""
    matrices = _matrices(model)
    inner = {id(weight) for weight in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in inner]
    return (
        Muon(matrices, lr=MATRIX_RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"),
        AdamW(others, lr=PEAK_RATE, weight_decay=DECAY, betas=(0.9, 0.95)),
    )


def _logits_of_some(model: Vit, images: Tensor, stride: tuple[int, int]) -> Tensor:
    """Logits [N, classes] from the patches of every so manyth row and column."""
    x = model.embed(images)
    first = [int(torch.randint(0, step, (1,))) for step in stride]
    chosen = torch.arange(x.shape[1]).view(model.config.grid)[first[0] :: stride[0], first[1] :: stride[1]].flatten()
    tokens = model.through(Tokens(x[:, chosen]))
    return model.head(model.features_of(tokens.with_x(model.norm(tokens.x))))


def _shifted(images: Tensor) -> Tensor:
    """Each batch moved by up to a tenth of its side, so that position is not learned by heart."""
    most = round(SHIFT * images.shape[-1])
    rows, columns = (int(v) for v in torch.randint(-most, most + 1, (2,)))
    return torch.roll(images, (rows, columns), (2, 3))
