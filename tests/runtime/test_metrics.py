"""What a scrape of a run says, read back by the parser of Prometheus' own package."""

from __future__ import annotations

import re
import threading
import time

import pytest

from edgevit.runtime.faults import Faults
from edgevit.runtime.metrics import Counted, RunMetrics
from edgevit.runtime.sinks.base import Delivery
from edgevit.runtime.sinks.tally import Tally
from tests.runtime.fakes import FakeCamera, decision
from tests.support import ROOT

client = pytest.importorskip("prometheus_client", reason="needs the extra: pip install 'edgevit[metrics]'")

MACHINE = {
    "power_w": 7.5, "temperature_c": 56.0, "cpu_load": 21.0, "cpu_mhz": 1300.0, "gpu_load": 88.0, "gpu_mhz": 918.0,
    "memory_mb": 4000.0, "temperature_sensor": "tj-thermal", "mode": "25W", "throttled": "heat",
}  # fmt: skip


def run(tally: Tally | None = None, **changes) -> RunMetrics:
    build = {"version": "1", "model": "cells", "bundle": "ab", "precision": "int8", "engine": "fake 1", "device": "numpy"}
    counted = Counted(tally=tally or Tally(("cat", "dog")), source=changes.pop("source", FakeCamera(frames=0, seconds=0)))
    fields = {"cameras": [counted], "build": build}
    return RunMetrics(**(fields | changes))


def test_each_camera_has_a_label_and_one_that_is_absent_is_told_of() -> None:
    gate, door = Tally(("cat", "dog")), Tally(("cat", "dog"))
    for tally, label, count in ((gate, "cat", 3), (door, "dog", 2)):
        for _ in range(count):
            tally(decision(label, dropped=1, latency_ms=20.0, finished=time.perf_counter()))
    cameras = [Counted(tally=tally, source=FakeCamera(frames=0, seconds=0), camera=name)
               for name, tally in (("gate", gate), ("door", door))]  # fmt: skip
    samples = scraped(run(cameras=cameras, absent={"yard": "rtsp://yard/live"}))
    assert value(samples, "edgevit_frames_total", camera="gate") == 3
    assert value(samples, "edgevit_dropped_frames_total", camera="door") == 2
    assert value(samples, "edgevit_labels_total", camera="door", label="dog") == 2
    assert value(samples, "edgevit_labels_total", camera="door", label="cat") == 0
    assert value(samples, "edgevit_latency_seconds_count", camera="gate") == 3
    assert value(samples, "edgevit_stage_seconds_count", camera="door", stage="infer") == 2
    assert value(samples, "edgevit_source_lost_total", camera="gate") == 0
    assert value(samples, "edgevit_source_info", camera="yard", source="rtsp://yard/live", policy="") == 1
    assert not [
        labels for name, labels in samples if name == "edgevit_last_frame_timestamp_seconds" and ("camera", "yard") in labels
    ]
    assert value(samples, "edgevit_start_time_seconds") > 0, "of the run"


