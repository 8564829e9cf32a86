"""Sample frames with what a model makes of them, as torch computed it: what an engine is checked with, on any machine.

A bundle carries them (`edgevit.bundle.SAMPLES`), so that a device can hold its engine against the model without torch.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import BundleError
from edgevit.files.npz import FAULTS, read_arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.engine.base import Frames, Logits

LIMIT = 256 * 2**20  # bytes that the arrays of a file may claim; those of a bundle have a few MiB
REFERENCE_PREFIX = "reference_"


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamSamples:
    """A few tokens of the residual stream at one place of the graph, to find where an engine first goes wrong."""

    tensor: str
    """The graph's name for it, such as ``blocks.3/residual2/Add``."""
    tokens: NDArray[np.int64]
    """[R]: which tokens."""
    values: NDArray[np.float32]
    """[F, R, width], of the first F sample frames."""
    noise: float
    """Mean square of what rounding to INT8 or FP16 changed here, as simulated; 0 in FP32."""

    @property
    def place(self) -> str:
        """Where this is, for people: ``blocks.3`` or ``embed``."""
        return self.tensor.partition("/")[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """What one graph should give. All values are torch's."""

    frames: Frames
    """Prepared, uint8 [N, H, W, 3] BGR."""
    logits: Logits
    """[N, classes] of the model in FP32, from its own module and not from a graph."""
    expected: Logits
    """[N, classes] of the graph in its precision, simulated; ``logits`` in FP32."""
    streams: tuple[StreamSamples, ...] = ()
    """In network order; empty in files of older versions."""
    features: NDArray[np.float32] | None = None
    """[N, features], what the head made ``logits`` of, where its classes are texts, which may be exchanged; else None."""
    expected_features: NDArray[np.float32] | None = None
    """The same of ``expected``."""

    def with_head(self, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> Samples:
        """The same frames under another head, weight [classes, features], bias [classes]. Raises ValueError without features."""
        if self.features is None or self.expected_features is None:
            msg = "its samples hold no features"
            raise ValueError(msg)
        logits, expected = (part @ weight.T + bias for part in (self.features, self.expected_features))
        return replace(self, logits=logits, expected=expected)


def samples_bytes(model: Samples, reference: Samples | None = None) -> bytes:
    """The ``.npz`` of samples of a bundle's graph and, if it has one, of its FP32 reference on the same frames."""
    arrays = {"frames": model.frames, **_arrays(model, "")}
    if reference is not None:
        arrays |= _arrays(reference, REFERENCE_PREFIX)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _arrays(samples: Samples, prefix: str) -> dict[str, NDArray[np.generic]]:
    found: dict[str, NDArray[np.generic]] = {"logits": samples.logits, "expected": samples.expected}
    if samples.features is not None and samples.expected_features is not None:
        found |= {"features": samples.features, "expected_features": samples.expected_features}
    if samples.streams:
        found |= {
            "stream_tensors": np.array([stream.tensor for stream in samples.streams]),
            "stream_tokens": np.stack([stream.tokens for stream in samples.streams]),
            "stream_values": np.stack([stream.values for stream in samples.streams]),
            "stream_noise": np.array([stream.noise for stream in samples.streams]),
        }
    return {prefix + key: value for key, value in found.items()}


def has_reference(content: bytes) -> bool:
    """Whether the ``.npz`` of a bundle has samples of the FP32 reference, too."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return f"{REFERENCE_PREFIX}logits.npy" in archive.namelist()
    except FAULTS:
        return False


def load_samples(content: bytes, *, reference: bool = False) -> Samples:
    """Samples of a bundle's graph, or of its FP32 ``reference``, from the ``.npz`` that `samples_bytes` makes.

    Raises BundleError for a file that is none, or that claims more than `LIMIT` bytes.
    """
    prefix = REFERENCE_PREFIX if reference else ""
    try:
        stored = read_arrays(content, LIMIT)
        frames = stored["frames"]
        logits, expected = (stored[prefix + key].astype(np.float32) for key in ("logits", "expected"))
        streams = _streams(stored, prefix) if f"{prefix}stream_tensors" in stored else ()
        features, simulated = (_features(stored, prefix + key, logits) for key in ("features", "expected_features"))
        if frames.dtype != np.uint8 or frames.ndim != 4 or not len(frames) or expected.shape != logits.shape:
            msg = f"frames are {frames.dtype} {frames.shape}"
            raise ValueError(msg)
        if logits.ndim != 2 or len(logits) != len(frames):
            msg = f"logits are {logits.shape} for {len(frames)} frames"
            raise ValueError(msg)
    except FAULTS as error:
        msg = f"the bundle's samples cannot be read: {error}. Build it again."
        raise BundleError(msg) from error
    return Samples(
        frames=frames, logits=logits, expected=expected, streams=streams, features=features, expected_features=simulated
    )  # fmt: skip


def _features(stored: Mapping[str, NDArray[Any]], key: str, logits: Logits) -> NDArray[np.float32] | None:
    if key not in stored:
        return None
    found = stored[key].astype(np.float32)
    if found.ndim != 2 or len(found) != len(logits):
        msg = f"{key} are {found.shape} for {len(logits)} frames"
        raise ValueError(msg)
    return found


def _streams(stored: Mapping[str, NDArray[Any]], prefix: str) -> tuple[StreamSamples, ...]:
    tensors, tokens, values, noise = (stored[f"{prefix}stream_{key}"] for key in ("tensors", "tokens", "values", "noise"))
    if tensors.dtype.kind != "U" or tokens.dtype.kind not in "iu" or values.ndim != 4 or values.dtype != np.float32:
        msg = f"streams are {tensors.dtype}, {tokens.dtype}, {values.dtype} {values.shape}"
        raise ValueError(msg)
    return tuple(
        StreamSamples(tensor=str(tensor), tokens=own, values=value, noise=float(level))
        for tensor, own, value, level in zip(tensors, tokens, values, noise, strict=True)
    )
