"""A model as engines take least memory for: in files, its weights apart, which they map instead of copying them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edgevit.externaldata import parted

LARGE = 16 * 2**20
"""Bytes of a model from which on it is worth it."""
WEIGHTS = "weights"


@contextmanager
def on_disk(model: bytes) -> Iterator[Path | bytes]:
    """The path of ``model``, ONNX, as long as the context lasts; what an engine has mapped by then stays mapped.

    ``model`` itself where it is small, or where the temporary folder does not take it. From bytes OpenVINO takes four times
    the weights and ONNX Runtime almost five; from files two and one, and a quarter of the time (ViT-L, FP32).
    """
    with ExitStack() as stack:
        yield _written(model, stack) if len(model) >= LARGE else model


def _written(model: bytes, stack: ExitStack) -> Path | bytes:
    """Where it is until ``stack`` ends; itself, if it is no model or the disk is full: what is wrong with it the engine says."""
    try:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgevit-", ignore_cleanup_errors=True)))
        parts = parted(model, WEIGHTS)
        with (folder / WEIGHTS).open("wb") as file:
            file.writelines(parts.weights)
        path = folder / "model.onnx"
        path.write_bytes(parts.graph)
    except (OSError, ValueError):
        return model
    return path
