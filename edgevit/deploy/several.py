"""Several hosts side by side; what happens to one is none of the others' business."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from edgevit.deploy.destination import Destination
from edgevit.deploy.plan import Plan
from edgevit.deploy.steps import Deployment
from edgevit.deploy.watcher import Watcher
from edgevit.errors import EdgevitError, LinkError, RemoteError

AT_ONCE = 16
PAUSES = (2.0, 10.0)
"""Seconds before trying again after the link broke."""


@dataclass(frozen=True, kw_only=True)
class HostOutcome:
    """How it went on one host."""

    host: Destination
    report: dict[str, Any]
    """As far as it came."""
    error: EdgevitError | None = None
    begun: bool = True
    """False if it was left alone, as too many others had failed."""

    @property
    def came_to(self) -> str:
        """In a word or two: what became of the service, ``done``, or how far it came."""
        steps = self.report.get("steps") or {}
        if not self.begun:
            return "not begun"
        if isinstance(self.error, LinkError) and not steps:
            return "offline"
        served = (self.report.get("service") or {}).get("outcome")
        return served or (next(reversed(steps), "-") if self.error else "done")


def deploy(
    plan: Plan, hosts: Sequence[Destination], watcher: Watcher, *, pauses: Sequence[float] = PAUSES, at_a_time: int = AT_ONCE,
    stop_after: int | None = None,
) -> list[HostOutcome]:  # fmt: skip
    """Deploy to ``hosts``, so many ``at_a_time``, in order. A broken link is tried again after each of ``pauses``.

    Once ``stop_after`` hosts have failed no other is begun. KeyboardInterrupt ends all connections first; jobs there go on.
    """
    several = _Several(plan, watcher, pauses, stop_after)
    with ThreadPoolExecutor(at_a_time, thread_name_prefix="edgevit deploy") as pool:
        futures = [pool.submit(several.one, host) for host in hosts]
        try:
            return [future.result() for future in futures]
        except BaseException:
            several.stop()
            raise


class _Several:
    def __init__(self, plan: Plan, watcher: Watcher, pauses: Sequence[float], stop_after: int | None) -> None:
        self._plan, self._watcher, self._pauses, self._stop_after = plan, watcher, pauses, stop_after
        self._failed = 0
        self._counting = threading.Lock()
        self._running: set[Deployment] = set()
        self._stopped = threading.Event()

    def one(self, host: Destination) -> HostOutcome:
        """One host, unless too many have failed before."""
        failed = self._failed
        if self._stop_after is not None and failed >= self._stop_after:
            left = RemoteError(f"{host.address}: not begun, as {failed} failed before it. Run the same command again.")
            return HostOutcome(host=host, report={"host": host.address, "steps": {}}, error=left, begun=False)
        outcome = self._tried(host)
        with self._counting:
            self._failed += outcome.error is not None
        return outcome

    def _tried(self, host: Destination) -> HostOutcome:
        """One host, tried again while its link breaks in the middle; one that never answered is given up at once."""
        pauses = iter(self._pauses)
        while True:
            deployment = Deployment(self._plan, host, self._watcher)
            self._running.add(deployment)
            try:
                return HostOutcome(host=host, report=deployment.run())
            except LinkError as error:
                pause = next(pauses, None)
                if pause is None or not deployment.report["steps"]:
                    return HostOutcome(host=host, report=deployment.report, error=error)
                self._watcher.again(host, error, pause)
                if self._stopped.wait(pause):
                    return HostOutcome(host=host, report=deployment.report, error=error)
            except EdgevitError as error:
                return HostOutcome(host=host, report=deployment.report, error=error)
            except Exception as error:  # an answer that makes no sense: the other hosts go on
                unexpected = f"{host.address}: nobody expected what it answers; please report it: {type(error).__name__}: {error}"
                return HostOutcome(host=host, report=deployment.report, error=RemoteError(unexpected))
            finally:
                self._running.discard(deployment)

    def stop(self) -> None:
        """End every connection."""
        self._stopped.set()
        for deployment in tuple(self._running):
            deployment.stop()
