"""Evaluation in shards: the same logits to the last bit, whoever computes them, and each of them once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgevit
from edgevit.bundle import MODEL, REFERENCE, open_bundle
from edgevit.cache import Cache
from edgevit.engine import open_session
from edgevit.errors import EngineError
from edgevit.executor.processes import Processes
from edgevit.executor.serial import Serial
from edgevit.executor.task import Held, Task, Warm
from edgevit.images.carried import carried, carried_from
from edgevit.images.dataset import ImageSet, load_images
from edgevit.measure import evaluate as evaluate_module
from edgevit.measure.evaluate import engine_identity, evaluate
from edgevit.measure.shards import Evaluation, Shard, evaluate_sharded, logits_of
from edgevit.progress import Progress
from edgevit.workbench import Workbench

ENGINES = ("openvino", "onnxruntime")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_module, "CHUNK", 20)  # 96 images: five shards, the last of 16


@pytest.fixture(scope="module")
def wanted(bundle_path: Path) -> list[Evaluation]:
    bundle = open_bundle(bundle_path)
    contract = bundle.manifest.preprocessing
    return [
        Evaluation(name=f"{name} on {engine}", engine=engine, model=bundle.read(name), contract=contract)
        for engine in ENGINES
        for name in (MODEL, REFERENCE)
    ]


def one_process(item: Evaluation, images: ImageSet) -> np.ndarray:
    with open_session(item.engine, item.model, threads=1) as session:
        return np.concatenate([session.infer(frame) for frame in images.prepared(item.contract)])


def same(found: list[np.ndarray], wanted: list[Evaluation], images: ImageSet) -> bool:
    return all((own == one_process(item, images)).all() for own, item in zip(found, wanted, strict=True))


class Noted(Serial):
    """Keeps the names of the tasks that it was given."""

    reaches_files = True

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def map(self, tasks: Iterable[Task], *, exclusive: bool = False) -> Iterator[tuple[int, Any]]:
        for position, task in enumerate(tasks):
            self.names.append(task.name)
            yield from ((position, result) for _, result in super().map([task]))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_same_bits_as_one_process(workers: int, wanted: list[Evaluation], images: ImageSet) -> None:
    with Processes(workers) if workers else Serial() as executor:
        assert same(evaluate_sharded(wanted, images, executor, Workbench()), wanted, images)


def test_images_of_an_array_go_along(wanted: list[Evaluation], images: ImageSet, tmp_path: Path) -> None:
    frames = np.stack([images.frame(i)[..., ::-1] for i in range(50)])
    np.savez(tmp_path / "set.npz", images=frames)
    found = load_images(tmp_path / "set.npz").subset(range(49, 5, -2))
    with Processes(2) as executor:
        assert same(evaluate_sharded(wanted[:1], found, executor, Workbench()), wanted[:1], found)
    sent = carried_from(carried(found.subset([3]), content=False).to_bytes())
    assert len(sent.images.array) == 1, "a part of a set does not take all of it along"


def test_files_that_a_worker_does_not_see_are_sent(wanted: list[Evaluation], images: ImageSet, monkeypatch: Any) -> None:
    sent = carried_from(carried(images, content=True).to_bytes())
    with sent.laid_out() as laid_out:
        assert Path(laid_out.source) != Path(images.source)
        assert [laid_out.fingerprint(i) for i in range(96)] == [images.fingerprint(i) for i in range(96)]
        place = Path(laid_out.source)
    assert not place.exists()
    monkeypatch.setattr(Noted, "reaches_files", False)
    assert same(evaluate_sharded(wanted[:1], images, Noted(), Workbench()), wanted[:1], images)


def test_a_killed_worker_loses_one_shard(wanted: list[Evaluation], images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of its work, as by want of memory."""
    killed, given = [], []
    with Processes(2) as executor:
        take = type(executor).wait

        def wait(self: Processes, busy: Any) -> Any:
            given.append(len(busy))
            if len(given) == 3:
                os.kill(busy[0].pid, signal.SIGKILL)
                killed.append(busy[0].pid)
            return take(self, busy)

        monkeypatch.setattr(Processes, "wait", wait)
        found = evaluate_sharded(wanted, images, executor, Workbench())
        assert killed
        assert killed[0] not in executor.pids
    assert same(found, wanted, images)


