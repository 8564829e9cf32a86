"""What the part of a model that learns takes of photos: of each as it is, and of pictures made of it.

With a frozen part in front these are tokens. They are computed once, for a few fixed pictures of each photo, and kept in the
cache by the photo's content (float16; a photo that is new later costs what is new). Where everything learns they are images, and
where tokens would take more than `ROOM`, they are computed each time: then every epoch has new pictures.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgevit.cache import Cache, Kind
from edgevit.errors import storage_errors
from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.devices import compute_device
from edgevit.model.digest import model_digest
from edgevit.model.merging import Tokens
from edgevit.model.pixels import normalise
from edgevit.preprocess import prepare
from edgevit.training.augment import augmented
from edgevit.training.settings import FineTuneSettings
from edgevit.training.unfrozen import Cut
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from edgevit.preprocess import Frame

KIND = Kind("front-tokens", __name__)
MOST, FEWEST = 8, 2
"""Pictures of a photo that are kept, itself included."""
ROOM = 3 * 2**30
"""Bytes on disk that they may take."""
HALF = 6e4  # what float16 holds


class Views:
    """Of all photos, by number. Use it in a ``with``: where there is no cache, a temporary folder is, and is gone afterwards."""

    def __init__(self, backbone: Checkpoint, images: ImageSet, settings: FineTuneSettings, bench: Workbench) -> None:
        self._images, self._flip, self._seed = images, settings.flip, settings.seed
        self._contract, self._cut = backbone.preprocessing, Cut.of(backbone.model.config, settings.unfreeze)
        self._device, self._bench = compute_device(bench.device), bench
        self._model = backbone.model.eval().to(self._device)
        self.marks = [images.fingerprint(index) for index in range(len(images))]
        self._cache, self._open = bench.cache, ExitStack()
        self._kept = 0 if self._cut.first is None else self._affordable()
        self._key: dict[str, Any] = {
            "model": model_digest(self._model), "contract": self._contract.to_dict(), "first": self._cut.first,
            "pictures": self._kept, "flip": self._flip, "seed": self._seed, "device": self._device.type,
        }  # fmt: skip

    def __enter__(self) -> Views:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._model.cpu()
        self._open.close()

    @property
    def key(self) -> dict[str, Any]:
        """JSON-ready: all that decides what is delivered, but for which photos there are."""
        return self._key

    def prepare(self) -> None:
        """Compute tokens that are kept, and are not there yet. Raises DataError for an unreadable photo."""
        if not self._kept:
            return
        if not self._cache.enabled:
            self._elsewhere()
        with self._bench.stage("tokens of the frozen part", total=len(self._images)) as stage:
            stage.cached = True
            for number in range(len(self._images)):
                if self._cache.find(KIND, **self._key, mark=self.marks[number]) is None:
                    stage.cached = False
                    self._computed(number)
                    if not number and self._cache.find(KIND, **self._key, mark=self.marks[0]) is None:  # said once by the cache
                        self._elsewhere()
                        self._computed(number)
                stage.advance()

    def __call__(self, numbers: Sequence[int], epoch: int | None = None) -> Tokens | Tensor:
        """Of the photos ``numbers`` as they are, or each of a picture that ``epoch`` decides; on the device."""
        if self._kept:
            stored = [self._stored(number, 0 if epoch is None else (epoch + number) % self._kept) for number in numbers]
            parts = (torch.from_numpy(np.stack(part)).float().to(self._device) for part in zip(*stored, strict=True))
            return Tokens(*parts)
        frames = np.stack([self._picture(self._images.frame(number), number, epoch or 0) for number in numbers])
        return self._front(frames)

    def _front(self, frames: Frame) -> Tokens | Tensor:
        return self._cut.front(self._model, normalise(torch.from_numpy(frames), self._contract).to(self._device))

    def _picture(self, frame: Frame, number: int, which: int) -> Frame:
        """Of photo ``number``: itself first. By content, so that it is the same whenever it is seen."""
        if not which:
            return prepare(frame, self._contract)
        random = np.random.default_rng([self._seed, int(self.marks[number][:16], 16), which])
        return augmented(frame, self._contract, random, flip=self._flip)

    def _stored(self, number: int, which: int) -> list[NDArray[Any]]:
        """Tokens, and their sizes and places where some were merged, of one picture."""
        content = self._cache.find(KIND, **self._key, mark=self.marks[number]) or self._computed(number)
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            return [stored[f"{name}{which}"] for name in ("x", "sizes", "places") if f"{name}{which}" in stored]

    def _computed(self, number: int) -> bytes:
        frame = self._images.frame(number)
        content = _dumped([self._front(self._picture(frame, number, which)[None]) for which in range(self._kept)])
        self._cache.store(KIND, content, **self._key, mark=self.marks[number])
        return content

    def _affordable(self) -> int:
        """How many pictures of each photo there is room for; 0 for too few."""
        each = len(_dumped([self._front(self._picture(self._images.frame(0), 0, 0)[None])]))
        count = min(MOST, ROOM // (each * len(self._images)))
        return count if count >= FEWEST else 0

    def _elsewhere(self) -> None:
        with storage_errors(tempfile.gettempdir(), "TMPDIR"):
            folder = self._open.enter_context(tempfile.TemporaryDirectory(prefix="edgevit-"))
        self._cache = Cache(root=Path(folder), note=self._cache.note)


def _dumped(pictures: Sequence[Tokens | Tensor]) -> bytes:
    """Tokens of each picture; members of their own, so that one is read without the others."""
    arrays: dict[str, NDArray[Any]] = {}
    for which, tokens in enumerate(pictures):
        assert isinstance(tokens, Tokens)
        half = bool(tokens.x.abs().max() < HALF)
        arrays[f"x{which}"] = (tokens.x.half() if half else tokens.x)[0].cpu().numpy()
        for name, part in (("sizes", tokens.sizes), ("places", tokens.places)):
            if part is not None:
                arrays[f"{name}{which}"] = part[0].cpu().numpy()
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()
