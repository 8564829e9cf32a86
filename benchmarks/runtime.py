"""What the loop costs on top of the engine, and how old a label is, beside loops that people write.

    python benchmarks/runtime.py BUNDLE [--frames 30] [--turns 15] [--engine NAME] [--threads N]

Frames are 1280x720. Three parts, one session for all:

- overhead, frame by frame in turns (A B C D A B C D), so that other work on the machine meets all alike: the bare engine call on
  a prepared input, prepare and engine in turn, edgevit's loop, and all that `edgevit run --smooth ema:8 --jsonl` does
  for a frame. The overhead is what a frame takes more than the bare call beside it; the median of these differences is shown;
- throughput from a video file, clip by clip in turns: read, prepare, infer in a plain loop, the same on `supervision`'s frame
  generator (benchmarks/requirements.txt), and edgevit's loop;
- capture to label, at rates below and above the engine's: the plain loop on a queue of four buffers, as V4L2 has, and edgevit's
  loop. The camera is simulated: it stamps a frame and puts it into the queue, or loses it when that is full.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING

import numpy as np

from edgevit.bundle import open_bundle
from edgevit.cli.console import table
from edgevit.device.processor import processor
from edgevit.engine.base import Session, SessionBase
from edgevit.engine.of_bundle import session_of
from edgevit.preprocess import Preprocessing, prepare
from edgevit.runtime import classify
from edgevit.runtime.decide import Decider
from edgevit.runtime.frame import Frame, Source
from edgevit.runtime.loop import classify_frames
from edgevit.runtime.sinks.base import Delivery
from edgevit.runtime.sinks.behind import Behind, without_picture
from edgevit.runtime.sinks.lines import JsonFile
from edgevit.runtime.smoothing import parse_smoothing
from edgevit.runtime.summary import Summary

if TYPE_CHECKING:
    from edgevit.engine.base import Given

WIDTH, HEIGHT = 1280, 720
BUFFERS = 4
Cost = tuple[float, float]
"""Milliseconds per frame: of the clock, and of processor time on all threads."""


class Memory(Source):
    """The same few pictures again and again, at no cost; under a rate, live."""

    description = "memory"

    def __init__(self, images: list[np.ndarray], frames: int, fps: float | None = None, *, captures: bool = False) -> None:
        self.images, self.frames, self.fps, self.live, self.captures = images, frames, fps, fps is not None, captures
        self.asked_policy = "latest" if captures else None

    def __iter__(self) -> Iterator[Frame]:
        start = time.perf_counter()
        for index in range(self.frames):
            if self.fps:
                time.sleep(max(0.0, start + index / self.fps - time.perf_counter()))
            image = self.images[index % len(self.images)]
            yield Frame(image_bgr=image, captured=time.perf_counter(), index=index, name="memory")


class Bench:
    """One model, and every loop around it. Each returns milliseconds per frame, or latencies."""

    def __init__(self, session: Session, contract: Preprocessing, labels: tuple[str, ...], frames: int, video: Path) -> None:
        self.session, self.contract, self.labels, self.frames, self.video = session, contract, labels, frames, video
        random = np.random.default_rng(0)
        small = random.integers(0, 256, (4, HEIGHT // 16, WIDTH // 16, 3), np.uint8)
        self.images = [np.ascontiguousarray(image.repeat(16, 0).repeat(16, 1)) for image in small]
        self.ready = prepare(self.images[0], contract)[None]
        write_video(video, self.images, frames)

    def label(self, image: np.ndarray) -> None:
        logits = self.session.infer(prepare(image, self.contract)[None])[0]
        classify.top_k(logits, self.labels, 5)

    def engine(self) -> float:
        return per_frame(self.session.infer(self.ready) for _ in range(self.frames))[0]

    def frame_by_frame(self, rounds: int) -> dict[str, np.ndarray]:
        """Milliseconds [rounds] of every step's frame, the steps in turns."""
        images = cycle(self.images)
        # A source that captures is not read ahead, which would be paid for in another step's turn.
        sources = [Memory(self.images, rounds + 1, captures=True) for _ in range(2)]
        loop, command = self.results(sources[0]), self.command(sources[1])
        steps: dict[str, Callable[[], object]] = {
            "bare engine call": lambda: self.session.infer(self.ready),
            "prepare, then engine": lambda: self.label(next(images)),
            "edgevit": lambda: next(loop),
            "edgevit run --jsonl": lambda: next(command),
        }
        times = [[per_frame(step() for _ in range(1))[0] for step in steps.values()] for _ in range(rounds + 1)][1:]
        return dict(zip(steps, np.array(times).T, strict=True))

    def command(self, source: Source) -> Iterator[object]:
        """As `edgevit run --smooth ema:8 --jsonl`: decisions, summary, and a line that nobody keeps."""
        decider, summary = Decider(smoothing=parse_smoothing("ema:8")), Summary(source)
        results = classify_frames(source, self.session, self.contract, self.labels, top_k=decider.wanted)
        file = JsonFile(Path(os.devnull))
        with closing(Behind(file, Delivery(name="file"), note=print, size=256, wait=True, keep=without_picture)) as lines:
            for result in results:
                decision = decider(result)
                summary.add(replace(result, predictions=(decision.best,)))
                yield lines(decision)

    def alone(self) -> Cost:
        """The loop around an engine and a preparation that cost nothing: what is left is its own."""
        nothing = SessionBase(engine="none", threads=10**6, shape=self.ready.shape[1:], run=self.no_engine)
        memory = Memory([self.ready[0]] * 4, 20 * self.frames)
        contract = Preprocessing(size=self.contract.size, resize=self.contract.size)
        return per_frame(classify_frames(memory, nothing, contract, self.labels))

    def no_engine(self, _frames: np.ndarray) -> Given:
        return np.zeros((1, len(self.labels)), np.float32), None

    def prepared(self) -> Cost:
        return per_frame(prepare(self.images[i % 4], self.contract) for i in range(self.frames))

    def video_plain(self) -> Cost:
        return per_frame(map(self.label, read(self.video)))

    def video_supervision(self) -> Cost:
        import supervision

        return per_frame(map(self.label, supervision.get_video_frames_generator(str(self.video))))

    def video_edgevit(self) -> Cost:
        from edgevit.runtime.video import Video

        return per_frame(self.results(Video(self.video)))

    def results(self, source: Source) -> Iterator[object]:
        return classify_frames(source, self.session, self.contract, self.labels)

    def latency_edgevit(self, fps: float) -> list[float]:
        results = classify_frames(Memory(self.images, self.frames, fps), self.session, self.contract, self.labels)
        return [result.latency_ms for result in results]

    def latency_plain(self, fps: float) -> list[float]:
        queue: Queue[Frame] = Queue(BUFFERS)
        camera = threading.Thread(target=feed, args=(Memory(self.images, self.frames, fps), queue))
        camera.start()
        times = []
        while camera.is_alive() or not queue.empty():
            try:
                frame = queue.get(timeout=0.1)
            except Empty:
                continue
            self.label(frame.image_bgr)
            times.append(1e3 * (time.perf_counter() - frame.captured))
        return times


