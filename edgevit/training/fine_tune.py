"""The last blocks of a backbone learn, too, and it is judged whether that helped.

Linear probing, then fine-tuning (LP-FT, arXiv 2202.10054): every run begins from the linear head on frozen features, so that
a random head does not spoil the features. It is judged by the parts of the head's own cross-validation: for each part, another
one decides when to stop, the remaining ones teach, and the part itself is looked at once, in the end. So each photo has an answer
by a model that saw it neither in a gradient nor in that choice, and beside it the answer of a frozen head of the
cross-validation: a paired comparison on the same photos. If it helped beyond chance, all photos teach what is written, for as
many epochs as the runs took in the middle; else the frozen head stays.
"""

from __future__ import annotations

import copy
import statistics
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from edgevit.cache import Kind
from edgevit.errors import DataError
from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.devices import compute_device
from edgevit.model.digest import model_digest
from edgevit.model.vit import Vit
from edgevit.training.findings import Findings, findings_of
from edgevit.training.judgement import Judgement, judged
from edgevit.training.run import Epoch, Lesson, Run
from edgevit.training.settings import FineTuneSettings
from edgevit.training.train import Task, Trained
from edgevit.training.unfrozen import Cut
from edgevit.training.views import Views
from edgevit.workbench import Workbench

STATE = Kind("fine-tuning", __name__, durable=True)
FEWEST_PARTS = 3
"""One to judge, one to stop by, one to learn from."""
NOBODY = torch.arange(0)
JUDGED = 500
"""Photos that are enough to judge by: of many photos, not every part has its run."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One run of the judgement."""

    photos: int
    """That it was judged by."""
    best: int
    """The epoch whose weights were judged; 0 is the linear head."""
    epochs: tuple[Epoch, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What fine-tuning took and brought."""

    unfrozen: int | str
    """Blocks that learn, or ``all``."""
    parameters: int
    """Weights that learn."""
    rate: float
    """Peak learning rate of the head."""
    parts: tuple[Part, ...]
    epochs: int
    """Of the model that is written, had it helped: the median of the parts' best ones."""
    judgement: Judgement
    frozen: Findings
    """Of the head on frozen features."""
    written: tuple[Epoch, ...] = ()
    """Epochs of the model that is written; none where the frozen head is."""

    @property
    def curve(self) -> list[dict[str, float]]:
        """By epoch: the mean over the parts that got so far of the loss, and of loss and share right of the stopping photos."""
        found = []
        for number in range(max(len(part.epochs) for part in self.parts)):
            there = [part.epochs[number] for part in self.parts if number < len(part.epochs)]
            means = {name: statistics.fmean(values) for name in ("loss", "stop_loss", "stop_right")
                     if (values := [getattr(point, name) for point in there if getattr(point, name) is not None])}  # fmt: skip
            found.append({"epoch": number, "parts": len(there)} | means)
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"judgement": self.judgement.to_dict(), "curve": self.curve, "frozen": self.frozen.to_dict()}


@dataclass(frozen=True, kw_only=True, eq=False)
class FineTuned:
    """What is written, and why."""

    checkpoint: Checkpoint
    findings: Findings
    """Of what is written."""
    report: Report
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Workshop:
    """What all runs share."""

    trained: Trained
    views: Views
    settings: FineTuneSettings
    bench: Workbench
    kept: list[str] = field(default_factory=list)
    """Runs of which an earlier command left something."""
    notes: list[str] = field(default_factory=list)

    @property
    def task(self) -> Task:
        return self.trained.task

    @property
    def key(self) -> dict[str, Any]:
        """JSON-ready: all that every run depends on."""
        choice = self.trained.judged
        return {
            "views": self.views.key, "head": model_digest(self.trained.checkpoint.model), "settings": asdict(self.settings),
            "marks": self.views.marks, "y": self.task.y.tolist(), "parts": self.task.parts.tolist(),
            "pooling": choice.pooling, "penalty": choice.penalty,
        }  # fmt: skip

    def model(self, learn: Tensor) -> Vit:
        """The backbone with a linear head fitted to the photos ``learn``, on the device."""
        choice, model = self.trained.judged, copy.deepcopy(self.trained.checkpoint.model)
        head = self.task.best(learn, choice)
        with torch.no_grad():
            model.head.weight.copy_(head.weight)
            model.head.bias.copy_(head.bias)
        return model.to(compute_device(self.bench.device))

    def run(self, name: str, learn: Tensor, stop: Tensor, epochs: int) -> Run:
        """A run to its end, with the best weights; it goes on where an earlier one was interrupted."""
        lesson = Lesson(learn=learn, stop=stop, y=self.task.y, counts=self.task.counts, epochs=epochs)
        run, cache, key = Run(self.model(learn), self.views, lesson, self.settings), self.bench.cache, {**self.key, "run": name}
        stored = cache.find(STATE, **key, epochs=epochs)
        if stored is None:
            run.begin()
        else:
            run.resume(stored)
            self.kept.append(name)
        if self.kept and not self.notes and not run.finished:
            self.notes.append(f"resumed: fine-tuning went on with {name}, epoch {run.epoch + 1}; what was before it was kept")
        if run.finished:
            with self.bench.stage(f"fine-tune {name}") as stage:
                stage.cached, stage.found = stored is not None, f"best after epoch {run.best}"
        resumed = " (resumed)" if run.epoch else ""
        while not run.finished:
            with self.bench.stage(f"fine-tune {name}, epoch {run.epoch + 1}{resumed}", total=len(learn)) as stage:
                point = run.step(stage.advance)
                stage.found = _said(point)
                cache.store(STATE, run.dump(), **key, epochs=epochs)
        run.take_best()
        return run


