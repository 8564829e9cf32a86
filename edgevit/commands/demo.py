"""The material of ``edgevit demo``: scikit-learn's handwritten digits as images, a video, and a ViT trained on them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor

from edgevit.files.writing import write_whole
from edgevit.images.dataset import read_image
from edgevit.model.checkpoint import save_checkpoint
from edgevit.model.vit import Vit
from edgevit.preprocess import Preprocessing, prepare
from edgevit.progress import Progress
from edgevit.runtime.sinks.video import VideoSink
from edgevit.vitconfig import BlockConfig, VitConfig

SIDE = 32
TEST_SHARE = 3  # every third digit is held out
EPOCHS = 60
BATCH = 64
PEAK_RATE = 1.5e-3
VIDEO_DIGITS, FRAMES_EACH, FPS = 60, 5, 30

CONFIG = VitConfig(
    image_size=(SIDE, SIDE),
    patch_size=8,
    channels=1,
    width=96,
    head_dim=32,
    blocks=(BlockConfig(heads=3, hidden=384),) * 4,
    classes=10,
)
CONTRACT = Preprocessing(size=(SIDE, SIDE), resize=(SIDE, SIDE), mean=(0.3,), std=(0.35,), color="gray")


def write_digits(folder: Path) -> None:
    """Write the 1,797 digits as ``train/<digit>/*.png`` and ``test/<digit>/*.png``, and ``test.mp4`` of held-out ones."""
    digits = load_digits()
    pictures = [_picture(image) for image in digits.images]
    for i, (picture, target) in enumerate(zip(pictures, digits.target, strict=True)):
        place = folder / ("test" if i % TEST_SHARE == 0 else "train") / str(target)
        place.mkdir(parents=True, exist_ok=True)
        write_whole(place / f"{i:04d}.png", cv2.imencode(".png", picture)[1].tobytes(), durable=False)
    video = VideoSink(folder / "test.mp4", fps=FPS)
    for picture in pictures[: VIDEO_DIGITS * TEST_SHARE : TEST_SHARE]:
        large = cv2.resize(picture, (128, 128), interpolation=cv2.INTER_CUBIC)
        for _ in range(FRAMES_EACH):
            video(np.asarray(cv2.cvtColor(large, cv2.COLOR_GRAY2BGR), np.uint8))
    video.close()


def _picture(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    """An 8x8 image of levels 0..16 as uint8 [32, 32]."""
    levels = np.clip(image * 255 / 16, 0, 255).astype(np.uint8)
    return np.clip(cv2.resize(levels, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def train_digits(folder: Path, checkpoint: Path, progress: Progress) -> float:
    """Train a ViT on ``folder/train`` and save it; returns top-1 on ``folder/test``, 0..1. Deterministic."""
    torch.manual_seed(0)
    images, targets = _load(folder / "train")
    model = Vit(CONFIG)
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    with progress.stage("train a ViT on digits", total=steps) as stage:
        for _ in range(EPOCHS):
            order = torch.randperm(len(images))[: len(images) // BATCH * BATCH]
            for batch in torch.split(order, BATCH):
                loss = F.cross_entropy(model(_shifted(images[batch])), targets[batch], label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                stage.advance()
    model.eval()
    save_checkpoint(model, checkpoint, preprocessing=CONTRACT, labels=tuple(map(str, range(10))))
    test_images, test_targets = _load(folder / "test")
    with torch.inference_mode():
        return (model(test_images).argmax(1) == test_targets).float().mean().item()


def _shifted(images: Tensor) -> Tensor:
    """Each batch moved by up to 3 pixels, so that position is not learned by heart."""
    rows, columns = (int(v) for v in torch.randint(-3, 4, (2,)))
    return torch.roll(images, (rows, columns), (2, 3))


def _load(folder: Path) -> tuple[Tensor, Tensor]:
    """Normalised images [N, 1, 32, 32] and targets [N], as the contract has them."""
    paths = sorted(folder.glob("*/*.png"))
    frames = np.stack([prepare(read_image(path), CONTRACT)[..., 0] for path in paths])
    images = (torch.from_numpy(frames).float()[:, None] / 255 - CONTRACT.mean[0]) / CONTRACT.std[0]
    return images, torch.tensor([int(path.parent.name) for path in paths])
