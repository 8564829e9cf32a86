"""What a bundle's ONNX file must be before an engine sees it: whole in itself, and with the ends that its manifest says.

It is read at its bytes, as a device has no onnx package. Field numbers are those of onnx.proto (onnx/onnx, IR version 3 on).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from edgevit.files import protobuf

Content = bytes | memoryview

MODEL_GRAPH, GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_OUTPUT = 7, 1, 5, 12
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OP, NODE_ATTRIBUTE = 1, 2, 3, 4, 5
ATTRIBUTE_NAME, ATTRIBUTE_INT, ATTRIBUTE_TYPE, INT = 1, 3, 20, 2
FLOAT, UINT8 = 1, 2
"""TensorProto.DataType"""
INPUT, OUTPUT, FEATURES = "frames", "logits", "features"
HEAD_WEIGHT, HEAD_BIAS = "head/weight", "head/bias"
"""Initializers [features, classes] and [classes] of the head's Linear."""
BF16 = "edgevit.bf16"
"""Key of a graph's metadata: ``allowed`` where an engine may compute in bfloat16 what is float32 in the graph."""
_MODEL_METADATA, _MODEL_TRAINING, _MODEL_FUNCTIONS = 14, 20, 25
_GRAPH_INPUT, _GRAPH_SPARSE = 11, 15
_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS = 5, 10
_ATTRIBUTE_NESTED = (6, 11, 22, 23)  # graphs and sparse tensors, one or several
TENSOR_RAW, TENSOR_EXTERNAL, TENSOR_LOCATION = 9, 13, 14


def check_model(model: bytes, size: Sequence[int], classes: int, features: int | None = None) -> None:
    """Raise ValueError unless ``model`` is an ONNX file that holds all it needs, from frames to logits.

    That is: no tensor lies in another file (ONNX's external data, which engines read from wherever they run); one input,
    uint8 [N, H, W, 3] of ``size`` (height, width); one output, float32 [N, classes], and behind it, if the manifest says so, one
    of so many ``features``, float32 [N, features].
    """
    parts = list(protobuf.fields(model))
    if any(part.number in (_MODEL_TRAINING, _MODEL_FUNCTIONS) for part in parts):
        msg = "it holds functions or training graphs, which edgevit does not write"
        raise ValueError(msg)
    graphs = [part.content for part in parts if part.number == MODEL_GRAPH]
    if len(graphs) != 1:
        msg = f"not an ONNX model: {len(graphs)} graphs"
        raise ValueError(msg)
    inputs, outputs = list[End](), list[End]()
    for part in protobuf.fields(graphs[0]):
        if part.number == _GRAPH_SPARSE:
            _refuse_nesting()
        elif part.number == GRAPH_INITIALIZER:
            _check_tensor(part.content)
        elif part.number == GRAPH_NODE:
            _check_node(part.content)
        elif part.number in (_GRAPH_INPUT, GRAPH_OUTPUT):
            (inputs if part.number == _GRAPH_INPUT else outputs).append(_value(part.content))
    _check_ends("input", inputs, [(INPUT, UINT8, (*size, 3))])
    more = [] if features is None else [(FEATURES, FLOAT, (features,))]
    _check_ends("output", outputs, [(OUTPUT, FLOAT, (classes,)), *more])


def with_graph(model: Content, changed: Mapping[int, Callable[[protobuf.WireField], Iterable[Content]]]) -> bytes:
    """``model`` with each field of its graph whose number is in ``changed`` replaced by what that makes of it, in its place."""
    whole, parts = list(protobuf.fields(model)), list[Content]()
    for graph in (field.content for field in whole if field.number == MODEL_GRAPH):
        for field in protobuf.fields(graph):
            parts.extend(changed[field.number](field) if field.number in changed else [field.whole])
    before, behind = ([field.whole for field in whole if (field.number > MODEL_GRAPH) is last and field.number != MODEL_GRAPH]
                      for last in (False, True))  # fmt: skip
    return b"".join([*before, protobuf.header(MODEL_GRAPH, sum(map(len, parts))), *parts, *behind])


def allows_bf16(model: bytes) -> bool:
    """Whether ``model``, ONNX, says so. Raises ValueError for what is no message."""
    found = (part.content for part in protobuf.fields(model) if part.number == _MODEL_METADATA)
    return any({item.number: bytes(item.content) for item in protobuf.fields(entry)} == _ALLOWED for entry in found)


def with_bf16(model: bytes) -> bytes:
    """``model``, ONNX, that says so: fields of a message may stand anywhere in it, so it is one more at the end."""
    return model + protobuf.message(_MODEL_METADATA, b"".join(protobuf.message(*item) for item in _ALLOWED.items()))


def without_bf16(model: bytes) -> bytes:
    """What `with_bf16` was given."""
    return model.removesuffix(with_bf16(b""))


_ALLOWED = {1: BF16.encode(), 2: b"allowed"}
"""Of StringStringEntryProto: key = 1, value = 2."""


def _check_node(node: memoryview) -> None:
    for part in protobuf.fields(node):
        if part.number != NODE_ATTRIBUTE:
            continue
        for item in protobuf.fields(part.content):
            if item.number in _ATTRIBUTE_NESTED:
                _refuse_nesting()
            if item.number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                _check_tensor(item.content)


def _refuse_nesting() -> None:
    msg = "it holds graphs within its graph, or sparse tensors, which edgevit does not write"
    raise ValueError(msg)


def _check_tensor(tensor: memoryview) -> None:
    for part in protobuf.fields(tensor):
        if part.number == TENSOR_EXTERNAL or (part.number == TENSOR_LOCATION and part.value):
            msg = "it takes weights from another file, which nothing vouches for"
            raise ValueError(msg)


End = tuple[str, int, tuple[int, ...]]
"""Name, element type, and sizes behind the first, of images."""


def _check_ends(what: str, found: list[End], wanted: list[End]) -> None:
    if found != wanted:
        said, told = (", ".join(f"{name} {list(shape)} of type {kind}" for name, kind, shape in ends) for ends in (found, wanted))
        msg = f"its {what} is {said or 'none'}, where the manifest says {told}"
        raise ValueError(msg)


def _value(info: memoryview) -> End:
    """Of ValueInfoProto: name = 1, type = 2 (tensor_type = 1 (elem_type = 1, shape = 2 (dim = 1 (dim_value = 1))))."""
    name, kind, sizes = "", 0, list[int]()
    for part in protobuf.fields(info):
        if part.number == 1:
            name = bytes(part.content).decode("utf-8", "replace")
        for tensor in _within(part, 2, 1):
            for item in protobuf.fields(tensor):
                kind = item.value if item.number == 1 else kind
                sizes += [_size(dim.content) for dim in (protobuf.fields(item.content) if item.number == 2 else ())]
    return name, kind, tuple(sizes[1:])


def _within(part: protobuf.WireField, number: int, inner: int) -> list[memoryview]:
    return [item.content for item in protobuf.fields(part.content) if item.number == inner] if part.number == number else []


def _size(dimension: memoryview) -> int:
    """0 for one that is free."""
    return next((part.value for part in protobuf.fields(dimension) if part.number == 1), 0)
