"""What a build would do, in the build's own stages, and what of it is kept already: found as the build finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit.bundle import check_replaceable, described_input
from edgevit.cache import Cache, NotKeptError
from edgevit.commands.arguments import cache_of
from edgevit.commands.build import RUNS
from edgevit.commands.build_arguments import build_request
from edgevit.commands.build_inputs import read_inputs, spare_images, work_on
from edgevit.commands.build_request import BuildRequest
from edgevit.commands.dry_run import DryRun, PlannedStage
from edgevit.commands.expected import expectation
from edgevit.commands.faster_form import STAGE, fastest_form, offered
from edgevit.commands.known_images import STAGE as STAGE_KNOWN
from edgevit.commands.known_images import check_images_known, images_known
from edgevit.commands.steps import Step, Work, allotted, run_step, shares_of
from edgevit.engine import backend
from edgevit.engine.here import is_here, proxy_engine
from edgevit.engines import traits_of
from edgevit.errors import MissingPackageError
from edgevit.export.variants import Variant, fp32_variant
from edgevit.images.dataset import ImageSet
from edgevit.measure.evaluate import engine_identity, evaluate
from edgevit.measure.evaluator import Budget, Evaluator
from edgevit.problem import describe
from edgevit.progress import Progress
from edgevit.quantize.samples import sample_frames


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A dry run: what would be done, and what is assumed on the way."""

    stages: tuple[PlannedStage, ...]
    notes: tuple[str, ...]
    """Of reading the checkpoint and choosing the images."""


def plan(model: str | Path, *, cache: Cache | bool = True, **arguments: Any) -> Planned:
    """What `edgevit.build` with the same arguments would do. Computes nothing slow, writes nothing; raises what that does."""
    return plan_build(build_request(model, **arguments), cache_of(cache))


def plan_build(request: BuildRequest, cache: Cache) -> Planned:
    """What `run_build` would do, stage by stage, and what of it is cached already. Computes nothing slow, writes nothing."""
    check_replaceable(request.out)
    planning = _Planning(request, cache)
    return Planned(stages=tuple(planning.stages()), notes=planning.inputs.notes)


