"""Stand-ins for what a test machine lacks, a camera and a model, and real files to read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgevit.preprocess import Preprocessing
from edgevit.runtime.classify import Prediction
from edgevit.runtime.decide import Decider, Decision
from edgevit.runtime.frame import Frame, Source
from edgevit.runtime.loop import Result

LABELS = ("dark", "gray", "bright")
CONTRACT = Preprocessing(size=(8, 8), resize=(8, 8))


class FakeSession:
    """Three classes by mean brightness; ``seconds`` is how long it takes."""

    engine, device, threads, batch, features = "fake 1", "numpy", 1, 1, None

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def infer(self, frames_bgr: np.ndarray) -> np.ndarray:
        assert frames_bgr.shape[1:] == (*CONTRACT.size, 3)
        assert frames_bgr.dtype == np.uint8
        time.sleep(self.seconds)
        mean = frames_bgr.mean(axis=(1, 2, 3))[:, None]
        return (-np.abs(mean - [0.0, 128.0, 255.0]) / 20).astype(np.float32)

    def close(self) -> None: ...

    def __enter__(self) -> FakeSession:
        return self

    def __exit__(self, *_: object) -> None: ...


class FakeCamera(Source):
    """A live source of ``frames`` frames, ``seconds`` apart, that ends with ``error``, if one is given."""

    live, description = True, "fake camera"

    def __init__(self, frames: int, seconds: float, error: Exception | None = None) -> None:
        self.frames, self.seconds, self.error = frames, seconds, error
        self.captured = 0
        self.left = False

    def __iter__(self) -> Iterator[Frame]:
        try:
            for index in range(self.frames):
                time.sleep(self.seconds)
                self.captured += 1
                yield frame(index=index, level=index % 256, captured=time.perf_counter())
            if self.error:
                raise self.error
        finally:
            self.left = True


def frame(*, index: int = 0, level: int = 0, captured: float = 0.0, name: str = "fake") -> Frame:
    return Frame(image_bgr=np.full((12, 16, 3), level, np.uint8), captured=captured, index=index, name=name)


def prediction(label: str = "dark", confidence: float = 0.5, index: int = 0) -> Prediction:
    return Prediction(label=label, index=index, confidence=confidence)


def result(**changes: Any) -> Result:
    fields: dict[str, Any] = {
        "frame": frame(), "predictions": (prediction(),), "dropped": 0, "finished": 0.0,
        "read_ms": 1.0, "prepare_ms": 2.0, "infer_ms": 3.0, "latency_ms": 6.0,
    }  # fmt: skip
    return Result(**{**fields, **changes})


def decision(label: str | None = None, confidence: float = 0.9, **changes: Any) -> Decision:
    """What a result comes to, without smoothing or threshold; ``label`` makes its two predictions."""
    if label is not None:
        changes["predictions"] = (prediction(label, confidence, 0), prediction("other", round(1 - confidence, 6), 1))
    return Decider()(result(**changes))


class Notes(list[str]):
    """What the user was told."""

    def __call__(self, text: str) -> None:
        self.append(text)


def eventually(reached: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait for what happens on another thread; the value that made it true."""
    deadline = time.monotonic() + seconds
    while not (value := reached()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)
    return value


def write_video(path: Path, levels: list[int], *, size_wh: tuple[int, int] = (64, 48), fps: float = 25.0) -> Path:
    """A video of flat gray frames, an .avi of JPEG frames or an .mp4."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v")), fps, size_wh)
    assert writer.isOpened()
    for level in levels:
        writer.write(np.full((*size_wh[::-1], 3), level, np.uint8))
    writer.release()
    return path


def write_image(path: Path, level: int = 128, *, size_wh: tuple[int, int] = (20, 10)) -> Path:
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, np.full((*size_wh[::-1], 3), level, np.uint8))[1].tobytes())
    return path
