"""One fine-tuning: some photos teach, others say when to stop. Every epoch's end is a state that it can go on from.

AdamW (arXiv 1711.05101), a linear warm-up and a cosine, learning rates that fall from the head to the first block that learns
(arXiv 2106.08254), gradients clipped at 1. The same seed, thread count and CPU give the same weights bit by bit, in one go or
resumed after any epoch.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor

from edgevit.errors import ConfigError
from edgevit.model.vit import Vit
from edgevit.training.settings import FineTuneSettings
from edgevit.training.unfrozen import Cut
from edgevit.training.views import Views

CLIPPED = 1.0
STEPS, LEAST_BATCH = 10, 4
"""Of few photos, a step has fewer than the settings say, so that an epoch is about so many steps, but at least four."""
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch brought; number 0 is the linear head before any."""

    number: int
    loss: float | None
    """Mean log loss while learning, of pictures made of the photos."""
    stop_loss: float | None
    """Mean log loss of the photos that decide when to stop; None where there are none."""
    stop_right: float | None
    """Share of them that is right, 0 to 1."""
    seconds: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """What one run learns from."""

    learn: Tensor
    """Numbers int64 [L] of the photos that teach."""
    stop: Tensor
    """Of those that decide when to stop; none where the number of epochs is known."""
    y: Tensor
    """Classes int64 of all photos."""
    counts: Tensor
    """How much each of all photos counts."""
    epochs: int
    """To run, at most; the schedule is that of the settings."""


