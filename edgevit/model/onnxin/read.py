"""A checkpoint out of an ONNX file: read, walked, recognised, proved."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from edgevit.errors import CheckpointError
from edgevit.model.onnxin.file import OnnxFile, array_of, as_float32
from edgevit.model.onnxin.layout import MOST
from edgevit.model.onnxin.pixels import Look, look_of
from edgevit.model.onnxin.proof import Proof, proved
from edgevit.model.onnxin.recognise import Recognised, recognised
from edgevit.model.onnxin.refuse import hierarchy, input_kind, looks_like, require_float_classifier
from edgevit.model.onnxin.values import Array, MisfitError, Pixels, Value, View
from edgevit.model.onnxin.walk import Walk

_USUAL, _LARGEST = 224, 2048
_MOST_IMAGES = 64


@dataclass(frozen=True, kw_only=True)
class Graph:
    """What a graph was found to be."""

    found: Recognised
    look: Look
    proof: Proof
    half: bool
    """Whether its weights are of half precision."""
    sized: str
    """How a size that the graph leaves open was found; "" where it says it."""


def read_graph(file: OnnxFile, *, size: tuple[int, int] | None, stated: tuple[int, int] | None, headless: bool) -> Graph:
    """The ViT in ``file``, proved.

    Args:
        file: as `edgevit.model.onnxin.file.read` gives it.
        size: (height, width) that the user wants, for a graph that takes any.
        stated: the same by the settings beside it.
        headless: whether a model without a head is read, too.

    Raises CheckpointError that says what did not fit.
    """
    item = require_float_classifier(file)
    kind = input_kind(item)
    tensors = {tensor.name: tensor.data_type for tensor in file.model.graph.initializer}
    weights = dict(_weights(file))
    outputs = [output.name for output in file.model.graph.output]
    first: str | None = None
    for shape, sized in _shapes(file, item.type.tensor_type.shape.dim, size, stated):
        walk = Walk(file.opset, array_of, shape[0])
        root = Pixels(shape=shape, name=item.name, kind=kind)
        given: dict[str, Value] = {**weights, item.name: View.of(root)}
        found = None
        try:
            walk.over(file.model.graph, given)
            found = recognised(walk, outputs, headless=headless)
            look = look_of(found.source, kind)
        except (MisfitError, ValueError) as misfit:  # what config cannot have is said by it
            first = first or _refusal(
                file, walk, str(misfit), backbone=found is None and not headless and _is_backbone(walk, outputs)
            )
            continue
        _require_finite(file, found)
        dims = item.type.tensor_type.shape.dim
        proof = proved(file, found, shape, _runs_as(kind), levels=look.bytes, free_batch=not dims[0].dim_value)
        half = any(data_type in (10, 16) for data_type in tensors.values())
        return Graph(found=found, look=look, proof=proof, half=half, sized=sized)
    assert first is not None
    raise CheckpointError(first)


def _runs_as(kind: str) -> str:
    """The type in which the proof feeds a graph, which it makes float32 of half precision."""
    return "float32" if kind in ("float16", "bfloat16") else kind


def _weights(file: OnnxFile) -> Iterator[tuple[str, Array]]:
    for tensor in file.model.graph.initializer:
        if tensor.name in file.tensors:
            yield tensor.name, as_float32(file.tensors[tensor.name], int(tensor.data_type))
        else:
            yield tensor.name, array_of(tensor)


def _shapes(
    file: OnnxFile, dims: object, size: tuple[int, int] | None, stated: tuple[int, int] | None
) -> Iterator[tuple[tuple[int, ...], str]]:
    """Shapes of the input to try, and how the sizes were found that the graph leaves open."""
    sizes = [int(dim.dim_value) for dim in dims]  # type: ignore[attr-defined]
    images = sizes[0] or 1
    if images > _MOST_IMAGES or min(sizes) < 0:
        msg = f"{file.path}: its input is of {sizes}, which no ViT takes. Export it for one image."
        raise CheckpointError(msg)
    last = sizes[3] in (1, 3) and sizes[1] not in (1, 3)
    channels = (sizes[3] if last else sizes[1]) or _channels(file)
    height, width = sizes[1:3] if last else sizes[2:]
    if height * width > _LARGEST**2 or images * height * width * channels > MOST:
        msg = f"{file.path}: its input is of {sizes}, which no ViT takes. Export it for one image of the size that it is used at."
        raise CheckpointError(msg)
    tried: set[tuple[int, int]] = set()
    for (rows, columns), sized in _sizes(file, size, stated) if not (height and width) else [((height, width), "")]:
        pair = height or rows, width or columns
        if pair in tried:
            continue
        tried.add(pair)
        yield (images, *pair, channels) if last else (images, channels, *pair), sized


def _channels(file: OnnxFile) -> int:
    """What the first convolution takes, where the input leaves that open."""
    kernels = [int(tensor.dims[1]) for tensor in file.model.graph.initializer if len(tensor.dims) == 4]
    return 1 if 1 in kernels and 3 not in kernels else 3


def _sizes(file: OnnxFile, size: tuple[int, int] | None, stated: tuple[int, int] | None) -> Iterator[tuple[tuple[int, int], str]]:
    if size is not None:
        yield size, "--image-size"
    if stated is not None:
        yield stated, "the settings beside it"
    kernels = [
        tensor.dims for tensor in file.model.graph.initializer if len(tensor.dims) == 4 and tensor.dims[2] == tensor.dims[3] > 1
    ]
    patches = {(int(kernel[0]), int(kernel[2])) for kernel in kernels}
    tables = sorted({tuple(int(value) for value in tensor.dims) for tensor in file.model.graph.initializer}, reverse=True)
    yield from _of_tables([table for table in tables if len(table) == 3 and table[0] == 1], patches)
    yield (_USUAL, _USUAL), "custom"
    yield from _of_tables([(1, *table) for table in tables if len(table) == 2], patches)


def _of_tables(tables: list[tuple[int, ...]], patches: set[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], str]]:
    """Sizes of squares that have as many patches as a table [1, tokens, width] has rows, less prefix tokens."""
    for width, patch in sorted(patches):
        for _, tokens, channels in tables:
            for prefix in (1, 0, 2, 5) if channels == width else ():
                side = math.isqrt(max(0, tokens - prefix))
                if side > 1 and side * side + prefix == tokens and side * patch <= _LARGEST:
                    yield (side * patch, side * patch), "its position table"


def _require_finite(file: OnnxFile, found: Recognised) -> None:
    for name, value in found.parts.state.items():
        if not torch.isfinite(value).all():
            msg = (
                f"{file.path}: {name!r} holds NaN or infinite values. The training diverged or the file is damaged; use another "
                "one."
            )
            raise CheckpointError(msg)


def _is_backbone(walk: Walk, outputs: list[str]) -> bool:
    try:
        recognised(walk, outputs, headless=True)
    except (MisfitError, ValueError):
        return False
    return True


def _refusal(file: OnnxFile, walk: Walk, what: str, *, backbone: bool) -> str:
    if backbone:
        return (
            f"{file.path}: no classifier ({what}), but a ViT that gives features. Train a head on your classes "
            f"(edgevit train PHOTOS --backbone {file.path}), or build it for its features alone: --features"
        )
    kind = looks_like(walk.operators) or hierarchy(file.model.graph)
    if kind:
        return f"{file.path}: {kind}: {what}."
    return f"{file.path}: no plain ViT that edgevit knows: {what}. Give the checkpoint that it was exported from."