def per_frame(steps: Iterator[object]) -> Cost:
    wall, cpu, count = time.perf_counter(), time.process_time(), 0
    for _ in steps:
        count += 1
    return 1e3 * (time.perf_counter() - wall) / count, 1e3 * (time.process_time() - cpu) / count


def feed(source: Source, queue: Queue[Frame]) -> None:
    for frame in source:
        try:
            queue.put_nowait(frame)
        except Full:
            continue


def read(path: Path) -> Iterator[np.ndarray]:
    import cv2

    capture = cv2.VideoCapture(str(path))
    while True:
        ok, image = capture.read()
        if not ok:
            break
        yield image
    capture.release()


def write_video(path: Path, images: list[np.ndarray], frames: int) -> None:
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30.0, (WIDTH, HEIGHT))
    for i in range(frames):
        writer.write(images[i // 8 % len(images)])
    writer.release()


def in_turns(turns: int, loops: dict[str, Callable[[], Cost]]) -> dict[str, np.ndarray]:
    """Each loop's cost [turns, 2]; one round before is not counted."""
    costs = [[loop() for loop in loops.values()] for _ in range(turns + 1)][1:]
    return dict(zip(loops, np.array(costs).transpose(1, 0, 2), strict=True))


def overhead(times: dict[str, np.ndarray]) -> float:
    """Print what each step takes more than the first. Returns the first's median in milliseconds."""
    base = next(iter(times.values()))
    usual = float(np.median(base))
    rows = []
    for name, each in times.items():
        low, middle, high = np.percentile(each - base, (25, 50, 75))
        share = 100 * (usual / (usual + middle) - 1)
        rows.append((name, f"{np.median(each):.2f}", f"{middle:+.2f}", f"{low:+.2f} to {high:+.2f}", f"{share:+.1f} %"))
    table(f"overhead, {len(base)} frames each", ("loop", "ms, median", "more", "half of the frames", "throughput"), rows)
    return usual


def show(title: str, costs: dict[str, np.ndarray]) -> None:
    """Medians over the turns; what a loop takes more than the first is compared turn by turn."""
    base = next(iter(costs.values()))
    rows = []
    for name, each in costs.items():
        (ms, cpu), (more_ms, more_cpu) = np.median(each, 0), np.median(each - base, 0)
        share = 100 * float(np.median(base[:, 0] / each[:, 0]) - 1)
        rows.append((name, f"{ms:.2f}", f"{more_ms:+.2f}", f"{share:+.1f} %", f"{cpu:.2f}", f"{more_cpu:+.2f}"))
    table(title, ("loop", "ms per frame", "more", "throughput", "CPU ms per frame", "more CPU ms"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--engine")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    bundle = open_bundle(args.bundle)
    manifest = bundle.manifest
    with tempfile.TemporaryDirectory() as folder, session_of(bundle, args.engine, threads=args.threads) as session:
        bench = Bench(session, manifest.preprocessing, manifest.labels, args.frames, Path(folder) / "clip.mp4")
        print(f"{args.bundle.name}, {session.engine} on {processor()}, {session.threads} threads, {WIDTH}x{HEIGHT}, "
              f"{args.frames} frames, {args.turns} turns")  # fmt: skip
        engine_ms = overhead(bench.frame_by_frame(args.frames * args.turns))
        parts = in_turns(args.turns, {"prepare": bench.prepared, "edgevit's loop without engine and preparation": bench.alone})
        print("\n".join(f"{name}: {each[:, 0].min():.3f} ms per frame" for name, each in parts.items()))
        loops = {"plain loop": bench.video_plain, "edgevit": bench.video_edgevit}
        if find_spec("supervision"):
            loops["supervision"] = bench.video_supervision
        show("from a video file", in_turns(args.turns, loops))
        rows = []
        for share in (0.5, 2.0):
            fps = share * 1e3 / engine_ms
            live = {"plain loop, 4 buffers": bench.latency_plain, "edgevit": bench.latency_edgevit}
            turns = [(bench.engine(), {name: loop(fps) for name, loop in live.items()}) for _ in range(args.turns)]
            for name in live:
                ms = np.concatenate([latencies[name] for _, latencies in turns])
                more = np.median([np.median(latencies[name]) - engine for engine, latencies in turns])
                rows.append((f"{fps:.0f} fps", name, *(f"{np.percentile(ms, p):.2f}" for p in (50, 90, 99)), f"{more:+.2f}"))
        table("capture to label", ("camera", "loop", "p50 ms", "p90 ms", "p99 ms", "p50 - engine call"), rows)


if __name__ == "__main__":
    main()
