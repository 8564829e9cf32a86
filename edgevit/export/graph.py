"""Write a ViT as ONNX, op by op, from its folded weights and a `QuantPlan`.

The graph is written, not traced: every Q/DQ, dtype and fusion pattern is on purpose and visible here.
Input ``frames`` is uint8 [N, H, W, 3] BGR, output ``logits`` float32 [N, classes]; N is free unless the form fixes it. Where
`VitConfig.gives_features` says so, a second output ``features`` is float32 [N, features].
Node names start with the block they belong to (``blocks.3/fc1/...``), which profilers show.
"""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from edgevit.export.assembly import with_tensors
from edgevit.export.attention import Heads, heads_first, log_sizes, merge_heads_first, write_attention
from edgevit.export.features import head_format, write_features
from edgevit.export.form import CPU, Form
from edgevit.export.merging import Merged, Merging, write_merge
from edgevit.export.nodes import Nodes, element_type
from edgevit.export.norms import write_norm
from edgevit.export.pool import write_pool
from edgevit.export.scored import Between
from edgevit.model.folded import FoldedBlock, FoldedVit, Linear, Norm
from edgevit.model.quantplan import QuantizedLinear, QuantPlan
from edgevit.numberformat import FP32
from edgevit.onnxfile import FEATURES, HEAD_BIAS, HEAD_WEIGHT, OUTPUT
from edgevit.part import Part
from edgevit.vitconfig import VitConfig


def write_graph(plan: QuantPlan, form: Form = CPU) -> bytes:
    """The ONNX model of ``plan`` in ``form``: floating point where the plan has no entry, between Q/DQ pairs where it has.

    The same plan and form give the same bytes. Raises OverflowError for a constant that ``form.dtype`` cannot hold.
    """
    return _Writer(plan, form).write()


def stream_tensors(config: VitConfig) -> tuple[str, ...]:
    """The graph's names of the residual stream: the embedding, then what each block gives."""
    norm = "RMSNormalization" if config.rms_norm else "LayerNormalization"
    embedding = f"embed/norm/{norm}" if config.embedding_norm else "embed/Add"
    return (embedding, *(f"blocks.{i}/residual2/Add" for i in range(len(config.blocks))))


MASKED = -1e4
"""Added to scores: e to the power of it is zero in float32, and it is a number in every format."""


