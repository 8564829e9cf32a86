"""What a change of a model costs on labelled, or unlabelled, images, as an engine of this machine computes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgevit.engine import open_session
from edgevit.engine.here import proxy_engine
from edgevit.export.variants import fp32_variant
from edgevit.images.dataset import ImageSet
from edgevit.measure.accuracy import measure_accuracy
from edgevit.measure.comparison import Row
from edgevit.measure.doubt import budget_note
from edgevit.measure.evaluate import engine_identity, evaluate
from edgevit.measure.labels import comparable
from edgevit.model.checkpoint import Checkpoint
from edgevit.problem import MULTI_LABEL
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from edgevit.measure.accuracy import Logits


class Evaluator:
    """Holds graphs against ``checkpoint`` in FP32 on ``images``, by the bench's proxy engine. Logits are cached by content."""

    def __init__(self, checkpoint: Checkpoint, images: ImageSet, bench: Workbench) -> None:
        self.checkpoint, self.images, self.engine = checkpoint, images, proxy_engine(bench)
        self._bench = bench
        self._targets = images.truth_for(checkpoint.labels, checkpoint.problem_type)
        self._reference = self._logits(fp32_variant(checkpoint, self.engine).model)

    @property
    def metric(self) -> str:
        """What `drop` counts."""
        if self._targets is None:
            return "agreement with FP32"
        return "mAP" if self.checkpoint.problem_type == MULTI_LABEL else "top-1"

    def identity(self) -> dict[str, Any]:
        """What `drop` depends on, beside the model it is asked about; JSON-ready."""
        targets = None if self._targets is None else self._targets.tolist()
        own = {"problem_type": self.checkpoint.problem_type, "engine": engine_identity(self.engine, self._bench.threads)}
        return {"images": self.images.digest(), "targets": targets} | own

    def drop(self, model: bytes) -> float:
        """Points (percent) that the ONNX ``model`` loses of `metric`."""
        kind = self.checkpoint.problem_type
        pair = (self._logits(model), self._reference)
        (logits, reference), targets, _ = comparable(pair, self.images, self.checkpoint.labels, kind)
        own = measure_accuracy(logits, reference, targets, kind)
        full = measure_accuracy(reference, reference, targets, kind)
        lost = 1 - own.agreement if own.score is None or full.score is None else full.score - own.score
        return round(100 * lost, 6)

    def _logits(self, model: bytes) -> Logits:
        with self._bench.stage("search", total=len(self.images)) as stage:
            return evaluate(
                lambda: open_session(self.engine, model, threads=self._bench.threads),
                model,
                self.images,
                self.checkpoint.preprocessing,
                engine=engine_identity(self.engine, self._bench.threads),
                cache=self._bench.cache,
                stage=stage,
            )


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much accuracy may be lost, and who tells."""

    evaluator: Evaluator
    max_drop: float
    """Points, as `Evaluator.drop` counts them."""

    def note(self, row: Row) -> str | None:
        """A line if the images of ``row`` cannot tell whether it keeps the budget; see `edgevit.measure.doubt.budget_note`."""
        return budget_note(self.max_drop, row, len(self.evaluator.images))

    def share(self, share: float) -> Budget:
        """So much of it, 0..1."""
        return replace(self, max_drop=share * self.max_drop)
