"""What `--batch` is worth: frames a second at several batch sizes, and how far logits are from those of single frames.

    python benchmarks/batches.py BUNDLE [--batches 1,2,4,8] [--engine NAME] [--device NAME] [--threads N] [--turns 15]

All sizes have a session of their own, and take turns on the same prepared frames, so that other work on the machine meets all
alike. Shown are medians over the turns, and the ratio to single frames turn by turn, with the range of half of the turns.
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgevit.bundle import open_bundle
from edgevit.cli.console import table
from edgevit.engine.base import Session
from edgevit.engine.of_bundle import session_of

if TYPE_CHECKING:
    from edgevit.engine.base import Frames, Logits


def classified(session: Session, frames: Frames) -> tuple[float, Logits]:
    """Seconds of all frames, a batch at a time, and their logits [N, classes]."""
    begun = time.perf_counter()
    logits = [session.infer(frames[at : at + session.batch]) for at in range(0, len(frames), session.batch)]
    return time.perf_counter() - begun, np.concatenate(logits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--batches", default="1,2,4,8")
    parser.add_argument("--engine")
    parser.add_argument("--device")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--frames", type=int, default=32)
    args = parser.parse_args()
    bundle = open_bundle(args.bundle)
    sizes = [int(size) for size in args.batches.split(",")]
    small = np.random.default_rng(0).integers(0, 256, (args.frames, 8, 8, 3), np.uint8)
    height, width = bundle.manifest.preprocessing.size
    frames = np.ascontiguousarray(small.repeat(-(-height // 8), 1).repeat(-(-width // 8), 2)[:, :height, :width])
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(session_of(bundle, args.engine, threads=args.threads, device=args.device, batch=size))
            for size in sizes
        ]
        one = sessions[0]
        print(f"{args.bundle.name}, {bundle.manifest.precision}, {one.engine} on {one.device}, {one.threads} threads; "
              f"{args.frames} frames, {args.turns} turns, load before {os.getloadavg()[0]:.1f}")  # fmt: skip
        expected = classified(one, frames)[1]
        differences = [float(np.abs(classified(session, frames)[1] - expected).max()) for session in sessions]
        turns = [[classified(session, frames)[0] for session in sessions] for _ in range(args.turns + 1)][1:]
    seconds = np.array(turns)
    ratios = seconds[:, :1] / seconds
    rows = []
    for place, size in enumerate(sizes):
        low, middle, high = np.percentile(ratios[:, place], (25, 50, 75))
        fps = args.frames / np.median(seconds[:, place])
        rows.append((str(size), f"{fps:.1f}", f"{middle:.3f}", f"{low:.3f} to {high:.3f}", f"{differences[place]:.1e}"))
    span = f"largest difference of a logit (logits span {np.ptp(expected):.1f})"
    table("", ("batch", "frames/s", f"beside batch {sizes[0]}", "half of the turns", span), rows)


if __name__ == "__main__":
    main()
