"""Recover what pruning cost by distillation: the pruned model learns to answer as the unpruned one does.

The loss is the Kullback-Leibler divergence of the logits' softmax (arXiv 1503.02531, temperature 1), of a multi-label model of
each label's sigmoid, and the squared error of the head's input over its variance; labels, where there are any, add the cross
entropy. AdamW with a cosine schedule.
Every second image is mirrored for teacher and student alike: what the teacher says of it is the truth to learn
(arXiv 2106.05237). The same seed, thread count and device give the same weights, in one go or resumed after any epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor

from edgevit.model.vit import Vit
from edgevit.problem import MULTI_LABEL, SINGLE_LABEL
from edgevit.quantize.sensitivity import bernoulli_kl

EVERY = 8  # of so many images, one is held out
WARM_UP = 0.1  # share of all steps
BATCHES_OF = 16


@dataclass(frozen=True, kw_only=True)
class RecoverSettings:
    """How a pruned model is trained."""

    epochs: int
    rate: float = 5e-5
    """Peak learning rate."""
    decay: float = 0.01
    """Weight decay."""
    labels: float = 0.0
    """Weight of the cross entropy with the true classes; 0 leaves them unread."""
    batch: int = BATCHES_OF
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Images to train on, delivered by number so that memory holds one batch."""

    count: int
    images: Callable[[list[int]], Tensor]
    """Normalised images [N, channels, H, W] by number."""
    targets: Tensor | None = None
    """int64 [count]: true classes; of a multi-label model bool [count, classes]."""

    @property
    def held_out(self) -> list[int]:
        """Every eighth, to tell whether training helped."""
        return list(range(EVERY - 1, self.count, EVERY))

    @property
    def trained(self) -> list[int]:
        """All others."""
        return [number for number in range(self.count) if number % EVERY != EVERY - 1]


@dataclass
class Training:
    """A pruned ``student`` on its way, after ``epoch`` epochs."""

    student: Vit
    teacher: Vit
    examples: Examples
    settings: RecoverSettings
    epoch: int = 0
    problem_type: str = SINGLE_LABEL

    def __post_init__(self) -> None:
        self.device = next(self.student.parameters()).device
        self.teacher = self.teacher.to(self.device).eval().requires_grad_(False)
        self.student.train().requires_grad_(True)
        self._optimizer = torch.optim.AdamW(self.student.parameters(), lr=self.settings.rate, weight_decay=self.settings.decay)
        self._step = 0

    @property
    def steps(self) -> int:
        """Of one epoch."""
        return -(-len(self.examples.trained) // self.settings.batch)

    def run_epoch(self, advance: Callable[[int], None]) -> float:
        """One epoch; ``advance`` gets the images of each step. Returns the mean loss. Raises ValueError if it is not finite."""
        # By epoch, not by what came before: a resumed run draws the same.
        generator = torch.Generator().manual_seed(self.settings.seed * 100003 + self.epoch)
        own = torch.tensor(self.examples.trained)
        order, losses = own[torch.randperm(len(own), generator=generator)], list[float]()
        for numbers in order.split(self.settings.batch):
            images = self.examples.images(numbers.tolist()).to(self.device)
            mirrored = torch.rand(len(images), generator=generator) < 0.5
            images[mirrored] = images[mirrored].flip(-1)
            for group in self._optimizer.param_groups:
                group["lr"] = self.settings.rate * schedule(self._step, self.steps * self.settings.epochs)
            loss = self._loss(images, numbers)
            self._optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
            self._optimizer.step()
            self._step += 1
            losses.append(loss.item())
            advance(len(images))
        self.epoch += 1
        mean = sum(losses) / len(losses)
        if not torch.tensor(mean).isfinite():
            msg = f"the loss is {mean} in epoch {self.epoch}"
            raise ValueError(msg)
        return mean

    @torch.no_grad()
    def loss_on(self, numbers: list[int]) -> float:
        """Mean loss of the student on images by number, as it stands, nothing mirrored and labels unread."""
        total = 0.0
        for start in range(0, len(numbers), self.settings.batch):
            part = numbers[start : start + self.settings.batch]
            total += len(part) * float(self._distance(self.examples.images(part).to(self.device))[0])
        return total / len(numbers)

    def _loss(self, images: Tensor, numbers: Tensor) -> Tensor:
        loss, logits = self._distance(images)
        if self.settings.labels and self.examples.targets is not None:
            loss = loss + self.settings.labels * self._cross_entropy(logits, self.examples.targets[numbers].to(self.device))
        return loss

    def _cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.problem_type == MULTI_LABEL:  # summed over labels, as the divergence is
            return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="sum") / len(logits)
        return F.cross_entropy(logits, targets)

    def _divergence(self, answers: Tensor, logits: Tensor) -> Tensor:
        if self.problem_type == MULTI_LABEL:
            return bernoulli_kl(answers, logits).mean()
        return F.kl_div(logits.log_softmax(-1), answers.log_softmax(-1), log_target=True, reduction="batchmean")

    def _distance(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """How far the student is from the teacher, and the student's logits."""
        with torch.no_grad():
            wanted = self.teacher.features(images)
            answers = self.teacher.head(wanted)
        features = self.student.features(images)
        logits = self.student.head(features)
        return self._divergence(answers, logits) + F.mse_loss(features, wanted) / wanted.var().clamp_min(1e-12), logits

    def dump(self) -> bytes:
        """Everything that the next epoch depends on (safetensors)."""
        state = {f"model.{key}": value for key, value in self.student.state_dict().items()}
        for number, parameter in enumerate(self.student.parameters()):
            for key in ("exp_avg", "exp_avg_sq"):
                state[f"optimizer.{number}.{key}"] = self._optimizer.state[parameter][key]
        state["counts"] = torch.tensor([self.epoch, self._step])
        return save({key: value.detach().cpu().contiguous() for key, value in state.items()})

    def resume(self, data: bytes) -> None:
        """Go on from what `dump` gave."""
        state = load(data)
        self.student.load_state_dict(
            {key.removeprefix("model."): value for key, value in state.items() if key.startswith("model.")}
        )
        self.epoch, self._step = (int(value) for value in state["counts"])
        for number, parameter in enumerate(self.student.parameters()):
            self._optimizer.state[parameter] = {"step": torch.tensor(float(self._step))} | {
                key: state[f"optimizer.{number}.{key}"].to(self.device) for key in ("exp_avg", "exp_avg_sq")
            }


def schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate at ``step`` of ``steps``: a linear start, then a cosine to zero."""
    start = max(1, round(WARM_UP * steps))
    if step < start:
        return (step + 1) / start
    return float(0.5 * (1 + torch.cos(torch.tensor(torch.pi * (step - start) / max(1, steps - start)))))
