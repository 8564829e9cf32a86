"""An ONNX file, read so that nothing outside its folder is, and its weights are not copied.

The file is mapped, its large tensors are views of the map, and the graph that is parsed has none of them. Tensors in files beside
it (ONNX's external data) are views of these. ONNX Runtime is given the same views, and opens no file by itself.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import CheckpointError, needs_extra
from edgevit.externaldata import parted
from edgevit.files.bounded import open_regular
from edgevit.model.onnxin.values import Array

if TYPE_CHECKING:
    import onnx

LARGEST_GRAPH = 1 << 28
"""Bytes of a graph without its weights: a ViT's has less than a hundredth."""
_MAPPED = "edgevit:inside"
"""No name of a file: a colon is refused in one."""
# What a damaged graph makes of code that knows whole ones: texts that are bytes, a name that is missing, no such attribute.
_TRIPS = (
    KeyError, IndexError, TypeError, AttributeError, StopIteration, ValueError, OverflowError, RuntimeError, MemoryError,
)  # fmt: skip
_LFS = b"version https://git-lfs"
_HALF = {10: np.dtype(np.float16)}
_BFLOAT16 = 16
_WIDTHS = (8, 12, 24, 32, 40, 48, 72, 80, 88, 96, 104, 112, 128)
_NUMBERS = (
    *(math.sqrt(2), 1 / math.sqrt(2), 1.702, 0.044715, math.sqrt(2 / math.pi), 1e-5, 1e-6),
    *(1 / 255, 0.485, 0.456, 0.406, 0.229, 0.224, 0.225),
    *(width**power for width in _WIDTHS for power in (0.5, -0.5, 0.25, -0.25)),
)
"""Of activations, norms, scores and pixels."""


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """A model as it is read."""

    path: Path
    model: onnx.ModelProto
    """Without its large tensors, which refer to elsewhere."""
    tensors: Mapping[str, Array]
    """The large ones, by name, of their own types; bfloat16 as uint16."""
    files: tuple[Path, ...]
    """All that it was read from."""

    @property
    def opset(self) -> int:
        """Of ONNX's own operators."""
        return next((int(item.version) for item in self.model.opset_import if item.domain in ("", "ai.onnx")), 0)

    @property
    def metadata(self) -> dict[str, str]:
        """The texts in it."""
        return {item.key: item.value for item in self.model.metadata_props}


@contextmanager
def walking(path: Path) -> Iterator[None]:
    """What goes wrong inside, where a message of a file is walked, is a CheckpointError: no exporter wrote that."""
    try:
        yield
    except _TRIPS as error:
        msg = f"{path}: damaged ({_line(error)}). Download or export it again."
        raise CheckpointError(msg) from error


def read(path: Path) -> OnnxFile:
    """Read ``path``.

    Raises:
        CheckpointError: it is damaged, refers to a file outside its folder, or to more than a file has.
        MissingPackageError: without onnx.
    """
    with needs_extra("build"):
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it ships no types

    content = _mapped(path)
    if bytes(content[: len(_LFS)]) == _LFS:
        msg = f"{path}: this is a Git LFS pointer, not the model. Fetch it with: git lfs pull"
        raise CheckpointError(msg)
    try:
        parts = parted(content, _MAPPED)
        if len(parts.graph) > LARGEST_GRAPH:
            msg = f"a graph of {len(parts.graph):,} bytes without its weights"
            raise ValueError(msg)
        model = onnx.load_model_from_string(parts.graph)
        if not model.HasField("graph") or not model.graph.node:
            msg = "it holds no graph"
            raise ValueError(msg)
        model = _inlined(model)
    except (ValueError, DecodeError, RuntimeError, MemoryError) as error:
        msg = f"{path}: no whole ONNX model ({_line(error)}). Download or export it again."
        raise CheckpointError(msg) from error
    with walking(path):
        _require_own_attributes(model.graph, path)
        tensors, files = _tensors(model, path, dict(_offsets(parts.weights)))
    return OnnxFile(path=path, model=model, tensors=tensors, files=(path, *files))


def array_of(tensor: onnx.TensorProto) -> Array:
    """A tensor that is in the graph itself; half precision becomes float32."""
    from onnx import numpy_helper

    array = np.asarray(numpy_helper.to_array(tensor))
    return as_float32(array, int(tensor.data_type))


def as_float32(array: Array, data_type: int) -> Array:
    """Half precision as float32, everything else as it is."""
    if data_type == _BFLOAT16 and array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    if data_type in (_BFLOAT16, *_HALF):
        return _as_written(array.astype(np.float32), array) if array.size == 1 else array.astype(np.float32)
    return array


def _as_written(array: Array, half: Array) -> Array:
    """A number of half precision as it was before that: the root of 2 in a GELU, an epsilon, the root of a head's width."""
    if half.dtype != np.float16:
        return array
    known = next((number for number in _NUMBERS if np.float16(number) == half.reshape(())), None)
    return array if known is None else np.full_like(array, known)


