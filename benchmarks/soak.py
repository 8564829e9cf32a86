"""Memory and file descriptors of a run that does not end.

    python benchmarks/soak.py BUNDLE [SOURCE] [--frames 50000] [--every 5000] [--engine NAME] [--threads N]
    python benchmarks/soak.py BUNDLE VIDEO --lose

With ``--lose`` VIDEO is read as a camera whose connection is lost at its every end: opened, read and released by OpenCV again and
again, through the same recovery as a real camera. Exit code 1 if, after the first tenth, memory grew by more than 2 % or a
file descriptor or thread was added.
"""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

from edgevit.bundle import open_bundle
from edgevit.engine.of_bundle import session_of
from edgevit.runtime.frame import Source
from edgevit.runtime.loop import classify_frames
from edgevit.runtime.recovery import Live, Recovery
from edgevit.runtime.source import open_source
from edgevit.runtime.stream import Stream
from edgevit.runtime.summary import Summary

GROWTH = 1.02


def losing(video: str) -> Source:
    import cv2

    quick = Recovery(first_delay=0.001, longest_delay=0.001)
    return Live(video, lambda: Stream(cv2.VideoCapture(video)), policy="every", recovery=quick)


def state() -> tuple[float, int, int]:
    """Resident MiB, file descriptors, threads."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024, len(list(Path("/proc/self/fd").iterdir())), int(fields["Threads"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("source", nargs="?", default="test://320x240")
    parser.add_argument("--frames", type=int, default=50_000)
    parser.add_argument("--every", type=int, default=5_000)
    parser.add_argument("--lose", action="store_true")
    parser.add_argument("--engine")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    bundle = open_bundle(args.bundle)
    manifest = bundle.manifest
    source = losing(args.source) if args.lose else open_source(args.source, loop="://" not in args.source)
    states = []
    with source, session_of(bundle, args.engine, threads=args.threads) as session:
        summary = Summary(source)
        print(f"{'frames':>8} {'RSS MiB':>9} {'fds':>5} {'threads':>8} {'lost':>6}", flush=True)
        for result in classify_frames(source, session, manifest.preprocessing, manifest.labels, limit=args.frames):
            summary.add(result)
            if summary.frames % args.every == 0 or summary.frames == args.frames // 10:
                states.append(state())
                lost = source.faults.lost if source.faults else 0
                print(f"{summary.frames:8} {states[-1][0]:9.1f} {states[-1][1]:5} {states[-1][2]:8} {lost:6}", flush=True)
    print("\n".join(summary.lines()))
    print(f"at the end: {threading.active_count()} Python threads, torch imported: {'torch' in sys.modules}")
    # Read at an unlucky moment, a descriptor or thread of a connection under way is missing or extra: the typical count decides.
    first, rest = states[0], states[len(states) // 2 :]
    grown = max(each[0] for each in rest) > GROWTH * first[0] or min(each[1] for each in rest) > first[1] + 1
    sys.exit(1 if grown else 0)


if __name__ == "__main__":
    main()
