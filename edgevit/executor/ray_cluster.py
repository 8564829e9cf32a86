"""Tasks on the nodes of a Ray cluster that is there already. Nothing has to lie on a shared path: files go by content.

A worker is an actor that stays on its node. One that dies takes one task with it. Ray's dashboard and its reports to its makers
are not needed, and this process sends none.
"""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from edgevit import __version__
from edgevit.code import PACKAGE, package_digest
from edgevit.errors import ConfigError, RemoteError, needs_extra
from edgevit.executor.base import Closing, counted
from edgevit.executor.dispatch import LostWorkerError, dispatch
from edgevit.executor.outcome import Outcome, outcome_of
from edgevit.executor.task import Blob, Task, Warm, digest_of

EXCLUSIVE = "edgevit_exclusive"
"""A resource of Ray's: where nodes have it, exclusive tasks go there only (``--resources`` of ``ray start``)."""

REACHED = 10  # seconds within which a cluster answers
NOTICED = 20  # seconds within which it notices that a node is gone


@dataclass(frozen=True)
class Edition:
    """The edgevit and the Python that a process runs; all of a cluster's must be the same."""

    edgevit: str
    code: str
    """Digest of all of its source."""
    python: str

    def __str__(self) -> str:
        """For people."""
        return f"edgevit {self.edgevit} (source {self.code[:12]}) on Python {self.python}"


def edition() -> Edition:
    """That of this process."""
    return Edition(__version__, package_digest(PACKAGE), platform.python_version())


class Worker:
    """What runs in an actor."""

    def __init__(self) -> None:
        self._warm = Warm()

    def edition(self) -> Edition:
        """See `edition`."""
        return edition()

    def pid(self) -> int:
        """Of its process."""
        return os.getpid()

    def run(self, task: Task) -> Outcome:
        """Do ``task``."""
        return outcome_of(task, self._warm)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A `Blob` in Ray's object store, which brings it to a node once."""

    reference: Any
    digest: str

    def read(self) -> bytes:
        """See `Blob.read`."""
        import ray

        content: bytes = ray.get(self.reference)
        return content


@dataclass(frozen=True, kw_only=True)
class Node:
    """One machine of the cluster."""

    id: str
    address: str
    cpus: int
    exclusive: bool
    """Whether it offers `EXCLUSIVE`."""


