"""What a `Vit` takes, from what the runtime delivers: normalised images from uint8 BGR frames."""

from __future__ import annotations

from torch import Tensor

from edgevit.model.rewrites.folding import LUMA_BGR
from edgevit.preprocess import Preprocessing


def normalise(frames: Tensor, contract: Preprocessing) -> Tensor:
    """Float images [N, channels, H, W] of frames uint8 [N, H, W, 3] that ``contract`` prepared."""
    x = frames.permute(0, 3, 1, 2).float() / 255
    if contract.color == "rgb":
        x = x.flip(1)
    elif contract.color == "gray":
        x = (x * x.new_tensor(LUMA_BGR).view(1, 3, 1, 1)).sum(1, keepdim=True)
    mean, std = (x.new_tensor(values).view(1, -1, 1, 1) for values in (contract.mean, contract.std))
    return (x - mean) / std
