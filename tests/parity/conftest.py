"""The true timm and transformers, with random weights: they are imported here and nowhere else in the project."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch = pytest.importorskip("torch")


def import_torchvision() -> None:
    """PyPI's torchvision registers kernels for operators of its own library, which does not load beside torch's CPU wheel."""
    try:
        import torchvision
    except RuntimeError:  # operator torchvision::nms does not exist
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        import_torchvision.library = torch.library.Library("torchvision", "FRAGMENT")  # kept: it ends with its last reference
        for operator in ("nms", "qnms"):
            import_torchvision.library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401


if importlib.util.find_spec("torchvision"):
    import_torchvision()


def lively(model, seed: int = 0):
    """Random weights large enough that every parameter, picture and position matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim == 1:
                value.copy_(noise * 0.1 + (1.0 if "norm" in name and name.endswith("weight") else 0.3 if "ls" in name else 0.0))
            elif "pos" in name or "token" in name:
                value.copy_(noise * 0.5)
            else:
                value.copy_(noise * (1.5 / (value[0].numel() if value.ndim else 1) ** 0.5))
    return model.eval()


def images_of(model, count: int = 4):
    """Normalised random images for a model of edgevit's."""
    config = model.config
    return torch.randn(count, config.channels, *config.image_size, generator=torch.Generator().manual_seed(7))


def picture(height: int, width: int, seed: int):
    """A smooth random picture, PIL RGB."""
    from PIL import Image

    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.BICUBIC)


def fed(contract, image):
    """What edgevit feeds its model of a PIL image: float [1, channels, H, W]."""
    from edgevit.model.pixels import normalise
    from edgevit.preprocess import prepare

    frame = np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])
    return normalise(torch.from_numpy(prepare(frame, contract))[None], contract)


def bgr(path: Path):
    import cv2

    return cv2.imread(str(path))
