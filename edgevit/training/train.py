"""A linear head on frozen features: what it reads and its regularisation are chosen by cross-validation, which judges it, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.vit import Vit
from edgevit.problem import SINGLE_LABEL
from edgevit.training.features import Features, features_of
from edgevit.training.findings import Findings, findings_of
from edgevit.training.folds import folds_of, groups_of, near_duplicates
from edgevit.training.head import LinearHead, fit_heads
from edgevit.training.settings import TrainSettings
from edgevit.training.unknown import classes_left_out
from edgevit.workbench import Workbench

PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Of `fit_heads`, the strongest first: of equally good ones that counts."""
SHARES = (0.25, 0.5)
"""Of the photos, beside all of them: points of the learning curve."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """A choice, and what heads make of the photos that they were not fitted to."""

    pooling: tuple[str, ...]
    penalty: float
    logits: Tensor
    """float64 [photos, classes], each by the head of the other folds."""
    loss: float
    """Mean log loss, weighted as in training."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What is fitted again and again."""

    features: Features
    y: Tensor
    classes: int
    counts: Tensor
    """How much each photo counts [N]."""
    parts: Tensor
    """The part of the cross-validation that each photo is in, int64 [N]."""
    pairs: list[tuple[int, int]]
    """Photos that are nearly the same."""

    def fitted(self, rows: Tensor, columns: slice, penalties: Sequence[float]) -> list[LinearHead]:
        """Heads of the photos ``rows``, by all of their views."""
        views = self.features.views[rows][:, :, columns]
        each = views.shape[1]
        x, y, counts = views.flatten(0, 1), self.y[rows].repeat_interleave(each), self.counts[rows].repeat_interleave(each)
        return fit_heads(x, y, counts, self.classes, penalties)

    def best(self, rows: Tensor, judged: Judged) -> LinearHead:
        """The head that was chosen, of the photos ``rows``."""
        return self.fitted(rows, self.features.poolings[judged.pooling], [judged.penalty])[0]

    def logits(self, head: LinearHead, rows: Tensor, columns: slice) -> Tensor:
        """Of the photos themselves."""
        return head.logits(self.features.views[rows, 0, columns])

    def loss(self, logits: Tensor, rows: Tensor) -> float:
        """Mean log loss of ``rows``, weighted."""
        losses = F.cross_entropy(logits, self.y[rows], reduction="none")
        return float((losses * self.counts[rows]).sum() / self.counts[rows].sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A backbone with its new head."""

    checkpoint: Checkpoint
    judged: Judged
    findings: Findings
    task: Task


def train_head(backbone: Checkpoint, images: ImageSet, settings: TrainSettings, bench: Workbench) -> Trained:
    """Fit a head for the classes of ``images``, whose ``targets`` are known, on the features of ``backbone``.

    Raises DataError for an unreadable photo, and for a class that has too few to be judged.
    """
    assert images.targets is not None
    features = features_of(backbone, images, settings, bench)
    y = torch.tensor(images.targets)
    pairs = near_duplicates(features.views[:, 0], features.thumbnails)
    parts = folds_of(y, images.class_names, groups_of(len(y), pairs), settings.folds, settings.seed)
    task = Task(features=features, y=y, classes=len(images.class_names), counts=_counts(y, balanced=settings.balanced),
                parts=parts, pairs=pairs)  # fmt: skip
    total = len(features.poolings) + len(SHARES)
    with bench.stage("choose by cross-validation", total=total) as stage:
        judged: list[Judged] = []
        for pooling in features.poolings:
            judged += _judged(task, pooling)
            stage.advance()
        best = min(judged, key=lambda item: item.loss)
        curve = [(share, _right(task, _of_fewer(task, best, share, settings.seed))) for share in SHARES]
        stage.advance(len(SHARES))
        head = task.best(torch.arange(len(y)), best)
    curve.append((1.0, _right(task, best.logits)))
    checkpoint = with_head(backbone, best.pooling, head, images.class_names)
    with bench.stage("leave classes out"):
        own = features.views[:, 0, features.poolings[best.pooling]]
        left_out = tuple(classes_left_out(own, y, parts == 0, images.class_names, lambda rows: task.best(rows, best)))
    findings = findings_of(best.logits, y, images.class_names, images.names, pairs, curve, left_out)
    return Trained(checkpoint=checkpoint, judged=best, findings=findings, task=task)


def with_head(backbone: Checkpoint, pooling: tuple[str, ...], head: LinearHead, labels: tuple[str, ...]) -> Checkpoint:
    """``backbone`` with another head on what ``pooling`` gives: no projection, no features of length 1."""
    old = backbone.model.cpu()
    config = replace(old.config, pooling=pooling, classes=len(labels), projected=0, unit_features=False)
    with torch.device("meta"):
        model = Vit(config)
    state = {name: value for name, value in old.state_dict().items() if not name.startswith(("head.", "projection."))}
    state |= {"head.weight": head.weight.float(), "head.bias": head.bias.float()}
    model.load_state_dict(state, assign=True)
    return replace(backbone, labels=labels, problem_type=SINGLE_LABEL, text=None, notes=()).with_model(model.eval())


def _counts(y: Tensor, *, balanced: bool) -> Tensor:
    return 1.0 / torch.bincount(y)[y] if balanced else torch.ones(len(y))


def _judged(task: Task, pooling: tuple[str, ...]) -> list[Judged]:
    """Of every penalty."""
    columns, everything, parts = task.features.poolings[pooling], torch.arange(len(task.y)), task.parts
    logits = torch.zeros(len(PENALTIES), len(task.y), task.classes, dtype=torch.float64)
    for part in range(int(parts.max()) + 1):
        rest, own = (parts != part).nonzero()[:, 0], (parts == part).nonzero()[:, 0]
        for number, head in enumerate(task.fitted(rest, columns, PENALTIES)):
            logits[number, own] = task.logits(head, own, columns)
    return [
        Judged(pooling=pooling, penalty=penalty, logits=found, loss=task.loss(found, everything))
        for penalty, found in zip(PENALTIES, logits, strict=True)
    ]


def _of_fewer(task: Task, best: Judged, share: float, seed: int) -> Tensor:
    """As `Judged.logits`, by heads of ``share`` of the other photos of each class, at least one of each."""
    columns, parts, generator = task.features.poolings[best.pooling], task.parts, torch.Generator().manual_seed(seed)
    logits = torch.zeros(len(task.y), task.classes, dtype=torch.float64)
    for part in range(int(parts.max()) + 1):
        kept = []
        for label in range(task.classes):
            rows = ((parts != part) & (task.y == label)).nonzero()[:, 0]
            kept.append(rows[torch.randperm(len(rows), generator=generator)[: max(1, round(share * len(rows)))]])
        own = (parts == part).nonzero()[:, 0]
        logits[own] = task.logits(task.best(torch.cat(kept), best), own, columns)
    return logits


def _right(task: Task, logits: Tensor) -> float:
    return float((logits.argmax(1) == task.y).double().mean())
