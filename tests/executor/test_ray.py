"""A real Ray cluster of two nodes on this machine: the same figures, a killed worker loses one shard, other code is refused.

Ray talks on loopback alone here, sends its makers nothing, and has no dashboard.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgevit
from edgevit.errors import ConfigError, DataError, MissingPackageError, RemoteError, StorageError
from edgevit.executor.task import Task
from edgevit.images.dataset import ImageSet
from edgevit.measure import evaluate as evaluate_module
from edgevit.measure.shards import evaluate_sharded
from edgevit.workbench import Workbench
from tests.executor import work
from tests.measure.test_shards import same, wanted
from tests.support import ROOT, python

__all__ = ["wanted"]  # a fixture
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

NODE = {"node_ip_address": "127.0.0.1", "num_cpus": 1, "object_store_memory": 100 * 2**20}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two nodes of one CPU each; on the second measuring is allowed."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'edgevit[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # else a loopback address is taken for the machine's own
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("EDGEVIT_CACHE", str(tmp_path_factory.mktemp("nodes")))
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
        cluster.add_node(**NODE, resources={"edgevit_exclusive": 1})
        yield cluster
        cluster.shutdown()


@pytest.fixture(scope="module")
def cluster(nodes: Any) -> str:
    """Their address."""
    address: str = nodes.address
    return address


@pytest.fixture
def executor(cluster: str) -> Iterator[Any]:
    from edgevit.executor.ray_cluster import RayCluster

    with RayCluster(cluster) as executor:
        yield executor


def tasks(function: Any, *arguments: object) -> list[Task]:
    return [Task(name=f"task {argument}", function=function, argument=argument) for argument in arguments]


def test_tasks_and_their_errors(executor: Any, tmp_path: Path) -> None:
    assert executor.where == "2 workers of 1 thread on 2 nodes of Ray"
    assert sorted(executor.map(tasks(work.square, *range(9)))) == [(number, number**2) for number in range(9)]
    blob = executor.share(b"content" * 1000)
    assert [found for _, found in executor.map(tasks(work.length, blob))] == [(7000, blob.digest)]
    with pytest.raises(DataError, match="cells/7"):
        list(executor.map(tasks(work.wrong, "cells/7.png: cut off")))
    given = [*tasks(work.square, *range(4)), *tasks(work.once_deadly, tmp_path / "died")]
    assert dict(executor.map(given)) == {0: 0, 1: 1, 2: 4, 3: 9, 4: "done"}
    with pytest.raises(StorageError, match=r"task x: 3 workers died at it, the last on node 127\.0\.0\.1"):
        list(executor.map(tasks(work.deadly, "x")))


def test_exclusive_tasks_have_the_node_that_is_for_them(executor: Any) -> None:
    import ray

    shared = {pid for _, pid in executor.map(tasks(work.nap, *[0.2] * 4))}
    assert shared == {0.2}
    pids = [pid for _, pid in executor.map(tasks(work.me, *range(3)), exclusive=True)]
    assert len(set(pids)) == 1, "of two nodes one offers the resource"
    with executor.alone():
        free = ray.available_resources().get("CPU", 0)
        assert free <= 1, "this machine's node has nothing left for others"


def test_the_same_bits_and_a_killed_worker(
    executor: Any, wanted: Any, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(evaluate_module, "CHUNK", 20)
    assert same(evaluate_sharded(wanted, images, executor, Workbench()), wanted, images)
    killed: list[int] = []
    wait, give, given = type(executor).wait, [], []

    def killing(self: Any, busy: Any) -> Any:
        given.append(len(busy))
        if len(given) == 3:
            os.kill(give[0], signal.SIGKILL)
            killed.append(give[0])
        return wait(self, busy)

    give += executor.pids
    monkeypatch.setattr(type(executor), "wait", killing)
    assert same(evaluate_sharded(wanted, images, executor, Workbench()), wanted, images)
    assert killed
    assert killed[0] not in executor.pids


def test_compare_and_sweep(
    cluster: str, bundle_path: Path, checkpoint_path: Path, image_folder: Path, tmp_path: Path
) -> None:  # fmt: skip
    """As one process, to the last digit; points are built on nodes that see none of these files."""
    given: dict[str, Any] = {"data": image_folder, "runs": 5, "threads": 1, "cache": False}
    alone = edgevit.compare(bundle_path, **given)
    shared = edgevit.compare(bundle_path, executor="ray", ray_address=cluster, **given)
    for one, other in zip(shared.comparison.evidence.logits, alone.comparison.evidence.logits, strict=True):
        assert np.array_equal(one, other)
    assert [row.accuracy for row in shared.comparison.rows] == [row.accuracy for row in alone.comparison.rows]
    found = edgevit.sweep(
        checkpoint_path, recipes="fast", prune=[0, 0.3], executor="ray", ray_address=cluster, out=tmp_path / "swept", **given
    )
    assert [point.name for point in found.points] == ["fp32", "int8@fast", "int8+prune30@fast"]
    assert all(point.row is not None for point in found.points)
    here = edgevit.compare(*[tmp_path / "swept" / f"{point.name}.zip" for point in found.points], **given)
    assert [row.accuracy for row in found.sweep.comparison.rows] == [row.accuracy for row in here.comparison.rows]


def test_a_node_that_goes_down(executor: Any, nodes: Any) -> None:
    """Its worker's task is done elsewhere; the node that is left goes on alone."""
    node, executor.workers = nodes.add_node(**NODE), 3
    given = executor.map(tasks(work.nap, *[0.3] * 8))
    found = {}
    for position, result in given:
        if not found:
            nodes.remove_node(node, allow_graceful=False)
        found[position] = result
    assert found == dict.fromkeys(range(8), 0.3)


def test_nodes_with_other_code_are_refused(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgevit.executor import ray_cluster

    other = ray_cluster.Edition("0.0.9", "0" * 64, "3.9.1")
    monkeypatch.setattr(ray_cluster, "edition", lambda: other)
    with (
        ray_cluster.RayCluster(cluster) as executor,
        pytest.raises(RemoteError, match=r"Install the same on every node") as error,
    ):
        list(executor.map(tasks(work.square, 1)))
    assert "127.0.0.1" in str(error.value)
    assert "edgevit 0.0.9 (source 000000000000) on Python 3.9.1" in str(error.value)


def test_what_is_asked_in_vain(cluster: str) -> None:
    from edgevit.executor.ray_cluster import RayCluster

    with pytest.raises(ConfigError, match="--worker-threads 2: the largest node of this Ray cluster has 1 CPU"):
        RayCluster(cluster, threads=2)
    for address, said in (("127.0.0.1:9", "no Ray cluster at 127.0.0.1:9: Connection refused"), ("nowhere", "write HOST:PORT")):
        with pytest.raises((ConfigError, RemoteError), match=said):
            RayCluster(address)


def test_ray_listens_on_loopback_alone(executor: Any) -> None:
    """And nothing of it is told to its makers."""
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    listed = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=False).stdout
    own = [line.split()[3] for line in listed.splitlines() if any(name in line for name in ("gcs_server", "raylet"))]
    assert own
    assert [address for address in own if not address.startswith(("127.", "[::1]", "[::ffff:127."))] == []


def test_without_ray() -> None:
    code = "from edgevit.commands.executors import executor_of; executor_of('ray')"
    with python(code, without=("ray",)) as process:
        _, said = process.communicate(timeout=60)
    assert MissingPackageError.__name__ in said
    assert "pip install 'edgevit[ray]'" in said
