"""Softmax of scores, and attention as one operator: ONNX's own, and those that ONNX Runtime's optimizer fuses."""

from __future__ import annotations

import numpy as np

from edgevit.model.onnxin.arithmetic import combine
from edgevit.model.onnxin.curves import KNOWN, applied, as_view
from edgevit.model.onnxin.matrix import matrix
from edgevit.model.onnxin.node import Node
from edgevit.model.onnxin.norms import normalised, with_affine
from edgevit.model.onnxin.products import linear, product
from edgevit.model.onnxin.values import Array, Curve, MisfitError, Probabilities, Scores, Softmax, Value, View


def softmax(node: Node) -> list[Value]:
    """Softmax along the last axis: of scores, or of logits at the end."""
    view = as_view(node.inputs[0])
    rank = len(view.shape)
    axis = node.get("axis", -1 if node.opset >= 13 else 1) % rank
    last = axis == rank - 1 or all(size == 1 for size in view.shape[axis + 1 :])
    if not last or (node.opset < 13 and axis != rank - 1):
        msg = f"{node.op} over the axis {axis}"
        raise MisfitError(msg)
    if not isinstance(view.root, Scores):
        return [View.of(Probabilities(shape=view.shape, source=matrix(view), before=str(node.proto.input[0])))]
    return [attention_weights(view, node.images)]


def attention_weights(view: View, images: int) -> View:
    """The softmax of scores, scaled and shifted."""
    scores = view.root
    assert isinstance(scores, Scores)
    heads, rows, columns = scores.queries.heads, *scores.shape[-2:]
    heads = max(heads, scores.keys.heads)
    if len(view.terms) != 1 or view.terms[0].index is not None or view.shape[-2:] != (rows, columns):
        msg = "scores that are rearranged before their softmax"
        raise MisfitError(msg)
    scale = _first(view.terms[0].scale, heads, rows, columns)
    if (scale != scale[:, :1, :1]).any():
        msg = "scores that are scaled one by one"
        raise MisfitError(msg)
    bias = _first(view.shift, heads, rows, columns)
    shared = np.broadcast_to(scale[:, 0, 0], (heads,))
    return View.of(Softmax(shape=view.shape, scores=scores, scale=shared, bias=bias if bias.any() else None))


def _first(array: Array, heads: int, rows: int, columns: int) -> Array:
    """Of the first image: [heads or 1, rows, columns]."""
    strides = array.strides
    if all(stride == 0 or size == 1 for stride, size in zip(strides[:-2], array.shape[:-2], strict=True)):
        return array.reshape(-1, rows, columns)[:1]
    return array.reshape(-1, rows, columns)[:heads]


def is_nan(node: Node) -> list[Value]:
    """IsNaN, which exporters ask of a softmax whose rows may all be masked: a ViT's are not."""
    view = as_view(node.inputs[0])
    return [np.broadcast_to(np.asarray(False), view.shape)]


def attended(q: View, k: View, v: View, *, scale: float | None, bias: Value | None, images: int) -> View:
    """Attention over [N, heads, tokens, head_dim]; ``scale`` is the root of 1 / head_dim by default."""
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    scores: Value = product(q, k.moved(lambda array: np.swapaxes(array, -1, -2)), images).scaled(np.asarray(factor))
    if bias is not None:
        scores = combine("Add", scores, bias)
    return product(attention_weights(as_view(scores), images), v, images)


