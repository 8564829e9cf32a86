"""What a build would do, in the build's own stages, and what of it is kept already: found as the build finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from edgevit.bundle import described_input
from edgevit.cache import Cache, Kept, NotKeptError
from edgevit.commands.build_inputs import BuildRequest, read_inputs, spare_images
from edgevit.engine import backend
from edgevit.engine.here import is_here, judge_of
from edgevit.engine.tensorrt import builder_version
from edgevit.errors import BudgetError, EngineError, MissingPackageError
from edgevit.export.form import form_for
from edgevit.export.variants import fp32_variant
from edgevit.images.dataset import ImageSet
from edgevit.measure.evaluate import evaluate, identity
from edgevit.measure.evaluator import Judge
from edgevit.numberformat import FORMATS
from edgevit.problem import describe
from edgevit.progress import Progress, Stage
from edgevit.prune.first_pass import score
from edgevit.prune.goal import Goal, Outcome, costs_for, prune_to
from edgevit.prune.settings import PruneSettings
from edgevit.quantize.decide import Budget, Decision, decide

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """One stage of a dry run."""

    name: str
    what: str
    cached: bool = False


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A dry run: what would be done, and what is assumed on the way."""

    stages: tuple[PlannedStage, ...]
    notes: tuple[str, ...]
    """Of reading the checkpoint and choosing the images."""


class _Seen(Progress):
    """Which stages found all that they asked for."""

    def __init__(self) -> None:
        self.cached: dict[str, bool] = {}

    def end(self, stage: Stage) -> None:
        """A stage that was cut short has missed something."""
        self.cached[stage.name] = self.cached.get(stage.name, True) and stage.finished and stage.cached


