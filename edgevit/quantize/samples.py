"""Sample frames with what a model makes of them in torch, for the check of every engine; see `edgevit.engine.check`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import tee
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from edgevit.engine.samples import Samples, StreamSamples
from edgevit.export.graph import stream_tensors
from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.folded import head_features, plain_linear, streams
from edgevit.model.merging import Tokens
from edgevit.model.pixels import normalise
from edgevit.model.quantplan import QuantPlan, simulated_streams
from edgevit.model.rewrites.folding import fold
from edgevit.preprocess import Preprocessing
from edgevit.quantize.fp16 import half_streams

if TYPE_CHECKING:
    from edgevit.preprocess import Frame

FRAMES = 8
SMALLEST = 2  # frames: one may be right by luck
BYTES = 4 * 2**20  # of frames in a bundle, unless that were fewer than `SMALLEST`
STREAM_FRAMES = 2
STREAM_TOKENS = 3
CELLS = 5  # of a synthetic picture, each way
SEED = 0


def sample_frames(images: ImageSet | None, contract: Preprocessing) -> Frame:
    """A few frames uint8 [N, H, W, 3] as ``contract`` prepares them: the first of ``images``, or synthetic pictures.

    Synthetic ones, smooth random colours, are for models that come without images and bundles that shall hold none.
    Raises DataError for an unreadable image.
    """
    count = max(SMALLEST, min(FRAMES, BYTES // (3 * contract.size[0] * contract.size[1])))
    if images is not None and len(images) >= SMALLEST:
        return np.concatenate(list(images.subset(range(min(count, len(images)))).prepared(contract)))
    return np.stack([_synthetic(contract, SEED + i) for i in range(count)])


def _synthetic(contract: Preprocessing, seed: int) -> Frame:
    import cv2

    height, width = contract.size
    cells = np.random.default_rng(seed).integers(0, 256, (CELLS, CELLS, 3), np.uint8)
    return np.asarray(cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def samples_of(checkpoint: Checkpoint, frames: Frame, plan: QuantPlan | None = None, *, half: bool = False) -> Samples:
    """What ``checkpoint`` gives for ``frames`` uint8 [N, H, W, 3], and what the graph of ``plan`` does, simulated in torch.

    Args:
        checkpoint: its own module gives the FP32 logits: neither folding nor the graph stands between.
        frames: prepared.
        plan: None is the FP32 graph.
        half: what ``plan`` leaves in floating point is FP16.
    """
    batch, plan = torch.from_numpy(frames), plan or QuantPlan(model=fold(checkpoint.model, checkpoint.preprocessing))
    with torch.inference_mode():
        own = checkpoint.model.eval().features(normalise(batch, checkpoint.preprocessing))
        logits = checkpoint.model.head(own).numpy()
    rounded = half or plan.linears or plan.attention
    exactly: Iterable[Tokens] = streams(plan.model, batch)
    if rounded:
        pairs = zip(exactly, half_streams(plan, batch) if half else simulated_streams(plan, batch), strict=True)
    else:
        pairs = zip(*tee(exactly), strict=True)  # the same: it is not run twice
    found, last = list[StreamSamples](), None
    for tensor, (exact, last) in zip(stream_tensors(plan.model.config), pairs, strict=True):
        found.append(_stream(tensor, exact.x, last.x))
    assert last is not None  # there is the embedding
    simulated = head_features(plan.model, last) if rounded else own
    expected = plain_linear(None, simulated, plan.model.head).numpy() if rounded else logits
    samples = Samples(frames=frames, logits=logits, expected=expected, streams=tuple(found))
    if not plan.model.config.unit_features:
        return samples
    return replace(samples, features=own.numpy(), expected_features=simulated.numpy())


def _stream(tensor: str, exact: Tensor, simulated: Tensor) -> StreamSamples:
    """What is kept of one place: tokens from the first to the last, of a few frames."""
    tokens = np.linspace(0, simulated.shape[1] - 1, STREAM_TOKENS).round().astype(np.int64)
    return StreamSamples(
        tensor=tensor,
        tokens=tokens,
        values=simulated[:STREAM_FRAMES, tokens].numpy(),
        noise=float((simulated - exact).square().mean()),
    )
