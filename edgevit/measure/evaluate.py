"""What an engine makes of a set of images, logits or features, kept chunk by chunk so that an interrupted run goes on."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What logits depend on, beside the images."""

    model: str
    """SHA-256 of the ONNX model, hexadecimal."""
    engine: str
    """Its `engine_identity`."""
    contract: Preprocessing

    def key(self, digest: str) -> dict[str, Any]:
        """What the cache finds the logits of the images with this ``digest`` by."""
        return {"model": self.model, "engine": self.engine, "images": digest, "contract": self.contract.to_dict()}


def parts(images: ImageSet) -> Iterator[ImageSet]:
    """``images`` in the pieces whose logits are stored together, in order."""
    for start in range(0, len(images), CHUNK):
        yield images.subset(range(start, min(start + CHUNK, len(images))))


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
    identity = Identity(model=hashlib.sha256(model).hexdigest(), engine=engine, contract=contract)
    session: Session | None = None
    chunks = []
    stage.cached = True
    try:
        for part in parts(images):
            key = identity.key(part.digest())
            found = cache.find(kind, **key)
            if found is None:
                stage.cached = False
                session = session or open_session()
                found = dumped(infer(session, part, contract, stage.advance, kind))
                cache.store(kind, found, **key)
            else:
                stage.advance(len(part))
            chunks.append(loaded(found))
    finally:
        if session is not None:
            session.close()
    return np.concatenate(chunks)


def engine_identity(engine: str, threads: int | None) -> str:
    """What computes: version of the engine called ``engine``, processor, and threads, as they change the order of sums."""
    return f"{backend(engine).version} on {processor()}, {threads or available_threads()} threads"


def infer(
    session: Session, images: ImageSet, contract: Preprocessing, advance: Callable[[], None], kind: Kind = LOGITS
) -> Logits:  # fmt: skip
    """What ``session`` gives for ``images``, frame by frame, as `evaluate` has it; ``advance`` is told of each."""
    rows = []
    for frame in images.prepared(contract):
        logits = session.infer(frame)
        if kind is SEEN:
            assert session.features is not None  # of a graph that gives them
            logits = np.concatenate([logits.argmax(-1, keepdims=True).astype(np.float32), session.features], -1)
        rows.append(logits)
        advance()
    return np.concatenate(rows)


def dumped(array: Logits) -> bytes:
    """As the cache keeps them."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def loaded(content: bytes) -> Logits:
    """What was `dumped`."""
    found: Logits = np.load(io.BytesIO(content), allow_pickle=False)
    return found