class Plan:
    """The stages of one request. Nothing slow is computed, and nothing written."""

    def __init__(self, request: BuildRequest, cache: Cache, *, runs: int, spent: float) -> None:
        """Read the files, which raises what `read_inputs` does, and look up what is kept.

        Args:
            request: what is to be built.
            cache: where results are kept.
            runs: timed inferences of each precision.
            spent: share of the budget that pruning may spend first.
        """
        self.request, self.runs, self.engine, self.judging = request, runs, request.target.engine(), judge_of(request.target)
        self._kept, self._seen, self.spare = Kept(root=cache.root, enabled=cache.enabled), _Seen(), None
        self.inputs = read_inputs(request, self._seen)
        if request.max_drop is not None:
            self.inputs, self.spare = spare_images(request, self.inputs)
        self.judge = self._look(self._judge) if request.max_drop is not None else None
        self.pruned = self._look(lambda: self._prune(spent)) if request.prune is not None else None
        self.decided = self._look(self._decide)

    def stages(self) -> Iterator[PlannedStage]:
        """In the order in which they first begin; those that come again and again are listed once."""
        request, inputs = self.request, self.inputs
        checkpoint, config = inputs.checkpoint, inputs.checkpoint.model.config
        kind = describe(checkpoint.problem_type)
        yield self._stage("import model", f"{checkpoint.family}, {len(config.blocks)} blocks of width {config.width}, {kind}")
        yield self._stage("input", described_input(config.image_size, checkpoint.sized_by))
        if "check images" in self._seen.cached:
            folders = " and ".join(str(path) for path in (request.data, request.eval_data) if path is not None)
            yield self._stage("check images", f"that all of {folders} can be read")
        if "match classes" in self._seen.cached:
            yield self._stage("match classes", "as the model answers a few images: their names do not tell")
        yield self._stage("write graph", f"fp32 for {self.judging}")
        yield self._stage("check engine", f"every graph on {self.judging}, against torch")
        if self.spare is not None:
            what = f"at most {request.max_drop:g} points lost, on {len(self.spare)} images set apart, with {self.judging}"
            yield self._stage("search", what)
        if request.prune is not None and inputs.pruning is not None:
            yield from self._pruning(request.prune, inputs.pruning)
        if inputs.calibration is not None:
            yield from self._quantizing(inputs.calibration)
        yield from self._compiling()
        if inputs.held_out is not None:
            yield from self._evaluating(inputs.held_out)
            if is_here(request.target):
                yield self._stage("measure latency", f"{self.runs} inferences of each, interleaved")
        yield self._stage("write bundle", str(request.out))

    def _pruning(self, settings: PruneSettings, images: ImageSet) -> Iterator[PlannedStage]:
        if not self.engine.startswith("tensorrt"):
            if is_here(self.request.target):
                yield self._stage("measure layer times", f"of every width, in {self.request.precision} with {self.engine}")
        elif builder := self._builder():
            yield self._stage(f"estimate layer times by {builder}", f"of every width, in {self.request.precision}")
        if self.pruned is None:
            if "score" not in self._seen.cached:
                if settings.score == "taylor":
                    yield self._stage("gradients of the loss", "for --score taylor")
                yield self._stage("gradients", "how much each token and channel counts")
            yield self._stage("score", f"by {settings.score}, on {len(images)} images of {self.request.data} at most")
            if settings.speedup is not None and is_here(self.request.target) and not self.engine.startswith("tensorrt"):
                yield self._stage("measure the speed-up", f"until it is {settings.speedup:g}")
        yield self._stage("prune and refit", f"{_how_much(settings)}, on {len(images)} images of {self.request.data}")
        if self.pruned is None and settings.recover:
            yield self._stage("recover", f"{settings.recover} epochs of distillation")

    def _quantizing(self, images: ImageSet) -> Iterator[PlannedStage]:
        on = f"{len(images)} images of {self.request.data}"
        if form_for(self.engine, self.request.precision).dtype == "fp16":
            yield self._stage("check fp16 range", on)
        if not FORMATS[self.request.precision].scaled:
            return
        yield self._stage("quantize", f"recipe {self.request.recipe.name}, {on}")
        if self.request.max_drop is not None and (self.decided is None or "sensitivity" in self._seen.cached):
            yield self._stage("sensitivity", "only if INT8 as a whole loses more than that: what goes back to floating point")

    def _compiling(self) -> Iterator[PlannedStage]:
        if self.engine.startswith("tensorrt"):
            if builder := self._builder():
                yield self._stage(f"compile with {builder}", self.request.precision)
            return
        try:
            yield self._stage(f"compile with {self.engine}", f"{self.request.precision} with {backend(self.engine).version}")
        except MissingPackageError:
            yield self._stage(f"compile with {self.engine}", "not installed here, so not checked")

    def _evaluating(self, images: ImageSet) -> Iterator[PlannedStage]:
        original, request = self.inputs.checkpoint, self.request
        graphs: dict[str, Callable[[], bytes] | None] = {"fp32": lambda: fp32_variant(original, self.judging).model}
        if request.prune is not None:
            known = self.pruned
            graphs["fp32-pruned"] = (lambda: fp32_variant(known.checkpoint, self.judging).model) if known else None
        decided = self.decided
        if request.precision != "fp32":
            name = decided.variant(self.engine).precision if decided else request.precision
            graphs[name] = (lambda: decided.variant(self.engine).model) if decided else None
        for name, graph in graphs.items():
            stage = f"evaluate {name} on {self.judging}"
            if graph is not None:
                self._look(lambda stage=stage, graph=graph: self._evaluate(stage, graph(), images))  # type: ignore[misc]
            yield self._stage(stage, f"{len(images)} held-out images")

    # --- what is kept ------------------------------------------------------------------------------------------------

    def _look(self, find: Callable[[], Found]) -> Found | None:
        """What ``find`` finds; None if some of it would have to be computed, or did not come out."""
        try:
            return find()
        except (NotKeptError, BudgetError):
            return None

    def _judge(self) -> Judge:
        assert self.spare is not None
        return Judge(self.inputs.checkpoint, self.spare, engine=self.judging, threads=self.request.threads, cache=self._kept,
                     progress=self._seen)  # fmt: skip

    def _prune(self, spent: float) -> Outcome:
        request, checkpoint, images, settings = self.request, self.inputs.checkpoint, self.inputs.pruning, self.request.prune
        assert settings is not None
        assert images is not None  # `read_inputs`
        goal = Goal(target=request.target, precision=request.precision, threads=request.threads)
        costs = self._look(lambda: costs_for(checkpoint, goal, self._kept, self._seen))
        self._look(lambda: score(checkpoint, images, settings, self._seen, costs, self._kept))
        if costs is None or (settings.auto and self.judge is None):
            raise NotKeptError
        drop = None if request.max_drop is None else spent * request.max_drop
        return prune_to(checkpoint, images, settings, goal, self.judge, drop, self._kept, self._seen)

    def _decide(self) -> Decision:
        request, checkpoint = self.request, self.inputs.checkpoint
        if request.prune is not None:
            if self.pruned is None:
                raise NotKeptError
            checkpoint = self.pruned.checkpoint
        budget = None if self.judge is None or request.max_drop is None else Budget(judge=self.judge, max_drop=request.max_drop)
        if budget is None and request.max_drop is not None:
            raise NotKeptError
        return decide(
            checkpoint, self.inputs.calibration, request.precision, request.recipe, self.engine, self._kept, self._seen, budget
        )

    def _evaluate(self, name: str, model: bytes, images: ImageSet) -> None:
        def missing() -> None:
            raise NotKeptError

        with self._seen.stage(name, total=len(images)) as stage:
            evaluate(missing, model, images, self.inputs.checkpoint.preprocessing,  # type: ignore[arg-type]
                     engine=identity(self.judging, self.request.threads), cache=self._kept, stage=stage)  # fmt: skip

    def _builder(self) -> str | None:
        try:
            return builder_version(self.engine)
        except (EngineError, MissingPackageError):
            return None

    def _stage(self, name: str, what: str) -> PlannedStage:
        return PlannedStage(name=name, what=what, cached=self._seen.cached.get(name, False))


def _how_much(settings: PruneSettings) -> str:
    if settings.share is not None:
        return f"{100 * settings.share:g} % of the MACs"
    return f"for a speed-up of {settings.speedup:g}" if settings.speedup is not None else "as much as the budget allows"
