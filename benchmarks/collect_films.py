"""What `edgevit collect` keeps of two films of which every frame is known; the figures of docs/collect.md.

    python benchmarks/collect_films.py

Needs scikit-learn, for its two photographs and its handwritten digits.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_digits, load_sample_images

import edgevit

WIDTH, HEIGHT, FPS = 640, 480, 25.0
Image = np.ndarray
Shot = tuple[str, Image]


def day() -> Iterator[Shot]:
    """Pans over two photographs, a still camera, flicker, defocus, shaking, darkness, overexposure, and a pan once more."""
    china, flower = (
        cv2.resize(image[..., ::-1], None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for image in load_sample_images().images
    )

    def view(photo: Image, x: float, y: int) -> Image:
        return photo[y : y + HEIGHT, int(x) : int(x) + WIDTH].astype(np.float32)

    def pan(
        kind: str, photo: Image, y: int, frames: int, first: int, last: int, change: Callable[[Image], Image]
    ) -> Iterator[Shot]:
        for i in range(frames):
            yield kind, change(view(photo, first + (last - first) * i / frames, y))

    def same(image: Image) -> Image:
        return image

    def defocused(sigma: float) -> Callable[[Image], Image]:
        return lambda image: cv2.GaussianBlur(image, (0, 0), sigma)

    yield from [("unexposed", np.full((HEIGHT, WIDTH, 3), 6.0))] * 25
    yield from pan("good", china, 0, 75, 0, 640, same)
    yield from [("still", view(china, 640, 0))] * 50
    yield from pan("blurred", china, 370, 50, 640, 200, defocused(8))
    yield from pan("good", china, 370, 50, 200, 640, same)
    yield from pan("blurred", china, 370, 30, 640, 300, lambda image: cv2.blur(image, (41, 1)))
    yield from (("still", view(china, 640, 0) * (0.8 + 0.2 * np.sin(i / 3))) for i in range(40))
    yield from pan("good", flower, 0, 75, 0, 640, same)
    yield from [("unexposed", view(flower, 300, 100) * 3 + 120)] * 25
    yield from pan("blurred", flower, 370, 40, 0, 640, defocused(6))
    yield from pan("good", flower, 370, 75, 640, 0, same)
    yield from pan("again", china, 0, 75, 0, 640, same)
    yield from [("unexposed", np.full((HEIGHT, WIDTH, 3), 128.0))] * 20
    yield from [("unexposed", view(flower, 100, 100) * 0.08)] * 25


def belt(digits: int = 20) -> Iterator[Shot]:
    """Handwritten digits that come blurred, stand, and leave defocused, on a belt, under a light that drifts."""
    random = np.random.default_rng(5)
    ground = np.tile(np.linspace(70, 120, WIDTH)[None, :, None], (HEIGHT, 1, 3))
    ground[:100], ground[380:] = 50, 45
    ground += 0.6 * cv2.GaussianBlur(random.normal(0, 60, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 2)[..., None]
    drawings = load_digits().images[:digits]

    def with_digit(number: int, x: int) -> Image:
        image = ground.copy()
        ink = (
            cv2.resize(drawings[number].astype(np.float32), (130, 130), interpolation=cv2.INTER_CUBIC).clip(0, 16)[..., None] / 16
        )
        left, right = max(0, x), min(WIDTH, x + 130)
        ink = ink[:, left - x : right - x]
        image[170:300, left:right] = image[170:300, left:right] * (1 - ink) + 235 * ink
        return image

    for number in range(digits):
        yield from [("empty", ground)] * 8
        yield from (("blurred", cv2.blur(with_digit(number, x), (41, 1))) for x in range(-100, 255, 60))
        yield from [(f"digit {number}", with_digit(number, 255))] * 12
        yield from (("blurred", cv2.GaussianBlur(with_digit(number, x), (0, 0), 5)) for x in range(255, WIDTH, 60))


def written(shots: Iterator[Shot], path: Path, *, noise: float, drift: float = 0.0, clock: bool = False) -> list[str]:
    """Write a film, with a camera's noise; what each frame is."""
    random, kinds = np.random.default_rng(0), []
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT))
    for number, (kind, image) in enumerate(shots):
        lit = image * (1 + drift * np.sin(number / 40)) + random.normal(0, noise, image.shape)
        frame = np.clip(lit, 0, 255).astype(np.uint8)
        if clock:
            text = f"2026-01-01 10:00:{int(number / FPS):02d}"
            cv2.putText(frame, text, (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
        writer.write(frame)
        kinds.append(kind)
    writer.release()
    return kinds


def main() -> None:
    """Print, for each film and rate, how many frames of each kind were kept, and why the others were not."""
    films: dict[str, Callable[[Path], list[str]]] = {
        "day": lambda path: written(day(), path, noise=3),
        "belt": lambda path: written(belt(), path, noise=5, drift=0.15, clock=True),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, write in films.items():
            path = Path(folder) / f"{name}.mp4"
            kinds = write(path)
            print(f"{name}: {len(kinds)} frames, {dict(Counter(kind.split(' ')[0] for kind in kinds))}")
            for every in (0.0, 1.0):
                result = edgevit.collect(path, out=Path(folder) / f"{name} {every}", every=every)
                kept = [kinds[each.frame] for each in result.snapshots]
                counts = dict(Counter(kind.split(" ")[0] for kind in kept))
                print(f"  every {every:g} s, in {result.seconds:.1f} s: kept {counts}, of {len(set(kept))} different things")
                print(f"    left out {dict(result.left_out)}")


if __name__ == "__main__":
    main()
