"""Many cameras on one engine: is each served alike, how old is a label, and does the memory stay where it is?

    python benchmarks/cameras.py BUNDLE [--cameras 16] [--seconds 600] [--source test://320x240@30] [--engine NAME] [--threads N]

All that `edgevit run SOURCE SOURCE ... --smooth ema:8 --metrics` does for a frame, in one process: turns, decision, summary,
counts. The cameras are synthetic, and making their pictures takes processor time, too, on a thread each.

Printed are, for each camera, frames classified and overtaken, and percentiles of capture to label; over all of them Jain's index
and the least served beside the most served; the share of the time that the engine was at work; and resident memory, file
descriptors and threads in ten parts of the time. Exit code 1 if memory grew by over 2 % from the first minute (the first tenth
of a shorter run) to the last, a descriptor or thread was left, or the least served camera had less than nine tenths of the most
served one's frames.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median

from edgevit.bundle import open_bundle
from edgevit.engine.of_bundle import session_of
from edgevit.runtime.cameras import Camera
from edgevit.runtime.decide import Decider
from edgevit.runtime.loop import classify_cameras
from edgevit.runtime.sinks.per_camera import PerCamera
from edgevit.runtime.sinks.tally import Tally
from edgevit.runtime.smoothing import parse_smoothing
from edgevit.runtime.source import open_source
from edgevit.runtime.summaries import Summaries

GROWTH = 1.02
LEAST = 0.9
"""Of the most served camera's frames."""
SAMPLE_SECONDS = 1.0


def state() -> tuple[float, int, int]:
    """Resident MiB, file descriptors, threads."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024, len(list(Path("/proc/self/fd").iterdir())), int(fields["Threads"])


def shown_states(states: list[tuple[float, int, int]], seconds: float) -> bool:
    """Print them in ten parts; whether they stayed where they were."""
    part = max(1, len(states) // 10)
    print(f"\n{'minutes':>8} {'RSS MiB':>9} {'fds':>5} {'threads':>8}")
    for at in range(0, len(states), part):
        rss, fds, threads = (median(each[i] for each in states[at : at + part]) for i in range(3))
        print(f"{seconds * at / len(states) / 60:8.1f} {rss:9.1f} {fds:5.0f} {threads:8.0f}")
    minute = min(part, round(60 / SAMPLE_SECONDS)) if seconds < 600 else round(60 / SAMPLE_SECONDS)
    first, last = ([median(each[i] for each in some) for i in range(3)] for some in (states[:minute], states[-minute:]))
    print(f"first minute {first[0]:.1f} MiB, last {last[0]:.1f} MiB: {100 * (last[0] / first[0] - 1):+.2f} %")
    return last[0] <= GROWTH * first[0] and last[1] <= first[1] and last[2] <= first[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--cameras", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--source", default="test://320x240@30")
    parser.add_argument("--engine")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    bundle = open_bundle(args.bundle)
    manifest = bundle.manifest
    names = [f"camera{place}" for place in range(1, args.cameras + 1)]
    states, busy, load = list[tuple[float, int, int]](), 0.0, os.getloadavg()[0]
    with ExitStack() as stack:
        session = stack.enter_context(session_of(bundle, args.engine, threads=args.threads))
        cameras = [Camera(name=name, source=stack.enter_context(open_source(args.source))) for name in names]
        deciders = {name: Decider(smoothing=parse_smoothing("ema:8"), problem_type=manifest.problem_type) for name in names}
        tallies = PerCamera({name: Tally(manifest.labels) for name in names})
        summary = Summaries(cameras)
        results = classify_cameras(
            cameras, session, manifest.preprocessing, manifest.labels, top_k=deciders[names[0]].wanted,
            problem_type=manifest.problem_type,
        )  # fmt: skip
        print(f"{args.bundle.name}, {manifest.precision}, {session.engine} on {session.device}, {session.threads} threads; "
              f"{args.cameras} cameras {args.source}, {args.seconds:g} s, load before {load:.1f}", flush=True)  # fmt: skip
        with closing(results):
            begun = due = time.perf_counter()
            for result in results:
                decision = deciders[result.camera or ""](result)
                summary.add(decision)
                tallies(decision)
                busy += result.infer_ms / 1e3
                if result.finished >= due:
                    states.append(state())
                    due += SAMPLE_SECONDS
                if result.finished - begun >= args.seconds:
                    break
    took = result.finished - begun
    told = summary.to_dict()
    counts = [each["frames"] for each in told["cameras"]]
    print("\n".join(summary.lines()))
    print(f"\nfairness: Jain's index {told['fairness']:.6f}; least served {min(counts)}, most served {max(counts)} frames")
    print(f"engine: at work for {100 * busy / took:.0f} % of the time, load after {os.getloadavg()[0]:.1f}")
    flat = shown_states(states, took)
    sys.exit(0 if flat and min(counts) >= LEAST * max(counts) else 1)


if __name__ == "__main__":
    main()
