"""What an engine makes of a set of images, logits or features, kept chunk by chunk so that an interrupted run goes on."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edgevit.cache import Cache, Kind
from edgevit.device.processor import processor
from edgevit.engine import backend
from edgevit.engine.base import Session, available_threads
from edgevit.images.dataset import ImageSet
from edgevit.preprocess import Preprocessing
from edgevit.progress import Stage

if TYPE_CHECKING:
    from edgevit.engine.base import Logits

LOGITS, SEEN = Kind("logits", __name__), Kind("seen", __name__)
CHUNK = 128  # images whose logits are stored together; what an interruption can lose


def evaluate(
    open_session: Callable[[], Session],
    model: bytes,
    images: ImageSet,
    contract: Preprocessing,
    *,
    engine: str,
    cache: Cache,
    stage: Stage,
    kind: Kind = LOGITS,
) -> Logits:
    """Logits float32 [N, classes] of every image, frame by frame as the camera would deliver them.

    ``open_session`` is called only if some logits are not in the cache. ``engine`` is its `engine_identity`; with the model's
    content, the images' and the contract it identifies the result. With ``kind`` `SEEN`: instead the features, and before them
    the number of the likeliest class, float32 [N, 1 + features].
    """
    digest = hashlib.sha256(model).hexdigest()
    session: Session | None = None
    chunks = []
    stage.cached = True
    try:
        for start in range(0, len(images), CHUNK):
            part = images.subset(range(start, min(start + CHUNK, len(images))))
            key = {"model": digest, "engine": engine, "images": part.digest(), "contract": contract.to_dict()}
            found = cache.find(kind, **key)
            if found is None:
                stage.cached = False
                session = session or open_session()
                found = _dump(_infer(session, part, contract, stage, kind))
                cache.store(kind, found, **key)
            else:
                stage.advance(len(part))
            chunks.append(np.load(io.BytesIO(found), allow_pickle=False))
    finally:
        if session is not None:
            session.close()
    return np.concatenate(chunks)


def engine_identity(engine: str, threads: int | None) -> str:
    """What computes: version of the engine called ``engine``, processor, and threads, as they change the order of sums."""
    return f"{backend(engine).version} on {processor()}, {threads or available_threads()} threads"


def _infer(session: Session, images: ImageSet, contract: Preprocessing, stage: Stage, kind: Kind) -> Logits:
    rows = []
    for frame in images.prepared(contract):
        logits = session.infer(frame)
        if kind is SEEN:
            assert session.features is not None  # of a graph that gives them
            logits = np.concatenate([logits.argmax(-1, keepdims=True).astype(np.float32), session.features], -1)
        rows.append(logits)
        stage.advance()
    return np.concatenate(rows)


def _dump(array: Logits) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
