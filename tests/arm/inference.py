"""What runs on the Arm computer: every graph of a folder on its frames. Imports what a board has, and nothing of the tests."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edgevit.engine import open_session


def infer_all(folder: Path, out: Path, threads: int = 1) -> None:
    """For each ``NAME.onnx`` in ``folder`` the logits of the frames in ``NAME.npy``, one frame at a time, into ``out``, .npz."""
    found = {}
    for path in sorted(folder.glob("*.onnx")):
        frames = np.load(path.with_suffix(".npy"))
        with open_session("onnxruntime", path.read_bytes(), threads=threads) as session:
            found[path.stem] = np.concatenate([session.infer(frame[None]) for frame in frames])
    np.savez(out, **found)


if __name__ == "__main__":
    infer_all(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
