"""What tells one model from another, whatever file it came from and whatever options it was read with."""

from __future__ import annotations

import hashlib

from edgevit.model.vit import Vit


def model_digest(model: Vit) -> str:
    """SHA-256, hexadecimal, over shapes and weights."""
    digest = hashlib.sha256(repr(model.config).encode())
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.detach().cpu().contiguous().numpy())
    return digest.hexdigest()
