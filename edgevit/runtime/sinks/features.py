"""The sink that keeps what the head saw of every frame, for search and clustering."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevit.errors import ConfigError, StorageError
from edgevit.files.own_kinds import FEATURES
from edgevit.files.writing import write_whole
from edgevit.runtime.decide import Decision

MOST_BYTES = 2**30
"""Of features that wait to be written: 700,000 frames of a ViT-S."""


class FeatureFile:
    """An ``.npz`` of all frames' features, written when the run ends.

    ``features`` is float32 [frames, features], ``names`` [frames] what each frame is called, ``frames`` [frames] its number in
    its source, and ``labels`` [frames] what was made of it. Where sources have names, ``cameras`` [frames] are these.
    """

    def __init__(self, path: Path) -> None:
        """Keep features for ``path``. Raises ConfigError for another suffix."""
        if path.suffix.lower() != ".npz":
            msg = f"--features {path}: features are written as .npz; give the file that suffix."
            raise ConfigError(msg)
        self._path = path
        self._features = list[NDArray[np.float32]]()
        self._told = list[tuple[str, int, str]]()
        self._cameras = list[str]()
        self._bytes = 0

    def __call__(self, decision: Decision) -> bool:
        """Keep those of one frame. Raises StorageError where they are too many."""
        if decision.features is None:
            msg = "these frames came without features"
            raise ValueError(msg)
        self._bytes += decision.features.nbytes
        if self._bytes > MOST_BYTES:
            msg = f"{self._path}: over {MOST_BYTES >> 20} MiB of features in one run. Take fewer frames with --limit."
            raise StorageError(msg)
        self._features.append(decision.features)
        self._told.append((decision.frame.name, decision.frame.index, decision.best.label))
        if decision.camera is not None:
            self._cameras.append(decision.camera)
        return True

    def close(self) -> None:
        """Write the file, whole; none of a run without frames. Raises StorageError."""
        if not self._features:
            return
        names, frames, labels = zip(*self._told, strict=True)
        stream = io.BytesIO()
        cameras: dict[str, Any] = {"cameras": np.array(self._cameras)} if self._cameras else {}
        np.savez_compressed(
            stream, features=np.stack(self._features), names=np.array(names), frames=np.array(frames), labels=np.array(labels),
            **cameras,
        )  # fmt: skip
        self._features.clear()
        write_whole(self._path, stream.getvalue(), kind=FEATURES, option="--features")