def split_heads(view: View, heads: int) -> View:
    """[N, tokens, channels] to [N, heads, tokens, head_dim]."""
    images, tokens, width = view.shape
    if width % heads:
        msg = f"{width} channels of {heads} heads"
        raise MisfitError(msg)
    return view.reshaped((images, tokens, heads, width // heads)).moved(lambda array: array.transpose(0, 2, 1, 3))


def merged_heads(view: View) -> View:
    """Inverse of `split_heads`."""
    images, heads, tokens, dim = view.shape
    return view.moved(lambda array: array.transpose(0, 2, 1, 3).reshape(images, tokens, heads * dim))


def microsoft_attention(node: Node) -> list[Value]:
    """com.microsoft.Attention: qkv, attention and the joining of heads."""
    _only(node, (0, 1, 2, 5))
    if node.get("unidirectional", 0) or node.get("do_rotary", 0):
        msg = "com.microsoft.Attention of a language model"
        raise MisfitError(msg)
    heads = int(node.get("num_heads", 1))
    fused = linear(as_view(node.inputs[0]), node.constant(1).T, node.constant(2) if node.there(2) else None)
    sizes = node.get("qkv_hidden_sizes") or [fused.shape[-1] // 3] * 3
    ends = np.cumsum(sizes)
    q, k, v = (split_heads(fused.moved(lambda array, part=slice(end - size, end): array[..., part]), heads)  # type: ignore[misc]
               for size, end in zip(sizes, ends, strict=True))  # fmt: skip
    bias = node.inputs[5] if node.there(5) else None
    return [merged_heads(attended(q, k, v, scale=_stated(node), bias=bias, images=node.images))]


def multi_head_attention(node: Node) -> list[Value]:
    """com.microsoft.MultiHeadAttention: of queries, keys and values apart."""
    _only(node, (0, 1, 2, 3, 5))
    heads = int(node.get("num_heads", 1))
    views = [as_view(node.inputs[i]) for i in range(3)]
    if node.there(3):
        parts = np.split(node.constant(3), np.cumsum([view.shape[-1] for view in views])[:-1])
        views = [view.shifted(part) for view, part in zip(views, parts, strict=True)]
    q, k, v = (view if len(view.shape) == 4 else split_heads(view, heads) for view in views)
    bias = node.inputs[5] if node.there(5) else None
    return [merged_heads(attended(q, k, v, scale=_stated(node), bias=bias, images=node.images))]


def onnx_attention(node: Node) -> list[Value]:
    """ONNX's own Attention, of opset 23 on."""
    _only(node, (0, 1, 2, 3))
    if node.get("is_causal", 0) or node.get("softcap", 0.0):
        msg = "Attention of a language model"
        raise MisfitError(msg)
    views = [as_view(node.inputs[i]) for i in range(3)]
    joined = len(views[0].shape) == 3
    if joined:
        numbers = [node.get("q_num_heads", 1), node.get("kv_num_heads", 1), node.get("kv_num_heads", 1)]
        views = [split_heads(view, int(number)) for view, number in zip(views, numbers, strict=True)]
    mask = node.inputs[3] if node.there(3) else None
    if isinstance(mask, np.ndarray) and mask.dtype == np.bool_:
        mask = np.where(mask, 0.0, -1e30)
    found = attended(views[0], views[1], views[2], scale=_stated(node), bias=mask, images=node.images)
    return [merged_heads(found) if joined else found]


def _stated(node: Node) -> float | None:
    scale = float(node.get("scale", 0.0))
    return scale or None


def _only(node: Node, known: tuple[int, ...]) -> None:
    for index in range(len(node.inputs)):
        if node.there(index) and index not in known:
            msg = f"{node.op} with a mask or a past (input {index})"
            raise MisfitError(msg)


def skip_norm(node: Node) -> list[Value]:
    """com.microsoft.SkipLayerNormalization: a sum and its norm."""
    simple = "Simplified" in node.op
    a, b = node.inputs[0], node.inputs[1]
    assert a is not None
    assert b is not None
    bias = 3 if simple else 4
    total = as_view(combine("Add", a, b))
    if node.there(bias):
        total = total.shifted(node.constant(bias))
    found = normalised(total, float(node.get("epsilon", 1e-12)), rms=simple)
    found = with_affine(found, node.constant(2), node.constant(3) if not simple and node.there(3) else None)
    statistics: list[Value] = [np.zeros(0)] * 2  # of training
    return [found, *statistics, total][: len(node.outputs)]


def gelu(node: Node) -> list[Value]:
    """Gelu, BiasGelu, FastGelu, QuickGelu, Swish, as one operator."""
    value = node.inputs[0]
    if node.op in ("BiasGelu", "FastGelu") and node.there(1):
        value = as_view(value).shifted(node.constant(1))
    kind = "gelu_tanh" if node.op == "FastGelu" or node.get("approximate", "none") == "tanh" else "gelu"
    curve = value if isinstance(value, Curve) else as_view(value)
    if node.op in ("QuickGelu", "Swish"):
        alpha = float(node.get("alpha", 1.702 if node.op == "QuickGelu" else 1.0))
        return [applied(curve, node.op, lambda x: x * KNOWN["sigmoid"](alpha * x))]
    return [applied(curve, node.op, KNOWN[kind])]


def bias_add(node: Node) -> list[Value]:
    """com.microsoft.BiasAdd: a bias and a residual."""
    a, bias, skip = node.inputs[0], node.constant(1), node.inputs[2]
    assert a is not None
    assert skip is not None
    return [combine("Add", as_view(a).shifted(bias), skip)]