class _Planning:
    """The stages of one request."""

    def __init__(self, request: BuildRequest, cache: Cache) -> None:
        """Read the files, which raises what `read_inputs` does, and look up what is kept."""
        self.request, self.dry = request, DryRun(request.bench(cache, Progress()))
        self.bench, self.spare, budget = self.dry.bench, None, None
        self.inputs = read_inputs(request, self.bench.progress)
        check_images_known(request, self.inputs)
        if request.max_drop is not None:
            self.inputs, self.spare = spare_images(request, self.inputs)
            budget = self.dry.look(self._budget)
        work: Work | None = work_on(request, self.inputs, self.bench, budget)
        self.steps: list[tuple[Step, Work, Work | None]] = []
        """Each step with what it is given, as far as that is kept (else what its forerunner was), and what it makes of it."""
        shares = allotted(request.steps, shares_of(request.steps)[0])
        for step, share in zip(request.steps, shares, strict=True):
            given = work or self.steps[-1][1]
            work = self._kept(step, work, share) if work else None
            self.steps.append((step, given, work))
        self.done = work

    def stages(self) -> Iterator[PlannedStage]:
        """In the order in which they first begin; those that come again and again are listed once."""
        yield from self._reading()
        if self.spare is not None:
            what = f"at most {self.request.max_drop:g} points lost, on {len(self.spare)} images set apart, with {self._engine}"
            yield self.dry.stage("search", what)
        for step, given, after in self.steps:
            yield from step.stages(given, self.dry, kept=after is not None)
        yield from self._compiling()
        if self.request.unknown:
            yield self.dry.stage(STAGE_KNOWN, self._known())
        if self.inputs.held_out is not None:
            yield from self._evaluating(self.inputs.held_out)
            if is_here(self.request.target):
                yield self.dry.stage("measure latency", f"{RUNS} inferences of each, interleaved")
        yield self.dry.stage("write bundle", str(self.request.out))
        more = ", beside what makes it smaller" if self.request.smaller else ""
        yield self.dry.stage("in all", f"{expectation(self.request, self.inputs)}{more}")

    @property
    def _engine(self) -> str:
        return proxy_engine(self.bench)

    def _reading(self) -> Iterator[PlannedStage]:
        request, checkpoint, stage = self.request, self.inputs.checkpoint, self.dry.stage
        config, kind = checkpoint.model.config, describe(checkpoint.problem_type)
        facts = (checkpoint.family, f"{len(config.blocks)} blocks of width {config.width}", *config.structure, kind)
        yield stage("import model", ", ".join(facts))
        yield stage("input", described_input(config.image_size, checkpoint.sized_by))
        if self.dry.seen("check images"):
            folders = " and ".join(str(path) for path in (request.data, request.eval_data) if path is not None)
            yield stage("check images", f"that all of {folders} can be read")
        if self.dry.seen("match classes"):
            yield stage("match classes", "as the model answers a few images: their names do not tell")
        yield stage("write graph", f"fp32 for {self._engine}")
        yield stage("check engine", f"every graph on {self._engine}, against torch")

    def _compiling(self) -> Iterator[PlannedStage]:
        name, precision = self.bench.engine, self.request.precision
        if traits_of(name).ahead_of_time:
            if builder := self.dry.builder():
                yield self.dry.stage(f"compile with {builder}", precision)
            return
        try:
            yield self.dry.stage(f"compile with {name}", f"{precision} with {backend(name).version}")
            config = (self.done or self.steps[-1][1]).checkpoint.model.config
            if len(names := offered(config, precision, self.bench)) > 1:
                yield self.dry.stage(STAGE, ", ".join(names))
        except MissingPackageError:
            yield self.dry.stage(f"compile with {name}", "not installed here, so not checked")

    def _evaluating(self, images: ImageSet) -> Iterator[PlannedStage]:
        for name, graph in self._graphs().items():
            stage = f"evaluate {name} on {self._engine}"
            if graph is not None:
                self.dry.look(lambda stage=stage, graph=graph: self._evaluate(stage, graph(), images))  # type: ignore[misc]
            yield self.dry.stage(stage, f"{len(images)} held-out images")

    def _known(self) -> str:
        """What unknown objects are told by."""
        fitted, judged = images_known(self.request, self.inputs)
        by = f"{len(judged)} others" if judged else "parts of them in turn"
        return f"features of {len(fitted)} images, and how far {by} are from them"

    def _graphs(self) -> dict[str, Callable[[], bytes] | None]:
        """What is compared, by name; None for what is not kept."""
        original, request, done = self.inputs.checkpoint, self.request, self.done
        graphs: dict[str, Callable[[], bytes] | None] = {"fp32": lambda: fp32_variant(original, self._engine).model}
        for step, _, after in self.steps:
            if step.leaves is not None:
                left = after.checkpoint if after else None
                graphs[step.leaves] = (lambda left=left: fp32_variant(left, self._engine).model) if left else None  # type: ignore[misc]
        if request.precision != "fp32":
            decided = done.decided if done else None
            name = decided.variant(self.bench.engine).precision if decided else request.precision
            graphs[name] = (lambda: self._in_form(decided.variant(self.bench.engine)).model) if decided else None
        return graphs

    def _in_form(self, variant: Variant) -> Variant:
        """``variant`` in the form that was found fastest, if that is kept."""
        inputs, work = self.inputs, self.done
        assert work is not None  # it is of what was done
        images = (inputs.calibration or inputs.held_out) if self.request.reference else None
        frames = sample_frames(images, inputs.checkpoint.preprocessing)
        return fastest_form(variant, work.checkpoint, frames, self.bench, work.budget).variant

    # --- what is kept ------------------------------------------------------------------------------------------------

    def _budget(self) -> Budget:
        assert self.spare is not None
        assert self.request.max_drop is not None
        evaluator = Evaluator(self.inputs.checkpoint, self.spare, self.bench)
        return Budget(evaluator=evaluator, max_drop=self.request.max_drop)

    def _kept(self, step: Step, work: Work, share: float) -> Work | None:
        """``work`` after ``step``, which may spend ``share`` of the budget, if all that takes is kept."""
        if step.spends and work.bounded and work.budget is None:
            return None
        return self.dry.look(lambda: run_step(step, work, share))

    def _evaluate(self, name: str, model: bytes, images: ImageSet) -> None:
        def missing() -> None:
            raise NotKeptError

        with self.bench.stage(name, total=len(images)) as stage:
            evaluate(missing, model, images, self.inputs.checkpoint.preprocessing,  # type: ignore[arg-type]
                     engine=engine_identity(self._engine, self.bench.threads), cache=self.bench.cache, stage=stage)  # fmt: skip
