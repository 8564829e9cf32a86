"""Write a ViT as ONNX, op by op, from its folded weights and a `QuantPlan`.

The graph is written, not traced: every Q/DQ, dtype and fusion pattern is on purpose and visible here.
Input ``frames`` is uint8 [N, H, W, 3] BGR, output ``logits`` float32 [N, classes]; N is free.
Node names start with the block they belong to (``blocks.3/fc1/...``), which profilers show.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from edgevit.model.folded import FoldedBlock, FoldedVit, Linear, Norm
from edgevit.model.quantplan import QuantizedLinear, QuantPlan
from edgevit.model.vit import VitConfig

OPSET = 20  # the first with a native Gelu; LayerNormalization is native since 17
IR_VERSION = 9  # the IR of opset 20, so that the runtimes of its time still read the file


def write_graph(plan: QuantPlan) -> bytes:
    """The ONNX model of ``plan``: FP32 where the plan has no entry, INT8 with Q/DQ where it has.

    The same plan gives the same bytes.
    """
    content: bytes = _Writer(plan).write().SerializeToString(deterministic=True)
    return content


class _Writer:
    """Collects nodes and initializers of one graph; each method adds one part and returns its output's name."""

    def __init__(self, plan: QuantPlan) -> None:
        self.plan = plan
        self.config: VitConfig = plan.model.config
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def write(self) -> onnx.ModelProto:
        model = self.plan.model
        x = self.embed("frames", model)
        for i, block in enumerate(model.blocks):
            last = i == len(model.blocks) - 1
            x = self.block(x, block, f"blocks.{i}", self.config.output_tokens if last else self.config.tokens)
        self.head(x, model)
        height, width = self.config.image_size
        graph = helper.make_graph(
            self.nodes,
            "edgevit",
            [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", height, width, 3])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", self.config.classes])],
            list(self.constants.values()),
        )
        opsets = [helper.make_opsetid("", OPSET)]
        proto = helper.make_model(graph, producer_name="edgevit", ir_version=IR_VERSION, opset_imports=opsets)
        onnx.checker.check_model(proto)
        return proto

    def constant(self, name: str, value: Tensor | NDArray[Any] | np.generic | list[int] | float) -> str:
        """An initializer; numbers become float32, lists of int become int64."""
        if name not in self.constants:
            array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
            array = array.astype(np.float32) if array.dtype == np.float64 else array
            self.constants[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def node(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        """One node named ``name/op`` with one output of the same name."""
        output = f"{name}/{op}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], output, **attributes))
        return output

    def embed(self, frames: str, model: FoldedVit) -> str:
        """uint8 frames to tokens [N, T, width]: one GEMM over the pixels of each patch."""
        (rows, columns), side, name = self.config.grid, self.config.patch_size, "embed"
        cells = self.constant(f"{name}/cells", [0, rows, side, columns, side * 3])
        flat = self.constant(f"{name}/flat", [0, rows * columns, side * side * 3])
        # Cast first: TensorRT takes uint8 as a network input but has no other operation on it.
        x = self.node("Reshape", f"{name}/cut", self.node("Cast", name, frames, to=TensorProto.FLOAT), cells)
        x = self.node("Reshape", f"{name}/flatten", self.node("Transpose", name, x, perm=[0, 1, 3, 2, 4]), flat)
        x = self.node("MatMul", name, x, self.constant(f"{name}/weight", model.patch.T))
        if self.config.prefix_tokens:
            # Prefix tokens are rows of the position constant, added to rows of zeros: no Expand, no Shape.
            pads = self.constant(f"{name}/pads", [0, self.config.prefix_tokens, 0, 0, 0, 0])
            x = self.node("Pad", name, x, pads)
        x = self.node("Add", name, x, self.constant(f"{name}/positions", model.positions))
        return self.norm(x, model.embedding_norm, f"{name}/norm")

    def norm(self, x: str, norm: Norm | None, name: str) -> str:
        """Native LayerNormalization over the last axis; a norm that the model lacks is left out."""
        if norm is None:
            return x
        weight, bias = self.constant(f"{name}/weight", norm.weight), self.constant(f"{name}/bias", norm.bias)
        return self.node("LayerNormalization", name, x, weight, bias, axis=-1, epsilon=self.config.norm_eps)

    def linear(self, x: str, weights: Linear, name: str, key: str) -> str:
        """x weight^T + bias in FP32, or between Q/DQ pairs if the plan has ``key``."""
        quantized = self.plan.linears.get(key)
        if quantized is None:
            product = self.node("MatMul", name, x, self.constant(f"{name}/weight", weights.weight.T))
            return self.node("Add", name, product, self.constant(f"{name}/bias", weights.bias))
        if quantized.multiplier is not None:
            x = self.node("Mul", f"{name}/input", x, self.constant(f"{name}/multiplier", quantized.multiplier))
        if quantized.offset is not None:
            x = self.node("Add", f"{name}/input", x, self.constant(f"{name}/offset", quantized.offset))
        product = self.node("MatMul", name, self.fake_quantized(x, quantized.input_scale, name), self.weight(quantized, name))
        return self.node("Add", name, product, self.constant(f"{name}/bias", quantized.bias))

    def fake_quantized(self, x: str, scale: float, name: str) -> str:
        """A per-tensor Q/DQ pair on an activation."""
        step = self.constant(f"{name}/input_scale", np.float32(scale))
        zero = self.constant("zero_point", np.int8(0))
        return self.node("DequantizeLinear", name, self.node("QuantizeLinear", name, x, step, zero), step, zero)

    def weight(self, linear: QuantizedLinear, name: str) -> str:
        """An int8 weight stored [in, out], so that nothing stands between its DQ and the MatMul."""
        values = self.constant(f"{name}/weight", linear.weight.T)
        scale = self.constant(f"{name}/weight_scale", linear.weight_scale)
        zeros = self.constant(f"zero_points_{len(linear.weight_scale)}", np.zeros(len(linear.weight_scale), np.int8))
        return self.node("DequantizeLinear", f"{name}/weight", values, scale, zeros, axis=1)

    def block(self, x: str, block: FoldedBlock, name: str, keep: int) -> str:
        """Attention and MLP with their residuals; only the first ``keep`` tokens are carried on."""
        qkv = self.linear(self.norm(x, block.norm1, f"{name}/norm1"), block.qkv, f"{name}/qkv", f"{name}.qkv")
        mixed = self.attention(qkv, block, name, keep)
        x = self.first_tokens(x, keep, f"{name}/kept")
        x = self.node("Add", f"{name}/residual1", x, self.linear(mixed, block.proj, f"{name}/proj", f"{name}.proj"))
        hidden = self.linear(self.norm(x, block.norm2, f"{name}/norm2"), block.fc1, f"{name}/fc1", f"{name}.fc1")
        expanded = self.linear(self.activation(hidden, f"{name}/act"), block.fc2, f"{name}/fc2", f"{name}.fc2")
        return self.node("Add", f"{name}/residual2", x, expanded)

    def attention(self, qkv: str, block: FoldedBlock, block_name: str, keep: int) -> str:
        """softmax(q k^T) v of all heads, from the joint qkv [N, T, 3 * heads * head_dim]; the scale is in q."""
        name, steps = f"{block_name}/attention", self.plan.attention.get(f"{block_name}.attention")
        heads, tokens = block.heads, self.config.tokens
        depth = block.proj.weight.shape[1] // heads
        shape = self.constant(f"shape/heads_{heads}", [0, tokens, 3, heads, depth])
        split = self.node("Transpose", f"{name}/split", self.node("Reshape", f"{name}/split", qkv, shape), perm=[2, 0, 3, 1, 4])
        q, k, v = (self.node("Gather", f"{name}/{part}", split, self.constant(f"index/{i}", np.int64(i)), axis=0)
                   for i, part in enumerate("qkv"))  # fmt: skip
        q = self.first_tokens(q, keep, f"{name}/q", axis=2)
        if steps is not None:
            q = self.fake_quantized(q, steps.query_step, f"{name}/q")
            # In front of the transpose: OpenVINO fuses MatMul and Transpose, with a Q/DQ between them it does not.
            k = self.fake_quantized(k, steps.key_step, f"{name}/k")
        k = self.node("Transpose", f"{name}/k", k, perm=[0, 1, 3, 2])
        probabilities = self.node("Softmax", name, self.node("MatMul", f"{name}/scores", q, k), axis=-1)
        if steps is not None and steps.value_step is not None and steps.probability_step is not None:
            probabilities = self.fake_quantized(probabilities, steps.probability_step, f"{name}/probabilities")
            v = self.fake_quantized(v, steps.value_step, f"{name}/v")
        mixed = self.node("MatMul", f"{name}/mix", probabilities, v)
        flat = self.constant(f"shape/flat_{keep}_{heads * depth}", [0, keep, heads * depth])
        return self.node("Reshape", f"{name}/merge", self.node("Transpose", f"{name}/merge", mixed, perm=[0, 2, 1, 3]), flat)

    def first_tokens(self, x: str, keep: int, name: str, axis: int = 1) -> str:
        """The first ``keep`` tokens along ``axis``; ``x`` itself if that is all of them."""
        if keep == self.config.tokens:
            return x
        ends = (self.constant("index/start", [0]), self.constant(f"index/end_{keep}", [keep]))
        return self.node("Slice", name, x, *ends, self.constant(f"index/axis_{axis}", [axis]))

    def activation(self, x: str, name: str) -> str:
        """The model's activation, as native ops."""
        kind = self.config.activation
        if kind == "relu":
            return self.node("Relu", name, x)
        if kind == "quick_gelu":
            gate = self.node("Sigmoid", name, self.node("Mul", f"{name}/slope", x, self.constant("quick_gelu", 1.702)))
            return self.node("Mul", name, x, gate)
        return self.node("Gelu", name, x, approximate="tanh" if kind == "gelu_tanh" else "none")

    def head(self, x: str, model: FoldedVit) -> None:
        """Final norm, pooling and classifier; the output is called ``logits``."""
        before, after = self.config.final_norm == "before_pooling", self.config.final_norm == "after_pooling"
        x = self.norm(x, model.final_norm if before else None, "head/norm")
        parts = [self.pooled(x, kind) for kind in self.config.pooling]
        pooled = parts[0] if len(parts) == 1 else self.node("Concat", "head", *parts, axis=-1)
        pooled = self.norm(pooled, model.final_norm if after else None, "head/norm")
        product = self.node("MatMul", "head", pooled, self.constant("head/weight", model.head.weight.T))
        bias = self.constant("head/bias", model.head.bias)
        self.nodes.append(helper.make_node("Add", [product, bias], ["logits"], "head/Add"))

    def pooled(self, x: str, kind: str) -> str:
        """One pooled feature [N, width]."""
        if kind != "mean":
            index = {"class": 0, "distillation": 1}[kind]
            return self.node("Gather", f"head/{kind}", x, self.constant(f"index/{index}", np.int64(index)), axis=1)
        if self.config.prefix_tokens:
            first, last = self.config.prefix_tokens, self.config.tokens
            ends = (self.constant(f"index/from_{first}", [first]), self.constant(f"index/end_{last}", [last]))
            x = self.node("Slice", "head/patches", x, *ends, self.constant("index/axis_1", [1]))
        return self.node("ReduceMean", "head/mean", x, self.constant("index/axes_1", [1]), keepdims=0)
