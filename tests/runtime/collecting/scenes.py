"""Real photographs, and a video of them of which it is known which frames are worth keeping."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_sample_image

WIDTH, HEIGHT = 320, 240


@cache
def photo(name: str = "china") -> np.ndarray:
    """``china`` (much detail) or ``flower`` (little), uint8 [427, 640, 3] BGR."""
    return np.ascontiguousarray(load_sample_image(f"{name}.jpg")[..., ::-1])


def view(name: str, x: int, y: int = 90) -> np.ndarray:
    """What a camera sees that points there, uint8 [240, 320, 3]."""
    return photo(name)[y : y + HEIGHT, x : x + WIDTH].copy()


def noisy(image: np.ndarray, sigma: float = 4.0, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def defocused(image: np.ndarray, sigma: float = 3.0) -> np.ndarray:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma))


def shaken(image: np.ndarray, pixels: int = 21) -> np.ndarray:
    return np.asarray(cv2.blur(image, (pixels, 1)))


def lit(image: np.ndarray, factor: float, offset: float = 0.0) -> np.ndarray:
    return np.clip(factor * image.astype(np.float32) + offset, 0, 255).astype(np.uint8)


FLAT = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
FPS = 10.0


def film() -> list[tuple[str, np.ndarray]]:
    """Frames of a camera's day, noise and all, each with what it is: see `write_film`."""
    frames: list[tuple[str, np.ndarray]] = []
    frames += [("dark", lit(view("china", 0), 0.05))] * 5
    frames += [("good", view("china", x)) for x in range(0, 320, 16)]
    frames += [("still", view("china", 304))] * 15
    frames += [("defocused", defocused(view("china", x))) for x in range(320, 0, -32)]
    frames += [("shaken", shaken(view("china", x))) for x in range(0, 320, 32)]
    frames += [("good", view("flower", x)) for x in range(0, 320, 16)]
    frames += [("overexposed", lit(view("flower", 200), 3, 130))] * 5
    frames += [("defocused", defocused(view("flower", x))) for x in range(0, 320, 32)]
    frames += [("again", view("china", x)) for x in range(0, 320, 16)]
    frames += [("flat", FLAT)] * 5
    return [(kind, noisy(image, 3.0, seed)) for seed, (kind, image) in enumerate(frames)]


def write_film(path: Path, frames: list[np.ndarray], fps: float = FPS) -> Path:
    """As a video; an .avi of JPEG frames."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for image in frames:
        writer.write(image)
    writer.release()
    return path
