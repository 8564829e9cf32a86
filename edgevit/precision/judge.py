"""What a change of a model costs on labelled, or unlabelled, images, as an engine of this machine computes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgevit.cache import Cache
from edgevit.engine import open_session
from edgevit.images import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.precision.variants import fp32_variant
from edgevit.progress import Progress
from edgevit.report.accuracy import measure
from edgevit.report.evaluate import evaluate, identity
from edgevit.report.labels import comparable

if TYPE_CHECKING:
    from edgevit.report.accuracy import Logits


class Judge:
    """Holds graphs against ``checkpoint`` in FP32 on ``images``, by ``engine``. Logits are cached by content."""

    def __init__(
        self, checkpoint: Checkpoint, images: ImageSet, *, engine: str, threads: int | None, cache: Cache, progress: Progress
    ) -> None:  # fmt: skip
        self.checkpoint, self.images, self.engine = checkpoint, images, engine
        self._threads, self._cache, self._progress = threads, cache, progress
        self._targets = images.targets_for(checkpoint.labels)
        self._reference = self._logits(fp32_variant(checkpoint, engine).model)

    @property
    def metric(self) -> str:
        """What `drop` counts."""
        return "agreement with FP32" if self._targets is None else "top-1"

    def identity(self) -> dict[str, Any]:
        """What `drop` depends on, beside the model it is asked about; JSON-ready."""
        targets = None if self._targets is None else self._targets.tolist()
        return {"images": self.images.digest(), "targets": targets, "engine": identity(self.engine, self._threads)}

    def drop(self, model: bytes) -> float:
        """Points (percent of images) that the ONNX ``model`` loses: of top-1 with labels, of agreement without."""
        pair = (self._logits(model), self._reference)
        (logits, reference), targets, _ = comparable(pair, self.images, self.checkpoint.labels)
        own = measure(logits, reference, targets)
        full = measure(reference, reference, targets)
        lost = 1 - own.agreement if own.top1 is None or full.top1 is None else full.top1 - own.top1
        return round(100 * lost, 6)

    def _logits(self, model: bytes) -> Logits:
        with self._progress.stage("search", total=len(self.images)) as stage:
            return evaluate(
                lambda: open_session(self.engine, model, threads=self._threads),
                model,
                self.images,
                self.checkpoint.preprocessing,
                engine=identity(self.engine, self._threads),
                cache=self._cache,
                stage=stage,
            )
