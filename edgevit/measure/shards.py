"""Evaluation cut in shards that any worker can do: the pieces are those in which one process keeps its logits.

A shard's logits depend on the model, the images and the engine with its number of threads, and on nothing else. So workers of
one kind, however many, give to the last bit what one process does with as many threads; they are put together in the order of
the images, whichever came first.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgevit.engine import open_session
from edgevit.errors import EngineError
from edgevit.executor.base import Executor
from edgevit.executor.task import Blob, Task, Warm, digest_of
from edgevit.images.carried import CarriedImages, carried, carried_from
from edgevit.images.dataset import ImageSet
from edgevit.measure.evaluate import LOGITS, Identity, dumped, engine_identity, infer, loaded, parts
from edgevit.preprocess import Preprocessing
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from edgevit.engine.base import Logits, Session


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A model whose logits are wanted."""

    name: str
    """For people."""
    engine: str
    """That runs on a CPU and compiles at every start."""
    model: bytes
    """ONNX."""
    contract: Preprocessing


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One piece of an evaluation."""

    engine: str
    identity: str
    """The `engine_identity` that its logits are to be of."""
    threads: int
    model: Blob
    images: Blob | CarriedImages
    contract: Preprocessing


def logits_of(shard: Shard, warm: Warm) -> Logits:
    """Logits float32 [N, classes] of a shard; the engine is kept for the next one of the same model.

    Raises EngineError where this machine's engine or processor is another than the shard is to be computed by.
    """
    found = engine_identity(shard.engine, shard.threads)
    if found != shard.identity:
        msg = (
            f"a worker has {found}, and the comparison is on {shard.identity}: their figures would be of two kinds. Give all "
            "nodes the same engine and processor, or leave this one out of the cluster"
        )
        raise EngineError(msg)

    def opened() -> Session:
        return open_session(shard.engine, shard.model.read(), threads=shard.threads)

    session = warm.get((shard.engine, shard.model.digest), opened)
    sent = shard.images if isinstance(shard.images, CarriedImages) else carried_from(shard.images.read())
    with sent.laid_out() as images:
        return infer(session, images, shard.contract, lambda: None)


def evaluate_sharded(wanted: Sequence[Evaluation], images: ImageSet, executor: Executor, bench: Workbench) -> list[Logits]:
    """Logits float32 [N, classes] of all ``images`` by every model of ``wanted``, computed by the workers of ``executor``.

    They are found in the bench's cache, and kept there, shard by shard, where `edgevit.measure.evaluate.evaluate` with as many
    threads finds them, too. Raises what a worker raised.
    """
    plan = _Plan(wanted, images, executor, bench)
    with bench.stage(f"evaluate on {executor.where}", total=len(images) * len(wanted)) as stage:
        plan.look_up()
        stage.cached = plan.complete
        stage.advance(plan.images_done)
        for position, logits in executor.map(plan.tasks()):
            stage.advance(plan.keep(position, logits))
    return plan.merged()


class _Plan:
    """What is wanted, what is there, and where each result belongs."""

    def __init__(self, wanted: Sequence[Evaluation], images: ImageSet, executor: Executor, bench: Workbench) -> None:
        self._wanted, self._executor, self._cache = wanted, executor, bench.cache
        self._parts = list(parts(images))
        digests = [part.digest() for part in self._parts]
        self._identities = [
            Identity(model=digest_of(item.model), engine=engine_identity(item.engine, executor.threads), contract=item.contract)
            for item in wanted
        ]
        self._keys = [[json.dumps(identity.key(digest)) for digest in digests] for identity in self._identities]
        """Of every model, of every part: two models that are the same are computed once."""
        self._shared = Counter(key for own in self._keys for key in own)
        self._models: dict[int, Blob] = {}
        self._sent: dict[int, Blob] = {}
        """By their numbers, models and parts that all workers can read."""
        self._found: dict[str, Logits] = {}
        self._asked: list[tuple[int, int]] = []
        """Model and part of every task, in the order of the tasks."""

    def look_up(self) -> None:
        """Find what is kept."""
        for key in self._shared:
            content = self._cache.find(LOGITS, **json.loads(key))
            if content is not None:
                self._found[key] = loaded(content)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self._found.keys() == self._shared.keys()

    @property
    def images_done(self) -> int:
        """Images of all models whose logits are there."""
        return sum(self._shared[key] * len(logits) for key, logits in self._found.items())

    def tasks(self) -> Iterator[Task]:
        """What is missing, model by model, so that a worker keeps its engine for many; each made when a worker is free."""
        asked = set(self._found)
        for item, keys in enumerate(self._keys):
            for part, key in enumerate(keys):
                if key not in asked:
                    asked.add(key)
                    self._asked.append((item, part))
                    yield self._task(item, part)

    def keep(self, position: int, logits: Logits) -> int:
        """Keep what a task gave; the number of images, of all models, that are done by it."""
        item, part = self._asked[position]
        key = self._keys[item][part]
        self._found[key] = logits
        self._cache.store(LOGITS, dumped(logits), **json.loads(key))
        return self._shared[key] * len(logits)

    def merged(self) -> list[Logits]:
        """Of every model, in the order of the images."""
        return [np.concatenate([self._found[key] for key in keys]) for keys in self._keys]

    def _task(self, item: int, part: int) -> Task:
        wanted, images, executor = self._wanted[item], self._parts[part], self._executor
        start = sum(map(len, self._parts[:part]))
        sent: Blob | CarriedImages | None = self._sent.get(part)
        if sent is None:
            sent = carried(images, content=not executor.reaches_files)
            if not executor.reaches_files:  # once, for all models
                sent = self._sent[part] = executor.share(sent.to_bytes())
        if item not in self._models:
            self._models[item] = executor.share(wanted.model)
        shard = Shard(
            engine=wanted.engine, identity=self._identities[item].engine, threads=executor.threads,
            model=self._models[item], images=sent, contract=wanted.contract,
        )  # fmt: skip
        return Task(name=f"{wanted.name}, images {start} to {start + len(images) - 1}", function=logits_of, argument=shard)
