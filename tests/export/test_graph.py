"""The written graph computes what torch computes, in FP32 and INT8, and has the form that engines run fast."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from edgevit.engine import CPU_ENGINES, open_session
from edgevit.export.graph import write_graph
from edgevit.model.folded import FoldedVit, Linear, forward, plain_attention, scores
from edgevit.model.quantplan import (
    QuantizedLinear,
    QuantPlan,
    quantized_attention,
    quantized_linear,
    simulate,
)
from edgevit.model.rewrites.folding import fold
from edgevit.model.rounding import quantize_input
from edgevit.numberformat import INT8
from edgevit.part import Part
from edgevit.recipe import QuantizeSettings, Recipe
from edgevit.unreported import import_onnxruntime
from tests.zoo import CLASSES, ZOO, contract, folded, frames, int8, int8_of, normalised, vit

ENGINES = sorted(CPU_ENGINES)
onnxruntime = import_onnxruntime()


def unoptimized(model: bytes) -> onnxruntime.InferenceSession:
    """Every node as it is written: the reference of what the graph means."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def as_written(model: bytes, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return unoptimized(model).run(None, {"frames": images})[0]


def run(engine: str, model: bytes, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The logits of all as one batch, and of the first alone, by one session: to compile is what takes long."""
    if engine == "as written":
        return as_written(model, images), as_written(model, images[:1])
    with open_session(engine, model, threads=1) as session:
        return session.infer(images), session.infer(images[:1])


def largest(a: NDArray[np.float32] | Tensor, b: NDArray[np.float32] | Tensor) -> float:
    return float(np.abs(np.asarray(a) - np.asarray(b)).max())


# --- FP32 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["as written", *ENGINES])
@pytest.mark.parametrize("name", ZOO)
def test_fp32_graph_is_the_trained_model(name: str, engine: str) -> None:
    """Against the unfolded torch model on normalised images: folding, writing and the engine together."""
    model = vit(**ZOO[name])
    settings = contract(model.config)
    images = frames(model.config, 3)
    with torch.inference_mode():
        expected = model(normalised(images, settings))
    graph = write_graph(QuantPlan(model=fold(model, settings)))
    assert expected.std() > 0.1
    batch, alone = run(engine, graph, images)
    assert largest(batch, expected) < 1e-4
    assert largest(alone, expected[:1]) < 1e-4


def test_bgr_models() -> None:
    """A model trained on OpenCV's own channel order."""
    model = vit()
    settings = contract(model.config, color="bgr")
    images = frames(model.config, 2)
    with torch.inference_mode():
        expected = model(normalised(images, settings))
    assert largest(as_written(write_graph(QuantPlan(model=fold(model, settings))), images), expected) < 1e-4


# --- INT8 ------------------------------------------------------------------------------------------------------------------

# An input a hair from the middle between two codes is rounded up by one engine and down by another, each being right:
# their floats before it differ in the last bits. One such code moved the logits of these models by up to 4e-2 (over 7
# of them, 256 frames each and 3 ways to run), and no code differed that was more than 8e-6 steps from a middle. So
# engines are held against torch on every frame whose inputs all stay CLEAR steps away from a middle, and another test
# follows every code of any frames, middles included, GEMM by GEMM.
CLEAR = 5e-5


def inside(x: Tensor, quantized: QuantizedLinear) -> Tensor:
    """A GEMM's input as its quantizer sees it."""
    x = x if quantized.multiplier is None else x * quantized.multiplier
    return x if quantized.offset is None else x + quantized.offset


def margins(plan: QuantPlan, images: NDArray[np.uint8]) -> Tensor:
    """Per frame, how many steps its quantized inputs stay away from the middle between two codes."""
    nearest = torch.full((len(images),), 0.5)

    def look(x: Tensor, step: float) -> None:
        steps = x / step
        torch.minimum(nearest, ((steps - steps.floor()) - 0.5).abs().flatten(1).amin(1), out=nearest)

    def linear(name: Part, x: Tensor, _weights: Linear) -> Tensor:
        look(inside(x, plan.linears[name]), plan.linears[name].input_scale)
        return quantized_linear(x, plan.linears[name])

    def attention(name: Part, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        steps = plan.attention.get(name)
        if steps is None:
            return plain_attention(name, q, k, v, bias)
        look(q, steps.query_step)
        look(k, steps.key_step)
        if steps.probability_step is not None and steps.value_step is not None:
            rounded = [quantize_input(part, step, INT8) * step for part, step in ((q, steps.query_step), (k, steps.key_step))]
            look(scores(*rounded, bias).softmax(-1), steps.probability_step)
            look(v, steps.value_step)
        return quantized_attention(q, k, v, steps, bias)

    forward(plan.model, torch.from_numpy(images), linear, attention)
    return nearest


@pytest.mark.parametrize("attention", ["off", "scores", "full"])
@pytest.mark.parametrize("name", ZOO)
def test_int8_graph_is_the_fake_quantized_model(name: str, attention: str) -> None:
    """As written and on both engines, which run it on integers; one frame at a time and as a batch."""
    plan = int8_of(name, attention)
    assert {steps.products for steps in plan.attention.values()} == {attention} - {"off"}
    graph, images = write_graph(plan), frames(plan.model.config, 80, seed=3)
    images = images[(margins(plan, images) > CLEAR).numpy()]
    assert len(images) >= 12
    expected = simulate(plan, torch.from_numpy(images))
    assert largest(expected, forward(plan.model, torch.from_numpy(images))) > 1e-2  # quantization is visible at all
    for engine in ("as written", *ENGINES):
        batch, alone = run(engine, graph, images)
        assert largest(batch, expected) < 1e-4, engine
        assert largest(alone, expected[:1]) < 1e-4, engine


@pytest.mark.parametrize("name", ZOO)
def test_every_int8_gemm_is_exact(name: str) -> None:
    """On any frames: torch follows the graph's codes, and would itself choose another only at a middle."""
    plan = int8_of(name, "off")
    images = frames(plan.model.config, 8, seed=9)
    proto = onnx.load_from_string(write_graph(plan))
    codes = {key: f"blocks.{key.block}/{key.kind}/QuantizeLinear" for key in plan.linears}
    products = {key: name.replace("QuantizeLinear", "Add") for key, name in codes.items()}
    for output, kind in [(code, onnx.TensorProto.INT8) for code in codes.values()] + [
        (product, onnx.TensorProto.FLOAT) for product in products.values()
    ]:
        proto.graph.output.append(onnx.helper.make_tensor_value_info(output, kind, None))
    outputs = ["logits", *codes.values(), *products.values()]
    values = dict(zip(outputs, unoptimized(proto.SerializeToString()).run(outputs, {"frames": images}), strict=True))
    differing = 0

    def linear(key: Part, x: Tensor, _weights: Linear) -> Tensor:
        nonlocal differing
        quantized = plan.linears[key]
        steps = inside(x, quantized) / quantized.input_scale
        written = torch.from_numpy(values[codes[key]]).float()
        other = written != quantize_input(steps, 1.0, INT8)
        differing += int(other.sum())
        assert ((steps - steps.floor())[other] - 0.5).abs().max() < CLEAR if other.any() else True, key
        product = torch.nn.functional.linear(written, quantized.weight.float())
        product = product * (quantized.weight_scale * quantized.input_scale) + quantized.bias
        # Outputs measured in steps reach 127, so float rounding is judged against the largest.
        assert largest(product, values[products[key]]) < 1e-6 * float(product.abs().max()), key
        return product

    logits = forward(plan.model, torch.from_numpy(images), linear)
    assert differing <= 3
    assert largest(logits, values["logits"]) < 1e-4


def test_fc2_is_centred_in_its_input() -> None:
    """One Mul and one Add stand between GELU and its quantizer; without an offset (a recipe without centring) only the Mul."""
    for centring in (True, False):
        plan = int8(folded(), Recipe(quantize=QuantizeSettings(centring=centring, migration=(0.75,), tails=(0.25,))))
        nodes = {node.name: node for node in onnx.load_from_string(write_graph(plan)).graph.node}
        for i in range(2):
            linear, name = plan.linears[Part(i, "fc2")], f"blocks.{i}/fc2"
            assert (linear.offset is None) or centring
            chain = [
                f"{name}/input/{op}" for op, part in (("Mul", linear.multiplier), ("Add", linear.offset)) if part is not None
            ]
            source = [f"blocks.{i}/act/Gelu", *chain]
            for before, after in zip(source, [*chain, f"{name}/QuantizeLinear"], strict=True):
                assert nodes[after].input[0] == before
        assert centring == any(linear.offset is not None for linear in plan.linears.values())
        images = frames(plan.model.config, 64, seed=3)
        images = images[(margins(plan, images) > CLEAR).numpy()]
        assert largest(as_written(write_graph(plan), images), simulate(plan, torch.from_numpy(images))) < 1e-4


@pytest.mark.parametrize("name", ["plain", "mean pooling", "pruned blocks", "registers"])
def test_every_operand_of_attention_is_exact(name: str) -> None:
    """On any frames: codes are those of qkv's and softmax's own outputs, and both products are products of codes."""
    plan = int8_of(name)
    # Evened ranges have about the same step, so a mistaken one would not be seen.
    for key, steps in plan.attention.items():
        plan.attention[key] = replace(steps, key_step=float(np.float32(steps.key_step * 1.5)))
    images = frames(plan.model.config, 8, seed=9)
    proto = onnx.load_from_string(write_graph(plan))
    blocks = [f"blocks.{i}" for i in range(len(plan.model.blocks))]
    parts = ("q", "k", "v", "probabilities")
    kinds = {"qkv/Add": 1, "attention/scores/MatMul": 1, "attention/Softmax": 1, "attention/mix/MatMul": 1}
    kinds |= {f"attention/{part}/QuantizeLinear": 3 for part in parts}
    outputs = {f"{block}/{part}": kind for block in blocks for part, kind in kinds.items()}
    proto.graph.output.extend(onnx.helper.make_tensor_value_info(output, kind, None) for output, kind in outputs.items())
    values = dict(zip(outputs, unoptimized(proto.SerializeToString()).run(list(outputs), {"frames": images}), strict=True))
    for index, (block, weights) in enumerate(zip(blocks, plan.model.blocks, strict=True)):
        steps = plan.attention[Part(index, "attention")]
        assert steps.value_step is not None
        assert steps.probability_step is not None
        q, k, v = (part.unflatten(-1, (weights.heads, -1)).transpose(1, 2)
                   for part in torch.from_numpy(values[f"{block}/qkv/Add"]).chunk(3, dim=-1))  # fmt: skip
        written = [torch.from_numpy(values[f"{block}/attention/{part}/QuantizeLinear"]).float() for part in parts]
        q = q[:, :, : written[0].shape[2]]  # of the last block only the tokens that are read
        sources = (q, k, v, torch.from_numpy(values[f"{block}/attention/Softmax"]))
        grids = (steps.query_step, steps.key_step, steps.value_step, steps.probability_step)
        for part, codes, step in zip(sources, written, grids, strict=True):
            assert torch.equal(codes, quantize_input(part, step, INT8)), block
            assert codes.abs().max() > 60  # the steps fit
        products = {
            "scores": written[0] @ written[1].transpose(2, 3) * (steps.query_step * steps.key_step),
            "mix": written[3] @ written[2] * (steps.probability_step * steps.value_step),
        }
        for product, wanted in products.items():
            assert largest(wanted, values[f"{block}/attention/{product}/MatMul"]) < 1e-6 * float(wanted.abs().max()), block


@pytest.mark.parametrize(("attention", "parts"), [("scores", ("q", "k")), ("full", ("q", "k", "v", "probabilities"))])
def test_operands_of_attention_are_quantized_in_front_of_their_products(attention: str, parts: tuple[str, ...]) -> None:
    """Each by its own pair; k's stands before its Transpose, so that OpenVINO fuses that into the MatMul."""

    def nodes_of(wanted: str) -> dict[str, onnx.NodeProto]:
        return {node.name: node for node in onnx.load_from_string(write_graph(int8_of("plain", wanted))).graph.node}

    nodes, plain = nodes_of(attention), nodes_of("off")
    assert set(nodes) - set(plain) == {
        f"blocks.{i}/attention/{part}/{op}Linear" for i in (0, 1) for part in parts for op in ("Quantize", "Dequantize")
    }
    assert set(plain) <= set(nodes)
    for i in (0, 1):
        name = f"blocks.{i}/attention"
        for part in parts:
            assert nodes[f"{name}/{part}/DequantizeLinear"].input[0] == f"{name}/{part}/QuantizeLinear"
        assert nodes[f"{name}/k/QuantizeLinear"].input[0] == f"{name}/k/Gather"
        assert nodes[f"{name}/k/Transpose"].input[0] == f"{name}/k/DequantizeLinear"
        assert list(nodes[f"{name}/scores/MatMul"].input) == [f"{name}/q/DequantizeLinear", f"{name}/k/Transpose"]
        # Only the class token's queries are read in the last block.
        assert nodes[f"{name}/q/QuantizeLinear"].input[0] == f"{name}/q/{'Slice' if i else 'Gather'}"
        mixed = list(nodes[f"{name}/mix/MatMul"].input)
        if attention == "scores":
            assert mixed == [f"{name}/Softmax", f"{name}/v/Gather"]
            continue
        assert mixed == [f"{name}/probabilities/DequantizeLinear", f"{name}/v/DequantizeLinear"]
        assert nodes[f"{name}/probabilities/QuantizeLinear"].input[0] == f"{name}/Softmax"
        assert nodes[f"{name}/v/QuantizeLinear"].input[0] == f"{name}/v/Gather"


@pytest.mark.parametrize("linears", [("fc1",), ("qkv", "fc2"), ("qkv", "proj"), ()], ids=str)
def test_partly_int8_graph(linears: tuple[str, ...]) -> None:
    """GEMMs that stay in floating point have the migrated weights that the others need."""
    plan = int8(folded(), Recipe(quantize=QuantizeSettings(linears=linears, attention="scores")))
    graph = onnx.load_from_string(write_graph(plan)).graph
    attention = {"qkv", "proj"} <= set(linears)  # INT8 attention stands between two INT8 GEMMs
    assert Counter(node.op_type for node in graph.node)["QuantizeLinear"] == 2 * (len(linears) + 2 * attention)
    images = frames(plan.model.config, 3)
    expected = simulate(plan, torch.from_numpy(images))
    assert largest(as_written(write_graph(plan), images), expected) < 2e-2


# --- the file ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "class and mean pooling", "pruned blocks"])
def test_the_same_plan_gives_the_same_bytes(name: str) -> None:
    assert write_graph(int8(folded(**ZOO[name]))) == write_graph(int8(folded(**ZOO[name])))


@pytest.mark.parametrize("name", ZOO)
def test_the_bytes_are_those_of_one_message(name: str) -> None:
    """Put together by hand, to the byte as protobuf writes it; and a model that ONNX's own checker takes."""
    for plan in (QuantPlan(model=folded(**ZOO[name])), int8_of(name)):
        content = write_graph(plan)
        proto = onnx.load_from_string(content)
        onnx.checker.check_model(proto)
        assert proto.SerializeToString(deterministic=True) == content


def test_inputs_and_outputs() -> None:
    """uint8 frames in, float logits out, any batch, and opset and IR that runtimes of its time read."""
    proto = onnx.load_from_string(write_graph(int8(folded(image_size=(8, 20)))))
    (images,), (logits,) = proto.graph.input, proto.graph.output
    shapes = [[part.dim_param or part.dim_value for part in value.type.tensor_type.shape.dim] for value in (images, logits)]
    assert shapes == [["N", 8, 20, 3], ["N", CLASSES]]
    assert (images.name, images.type.tensor_type.elem_type) == ("frames", onnx.TensorProto.UINT8)
    assert (logits.name, logits.type.tensor_type.elem_type) == ("logits", onnx.TensorProto.FLOAT)
    assert [(part.domain, part.version) for part in proto.opset_import] == [("", 20)]
    assert proto.ir_version == 9
    onnx.checker.check_model(proto, full_check=True)


# --- the form ---------------------------------------------------------------------------------------------------------------


class Graph:
    """A graph to ask about: who makes a value, who reads it, what a constant holds."""

    def __init__(self, model: bytes) -> None:
        graph = onnx.load_from_string(model).graph
        self.nodes = list(graph.node)
        self.made_by = {output: node for node in self.nodes for output in node.output}
        self.read_by: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for value in node.input:
                self.read_by.setdefault(value, []).append(node)
        self.constants = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
        inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(model), strict_mode=True).graph
        self.shapes = {
            value.name: [part.dim_param or part.dim_value for part in value.type.tensor_type.shape.dim]
            for value in (*inferred.value_info, *inferred.output)
        }

    def of(self, op: str) -> Iterator[onnx.NodeProto]:
        return (node for node in self.nodes if node.op_type == op)

    def readers(self, node: onnx.NodeProto) -> list[str]:
        return [reader.op_type for output in node.output for reader in self.read_by.get(output, [])]


@pytest.fixture(scope="module", params=ZOO, ids=str)
def pair(request: pytest.FixtureRequest) -> tuple[FoldedVit, Graph]:
    model = folded(**ZOO[request.param])
    return model, Graph(write_graph(int8_of(request.param, "scores")))


def test_only_gemm_inputs_of_blocks_are_quantized(pair: tuple[FoldedVit, Graph]) -> None:
    """And queries and keys. No residual, LayerNorm, softmax or GELU input, no values, no head, no patch embedding."""
    model, graph = pair
    inputs = {"qkv": ("qkv", "attention/q", "attention/k"), "proj": ("proj",), "fc1": ("fc1",), "fc2": ("fc2",)}
    expected = [f"blocks.{i}/{name}/QuantizeLinear" for i, block in enumerate(model.blocks) for kind in block.linears
                for name in inputs[kind]]  # fmt: skip
    assert [node.name for node in graph.of("QuantizeLinear")] == expected
    for node in graph.of("QuantizeLinear"):
        assert graph.readers(node) == ["DequantizeLinear"]
        (dequantize,) = graph.read_by[node.output[0]]
        # OpenVINO fuses a key's transpose into the product only if it stands between them.
        assert graph.readers(dequantize) == (["Transpose"] if "/attention/k/" in node.name else ["MatMul"])
        assert dequantize.input[1:] == node.input[1:]
    for op in ("Add", "LayerNormalization", "Softmax", "Gelu", "Relu", "Sigmoid", "Concat"):
        for node in graph.of(op):
            assert not any(graph.made_by[value].op_type == "DequantizeLinear" for value in node.input if value in graph.made_by)
    mixes = [f"blocks.{i}/attention/mix/MatMul" for i, block in enumerate(model.blocks) if block.heads]
    for name in ("head/MatMul", "embed/MatMul", *mixes):
        operands = next(node for node in graph.nodes if node.name == name).input
        assert not any(value in graph.made_by and graph.made_by[value].op_type == "DequantizeLinear" for value in operands)


def test_int8_weights_go_straight_into_their_gemm(pair: tuple[FoldedVit, Graph]) -> None:
    """int8 [in, out] within +-127, a step per output channel on axis 1, and no Transpose that engines would run per frame."""
    model, graph = pair
    weights = [node for node in graph.of("DequantizeLinear") if node.input[0] in graph.constants]
    assert len(weights) == sum(len(block.linears) for block in model.blocks)
    for node in weights:
        values, scale, zeros = (graph.constants[name] for name in node.input)
        assert graph.readers(node) == ["MatMul"]
        (product,) = graph.read_by[node.output[0]]
        assert product.input[1] == node.output[0]
        assert values.dtype == np.int8
        assert np.abs(values.astype(int)).max() <= 127
        assert [(item.name, item.i) for item in node.attribute] == [("axis", 1)]
        assert scale.dtype == np.float32
        assert scale.shape == zeros.shape == values.shape[1:]
    for i, block in enumerate(model.blocks):
        for kind, linear in block.linears.items():
            assert graph.constants[f"blocks.{i}/{kind}/weight"].shape == tuple(linear.weight.T.shape)


def test_zero_points_are_zero_and_biases_are_float(pair: tuple[FoldedVit, Graph]) -> None:
    """Symmetric throughout: all that TensorRT takes, and it refuses a quantized bias."""
    _, graph = pair
    for node in (*graph.of("QuantizeLinear"), *graph.of("DequantizeLinear")):
        assert len(node.input) == 3
        assert graph.constants[node.input[2]].dtype == np.int8
        assert not graph.constants[node.input[2]].any()
        assert (graph.constants[node.input[1]] > 0).all()
    assert not [name for name, value in graph.constants.items() if value.dtype == np.int32]
    for name, value in graph.constants.items():
        assert not name.endswith("/bias") or value.dtype == np.float32


def test_activation_steps_are_scalars(pair: tuple[FoldedVit, Graph]) -> None:
    _, graph = pair
    for node in graph.of("QuantizeLinear"):
        assert graph.constants[node.input[1]].shape == ()
        assert graph.constants[node.input[1]].dtype == np.float32


def test_layer_norm_and_gelu_are_native(pair: tuple[FoldedVit, Graph]) -> None:
    """Decomposed LayerNorms overflow FP16; decomposed GELUs are many kernels. Nothing computes shapes at run time."""
    model, graph = pair
    ops = Counter(node.op_type for node in graph.nodes)
    config = model.config
    of_a_block = ("norm1", "norm2", "query_norm", "key_norm", "attention_norm", "mlp_norm")
    inside = sum(getattr(block, name) is not None for block in model.blocks for name in of_a_block)
    merges = sum(block.merged > 0 for block in config.blocks)  # what tokens are compared behind
    norms = inside + config.embedding_norm + config.patch_norm + (config.final_norm != "none") + (config.pool_heads > 0)
    assert ops["LayerNormalization"] == merges + (0 if config.rms_norm else norms)
    assert ops["Sqrt"] == (norms if config.rms_norm else 0)
    mlps = sum(block.hidden > 0 for block in config.blocks) + (config.pool_heads > 0)
    assert ops["Gelu"] == (mlps if "gelu" in config.activation and config.activation != "quick_gelu" else 0)
    assert ops["Softmax"] == sum(block.heads > 0 for block in model.blocks) + (config.pool_heads > 0)
    known = {
        "Add", "Cast", "Concat", "DequantizeLinear", "Gather", "Gelu", "LayerNormalization", "MatMul", "Mul", "Pad",
        "QuantizeLinear", "ReduceMean", "Relu", "Reshape", "Sigmoid", "Slice", "Softmax", "Split", "Transpose",
    }  # fmt: skip
    if any(block.merged for block in config.blocks):
        known |= {"And", "Div", "Equal", "Greater", "Less", "Log", "Max", "Or", "ReduceL2", "ReduceMax", "ReduceMin", "ReduceSum",
                  "Sub", "Where"}  # fmt: skip
    if config.rms_norm:
        known |= {"Div", "Sqrt"}
    if config.unit_features:
        known |= {"ReduceL2", "Div"}
    assert ops.keys() <= known
    assert len({node.name for node in graph.nodes}) == len(graph.nodes)


def test_the_last_block_carries_what_the_head_reads(pair: tuple[FoldedVit, Graph]) -> None:
    """The class token alone, with its distillation token if that is read; all tokens where patches are averaged."""
    model, graph = pair
    config, last = model.config, len(model.blocks) - 1
    keep = config.output_tokens
    for kind in ("proj", "fc1", "fc2"):
        if kind in model.blocks[last].linears:
            assert graph.shapes[f"blocks.{last}/{kind}/MatMul"][1] == keep
        if last and kind in model.blocks[0].linears:
            rows = config.tokens if kind == "proj" else config.tokens - config.blocks[0].merged
            assert graph.shapes[f"blocks.0/{kind}/MatMul"][1] == rows
    if not model.blocks[last].heads:
        return
    assert graph.shapes[f"blocks.{last}/attention/Softmax"][2:] == [keep, config.tokens_into(last)]
    assert graph.shapes[f"blocks.{last}/qkv/MatMul"][1] == config.tokens_into(last)
