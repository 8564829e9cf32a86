"""A run as Prometheus' metrics: names, units and help, made when somebody asks.

Names follow https://prometheus.io/docs/practices/naming: base units, ``_total`` of what only grows, ``_info`` of what is told in
labels. The text is made of these by `prometheus_client`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgevit.printable import printable
from edgevit.runtime.faults import Faults
from edgevit.runtime.sinks.tally import Buckets, Counts, Tally

if TYPE_CHECKING:
    from prometheus_client import Metric

    from edgevit.runtime.frame import Source
    from edgevit.runtime.sinks.base import Delivery

MEBI = 2.0**20
MACHINE = {
    "power_w": ("edgevit_power_watts", 1.0, "Power of the board, or of the rails that it measures."),
    "temperature_c": ("edgevit_temperature_celsius", 1.0, "Temperature of the hottest sensor."),
    "cpu_load": ("edgevit_cpu_load_ratio", 0.01, "Load of all cores, 0 to 1."),
    "cpu_mhz": ("edgevit_cpu_frequency_hertz", 1e6, "Clock of the cores, their mean."),
    "gpu_load": ("edgevit_gpu_load_ratio", 0.01, "Load of the GPU, 0 to 1."),
    "gpu_mhz": ("edgevit_gpu_frequency_hertz", 1e6, "Clock of the GPU."),
    "memory_mb": ("edgevit_memory_used_bytes", MEBI, "Memory in use, of the machine; on a Jetson the GPU's is part of it."),
}
"""A value of `Telemetry.sample` -> the gauge, its unit in that value's, and help."""
FAULTS = {
    "lost": ("edgevit_source_lost_total", "Connections to the source that ended: unplugged, server gone, stalled."),
    "stalled": ("edgevit_source_stalled_total", "Those of them that ended because no frame came for too long."),
    "reconnected": ("edgevit_source_reconnects_total", "Connections to the source that came back."),
    "stale": ("edgevit_source_stale_frames_total", "Frames of a connection that was given up, thrown away."),
    "resized": ("edgevit_source_resizes_total", "Changes of the picture's size."),
    "down_seconds": ("edgevit_source_down_seconds_total", "Time without a connection, of outages that ended."),
}
"""A count of `Faults` -> the counter and its help."""
DELIVERED = {
    "sent": ("edgevit_output_sent_total", "What an output was given and took."),
    "failed": ("edgevit_output_failed_total", "What an output tried and gave up."),
    "dropped": ("edgevit_output_dropped_total", "What an output never tried: it was too slow, or waits after a failure."),
}
"""A count of `Delivery` -> the counter and its help."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Counted:
    """A source and what was counted of it."""

    tally: Tally
    source: Source
    camera: str | None = None
    """Its name: a label of all that is told of it, if it has one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunMetrics:
    """A collector for a `prometheus_client.CollectorRegistry`: of one run, and of nothing else in this process.

    Counts are copied first, under locks that are held for microseconds; all else happens without one.
    """

    cameras: Sequence[Counted]
    """At least one. Where there are several, each has a name."""
    build: Mapping[str, str]
    """What runs, as labels of ``edgevit_build_info``."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Cameras that could not be opened, name and what it is: an alert should tell that they show nothing."""
    deliveries: Callable[[], Iterable[Delivery]] = tuple
    """Of every output that tells what became of what it was given."""
    sample: Callable[[], Mapping[str, float | str | None]] | None = None
    """`Telemetry.sample`; None without telemetry."""

    def collect(self) -> Iterator[Metric]:
        """Every family, with its samples of now. One whose values this machine or run does not tell has none."""
        seen = [_Seen(each, each.tally.counts()) for each in self.cameras]
        yield from self._what_runs(seen)
        yield from _frames(seen)
        yield from _times(seen)
        yield from _source(seen)
        yield from _outputs(self.deliveries())
        yield from _machine({} if self.sample is None else self.sample())

    def _what_runs(self, seen: Sequence[_Seen]) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily as Gauge
        from prometheus_client.core import InfoMetricFamily as Info

        yield Info("edgevit_build", "What runs.", _shown(self.build))
        sources = Info("edgevit_source", "What it sees, and which frames: the latest, or every one.", labels=_labels(seen))
        for each in seen:
            source = each.of.source
            sources.add_metric(each.labels, _shown({"source": source.description, "policy": source.policy}))
        for name, told in self.absent.items():
            sources.add_metric((printable(name),), _shown({"source": told, "policy": ""}))
        yield sources
        started = min(each.of.tally.started for each in seen)
        yield Gauge("edgevit_start_time_seconds", "When the run began, since 1970.", started)
        last = Gauge("edgevit_last_frame_timestamp_seconds", "When the newest label was known, since 1970.", labels=_labels(seen))
        for each in seen:
            if each.counts.last is not None:
                last.add_metric(each.labels, time.time() - (time.perf_counter() - each.counts.last))
        yield last


