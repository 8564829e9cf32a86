"""From plain arguments to where work in pieces is done."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from edgevit.commands.arguments import choice_of, number_of, number_or_none, wrong_type
from edgevit.engine.base import available_threads
from edgevit.errors import ConfigError
from edgevit.executor.base import Executor
from edgevit.executor.processes import Processes
from edgevit.executor.ray_cluster import RayCluster

KINDS = ("local", "ray")
LOCAL, RAY = KINDS


def executor_of(
    executor: str | None = None, workers: int | None = None, worker_threads: int = 1, ray_address: str | None = None
) -> AbstractContextManager[Executor | None]:
    """The executor to use, to be closed; None where nothing was asked for.

    Args:
        executor: ``local``, processes of this machine; ``ray``, the nodes of a Ray cluster. ``workers`` alone means ``local``.
        workers: how many at most; by default as many as there are CPUs for.
        worker_threads: CPU threads that each computes with, which the figures are of: with another number they may differ in the
            last digits.
        ray_address: of the cluster, ``HOST:PORT``; by default the one that this machine is a node of.

    Raises:
        TypeError: an argument is of a type that it cannot be.
        EdgevitError: a combination that makes no sense, no cluster, or no Ray.
    """
    kind = choice_of(executor, "executor", KINDS)
    workers, threads = number_or_none(workers, "workers", 1), number_of(worker_threads, "worker_threads", 1)
    if ray_address is not None and not isinstance(ray_address, str):
        raise wrong_type(ray_address, "ray_address", "a text, HOST:PORT")
    if ray_address is not None and kind != RAY:
        msg = f"--ray-address {ray_address}: is for --executor ray. Give both, or neither."
        raise ConfigError(msg)
    if kind == RAY:
        return RayCluster(ray_address, workers=workers, threads=threads)
    if kind is None and workers is None:
        if threads != 1:
            msg = f"--worker-threads {threads}: there are no workers without --workers or --executor. Give one, or --threads."
            raise ConfigError(msg)
        return nullcontext()
    return Processes(workers or max(1, available_threads() // threads), threads=threads)
