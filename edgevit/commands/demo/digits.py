"""Scikit-learn's handwritten digits as images and a video, and a ViT that is trained on them within a minute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor

from edgevit.commands.demo.material import Material
from edgevit.commands.demo.trained import Schedule, trained_checkpoint
from edgevit.errors import storage_errors
from edgevit.files.writing import write_whole
from edgevit.images.dataset import read_image
from edgevit.model.checkpoint import check_replaceable
from edgevit.preprocess import Preprocessing, prepare
from edgevit.runtime.sinks.video import VideoSink
from edgevit.vitconfig import BlockConfig, VitConfig
from edgevit.workbench import Workbench

TEST_SHARE = 3  # every third digit is held out
VIDEO_SIDE, VIDEO_DIGITS, FRAMES_EACH, FPS = 384, 60, 5, 30
SEVEN = "0027"  # a held-out seven, to look at
MEAN, STD = 0.3, 0.35


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the pictures and the ViT are, and how long it is trained."""

    side: int = 96
    """Pixels of a picture's side."""
    width: int = 192
    depth: int = 6
    schedule: Schedule = field(default_factory=Schedule)

    @property
    def config(self) -> VitConfig:
        """The ViT: patches of 8 pixels, heads of 32 channels."""
        block = BlockConfig(heads=self.width // 32, hidden=4 * self.width)
        return VitConfig(
            image_size=(self.side, self.side), patch_size=8, channels=1, width=self.width, head_dim=32,
            blocks=(block,) * self.depth, classes=10, class_token=False, pooling=("mean",),
        )  # fmt: skip

    @property
    def contract(self) -> Preprocessing:
        """How a picture becomes its input."""
        size = (self.side, self.side)
        return Preprocessing(size=size, resize=size, mean=(MEAN,), std=(STD,), color="gray")


SIZE = Size()


def digits_material(folder: Path, size: Size, bench: Workbench) -> Material:
    """Write pictures, video and the trained model into ``folder``; the model is found again if it was trained before.

    Deterministic on one machine. Raises StorageError, before anything is trained, if something else lies where the model goes.
    """
    material = Material(
        name="digits", model=folder / "digits.safetensors", train=folder / "digits" / "train", test=folder / "digits" / "test",
        video=folder / "digits" / "test.mp4", image=folder / "digits" / "test" / "7" / f"{SEVEN}.png", folder=folder,
    )  # fmt: skip
    check_replaceable(material.model)
    digits = load_digits()
    pictures = [_picture(image, size.side) for image in digits.images]
    with storage_errors(folder, "-o"), bench.stage("write 1,797 digits and a video") as stage:
        stage.cached = material.video.is_file() and np.array_equal(read_image(material.image)[..., 0], pictures[int(SEVEN)])
        if not stage.cached:
            _write_digits(folder / "digits", pictures, digits.target)
    write_whole(material.model, _trained_on(material.train, size, bench), option="-o")
    return material


def _write_digits(folder: Path, pictures: Sequence[NDArray[np.uint8]], targets: NDArray[np.int64]) -> None:
    """The digits as ``train/<digit>/*.png`` and ``test/<digit>/*.png``, and last of all ``test.mp4`` of held-out ones."""
    for i, (picture, target) in enumerate(zip(pictures, targets, strict=True)):
        place = folder / ("test" if i % TEST_SHARE == 0 else "train") / str(target)
        place.mkdir(parents=True, exist_ok=True)
        write_whole(place / f"{i:04d}.png", cv2.imencode(".png", picture)[1].tobytes(), durable=False)
    video = VideoSink(folder / "test.mp4", fps=FPS)
    for picture in pictures[: VIDEO_DIGITS * TEST_SHARE : TEST_SHARE]:
        large = cv2.resize(picture, (VIDEO_SIDE, VIDEO_SIDE), interpolation=cv2.INTER_CUBIC)
        for _ in range(FRAMES_EACH):
            video(np.asarray(cv2.cvtColor(large, cv2.COLOR_GRAY2BGR), np.uint8))
    video.close()


def _picture(image: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
    """An 8x8 image of levels 0..16 as uint8 [side, side]."""
    levels = np.clip(image * 255 / 16, 0, 255).astype(np.uint8)
    return np.clip(cv2.resize(levels, (side, side), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def _trained_on(folder: Path, size: Size, bench: Workbench) -> bytes:
    """The checkpoint trained on ``folder``, or as it was kept."""
    images, targets = _load(folder, size.contract)
    labels = tuple(map(str, range(10)))
    return trained_checkpoint(size.config, size.contract, images, targets, schedule=size.schedule, labels=labels, bench=bench)


def _load(folder: Path, contract: Preprocessing) -> tuple[Tensor, Tensor]:
    """Normalised images [N, 1, side, side] and targets [N]."""
    paths = sorted(folder.glob("*/*.png"))
    frames = np.stack([prepare(read_image(path), contract)[..., 0] for path in paths])
    images = (torch.from_numpy(frames).float()[:, None] / 255 - MEAN) / STD
    return images, torch.tensor([int(path.parent.name) for path in paths])