@dataclass(eq=False)
class Run:
    """``model``, whose head is a linear one fitted to the photos that teach, on its way."""

    model: Vit
    views: Views
    lesson: Lesson
    settings: FineTuneSettings
    curve: list[Epoch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._cut = Cut.of(self.model.config, self.settings.unfreeze)
        self.device = next(self.model.parameters()).device
        self.model.eval().requires_grad_(False)
        self._learning = {name: parameter for name, (parameter, _) in self._cut.parameters(self.model).items()}
        for parameter in self._learning.values():
            parameter.requires_grad_(True)
        rate, config = self.settings.rate_for(self.model.config.width), self.settings
        self._optimizer = torch.optim.AdamW(
            self._cut.groups(self.model, rate=rate, layer_decay=config.layer_decay, weight_decay=config.weight_decay)
        )
        self._batch = max(LEAST_BATCH, min(config.batch, len(self.lesson.learn) // STEPS))
        self._at_once = self._cut.at_once(self.model.config, config.batch)
        self._best = self._weights()

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return max(0, len(self.curve) - 1)

    @property
    def best(self) -> int:
        """The epoch with the least loss of the stopping part, the earliest of equals; without such a part the last."""
        if not len(self.lesson.stop):
            return self.epoch
        return min(self.curve, key=lambda point: (_or_infinite(point.stop_loss), point.number)).number

    @property
    def finished(self) -> bool:
        """Whether another epoch would be one too many."""
        over = bool(self.curve) and self.epoch >= self.lesson.epochs
        return over or (len(self.lesson.stop) > 0 and self.epoch - self.best >= self.settings.patience)

    def begin(self) -> None:
        """Look where the linear head stands."""
        start = time.perf_counter()
        self._add(None, start)

    def step(self, advance: Callable[[int], None]) -> Epoch:
        """One epoch; ``advance`` gets the photos of each step. Raises ConfigError if the loss does not stay finite."""
        start, total = time.perf_counter(), 0.0
        for number, numbers in enumerate(self._order().split(self._batch)):
            self._set_rates(self.epoch * self._steps + number)
            self._optimizer.zero_grad()
            for part in numbers.split(self._at_once):
                loss = self._loss(part) / len(numbers)
                loss.backward()
                total += float(loss.detach()) * len(numbers)
            torch.nn.utils.clip_grad_norm_(list(self._learning.values()), CLIPPED)
            self._optimizer.step()
            advance(len(numbers))
        if not math.isfinite(total):
            msg = f"--unfreeze: the loss is {total} in epoch {self.epoch + 1}. Give a smaller --lr than {self._rate:.1g}."
            raise ConfigError(msg)
        return self._add(total / len(self.lesson.learn), start)

    @torch.no_grad()
    def logits(self, numbers: Sequence[int]) -> Tensor:
        """float64 [N, classes] of the photos ``numbers`` as they are, by the model as it stands; on the CPU."""
        parts = torch.tensor(numbers).split(self._at_once)
        return torch.cat([self._cut.logits(self.model, self.views(part.tolist())).double().cpu() for part in parts])

    def take_best(self) -> None:
        """Go back to the weights of the best epoch."""
        with torch.no_grad():
            for name, value in self._best.items():
                self._learning[name].copy_(value)

    @property
    def _rate(self) -> float:
        return self.settings.rate_for(self.model.config.width)

    @property
    def _steps(self) -> int:
        """Of one epoch."""
        return -(-len(self.lesson.learn) // self._batch)

    def _order(self) -> Tensor:
        # By epoch, not by what came before: a resumed run draws the same.
        generator = torch.Generator().manual_seed(self.settings.seed * 100003 + self.epoch)
        return self.lesson.learn[torch.randperm(len(self.lesson.learn), generator=generator)]

    def _set_rates(self, step: int) -> None:
        share = schedule(step, self._steps * self.settings.epochs, self.settings.warm_up)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * share

    def _loss(self, numbers: Tensor) -> Tensor:
        """Summed over photos, each weighted; the weights' mean over all that teach is 1."""
        taken = self.views(numbers.tolist(), self.epoch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = self._cut.logits(self.model, taken).float()
        y, counts = self.lesson.y[numbers].to(self.device), self._weights_of(numbers).to(self.device)
        return (F.cross_entropy(logits, y, reduction="none", label_smoothing=self.settings.smoothing) * counts).sum()

    def _weights_of(self, numbers: Tensor) -> Tensor:
        return (self.lesson.counts / self.lesson.counts[self.lesson.learn].mean())[numbers].float()

    def _add(self, loss: float | None, start: float) -> Epoch:
        number, stop = len(self.curve), self.lesson.stop
        stop_loss, right = (None, None) if not len(stop) else self._stopping()
        point = Epoch(number=number, loss=loss, stop_loss=stop_loss, stop_right=right, seconds=time.perf_counter() - start)
        self.curve.append(point)
        if self.best == number:
            self._best = self._weights()
        return point

    def _stopping(self) -> tuple[float, float]:
        stop = self.lesson.stop
        logits, y, counts = self.logits(stop.tolist()), self.lesson.y[stop], self.lesson.counts[stop].double()
        losses = F.cross_entropy(logits, y, reduction="none")
        return float((losses * counts).sum() / counts.sum()), float((logits.argmax(1) == y).double().mean())

    def _weights(self) -> dict[str, Tensor]:
        return {name: parameter.detach().cpu().clone() for name, parameter in self._learning.items()}

    def dump(self) -> bytes:
        """Everything that the next epoch depends on (safetensors). A finished run keeps its best weights alone."""
        state = {f"best.{name}": value for name, value in self._best.items()}
        if not self.finished:
            state |= {f"model.{name}": value for name, value in self._weights().items()}
            for name, parameter in self._learning.items():
                moments = self._optimizer.state.get(parameter, {})
                state |= {f"{key}.{name}": moments[key].detach().cpu() for key in MOMENTS if key in moments}
        return save({name: value.contiguous() for name, value in state.items()},
                    metadata={"curve": json.dumps([asdict(point) for point in self.curve])})  # fmt: skip

    def resume(self, data: bytes) -> None:
        """Go on from what `dump` gave."""
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        self.curve = [Epoch(**point) for point in json.loads(header["__metadata__"]["curve"])]
        state = load(data)
        self._best = {name: state[f"best.{name}"] for name in self._learning}
        with torch.no_grad():
            for name, parameter in self._learning.items():
                parameter.copy_(state.get(f"model.{name}", self._best[name]))
                if f"{MOMENTS[0]}.{name}" in state:
                    self._optimizer.state[parameter] = {"step": torch.tensor(float(self.epoch * self._steps))} | {
                        key: state[f"{key}.{name}"].to(self.device) for key in MOMENTS
                    }


def _or_infinite(loss: float | None) -> float:
    return math.inf if loss is None or math.isnan(loss) else loss


def schedule(step: int, steps: int, warm_up: float) -> float:
    """Share of the peak learning rate at ``step`` of ``steps``: a linear rise, then a cosine to zero (arXiv 1608.03983)."""
    rise = max(1, round(warm_up * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
