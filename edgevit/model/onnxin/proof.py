"""The proof: what the imported model gives, against what ONNX Runtime gives for the graph, on images of several kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from edgevit.errors import CheckpointError
from edgevit.model.merging import Tokens
from edgevit.model.onnxin.file import OnnxFile, array_of, as_float32
from edgevit.model.onnxin.recognise import Recognised
from edgevit.model.onnxin.runtime import RuntimeRefusal, Session
from edgevit.model.onnxin.values import Array
from edgevit.model.vit import Block, Vit

if TYPE_CHECKING:
    import onnx

ALLOWED = 1e-4
"""Of the largest output, or of 1 if that is less."""
_FLOAT, _HALVES = 1, (10, 16)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """How far the imported model is from the graph."""

    error: float
    """The largest difference of an output over the largest output, or 1."""
    images: int


def proved(file: OnnxFile, found: Recognised, shape: Sequence[int], kind: str, *, levels: bool, free_batch: bool) -> Proof:
    """Compare on images of ``shape`` [N, ..], of the type ``kind``, of 0..255 (``levels``) or around zero.

    Raises CheckpointError if ONNX Runtime refuses the graph, or the two differ; it names the first sum of the stream that does.
    """
    model = _vit(found)
    runner = Runner(file, [found.output, *([found.before] if found.before else [])])
    worst, images = 0.0, 0
    for given in _inputs(shape, kind, levels=levels, free_batch=free_batch):
        try:
            answer, *before = runner(given)
        except CheckpointError:
            if len(given) == shape[0]:
                raise
            continue  # says that any batch will do, and takes one image alone
        pixels = torch.from_numpy(before[0].astype(np.float32)) if before else applied(found, given)
        error = _error(_answers(model, found, pixels), torch.from_numpy(answer.astype(np.float32)))
        if not error <= ALLOWED:
            raise CheckpointError(_differs(file, found, model, given, pixels, error))
        worst, images = max(worst, error), images + len(given)
    return Proof(error=worst, images=images)


class Runner:
    """ONNX Runtime on a graph in float32, with some tensors as outputs; it opens no file."""

    def __init__(self, file: OnnxFile, outputs: Sequence[str]) -> None:
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(file.model)
        halves = _in_float32(model)
        del model.graph.output[:]
        del model.graph.value_info[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        weights = {}
        for tensor in model.graph.initializer:
            if tensor.name in file.tensors:
                array = file.tensors[tensor.name]
                array = as_float32(array, halves[tensor.name]) if tensor.name in halves else array
                weights[tensor.name] = np.asarray(array, order="C")
        self.path, self._name = file.path, _input_name(model)
        try:
            self._session = Session(model.SerializeToString(), weights)
        except RuntimeRefusal as refusal:
            msg = f"{self.path}: ONNX Runtime refuses the graph ({refusal}). Export it again."
            raise CheckpointError(msg) from refusal

    def __call__(self, images: Array) -> list[Array]:
        """The outputs for ``images``. Raises CheckpointError if the graph fails on them."""
        try:
            return self._session({self._name: images})
        except RuntimeRefusal as refusal:
            msg = f"{self.path}: ONNX Runtime fails on images of {list(images.shape)} ({refusal}). Export it again."
            raise CheckpointError(msg) from refusal


def applied(found: Recognised, images: Array) -> Tensor:
    """What the patch embedding takes of ``images``, by what stands in front of it."""
    view = found.source
    flat = images.reshape(len(images), -1).astype(np.float64)
    rows = []
    for row in flat:
        total = view.shift[0].copy()
        for term in view.terms:
            total += term.scale[0] * row[view.indices(term)[0]]
        rows.append(total)
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def _in_float32(model: onnx.ModelProto) -> dict[str, int]:
    """Make of a graph in half precision the same in float32: rounding between operators is no part of a model.

    Returns the large tensors that are of half precision, and their types.
    """
    from onnx import numpy_helper

    large: dict[str, int] = {}
    tensors = list(model.graph.initializer)
    for node in _nodes(model.graph, tensors):
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i in _HALVES:
                attribute.i = _FLOAT
            if attribute.HasField("t"):
                tensors.append(attribute.t)
    for tensor in tensors:
        if tensor.data_type not in _HALVES:
            continue
        if tensor.external_data:
            large[tensor.name] = tensor.data_type
            tensor.data_type = _FLOAT
        else:
            tensor.CopyFrom(numpy_helper.from_array(array_of(tensor), tensor.name))
    for item in [*model.graph.input, *model.graph.output]:
        if item.type.tensor_type.elem_type in _HALVES:
            item.type.tensor_type.elem_type = _FLOAT
    return large


def _nodes(graph: onnx.GraphProto, tensors: list[Any]) -> list[Any]:
    found = list(graph.node)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                tensors.extend(attribute.g.initializer)
                found += _nodes(attribute.g, tensors)
                for item in [*attribute.g.output, *attribute.g.value_info]:
                    if item.type.tensor_type.elem_type in _HALVES:
                        item.type.tensor_type.elem_type = _FLOAT
    return found


def _input_name(model: onnx.ModelProto) -> str:
    weights = {tensor.name for tensor in model.graph.initializer}
    return next(item.name for item in model.graph.input if item.name not in weights)


def _vit(found: Recognised) -> Vit:
    with torch.device("meta"):
        model = Vit(found.config)
    model.load_state_dict(found.parts.state, assign=True)
    return model.eval()


def _inputs(shape: Sequence[int], kind: str, *, levels: bool, free_batch: bool) -> list[Array]:
    """Noise, a slope, black and white, in the batch that the graph takes and, where any will do, in a larger one."""
    generator = np.random.default_rng(0)
    low, high = (0.0, 255.0) if levels else (-2.0, 2.0)
    dtype = np.uint8 if kind == "uint8" else np.float64 if kind == "float64" else np.float32

    def noise(count: int) -> Array:
        size = (count, *shape[1:])
        return (generator.integers(0, 256, size) if levels else generator.standard_normal(size)).astype(dtype)

    slope = np.linspace(low, high, int(np.prod(shape))).reshape(shape).astype(dtype)
    flat = [np.full(shape, level, dtype) for level in (low, high)]
    stripes = np.where(np.arange(int(np.prod(shape))).reshape(shape) % 7 < 3, low, high).astype(dtype)
    return [noise(shape[0]), slope, *flat, stripes, *([noise(3)] if free_batch else [])]


@torch.inference_mode()
def _answers(model: Vit, found: Recognised, pixels: Tensor) -> Tensor:
    if found.gives == "tokens":
        return model.tokens(pixels).x
    return model(pixels)


def _error(ours: Tensor, theirs: Tensor) -> float:
    if ours.numel() != theirs.numel() or not torch.isfinite(theirs).all():
        return float("inf")
    theirs = theirs.reshape(ours.shape)
    return float((ours - theirs).abs().max()) / max(1.0, float(theirs.abs().max()))


@torch.inference_mode()
def _differs(file: OnnxFile, found: Recognised, model: Vit, images: Array, pixels: Tensor, error: float) -> str:
    """What is to be said of a model that is not the graph: where along the stream the two part."""
    streams = _streams(model, pixels)
    theirs = Runner(file, [name for _, name in found.streams])(images)
    where = "behind the last block"
    for (what, ours), (_, name), other in zip(streams, found.streams, theirs, strict=True):
        if _error(ours, torch.from_numpy(other.astype(np.float32))) > ALLOWED:
            where = f"first at {what} ({name!r})"
            break
    return (
        f"{file.path}: read as a ViT, it gives other {found.gives} than ONNX Runtime does for the graph, by {error:.1e} of the "
        f"largest, {where}; so it is refused. Give the checkpoint that it was exported from, or report this model."
    )


def _streams(model: Vit, pixels: Tensor) -> list[tuple[str, Tensor]]:
    """The stream behind each branch."""
    found: list[tuple[str, Tensor]] = []
    tokens = Tokens(model.embed(pixels))
    for number, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        middle = tokens.x + block.attend(block.norm1(tokens.x))
        if block.qkv is not None:
            found.append((f"block {number}, attention", middle))
        tokens = block(tokens)
        if block.fc1 is not None:
            found.append((f"block {number}, MLP", tokens.x))
    return found