def fine_tune(
    backbone: Checkpoint, images: ImageSet, trained: Trained, settings: FineTuneSettings, bench: Workbench
) -> FineTuned:
    """Fine-tune ``backbone`` from the head that ``trained`` chose for ``images``, judge it, and keep it if that helped.

    Raises ConfigError for more blocks than there are, and for a learning rate that diverges, DataError for too few photos.
    """
    count = int(trained.task.parts.max()) + 1
    if count < FEWEST_PARTS:
        msg = f"{images.source}: too few different photos to fine-tune: one part to judge, one to stop by, one to learn from."
        raise DataError(msg)
    with Views(backbone, images, settings, bench) as views:
        views.prepare()
        shop = _Workshop(trained, views, settings, bench)
        rows, logits, parts = _cross_fitted(shop, count)
        y = trained.task.y[rows]
        judgement = judged(trained.judged.logits[rows], logits, y, balanced=settings.balanced)
        rate = settings.rate_for(backbone.model.config.width)
        epochs = max(1, statistics.median_high(part.best for part in parts))
        report = Report(
            unfrozen=settings.unfreeze, parameters=_learning(trained, settings), rate=rate,
            parts=parts, epochs=epochs, judgement=judgement, frozen=trained.findings,
        )  # fmt: skip
        if not judgement.helped:
            return FineTuned(checkpoint=trained.checkpoint, findings=trained.findings, report=report, notes=tuple(shop.notes))
        run = shop.run("all photos", torch.arange(len(trained.task.y)), NOBODY, epochs)
    model = run.model.cpu().requires_grad_(True)
    place = {int(row): number for number, row in enumerate(rows)}
    pairs = [(place[one], place[other]) for one, other in trained.task.pairs if one in place and other in place]
    names = [images.names[row] for row in rows]
    return FineTuned(
        checkpoint=trained.checkpoint.with_model(model),
        findings=findings_of(logits, y, images.class_names, names, pairs, trained.findings.curve,
                             trained.findings.left_out),
        report=replace(report, written=tuple(run.curve)), notes=tuple(shop.notes),
    )  # fmt: skip


def _cross_fitted(shop: _Workshop, count: int) -> tuple[Tensor, Tensor, tuple[Part, ...]]:
    """Photos int64 [J], in order, the logits float64 [J, classes] of each by a run that had not seen it, and the runs."""
    found, runs = dict[int, Tensor](), []
    parts = shop.task.parts
    for part in range(count):
        own, stop = ((parts == which).nonzero()[:, 0] for which in (part, (part + 1) % count))
        learn, rest = ((parts != part) & (parts != (part + 1) % count)).nonzero()[:, 0], (parts != part).nonzero()[:, 0]
        name = f"part {part + 1}/{count}"
        curve = shop.run(name, learn, stop, shop.settings.epochs)
        logits = shop.trained.judged.logits[own]  # of the head on frozen features, which had the same photos
        if curve.best:
            logits = shop.run(f"{name} refit", rest, NOBODY, curve.best).logits(own.tolist())
        found |= dict(zip(own.tolist(), logits, strict=True))
        runs.append(Part(photos=len(own), best=curve.best, epochs=tuple(curve.curve)))
        if len(found) >= JUDGED:
            break
    rows = sorted(found)
    return torch.tensor(rows), torch.stack([found[row] for row in rows]), tuple(runs)


def _learning(trained: Trained, settings: FineTuneSettings) -> int:
    model = trained.checkpoint.model
    cut = Cut.of(model.config, settings.unfreeze)
    return sum(parameter.numel() for parameter, _ in cut.parameters(model).values())


def _said(point: Epoch) -> str:
    stop = (
        "" if point.stop_loss is None else f"; stopping loss {point.stop_loss:.3f}, {100 * (point.stop_right or 0):.1f} % right"
    )
    return f"loss {point.loss:.3f}{stop}"