class _Writer(Nodes):
    """The ViT; each method adds one part and returns its output's name."""

    def __init__(self, plan: QuantPlan, form: Form) -> None:
        super().__init__(form)
        self.plan = plan
        self.config: VitConfig = plan.model.config
        self.masked = int(form.padded)
        """Tokens behind all others that no query attends to."""
        self.known: Merged | None = None
        """Of tokens that were merged; None before any were."""
        self.bias: str | None = None
        """What attention adds to scores for it, as `edgevit.export.attention.Heads` has it."""
        if self.masked:
            mask = np.zeros((1, 1, 1, self.config.tokens + self.masked))
            mask[..., self.config.tokens :] = MASKED
            self.bias = self.constant("embed/mask", mask)

    def write(self) -> bytes:
        model = self.plan.model
        x = self.embed("frames", model)
        for i, block in enumerate(model.blocks):
            x = self.block(x, block, i)
        self.head(x, model)
        batch, (height, width) = self.form.batch or "N", self.config.image_size
        graph = helper.make_graph(
            self.nodes,
            "edgevit",
            [helper.make_tensor_value_info("frames", TensorProto.UINT8, [batch, height, width, 3])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [batch, self.config.classes]), *self.further(batch)],
        )
        opsets = [helper.make_opsetid("", self.form.opset)]
        model = helper.make_model(graph, producer_name="edgevit", ir_version=self.form.ir_version, opset_imports=opsets)
        return with_tensors(model, self.constants.values())

    def further(self, batch: int | str) -> list[onnx.ValueInfoProto]:
        """Outputs beside logits."""
        if not self.config.gives_features:
            return []
        return [helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, [batch, self.config.features])]

    def embed(self, frames: str, model: FoldedVit) -> str:
        """uint8 frames to tokens [N, T, width]: one GEMM over the pixels of each patch."""
        (rows, columns), side, name = self.config.grid, self.config.patch_size, "embed"
        cells = self.constant(f"{name}/cells", [0, rows, side, columns, side * 3])
        flat = self.constant(f"{name}/flat", [0, rows * columns, side * side * 3])
        # Cast first: TensorRT takes uint8 as a network input but has no other operation on it.
        x = self.node("Reshape", f"{name}/cut", self.node("Cast", name, frames, to=element_type(self.format)), cells)
        x = self.node("Reshape", f"{name}/flatten", self.node("Transpose", name, x, perm=[0, 1, 3, 2, 4]), flat)
        x = self.node("MatMul", name, x, self.constant(f"{name}/weight", model.patch.T))
        if model.patch_bias is not None:
            x = self.node("Add", f"{name}/patches", x, self.constant(f"{name}/bias", model.patch_bias))
            x = self.norm(x, model.patch_norm, f"{name}/patch_norm")
        if self.config.prefix_tokens or self.masked:
            # Prefix tokens are rows of the position constant, added to rows of zeros: no Expand, no Shape.
            pads = self.constant(f"{name}/pads", [0, self.config.prefix_tokens, 0, 0, self.masked, 0])
            x = self.node("Pad", name, x, pads)
        positions = torch.nn.functional.pad(model.positions, (0, 0, 0, self.masked))
        x = self.node("Add", name, x, self.constant(f"{name}/positions", positions))
        return self.norm(x, model.embedding_norm, f"{name}/norm")

    def norm(self, x: str, norm: Norm | None, name: str) -> str:
        """The norm over the last axis; one that the model lacks is left out."""
        return x if norm is None else write_norm(self, x, norm, name)

    def linear(self, x: str, weights: Linear, part: Part) -> str:
        """x weight^T + bias in floating point, or between Q/DQ pairs if the plan has ``part``."""
        name, quantized = part.node, self.plan.linears.get(part)
        if quantized is None:
            product = self.node("MatMul", name, x, self.constant(f"{name}/weight", weights.weight.T))
            return self.node("Add", name, product, self.constant(f"{name}/bias", weights.bias))
        if quantized.multiplier is not None:
            x = self.node("Mul", f"{name}/input", x, self.constant(f"{name}/multiplier", quantized.multiplier))
        if quantized.offset is not None:
            x = self.node("Add", f"{name}/input", x, self.constant(f"{name}/offset", quantized.offset))
        x = self.fake_quantized(x, quantized.input_scale, name, quantized.format)
        product = self.node("MatMul", name, x, self.weight(quantized, name))
        return self.node("Add", name, product, self.constant(f"{name}/bias", quantized.bias))

    def weight(self, linear: QuantizedLinear, name: str) -> str:
        """A quantized weight stored [in, out], so that nothing stands between its DQ and the MatMul."""
        values = self.codes(f"{name}/weight", linear.weight.T, linear.format)
        scale = self.constant(f"{name}/weight_scale", linear.weight_scale)
        # Not shared: where x86 lacks VNNI, ONNX Runtime rewrites a weight together with its zero points, as uint8.
        zeros = self.codes(f"{name}/weight_zero_point", torch.zeros(len(linear.weight_scale)), linear.format)
        return self.node("DequantizeLinear", f"{name}/weight", values, scale, zeros, axis=1)

    def block(self, x: str, block: FoldedBlock, index: int) -> str:
        """Attention and MLP with their residuals, on as many tokens as `VitConfig.tokens_after` says."""
        name, config = f"blocks.{index}", self.config
        tokens, keep = config.tokens_into(index) + self.masked, config.tokens_attended(index)
        merges, taken = config.blocks[index].merged, x
        if index < len(config.blocks) - 1:
            keep += self.masked
        mixed = self.attention(self.norm(x, block.norm1, f"{name}/norm1"), block, index, tokens, keep) if block.heads else None
        x = self.first_tokens(x, keep, tokens, f"{name}/kept")
        attended = self.written(x, mixed, block.proj, block.norm1, f"{name}/norm1", Part(index, "proj"))
        x = self.node("Add", f"{name}/residual1", x, attended)
        if merges:
            x, taken = (self.first_tokens(part, config.tokens_into(index), tokens, f"{name}/{what}")
                        for part, what in ((x, "unmasked"), (taken, "taken")))  # fmt: skip
            x, self.masked = self.merged(x, taken, index), 0
        hidden = self.hidden(x, block, index) if block.fc1.outputs else None
        expanded = self.written(x, hidden, block.fc2, block.norm2, f"{name}/norm2", Part(index, "fc2"))
        return self.node("Add", f"{name}/residual2", x, expanded)

    def merged(self, x: str, taken: str, index: int) -> str:
        """Fewer tokens of ``x``, as those ``taken`` by the block are alike; from here on with sizes and a bias of scores."""
        config, name = self.config, f"blocks.{index}/merge"
        at = Merging(
            name=name, tokens=config.tokens_into(index), prefix=config.prefix_tokens, merged=config.blocks[index].merged,
            width=config.width,
        )  # fmt: skip
        x, self.known = write_merge(self, x, taken, self.known, at, places=config.rotary is not None)
        self.bias = log_sizes(self, self.known.sizes, name, at.kept)
        return x

    def hidden(self, x: str, block: FoldedBlock, index: int) -> str:
        """The MLP's activations [N, T, hidden]."""
        expanded = self.linear(self.norm(x, block.norm2, f"blocks.{index}/norm2"), block.fc1, Part(index, "fc1"))
        return self.norm(self.activated(expanded, block, f"blocks.{index}/act"), block.mlp_norm, f"blocks.{index}/mlp_norm")

    def activated(self, x: str, block: FoldedBlock, name: str) -> str:
        """Hidden activations of what fc1 gives: of a gated MLP first the gates."""
        if not block.gated:
            return self.activation(x, name)
        gate, linear = self.node_with("Split", f"{name}/halves", (f"{name}/gate", f"{name}/linear"), x, axis=-1, num_outputs=2)
        return self.node("Mul", f"{name}/gated", self.activation(gate, name), linear)

    def written(self, x: str, inside: str | None, writer: Linear, norm: Norm | None, norm_name: str, part: Part) -> str:
        """What attention or the MLP adds to ``x``; with nothing ``inside``, an affine map of the normed tokens or a bias."""
        if not writer.inputs:
            return self.constant(f"{part.node}/bias", writer.bias)
        return self.linear(inside or self.norm(x, norm, norm_name), writer, part)

    def attention(self, x: str, block: FoldedBlock, index: int, tokens: int, keep: int) -> str:
        """All heads' attention [N, keep, inner] of normed tokens."""
        qkv, products, inner = Part(index, "qkv"), Part(index, "attention"), block.proj.inputs
        at = Heads(
            name=products.node, heads=block.heads, depth=inner // block.heads, tokens=tokens, keep=keep,
            steps=self.plan.attention.get(products), bias=self.bias, score_bias=block.score_bias,
            between=Between.of(block, self.known.places if self.known else None),
        )  # fmt: skip
        if self.form.joint_qkv or qkv in self.plan.linears:
            mixed = write_attention(self, self.linear(x, block.qkv, qkv), at)
        else:
            mixed = merge_heads_first(self, self.three_products(x, block.qkv, at, qkv.node), at)
        return self.norm(mixed, block.attention_norm, f"blocks.{index}/attention_norm")

    def three_products(self, x: str, qkv: Linear, at: Heads, name: str) -> tuple[str, str, str]:
        """q, k and v by a product each, with a bias where there is one; the values' is in proj already."""
        parts = []
        for i, part in enumerate("qkv"):
            rows = slice(i * at.width, (i + 1) * at.width)
            product = self.node("MatMul", f"{name}/{part}", x, self.constant(f"{name}/{part}/weight", qkv.weight[rows].T))
            bias = qkv.bias[rows].reshape(at.heads, 1, at.depth)
            added = self.constant(f"{name}/{part}/bias", bias) if bool(bias.any()) else None
            parts.append(heads_first(self, product, at, f"{at.name}/{part}", added))
        return parts[0], parts[1], parts[2]

    def activation(self, x: str, name: str) -> str:
        """The model's activation, as native ops."""
        kind = self.config.activation
        if kind == "relu":
            return self.node("Relu", name, x)
        if kind == "quick_gelu":
            gate = self.node("Sigmoid", name, self.node("Mul", f"{name}/slope", x, self.constant("quick_gelu", 1.702)))
            return self.node("Mul", name, x, gate)
        if kind == "silu":
            return self.node("Mul", name, x, self.node("Sigmoid", name, x))
        return self.node("Gelu", name, x, approximate="tanh" if kind == "gelu_tanh" else "none")

    def head(self, x: str, model: FoldedVit) -> None:
        """Final norm, pooling and classifier; the outputs are called ``logits`` and, where they are wanted, ``features``."""
        before, after = self.config.final_norm == "before_pooling", self.config.final_norm == "after_pooling"
        x = self.norm(x, model.final_norm if before else None, "head/norm")
        parts = [self.pooled(x, kind, model) for kind in self.config.pooling]
        pooled = parts[0] if len(parts) == 1 else self.node("Concat", "head", *parts, axis=-1)
        pooled = self.norm(pooled, model.final_norm if after else None, "head/norm")
        features, to = write_features(self, pooled, model), head_format(model, self)
        if self.config.gives_features:
            self.node_with("Cast", "head/features/given", (FEATURES,), features, to=TensorProto.FLOAT)
        product = self.node("MatMul", "head", features, self.constant(HEAD_WEIGHT, model.head.weight.T, to))
        bias = self.constant(HEAD_BIAS, model.head.bias, to)
        if to == FP32:
            self.node_with("Add", "head", (OUTPUT,), product, bias)
        else:
            logits = self.node("Add", "head", product, bias)
            self.node_with("Cast", "head", (OUTPUT,), logits, to=TensorProto.FLOAT)

    def pooled(self, x: str, kind: str, model: FoldedVit) -> str:
        """One pooled feature [N, width]."""
        if model.pool is not None:
            return write_pool(self, x, model.pool, self.config, self.known.sizes if self.known else None, self.activation)
        if kind != "mean":
            index = {"class": 0, "distillation": 1}[kind]
            return self.node("Gather", f"head/{kind}", x, self.constant(f"index/{index}", np.int64(index)), axis=1)
        prefix, tokens = self.config.prefix_tokens, self.config.tokens_after(len(self.config.blocks) - 1)
        if self.known is not None:  # of the patches that a token stands for its share
            patches = self.config.grid[0] * self.config.grid[1]
            share = self.constant("head/share", np.where(np.arange(tokens) < prefix, 0, 1 / patches)[None, None])
            mean = self.node("MatMul", "head/mean", self.node("Mul", "head/mean", self.known.sizes, share), x)
            return self.node("Reshape", "head/mean", mean, self.constant("shape/mean", [0, self.config.width]))
        if prefix:
            ends = (self.constant(f"index/from_{prefix}", [prefix]), self.constant(f"index/end_{tokens}", [tokens]))
            x = self.node("Slice", "head/patches", x, *ends, self.constant("index/axis_1", [1]))
        return self.node("ReduceMean", "head/mean", x, self.constant("index/axes_1", [1]), keepdims=0)