class RayCluster(Closing):
    """Up to ``workers`` actors of ``threads`` CPUs each, or as many as fit; see `edgevit.executor.base.Executor`.

    ``address`` is the cluster's, ``HOST:PORT``; by default what ``RAY_ADDRESS`` or a node on this machine says. Raises
    RemoteError if there is none, or a node runs another edgevit; MissingPackageError without Ray.
    """

    reaches_files = False

    def __init__(self, address: str | None = None, *, workers: int | None = None, threads: int = 1) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read as it is imported: nothing is told to Ray's makers
        with needs_extra("ray"):
            import ray
        self._ray, self.threads, self._limit = ray, threads, workers
        self._idle: list[_Actor] = []
        self._busy: list[_Actor] = []
        self._shared: dict[str, Stored] = {}
        self._whole = False
        """Whether a seat is a whole node now."""
        self._own = not ray.is_initialized()
        if self._own:
            if address is not None:
                _require_there(address)
            # Ray talks to people by itself, on both streams; what matters of it comes as an error.
            try:
                ray.init(address=address or "auto", configure_logging=False, log_to_driver=False)
            except (ConnectionError, ValueError, RuntimeError, OSError) as error:
                where = f"at {address}" if address else "that this machine is a node of"
                msg = f"no Ray cluster {where}: {_line(error)}. Start one (ray start --head), or give its --ray-address."
                raise RemoteError(msg) from error
        self._mine = edition()
        try:
            self.workers = self._room()
        except ConfigError:
            self.close()
            raise

    @property
    def where(self) -> str:
        """See `Executor.where`."""
        nodes = counted(len(self._nodes()), "node")
        return f"{counted(self.workers, 'worker')} of {counted(self.threads, 'thread')} on {nodes} of Ray"

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that live, each on its own node."""
        return [self._ray.get(seat.actor.pid.remote()) for seat in (*self._idle, *self._busy)]

    def share(self, content: bytes) -> Blob:
        """See `Executor.share`."""
        digest = digest_of(content)
        if digest not in self._shared:
            self._shared[digest] = Stored(reference=self._ray.put(content), digest=digest)
        return self._shared[digest]

    def map(self, tasks: Iterable[Task], *, exclusive: bool = False) -> Iterator[tuple[int, Any]]:
        """See `Executor.map`: an exclusive task asks for all CPUs of a node, and for `EXCLUSIVE` where nodes offer it."""
        if exclusive != self._whole:
            self._end()
            self._whole = exclusive
        yield from dispatch(tasks, self)
        if exclusive:  # others may want the nodes
            self._end()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """See `Executor.alone`: all CPUs of this machine's node are taken, so that Ray gives it nothing else to do."""
        self._end()
        here = self._ray.get_runtime_context().get_node_id()
        node = next((node for node in self._nodes() if node.id == here), None)
        guard = self._actor(node, whole=True) if node is not None else None
        try:
            yield
        finally:
            if guard is not None:
                guard.end()

    def close(self) -> None:
        """See `Executor.close`."""
        self._end()
        self._shared.clear()
        if self._own:
            self._ray.shutdown()

    def free(self) -> _Actor | None:
        """See `Seats.free`."""
        seat = self._idle.pop() if self._idle else None
        while seat is None:
            node = self._roomy()
            if node is None:
                return None
            try:
                seat = self._actor(node, whole=self._whole)
            except RemoteError:
                if not self._gone(node):
                    raise
        self._busy.append(seat)
        return seat

    def leave(self, seat: _Actor) -> None:
        """See `Seats.leave`."""
        self._busy.remove(seat)
        self._idle.append(seat)

    def lose(self, seat: _Actor) -> None:
        """See `Seats.lose`."""
        self._busy.remove(seat)
        seat.end()

    def wait(self, busy: Sequence[_Actor]) -> Sequence[_Actor]:
        """See `Seats.wait`."""
        ready, _ = self._ray.wait([seat.result for seat in busy], num_returns=1)
        return [seat for seat in busy if seat.result in ready]

    def _nodes(self) -> list[Node]:
        """Those that live and have CPUs to offer."""
        found = [
            Node(id=node["NodeID"], address=node["NodeManagerAddress"], cpus=int(node["Resources"].get("CPU", 0)),
                 exclusive=EXCLUSIVE in node["Resources"])
            for node in self._ray.nodes() if node["Alive"]
        ]  # fmt: skip
        return sorted((node for node in found if node.cpus), key=lambda node: node.id)

    def _gone(self, node: Node) -> bool:
        """Whether ``node`` has left the cluster, which Ray notices after a while."""
        until = time.monotonic() + NOTICED
        while any(node.id == other.id for other in self._nodes()):
            if time.monotonic() > until:
                return False
            time.sleep(0.2)
        return True

    def _room(self) -> int:
        """How many workers fit into the cluster, and may be. Raises ConfigError if none does."""
        nodes = self._nodes()
        fitting = sum(node.cpus // self.threads for node in nodes)
        if not fitting:
            most = max((node.cpus for node in nodes), default=0)
            most_cpus = counted(most, "CPU")
            msg = f"--worker-threads {self.threads}: the largest node of this Ray cluster has {most_cpus}. Ask for fewer."
            raise ConfigError(msg)
        return fitting if self._limit is None else min(fitting, self._limit)

    def _roomy(self) -> Node | None:
        """The node with most room for one more worker; None if there are as many as may be."""
        nodes, taken = self._nodes(), [seat.node.id for seat in (*self._idle, *self._busy)]
        if self._whole:
            offered = [node for node in nodes if node.exclusive] or nodes
            return next((node for node in offered if node.id not in taken), None)
        if len(taken) >= self.workers:
            return None
        room = {node.id: node.cpus // self.threads - taken.count(node.id) for node in nodes}
        best = max(nodes, key=lambda node: room[node.id], default=None)
        return best if best is not None and room[best.id] > 0 else None

    def _actor(self, node: Node, *, whole: bool) -> _Actor:
        """A worker on ``node``, which runs the same edgevit. Raises RemoteError if it does not."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        settings: dict[str, Any] = {
            "num_cpus": node.cpus if whole else self.threads,
            "resources": {EXCLUSIVE: 1} if whole and node.exclusive else {},
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node.id, soft=False),
        }
        actor = self._ray.remote(**settings)(Worker).remote()
        try:
            theirs = self._ray.get(actor.edition.remote())
        except self._ray.exceptions.RayError as error:
            msg = f"node {node.address}: no worker starts there: {_line(error)}. Is edgevit installed on it?"
            raise RemoteError(msg) from error
        if theirs != self._mine:
            self._ray.kill(actor)
            msg = f"node {node.address} runs {theirs}, this machine {self._mine}. Install the same on every node."
            raise RemoteError(msg)
        return _Actor(self._ray, actor, node)

    def _end(self) -> None:
        for seat in (*self._idle, *self._busy):
            seat.end()
        self._idle.clear()
        self._busy.clear()


class _Actor:
    """One worker of the cluster."""

    def __init__(self, ray: Any, actor: Any, node: Node) -> None:
        self._ray, self.actor, self.node = ray, actor, node
        self.result: Any = None

    def give(self, task: Task) -> None:
        """See `Seat.give`."""
        try:
            self.result = self.actor.run.remote(task)
        except TypeError as error:  # as Ray says it of what it cannot pickle, in many lines
            msg = f"{task.name}: cannot be sent to another process: {_line(error)}"
            raise TypeError(msg) from error

    def take(self) -> Outcome:
        """See `Seat.take`."""
        errors = self._ray.exceptions
        try:
            outcome: Outcome = self._ray.get(self.result)
        except (errors.RayActorError, errors.WorkerCrashedError, errors.NodeDiedError, errors.ObjectLostError) as error:
            raise LostWorkerError(f"on node {self.node.address}") from error  # noqa: EM102 (for one place alone)
        return outcome

    def end(self) -> None:
        """See `Seat.end`."""
        with suppress(Exception):  # it, its node or the cluster may be gone
            self._ray.kill(self.actor)


def _require_there(address: str) -> None:
    """Raise RemoteError at once where nothing listens: Ray itself tries for a minute. ConfigError for what is no address."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or "/" in address:
        msg = f"--ray-address {address}: write HOST:PORT, as ray start prints it."
        raise ConfigError(msg)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        msg = f"no Ray cluster at {address}: {why}. Start one (ray start --head), or give its --ray-address."
        raise RemoteError(msg) from error


def _line(error: BaseException) -> str:
    """The first line of what Ray says, which has many."""
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)