def test_what_is_kept_is_not_done_again(wanted: list[Evaluation], images: ImageSet, tmp_path: Path) -> None:
    bench, executor = Workbench(cache=Cache(root=tmp_path)), Noted()
    first = evaluate_sharded(wanted, images, executor, bench)
    assert len(executor.names) == 20
    assert executor.names[4] == f"{wanted[0].name}, images 80 to 95"
    stored = sorted((tmp_path / "logits").iterdir())
    stored[7].unlink()
    stored[8].write_bytes(b"damaged")
    executor = Noted()
    again = evaluate_sharded(wanted, images, executor, bench)
    assert len(executor.names) == 2
    assert all((one == other).all() for one, other in zip(first, again, strict=True))
    with Progress().stage("evaluate") as stage:  # as a build with one thread finds them
        alone = evaluate(
            pytest.fail, wanted[1].model, images, wanted[1].contract,
            engine=engine_identity("openvino", 1), cache=bench.cache, stage=stage,
        )  # fmt: skip
    assert (alone == first[1]).all()


def test_two_models_that_are_one_are_computed_once(wanted: list[Evaluation], images: ImageSet) -> None:
    executor = Noted()
    found = evaluate_sharded([wanted[0], wanted[0], wanted[1]], images, executor, Workbench())
    assert len(executor.names) == 10
    assert (found[0] == found[1]).all()


def test_a_worker_with_another_engine_is_refused(wanted: list[Evaluation], images: ImageSet) -> None:
    item = wanted[0]
    shard = Shard(
        engine=item.engine, identity="openvino 2024.0 on Other CPU, 1 threads", threads=1, model=Held(content=item.model),
        images=carried(images.subset([0]), content=False), contract=item.contract,
    )  # fmt: skip
    with pytest.raises(EngineError, match=r"and the comparison is on openvino 2024\.0 on Other CPU.*same engine and processor"):
        logits_of(shard, Warm())


def accuracies(found: Any) -> list[Any]:
    return [(row.name, row.sha256, row.accuracy, row.change) for row in found.comparison.rows]


def test_compare_gives_the_same_figures(bundle_path: Path, image_folder: Path) -> None:
    """To the last digit as one process with as many threads; latency is measured where it always is."""
    given: dict[str, Any] = {"data": image_folder, "runs": 5, "threads": 1, "cache": False}
    alone = edgevit.compare(bundle_path, **given)
    shared = edgevit.compare(bundle_path, workers=2, **given)
    assert accuracies(shared) == accuracies(alone)
    for one, other in zip(shared.comparison.evidence.logits, alone.comparison.evidence.logits, strict=True):
        assert (one == other).all()
    assert all(row.latency is not None for row in shared.comparison.rows)
    assert shared.comparison.conditions["evaluated_on"] == "2 processes of 1 thread"
    assert "evaluated_on" not in alone.comparison.conditions
    assert "accuracy by 2 processes of 1 thread." in shared.to_markdown()


def test_options_of_the_command(edgevit: Any, bundle_path: Path, image_folder: Path) -> None:
    found = edgevit("compare", bundle_path, "--data", image_folder, "--runs", 5, "--workers", 1, "--json")
    assert found.json["conditions"]["evaluated_on"] == "1 process of 1 thread"
    for options, said in (
        (("--ray-address", "127.0.0.1:1"), "is for --executor ray"),
        (("--worker-threads", 2), "there are no workers"),
        (("--executor", "slurm"), "not one of 'local', 'ray'"),
    ):
        refused = edgevit("compare", bundle_path, "--data", image_folder, *options)
        assert refused.code == 2
        assert said in refused.stderr
