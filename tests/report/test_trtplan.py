"""Reading plans, from recorded layer lists: no builder is needed."""

from __future__ import annotations

import json

import pytest

from edgevit.report.trtplan import CompiledPlan, Kernel, Tensor, parse_inspector, parse_layers
from tests.report.plans import recorded

TOKENS, WIDTH = 197, 384
QKV = "[ONNX Layer: blocks.0/qkv/MatMul][ONNX Layer: blocks.0/qkv/Add]"


def plan(name: str) -> CompiledPlan:
    return CompiledPlan(kernels=parse_layers(recorded(name)), engine_bytes=1, builder="tensorrt_rtx 1.7.1", seconds=1.0)


def only(line: str) -> Kernel:
    (kernel,) = parse_layers([line])
    return kernel


@pytest.mark.parametrize(
    ("name", "kernels", "megabytes", "int8_share"),
    [("fp16", 20, 16.0, 0.0), ("int8", 22, 13.5, 0.79), ("int8_attention", 22, 12.6, 0.90), ("dequantized", 25, 14.4, 0.67)],
)
def test_totals(name: str, kernels: int, megabytes: float, int8_share: float) -> None:
    found = plan(name)
    assert len(found.kernels) == kernels
    assert found.megabytes == pytest.approx(megabytes, abs=0.05)
    assert found.int8_share == pytest.approx(int8_share, abs=0.005)
    assert found.fused_attention == 2


@pytest.mark.parametrize("name", ["fp16", "int8", "int8_attention"])
def test_macs_are_those_of_the_model(name: str) -> None:
    """Counted by hand: stacked q, k and v are counted once, and the last block's rows are one."""
    patches = 196 * 768 * WIDTH
    full = TOKENS * 12 * WIDTH**2 + 2 * TOKENS**2 * WIDTH
    last = TOKENS * 3 * WIDTH**2 + 9 * WIDTH**2 + 2 * TOKENS**2 * WIDTH
    macs = sum(kernel.macs for kernel in plan(name).kernels)
    assert macs == pytest.approx(patches + full + last + 1000 * WIDTH, rel=0.002)


def test_blocks() -> None:
    found = plan("int8").by_block()
    assert {block: len(kernels) for block, kernels in found.items()} == {"embed": 2, "blocks.0": 10, "blocks.1": 9, "head": 1}
    assert [kernel.kind for kernel in found["blocks.0"]].count("gemm") == 4


def test_good_plans_have_no_warnings() -> None:
    assert plan("fp16").warnings(2) == plan("int8").warnings(2) == plan("int8_attention").warnings(2) == ()


def test_dequantized_weights_are_named_and_not_counted_as_int8() -> None:
    """That qkv product multiplies int8 activations by weights made half: it is not INT8, whatever its first input is."""
    found = plan("dequantized")
    assert len(found.warnings(2)) == 1
    assert found.warnings(2)[0].startswith("weights are dequantized on every frame in blocks.0:")
    qkv = next(kernel for kernel in found.kernels if kernel.kind == "gemm" and kernel.block == "blocks.0")
    assert {x.dtype for x in qkv.inputs} == {"int8", "half"}
    assert qkv.dtype == "half"


def test_unfused_attention_is_named() -> None:
    first = plan("fp16")
    rest = tuple(kernel for kernel in first.kernels if kernel.kind != "attention" or kernel.block != "blocks.1")
    broken = CompiledPlan(kernels=rest, engine_bytes=1, builder="", seconds=0)
    assert broken.warnings(2) == ("attention is fused in 1 of 2 blocks, not in blocks.1",)


def test_kernels_that_only_quantize_are_named() -> None:
    kernel = only(
        "Name: __myl_Mul_myl0_3, LayerType: kgen, Inputs: [ { Name: x, Dimensions: [1,197,384], Datatype: Half }], Outputs: "
        "[ { Name: y, Dimensions: [1,197,384], Datatype: Int8 }], TacticName: t, Metadata: [ONNX Layer: blocks.3/fc1/"
        "QuantizeLinear]"
    )
    assert kernel.kind == "qdq"
    found = CompiledPlan(kernels=(kernel,), engine_bytes=1, builder="", seconds=0)
    assert found.warnings(0) == ("1 kernels do nothing but quantize, in blocks.3",)


def test_a_free_batch_is_refused() -> None:
    """Its sizes are -1: sums of them would be nonsense."""
    with pytest.raises(ValueError, match=r"free batch.*compile for one batch"):
        parse_layers(recorded("free"))


def test_rows_that_launch_nothing_are_left_out() -> None:
    kinds = ("signal", "wait", "shape_call", "no_op", "NoOp")
    assert parse_layers(f"Name: n, LayerType: {kind}, Inputs: [], Outputs: []" for kind in kinds) == ()
    assert parse_layers(["[MemUsageChange] Init CUDA", ""]) == ()


def test_attention_of_more_depth_than_tokens() -> None:
    """5 tokens, 2 heads of 64: products of 2 x 5 x 5 x 64."""
    kernel = only(
        "Name: _gemm_mha_v2_myl0_5, LayerType: kgen, Inputs: [ { Name: q, Dimensions: [2,5,64], Datatype: Half }, { Name: k, "
        "Dimensions: [2,64,5], Datatype: Half }, { Name: v, Dimensions: [2,5,64], Datatype: Half }], Outputs: [ { Name: y, "
        "Dimensions: [2,5,64], Datatype: Half }], TacticName: t, StreamId: 0, Metadata: "
    )
    assert kernel.macs == 2 * 2 * 5 * 5 * 64


