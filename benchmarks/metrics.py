"""What Prometheus costs the loop: ``python benchmarks/metrics.py BUNDLE [SECONDS]``.

First, by themselves: microseconds of counting a decision, of the copy that a scrape takes under the lock, and of the whole text,
by the number of labels. Then ``edgevit run`` on a 720p test pattern at 30 fps, without metrics, with metrics that nobody asks
for, and scraped every 15 seconds (as Prometheus' example is), every second, and as often as it goes; in turns, three times each.
Figures of the loop are its own summary's. The scraper is a thread of this script and competes for the processor, which one on
another machine does not.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from edgevit.runtime.classify import Prediction
from edgevit.runtime.decide import Decider, Decision
from edgevit.runtime.frame import Frame
from edgevit.runtime.loop import Result
from edgevit.runtime.metrics import Counted, RunMetrics
from edgevit.runtime.pattern import Pattern
from edgevit.runtime.sinks.tally import Tally

COMMAND = "from edgevit.cli import main; main(prog_name='edgevit')"
SOURCE = "test://1280x720@30"
ROUNDS: dict[str, float | None] = {
    "no metrics": None,
    "nobody asks": float("inf"),
    "every 15 s": 15.0,
    "every second": 1.0,
    "always": 0.0,
}
"""Seconds between two scrapes."""


def microseconds(function: Callable[[], object], repeats: int) -> float:
    """Median of ``repeats`` calls."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return 1e6 * statistics.median(taken)


def decision(label: str) -> Decision:
    frame = Frame(image_bgr=np.zeros((8, 8, 3), np.uint8), captured=0.0, index=0, name="f")
    prediction = Prediction(label=label, index=0, confidence=0.9)
    result = Result(
        frame=frame,
        predictions=(prediction,),
        dropped=0,
        finished=0.0,
        read_ms=30.0,
        prepare_ms=0.4,
        infer_ms=8.0,
        latency_ms=9.0,
    )
    return Decider()(result)


def by_itself(labels: int) -> str:
    from prometheus_client import CollectorRegistry, generate_latest

    names = [f"class {number}" for number in range(labels)]
    tally, registry = Tally(names), CollectorRegistry()
    for name in names:
        tally(decision(name))
    registry.register(RunMetrics(cameras=[Counted(tally=tally, source=Pattern("test://"))], build={"model": "m"}))
    each, text = decision(names[-1]), generate_latest(registry)
    counting = microseconds(lambda: tally(each), 20_000)
    copying, writing = microseconds(tally.counts, 500), microseconds(lambda: generate_latest(registry), 100)
    return f"{labels:>16} {counting:12.1f} {copying:12.1f} {writing:12.0f} {len(text) / 1000:10.0f}"


def measure(bundle: str, every: float | None, seconds: float) -> dict[str, Any]:
    options = [] if every is None else ["--metrics", "0"]
    arguments = ["run", bundle, SOURCE, "--headless", "--json", "--threads", "1", *options]
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        url = next(line for line in run.stderr if "metrics: " in line).partition("metrics: ")[2].strip() if options else ""
        output, ended = run.stdout, threading.Event()
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(list(output)[-1:]))
        reader.start()
        scraper = threading.Thread(target=scrape, args=(url, every, ended)) if every is not None else None
        if scraper is not None:
            scraper.start()
        time.sleep(seconds)
        ended.set()
        run.send_signal(signal.SIGINT)
        reader.join()
        if scraper is not None:
            scraper.join()
    return json.loads(lines[0])["summary"]


def scrape(url: str, every: float, ended: threading.Event) -> None:
    if every == float("inf"):
        return
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while not ended.is_set():
        with suppress(OSError):
            opener.open(url, timeout=5).read()
        ended.wait(every)


def main() -> None:
    bundle, seconds = str(Path(sys.argv[1])), float(sys.argv[2]) if len(sys.argv) > 2 else 20.0
    print(f"{'labels':>16} {'count us':>12} {'copy us':>12} {'text us':>12} {'text kB':>10}")
    for labels in (3, 100, 1000, 21841):
        print(by_itself(labels), flush=True)
    print(f"\n{'scraped':>16} {'fps':>12} {'dropped':>12} {'latency p50':>12} {'p99 ms':>10}")
    for name, every in 3 * list(ROUNDS.items()):
        got = measure(bundle, every, seconds)
        latency = got["latency_ms"]
        print(f"{name:>16} {got['fps']:12.1f} {got['dropped']:12} {latency['p50']:12.2f} {latency['p99']:10.2f}", flush=True)


if __name__ == "__main__":
    main()