class _Seen:
    """A camera, its counts of one moment, and the label that it has."""

    def __init__(self, of: Counted, counts: Counts) -> None:
        self.of, self.counts = of, counts
        self.labels = () if of.camera is None else (printable(of.camera),)


def _labels(seen: Sequence[_Seen]) -> tuple[str, ...]:
    """The name of the label that tells cameras apart, if they have names."""
    return ("camera",) if any(each.labels for each in seen) else ()


def _frames(seen: Sequence[_Seen]) -> Iterator[Metric]:
    yield _counter("edgevit_frames_total", "Frames that were classified.", seen, lambda each: each.counts.frames)
    yield _counter(
        "edgevit_dropped_frames_total", "Frames that were overtaken by newer ones.", seen, lambda each: each.counts.dropped
    )
    yield _counter("edgevit_skipped_frames_total", "Frames that could not be decoded.", seen, lambda each: each.of.source.skipped)
    yield _counter(
        "edgevit_engine_retries_total", "Frames on which the engine failed at first.", seen, lambda each: each.counts.retries
    )
    yield _counter("edgevit_unknown_frames_total", "Frames that were called unknown.", seen, lambda each: each.counts.unknown)
    from prometheus_client.core import CounterMetricFamily as Counter

    labels = "Frames by label; of a model of several labels a frame may have many."
    counts = [((*each.labels, label), count) for each in seen for label, count in each.counts.labels.items()]
    yield _by(Counter, "edgevit_labels_total", labels, (*_labels(seen), "label"), counts)


def _counter(name: str, text: str, seen: Sequence[_Seen], value: Callable[[_Seen], float]) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(name, text, labels=_labels(seen))
    for each in seen:
        family.add_metric(each.labels, value(each))
    return family


def _times(seen: Sequence[_Seen]) -> Iterator[Metric]:
    from prometheus_client.core import HistogramMetricFamily as Histogram

    of = _labels(seen)
    latency = Histogram("edgevit_latency_seconds", "From capture to label.", labels=of)
    stages = Histogram("edgevit_stage_seconds", "A stage of a frame: read, prepare, infer.", labels=(*of, "stage"))
    typicality = Histogram("edgevit_typicality", "Share of known images as rare as the frame or rarer: 0.5 is usual.", labels=of)
    for each in seen:
        latency.add_metric(each.labels, *_cumulative(each.counts.latency))
        for name, buckets in each.counts.stages.items():
            stages.add_metric((*each.labels, name), *_cumulative(buckets))
        if each.counts.typicality is not None:
            typicality.add_metric(each.labels, *_cumulative(each.counts.typicality))
    yield from (latency, stages, typicality)


def _source(seen: Sequence[_Seen]) -> Iterator[Metric]:
    none = Faults()
    for count, (name, text) in FAULTS.items():
        yield _counter(name, text, seen, lambda each, count=count: getattr(each.of.source.faults or none, count))  # type: ignore[misc]


def _outputs(deliveries: Iterable[Delivery]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily as Counter
    from prometheus_client.core import GaugeMetricFamily as Gauge

    each = list(deliveries)
    for count, (name, text) in DELIVERED.items():
        counts = [((delivery.name,), getattr(delivery, count)) for delivery in each]
        yield _by(Counter, name, text, ("output",), counts)
    failing = [((delivery.name,), int(delivery.failing)) for delivery in each]
    yield _by(Gauge, "edgevit_output_failing", "1 while an output does not work: disk full, broker away.", ("output",), failing)


def _machine(sample: Mapping[str, float | str | None]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily as Gauge

    for key, (name, unit, text) in MACHINE.items():
        value = sample.get(key)
        yield Gauge(name, text, None if value is None else float(value) * unit)
    throttled = sample.get("throttled")
    value = None if throttled is None else float(throttled != "no")
    yield Gauge("edgevit_throttled", "1 while the machine is slower than its setting: heat, power, current.", value)


def _by(
    kind: type[Any], name: str, text: str, labels: tuple[str, ...], counts: Iterable[tuple[tuple[str, ...], int]]
) -> Metric:  # fmt: skip
    """A family by ``labels``. Names that look alike once they are fit to be shown are one: Prometheus refuses twins."""
    sums: dict[tuple[str, ...], int] = defaultdict(int)
    for key, count in counts:
        sums[tuple(map(printable, key))] += count
    family = kind(name, text, labels=labels)
    for key, count in sums.items():
        family.add_metric(key, count)
    return family


def _cumulative(buckets: Buckets) -> tuple[list[tuple[str, float]], float]:
    """As `HistogramMetricFamily.add_metric` takes it."""
    names = [*(str(bound) for bound in buckets.bounds), "+Inf"]
    return list(zip(names, map(float, buckets.counts), strict=True)), buckets.sum


def _shown(labels: Mapping[str, Any]) -> dict[str, str]:
    return {name: printable(value) for name, value in labels.items()}