def test_weights_among_the_inputs() -> None:
    """As TensorRT 9 lists them (and its spelling of the type)."""
    kernel = only(
        "Name: head/MatMul_myl9_4, LayerType: gemm, Inputs: [ { Name: x, Dimensions: [1,384], Format/Datatype: Half }, { Name: "
        "__mye595_dconst, Dimensions: [384,1000], Format/Datatype: Half }, { Name: __mye574head/MatMul_alpha, Dimensions: [1], "
        "Format/Datatype: Float }], Outputs: [ { Name: y, Dimensions: [1,1000], Format/Datatype: Half }], TacticName: t"
    )
    assert kernel.weights == Tensor(shape=(384, 1000), dtype="half")
    assert kernel.macs == 384_000
    assert kernel.dtype == "half"


@pytest.mark.parametrize("shape", ["[3,197,384]", "[1,197,1152]"])
def test_weights_that_are_not_listed(shape: str) -> None:
    """As TensorRT 10 leaves them out; they are most of what a ViT moves at batch 1."""
    kernel = only(
        "Name: blocks.0/qkv/MatMul_myl0_16, LayerType: gemm, Inputs: [ { Name: x, Dimensions: [1,197,384], Format/Datatype: Int8 "
        f"}}], Outputs: [ {{ Name: y, Dimensions: {shape}, Format/Datatype: Half }}], TacticName: t, StreamId: 0, Metadata: {QKV}"
    )
    assert kernel.macs == TOKENS * 3 * WIDTH**2
    assert kernel.bytes == TOKENS * WIDTH + 3 * WIDTH**2 + 2 * 3 * TOKENS * WIDTH
    assert (kernel.dtype, kernel.block) == ("int8", "blocks.0")


def test_residual_beside_weights_that_are_not_listed() -> None:
    kernel = only(
        "Name: __myl_FcAddAdd_myl0_9, LayerType: kgen, Inputs: [ { Name: r, Dimensions: [1,197,384], Format/Datatype: Half }, "
        "{ Name: x, Dimensions: [1,197,1536], Format/Datatype: Half }], Outputs: [ { Name: y, Dimensions: [1,197,384], "
        "Format/Datatype: Half }]"
    )
    assert kernel.macs == TOKENS * 4 * WIDTH**2


def test_product_of_activations_has_no_weights() -> None:
    kernel = only(
        "Name: scores, LayerType: gemm, Inputs: [ { Name: q, Dimensions: [6,197,64], Datatype: Half }, { Name: k, Dimensions: "
        "[6,64,197], Datatype: Half }], Outputs: [ { Name: y, Dimensions: [6,197,197], Datatype: Half }], TacticName: t"
    )
    assert kernel.weights is None
    assert kernel.macs == 6 * TOKENS**2 * 64


@pytest.mark.parametrize("binding", ["Bindings", "I/O Tensors"])
@pytest.mark.parametrize(
    ("key", "half", "int8"),
    [("Format/Datatype", "Row major linear FP16 format", "Thirty-two wide channel vectorized row major Int8 format"),
     ("Format/Datatype", "Half", "Int8"), ("Datatype", "Half", "Int8")],
)  # fmt: skip
def test_inspector(binding: str, key: str, half: str, int8: str) -> None:
    """Both spellings of types; what stands beside the layers is not read."""
    gemm = {
        "Name": "blocks.0/qkv/MatMul_myl0_3", "LayerType": "gemm",
        "Inputs": [{"Name": "x", "Dimensions": [1, 197, 384], key: int8}],
        "Outputs": [{"Name": "y", "Dimensions": [1, 197, 1152], key: half}], "TacticName": "t", "StreamId": 0, "Metadata": QKV,
    }  # fmt: skip
    signal = {"Name": "s", "LayerType": "signal", "Inputs": [], "Outputs": []}
    (kernel,) = parse_inspector(json.dumps({"Layers": [gemm, signal], binding: ["frames", "logits"]}))
    assert (kernel.kind, kernel.dtype, kernel.block) == ("gemm", "int8", "blocks.0")
    assert kernel.macs == TOKENS * 3 * WIDTH**2
    assert kernel.outputs[0].dtype == "half"


def test_inspector_agrees_with_the_log() -> None:
    """The same kernel in both notations, with its constants."""
    line = next(line for line in recorded("int8") if line.startswith("Name: blocks.0/qkv/MatMul"))
    tensors = {
        "Inputs": [{"Name": "x", "Dimensions": [1, 197, 384], "Datatype": "Int8"}],
        "Constants": [{"Name": "w", "Dimensions": [1, 384, 1152], "Datatype": "Int8"},
                      {"Name": "a", "Dimensions": [1], "Datatype": "Float"},
                      {"Name": "b", "Dimensions": [1], "Datatype": "Float"}],
        "Outputs": [{"Name": "y", "Dimensions": [1, 197, 1152], "Datatype": "Half"}],
    }  # fmt: skip
    layer = tensors | {"Name": only(line).name, "LayerType": "gemm", "Metadata": line.partition("Metadata: ")[2]}
    assert parse_inspector(json.dumps({"Layers": [layer]})) == (only(line),)


def test_inspector_without_detail_is_refused() -> None:
    with pytest.raises(ValueError, match="without detailed profiling verbosity"):
        parse_inspector(json.dumps({"Layers": ["blocks.0/qkv/MatMul_myl0_3"], "Bindings": []}))
