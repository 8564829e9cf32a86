"""What ``edgevit run`` tells Prometheus: the count of its decisions, on the page and by ``--metrics``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgevit.cli.sources import absent
from edgevit.errors import ConfigError, MissingPackageError

if TYPE_CHECKING:
    from edgevit.bundle import Bundle
    from edgevit.engine.base import Session
    from edgevit.preview.metrics import Exposition
    from edgevit.preview.telemetry import Sample
    from edgevit.runtime.cameras import Camera
    from edgevit.runtime.metrics import RunMetrics
    from edgevit.runtime.sinks.base import Delivery


def metrics_of(
    cameras: Sequence[Camera], session: Session, bundle: Bundle, values: Mapping[str, Any], sample: Sample | None,
    deliveries: Callable[[], Iterable[Delivery]],
) -> RunMetrics | None:  # fmt: skip
    """The metrics of a run; the ``tally`` of each camera is a sink of its decisions.

    None if nobody can ask for them. Raises ConfigError for a lone token."""
    if values["metrics"] is None:
        if values["metrics_token"] is not None and "EDGEVIT_METRICS_TOKEN" not in os.environ:
            msg = "--metrics-token goes with --metrics HOST:PORT"
            raise ConfigError(msg)
        if values["serve"] is None:
            return None
    elif values["serve"] is not None and _same(values["serve"], values["metrics"]):
        msg = (
            f"--metrics {values['metrics']}: the page of --serve is there, and has /metrics. Leave this out, or take another port"
        )
        raise ConfigError(msg)
    from edgevit import __version__
    from edgevit.runtime.metrics import Counted, RunMetrics
    from edgevit.runtime.sinks.tally import Tally

    manifest = bundle.manifest
    build = {
        "version": __version__,
        "model": manifest.name,
        "bundle": bundle.sha256,
        "precision": manifest.precision,
        "engine": session.engine,
        "device": session.device,
    }
    counted = [
        Counted(tally=Tally(manifest.labels, rarity=manifest.known is not None), source=each.source, camera=each.name)
        for each in cameras
    ]
    missing = {str(name): told for name, told in absent(values["source"], cameras).items()}
    return RunMetrics(cameras=counted, absent=missing, build=build, deliveries=deliveries, sample=sample)


def _same(page: str, metrics: str) -> bool:
    from edgevit.preview.address import parse_address

    one, other = parse_address(page), parse_address(metrics, "--metrics")
    return one == other and one.port != 0


def on_the_page(metrics: RunMetrics | None) -> Exposition | None:
    """What the page answers to ``/metrics``; None, and the page has none, without the package."""
    from edgevit.preview.metrics import Exposition

    try:
        return None if metrics is None else Exposition(metrics)
    except MissingPackageError:
        return None


@contextmanager
def serving(metrics: RunMetrics | None, values: Mapping[str, Any]) -> Iterator[None]:
    """Serve ``--metrics``, if it is asked for, for as long as the block lasts."""
    if metrics is None or values["metrics"] is None:
        yield
        return
    from contextlib import closing

    from edgevit.cli.console import note
    from edgevit.preview.metrics import MetricsServer

    with closing(MetricsServer(values["metrics"], metrics, token=values["metrics_token"])) as server:
        note(f"metrics: {server.url}")
        yield
