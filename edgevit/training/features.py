"""What a frozen backbone sees of photos, of each and of some pictures made of it, kept by the photo's content."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgevit.cache import Kind
from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.devices import compute_device
from edgevit.model.digest import model_digest
from edgevit.model.pixels import normalise
from edgevit.model.vit import Vit
from edgevit.preprocess import Preprocessing, prepare
from edgevit.training.settings import TrainSettings
from edgevit.vitconfig import VitConfig
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from edgevit.preprocess import Frame

KIND = Kind("features", __name__)
BUCKETS = 64
"""Entries of the cache that photos of one backbone are spread over, by their content: more photos later add to them."""
THUMBNAIL = 16  # pixels a side
SMALLEST = 0.85  # side of a crop, of the photo's


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Of all photos."""

    views: Tensor
    """float32 [photos, views, width]; the first view is the photo as it is."""
    thumbnails: Tensor
    """float32 [photos, 256]: 16 x 16 gray levels."""
    poolings: Mapping[tuple[str, ...], slice]
    """Which columns are the features of which ``VitConfig.pooling``."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Of one photo: features float32 [views, width], thumbnail uint8 [256]."""

    features: NDArray[np.float32]
    thumbnail: NDArray[np.uint8]


def poolings_of(config: VitConfig) -> dict[tuple[str, ...], slice]:
    """The poolings that a head may be tried on, and where their features lie in what `pooled` gives.

    The class token, the mean of patches and both, where a model has a class token whose norm comes before pooling; else its own.
    """
    both = config.class_token and config.final_norm == "before_pooling" and not config.pool_heads
    if not both or config.distillation_token:
        return {config.pooling: slice(0, config.pooled)}
    width = config.width
    return {("class",): slice(0, width), ("mean",): slice(width, 2 * width), ("class", "mean"): slice(0, 2 * width)}


@torch.inference_mode()
def pooled(model: Vit, images: Tensor) -> Tensor:
    """Pooled features [N, width] of normalised images, before any projection, in the columns of `poolings_of`."""
    tokens = model.tokens(images)
    if len(poolings_of(model.config)) > 1:
        return torch.cat([tokens.x[:, 0], tokens.mean(model.config.prefix_tokens)], -1)
    return model.pooled_norm(model.pool(tokens))


def features_of(checkpoint: Checkpoint, images: ImageSet, settings: TrainSettings, bench: Workbench) -> Features:
    """Features of ``images``; those that were computed before are found again, whatever lies beside them now.

    Raises DataError for an unreadable image.
    """
    with bench.stage("features", total=len(images)) as stage:
        marks = [images.fingerprint(index) for index in range(len(images))]
        buckets = defaultdict[int, list[int]](list)
        for index, mark in enumerate(marks):
            buckets[int(mark[:8], 16) % BUCKETS].append(index)
        shared = {"model": model_digest(checkpoint.model), "contract": checkpoint.preprocessing.to_dict(),
                  "views": {"flip": settings.flip, "crops": settings.crops, "seed": settings.seed}}  # fmt: skip
        model, found, fresh = _Runner(checkpoint, bench), dict[str, Seen](), 0
        for bucket, members in sorted(buckets.items()):
            key: dict[str, Any] = {**shared, "bucket": bucket}
            known = _loaded(bench.cache.find(KIND, **key))
            missing = list(dict.fromkeys(index for index in members if marks[index] not in known))
            for index in missing:
                if marks[index] not in known:  # the same photo twice
                    views = views_of(images.frame(index), checkpoint.preprocessing, settings, marks[index])
                    known[marks[index]] = Seen(features=model(views), thumbnail=thumbnail_of(views[0]))
                    fresh += 1
                stage.advance()
            stage.advance(len(members) - len(missing))
            if missing:
                bench.cache.store(KIND, _dumped(known), **key)
            found |= {marks[index]: known[marks[index]] for index in members}
        stage.cached = not fresh
    features, thumbnails = (torch.from_numpy(np.stack([getattr(found[mark], name) for mark in marks]))
                            for name in ("features", "thumbnail"))  # fmt: skip
    return Features(views=features, thumbnails=thumbnails.float(), poolings=poolings_of(checkpoint.model.config))


class _Runner:
    """Views of one photo to their features."""

    def __init__(self, checkpoint: Checkpoint, bench: Workbench) -> None:
        self._device = compute_device(bench.device)
        self._contract, self._model = checkpoint.preprocessing, checkpoint.model.eval().to(self._device)

    def __call__(self, views: Frame) -> NDArray[np.float32]:
        images = normalise(torch.from_numpy(views), self._contract).to(self._device)
        found: NDArray[np.float32] = pooled(self._model, images).float().cpu().numpy()
        return found


def views_of(frame: Frame, contract: Preprocessing, settings: TrainSettings, mark: str) -> Frame:
    """Model inputs uint8 [views, height, width, 3] of a photo uint8 [H, W, 3] BGR: itself, mirrored, and crops of it.

    ``mark``, the photo's fingerprint, decides which crops, so that they are the same whenever it is seen.
    """
    own = prepare(frame, contract)
    views = [own, *([np.ascontiguousarray(own[:, ::-1])] if settings.flip else [])]
    random = np.random.default_rng([settings.seed, int(mark[:16], 16)])
    height, width = frame.shape[:2]
    for number in range(settings.crops):
        share = random.uniform(SMALLEST, 1.0)
        rows, columns = max(1, round(share * height)), max(1, round(share * width))
        top, left = (int(random.integers(0, whole - part + 1)) for whole, part in ((height, rows), (width, columns)))
        crop = prepare(np.ascontiguousarray(frame[top : top + rows, left : left + columns]), contract)
        views.append(np.ascontiguousarray(crop[:, ::-1]) if settings.flip and number % 2 else crop)
    return np.stack(views)


def thumbnail_of(frame: Frame) -> NDArray[np.uint8]:
    """Gray levels uint8 [256] of a model input uint8 [height, width, 3]."""
    import cv2

    gray = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(gray, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA), np.uint8).reshape(-1)


def _dumped(found: Mapping[str, Seen]) -> bytes:
    stream = io.BytesIO()
    stacked = {name: np.stack([getattr(seen, name) for seen in found.values()]) for name in ("features", "thumbnail")}
    np.savez(stream, allow_pickle=False, marks=np.array(list(found)), **stacked)
    return stream.getvalue()


def _loaded(content: bytes | None) -> dict[str, Seen]:
    if content is None:
        return {}
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        rows = zip(map(str, stored["marks"]), stored["features"], stored["thumbnail"], strict=True)
        return {mark: Seen(features=features, thumbnail=thumbnail) for mark, features, thumbnail in rows}