def _mapped(path: Path) -> memoryview:
    try:
        with open_regular(path) as file:
            if not os.fstat(file.fileno()).st_size:
                msg = f"{path}: the file is empty. Download or export it again."
                raise CheckpointError(msg)
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}."
        raise CheckpointError(msg) from error


def _offsets(weights: tuple[Any, ...]) -> Iterator[tuple[int, memoryview]]:
    """Each tensor that was parted, by where it would begin in a file of them."""
    end = 0
    for part in weights:
        yield end, memoryview(part)
        end += len(part)


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """With its functions written out where they are called."""
    if not model.functions:
        return model
    from onnx import inliner

    return inliner.inline_local_functions(model)


def _require_own_attributes(graph: onnx.GraphProto, path: Path, depth: int = 0) -> None:
    """Refuse tensors in attributes and subgraphs that lie in other files, sparse ones, and graphs too deep."""
    from onnx import TensorProto

    tensors = list(graph.initializer) if depth else []
    sparse = bool(graph.sparse_initializer) or depth > 8
    for node in graph.node:
        for attribute in node.attribute:
            tensors += [*attribute.tensors, *([attribute.t] if attribute.HasField("t") else [])]
            sparse = sparse or attribute.HasField("sparse_tensor") or len(attribute.sparse_tensors) > 0
            for inner in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                _require_own_attributes(inner, path, depth + 1)
    if any(tensor.data_location == TensorProto.EXTERNAL or tensor.external_data for tensor in tensors):
        msg = f"{path}: a node takes a constant from another file, which no exporter does. Do not trust this model."
        raise CheckpointError(msg)
    if sparse:
        msg = f"{path}: it holds sparse tensors or deeply nested graphs, which no ViT has. Export it again."
        raise CheckpointError(msg)


def _tensors(model: onnx.ModelProto, path: Path, inside: dict[int, memoryview]) -> tuple[dict[str, Array], tuple[Path, ...]]:
    """The tensors that lie in the file's map, or in files beside it."""
    from onnx import TensorProto

    found, files = dict[str, Array](), dict[str, memoryview]()
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        refers = {item.key: item.value for item in tensor.external_data}
        location = refers.get("location", "")
        start = _number(refers.get("offset", "0"), path)
        # `parted` wrote the last entries: what is inside refers to it, whatever the file itself may have said before.
        if location == _MAPPED and start in inside and len(inside[start]) == _number(refers.get("length", "-1"), path):
            content = inside[start]
        else:
            if location not in files:
                files[location] = _beside(path, location)
            rest = len(files[location]) - start
            length = _number(refers["length"], path) if "length" in refers else rest
            if not 0 <= length <= rest:
                msg = f"{path.parent / location}: {tensor.name!r} is not all there. Copy the whole folder of the export again."
                raise CheckpointError(msg)
            content = files[location][start : start + length]
        found[tensor.name] = _viewed(tensor, content, path)
    return found, tuple(path.parent / location for location in files)


def _beside(path: Path, location: str) -> memoryview:
    """A file of weights in the model's own folder, or below it; links do not lead out."""
    folder = path.absolute().parent
    parts = Path(location).parts
    outside = (
        not location or Path(location).is_absolute() or ".." in parts or "\\" in location or ":" in location or "\0" in location
    )
    if not outside:
        outside = not (folder / location).resolve().is_relative_to(folder.resolve())
    if outside:
        msg = f"{path}: takes weights from outside its folder: {location!r}. Do not trust this model."
        raise CheckpointError(msg)
    if not (folder / location).is_file():
        msg = f"{path.parent / location}: missing: the weights of {path.name} lie in it. Copy the whole folder of the export."
        raise CheckpointError(msg)
    return _mapped(path.parent / location)


def _viewed(tensor: onnx.TensorProto, content: memoryview, path: Path) -> Array:
    from onnx import helper

    kind: np.dtype[Any] = np.dtype(np.uint16)
    if tensor.data_type != _BFLOAT16:
        try:
            kind = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        except (KeyError, TypeError, ValueError):
            kind = np.dtype(object)
    sizes = [int(size) for size in tensor.dims]
    count = 1
    for size in sizes:
        count *= size
    if kind.hasobject or any(size < 0 for size in sizes) or count * kind.itemsize != len(content):
        msg = f"{path}: {tensor.name!r} says {sizes} and holds {len(content):,} bytes: damaged. Download or export it again."
        raise CheckpointError(msg)
    return np.frombuffer(content, kind).reshape(sizes)


def _number(text: str, path: Path) -> int:
    if not text.isdecimal() or len(text) > 15:
        msg = f"{path}: says {text!r} where in a file a tensor lies: damaged. Download or export it again."
        raise CheckpointError(msg)
    return int(text)


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
