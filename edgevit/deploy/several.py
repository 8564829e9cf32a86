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


def deploy(plan: Plan, hosts: Sequence[Destination], watcher: Watcher, *, pauses: Sequence[float] = PAUSES) -> list[HostOutcome]:
    """Deploy to all ``hosts`` at once, in their order. A link that breaks is tried again after each of ``pauses``.

    KeyboardInterrupt ends all connections first; jobs on the hosts go on.
    """
    several = _Several(plan, watcher, pauses)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="edgevit deploy") as pool:
        futures = [pool.submit(several.one, host) for host in hosts]
        try:
            return [future.result() for future in futures]
        except BaseException:
            several.stop()
            raise


class _Several:
    def __init__(self, plan: Plan, watcher: Watcher, pauses: Sequence[float]) -> None:
        self._plan, self._watcher, self._pauses = plan, watcher, pauses
        self._running: set[Deployment] = set()
        self._stopped = threading.Event()

    def one(self, host: Destination) -> HostOutcome:
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