def scraped(metrics: RunMetrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels."""
    registry = client.CollectorRegistry(auto_describe=True)
    registry.register(metrics)
    from prometheus_client.parser import text_string_to_metric_families

    families = text_string_to_metric_families(client.generate_latest(registry).decode())
    samples = [(sample.name, frozenset(sample.labels.items()), sample.value) for family in families for sample in family.samples]
    assert len(samples) == len({sample[:2] for sample in samples}), "twins"
    return {(name, labels): value for name, labels, value in samples}


def value(samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def test_counts_and_times() -> None:
    tally = Tally(("cat", "dog"), rarity=True)
    for label, dropped in (("cat", 2), ("dog", 0), ("cat", 0)):
        tally(decision(label, dropped=dropped, latency_ms=20.0, finished=time.perf_counter()))
    samples = scraped(run(tally))
    assert value(samples, "edgevit_frames_total") == 3
    assert value(samples, "edgevit_dropped_frames_total") == 2
    assert value(samples, "edgevit_labels_total", label="cat") == 2
    assert value(samples, "edgevit_latency_seconds_count") == 3
    assert value(samples, "edgevit_latency_seconds_sum") == pytest.approx(0.06)
    assert value(samples, "edgevit_latency_seconds_bucket", le="0.015") == 0
    assert value(samples, "edgevit_latency_seconds_bucket", le="0.02") == 3
    assert value(samples, "edgevit_latency_seconds_bucket", le="+Inf") == 3
    assert value(samples, "edgevit_stage_seconds_sum", stage="infer") == pytest.approx(0.009)
    assert value(samples, "edgevit_typicality_count") == 0
    assert value(samples, "edgevit_last_frame_timestamp_seconds") == pytest.approx(time.time(), abs=5)
    assert value(samples, "edgevit_start_time_seconds") == pytest.approx(time.time(), abs=60)


def test_units_are_the_base_units() -> None:
    samples = scraped(run(sample=lambda: MACHINE))
    for name, expected in {
        "power_watts": 7.5, "temperature_celsius": 56.0, "cpu_load_ratio": 0.21, "cpu_frequency_hertz": 1.3e9,
        "gpu_load_ratio": 0.88, "gpu_frequency_hertz": 918e6, "memory_used_bytes": 4000 * 1024 * 1024, "throttled": 1.0,
    }.items():  # fmt: skip
        assert value(samples, f"edgevit_{name}") == pytest.approx(expected), name
    assert value(scraped(run(sample=lambda: {"throttled": "no"})), "edgevit_throttled") == 0


def test_what_a_machine_does_not_tell_is_absent_and_never_zero() -> None:
    for metrics in (run(), run(sample=lambda: dict.fromkeys(MACHINE))):
        names = {name for name, _ in scraped(metrics)}
        assert not any(name.startswith(("edgevit_power", "edgevit_temp", "edgevit_gpu", "edgevit_throttled")) for name in names)
        assert "edgevit_typicality_count" not in names
        assert "edgevit_last_frame_timestamp_seconds" not in names


def test_faults_and_skips_of_the_source() -> None:
    camera = FakeCamera(frames=0, seconds=0)
    assert value(scraped(run(source=camera)), "edgevit_source_lost_total") == 0
    camera.skip("a.png", 3)
    camera.faults = Faults(lost=4, stalled=1, reconnected=2, stale=5, resized=6, down_seconds=7.5)
    samples = scraped(run(source=camera))
    assert value(samples, "edgevit_skipped_frames_total") == 3
    found = [
        value(samples, f"edgevit_source_{name}_total")
        for name in ("lost", "stalled", "reconnects", "stale_frames", "resizes", "down_seconds")
    ]
    assert found == [4, 1, 2, 5, 6, 7.5]


def test_outputs_by_name_and_those_of_one_name_together() -> None:
    each = [
        Delivery(name="webhook host", sent=3, failed=1, dropped=2, failing=True),
        Delivery(name="a.jsonl", sent=5),
        Delivery(name="webhook host", sent=10),
    ]
    samples = scraped(run(deliveries=lambda: each))
    assert value(samples, "edgevit_output_sent_total", output="webhook host") == 13
    assert value(samples, "edgevit_output_failed_total", output="webhook host") == 1
    assert value(samples, "edgevit_output_dropped_total", output="webhook host") == 2
    assert value(samples, "edgevit_output_failing", output="webhook host") == 1
    assert value(samples, "edgevit_output_sent_total", output="a.jsonl") == 5
    assert value(samples, "edgevit_output_failing", output="a.jsonl") == 0


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ('say "hi"', 'say "hi"'),
        ("back\\slash", "back\\slash"),
        ("Käse 🧀", "Käse 🧀"),
        ("two\nlines", "two\\nlines"),
        ("half \udc80", "half \\udc80"),
        ("{a=\"b\"} 1\n# HELP", "{a=\"b\"} 1\\n# HELP"),
        ("", ""),
    ],
)  # fmt: skip
def test_labels_of_any_kind_are_one_line_and_read_back(label: str, shown: str) -> None:
    tally = Tally((label, "cat"))
    tally(decision(label))
    assert value(scraped(run(tally)), "edgevit_labels_total", label=shown) == 1


def test_labels_that_look_alike_are_one() -> None:
    tally = Tally(("a\nb", "a\\nb"))
    for label in tally.names:
        tally(decision(label))
    assert value(scraped(run(tally)), "edgevit_labels_total", label="a\\nb") == 2


def test_nothing_of_the_python_that_runs_it() -> None:
    assert {name.partition("_")[0] for name, _ in scraped(run(sample=lambda: MACHINE))} == {"edgevit"}


def test_two_runs_in_a_process_know_nothing_of_each_other() -> None:
    one, other = Tally(("cat",)), Tally(("cat",))
    one(decision("cat"))
    assert value(scraped(run(one)), "edgevit_frames_total") == 1
    assert value(scraped(run(other)), "edgevit_frames_total") == 0


def test_names_follow_the_conventions() -> None:
    """https://prometheus.io/docs/practices/naming: counters end in _total, nothing else does; no unit but a base unit."""
    for family in run(sample=lambda: MACHINE).collect():
        assert family.documentation.endswith("."), family.name
        assert not family.name.endswith(("_total", "_ms", "_mb", "_mhz", "_percent", "_minutes")), family.name
        assert all(sample.name.endswith("_total") == (family.type == "counter") for sample in family.samples), family.name


def test_loop_does_not_wait_for_a_scrape_that_is_under_way() -> None:
    tally = Tally(("cat",))
    for _ in run(tally, sample=lambda: MACHINE).collect():
        loop = threading.Thread(target=tally, args=(decision("cat"),), daemon=True)
        loop.start()
        loop.join(10)
        assert not loop.is_alive()
    assert tally.counts().frames > 20


def test_every_metric_is_documented_and_nothing_else() -> None:
    docs = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").partition("## What there is")[2].partition("\n## ")[0]
    endings = {"counter": "_total", "info": "_info"}
    assert set(re.findall(r"`(edgevit_\w+)[`{]", docs)) == {each.name + endings.get(each.type, "") for each in run().collect()}
