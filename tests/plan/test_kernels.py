"""Reading plans, from recorded layer lists: no builder is needed."""

from __future__ import annotations

import json

import pytest

from edgevit.plan.kernels import CompiledPlan, Kernel, Tensor, parse_inspector, parse_layers
from tests.plan.plans import recorded, without_constants

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
    assert sum(kernel.macs for kernel in plan(name).kernels) == patches + full + last + 1000 * WIDTH


@pytest.mark.parametrize("name", ["tiny_fp16", "tiny_int8"])
def test_macs_of_a_tiny_model(name: str) -> None:
    """Fewer channels per head than tokens, and the reverse in the last block, whose one row is multiplied without a gemm.

    The builder pads 17 keys to 18 in the two products of attention, and the padding is multiplied, too.
    """
    linears = 16 * 48 * 32 + 17 * (4 * 32**2 + 2 * 32 * 48) + (17 * 3 * 32**2 + 32**2 + 2 * 32 * 48) + 32 * 5
    found = plan(name)
    assert sum(kernel.macs for kernel in found.kernels) == linears + 2 * 2 * (17 * 18 * 32)
    assert found.fused_attention == 0
    assert found.warnings(2)[0] == "attention is fused in 0 of 2 blocks, not in blocks.0, blocks.1"


def test_quantizing_that_is_left_over() -> None:
    """Where attention is not fused, a kernel transposes and quantizes its result, and does nothing else."""
    found = plan("tiny_int8")
    (kernel,) = (kernel for kernel in found.kernels if kernel.kind == "qdq")
    assert kernel.nodes == ("blocks.0/proj/QuantizeLinear", "blocks.0/attention/merge/Transpose")
    assert found.warnings(2)[1:] == ("1 kernels do nothing but quantize, in blocks.0",)


@pytest.mark.parametrize("name", ["int8", "int8_attention", "dequantized", "vit_b_fp32", "vit_b_fp16", "vit_b_int8"])
def test_a_builder_that_lists_no_weights_says_the_same(name: str) -> None:
    """Kinds, products and warnings; of the bytes, biases and what norms are scaled with are lost."""
    listed, unlisted = parse_layers(recorded(name)), parse_layers(without_constants(recorded(name)))
    assert not any(kernel.constants for kernel in unlisted if kernel.kind not in ("gemm", "other"))
    for ours, theirs in zip(listed, unlisted, strict=True):
        assert (theirs.kind, theirs.macs, theirs.dtype) == (ours.kind, ours.macs, ours.dtype), ours.name
        assert theirs.dequantizes_weights == ours.dequantizes_weights, ours.name
    assert sum(k.bytes for k in unlisted) == pytest.approx(sum(k.bytes for k in listed), rel=0.02)


def test_one_row_is_a_product_without_tensor_cores() -> None:
    """[1, 384] times [384, 384] behind a slice of the attention's output: no gemm in its name or type."""
    kernel = next(kernel for kernel in plan("fp16").kernels if "SlicTranReshMulSum" in kernel.name)
    assert (kernel.kind, kernel.block, kernel.macs) == ("gemm", "blocks.1", WIDTH**2)
    assert kernel.weights == Tensor(shape=(1, WIDTH, WIDTH), dtype="half")


def test_rows_that_are_sliced_off_are_not_multiplied() -> None:
    """One of 197 rows goes on; the input has them all."""
    kernel = only(
        "Name: __myl_SlicAddReshMulSum_myl0_9, LayerType: kgen, Inputs: [ { Name: x, Dimensions: [1,197,384], Datatype: Half }], "
        "Constants: [ { Name: w, Dimensions: [1,384,1536], Datatype: Half }], Outputs: [ { Name: y, Dimensions: [1,1,1536], "
        "Datatype: Half }], TacticName: t"
    )
    assert kernel.macs == WIDTH * 4 * WIDTH


def test_merged_products_with_several_outputs() -> None:
    """Each output is a part of the product, whether its weights are listed or not."""
    outputs = ", ".join(f"{{ Name: {name}, Dimensions: [1,197,384], Datatype: Half }}" for name in "qkv")
    line = (
        "Name: a/MatMul+b/MatMul+c/MatMul_myl0_3, LayerType: gemm, Inputs: [ { Name: x, Dimensions: [1,197,384], Datatype: Half "
        "}], Constants: [ { Name: w, Dimensions: [3,384,384], Datatype: Half }], " + f"Outputs: [ {outputs}], TacticName: t"
    )
    (unlisted,) = parse_layers(without_constants((line,)))
    assert only(line).macs == unlisted.macs == TOKENS * 3 * WIDTH**2
    assert only(line).bytes == unlisted.bytes == 2 * (4 * TOKENS * WIDTH + 3 * WIDTH**2)


def test_a_second_output_of_one_product_is_no_second_product() -> None:
    """The sum, and the same quantized for the next product."""
    line = (
        "Name: __myl_FcAddAddMul_myl0_9, LayerType: fusion, Inputs: [ { Name: r, Dimensions: [1,197,384], Datatype: Half }, { "
        "Name: x, Dimensions: [1,197,384], Datatype: Half }], Constants: [ { Name: w, Dimensions: [384,384], Datatype: Half }], "
        "Outputs: [ { Name: y, Dimensions: [1,197,384], Datatype: Half }, { Name: z, Dimensions: [1,197,384], Datatype: Int8 }], "
        "TacticName: t"
    )
    (unlisted,) = parse_layers(without_constants((line,)))
    assert only(line).macs == unlisted.macs == TOKENS * WIDTH**2


def test_residual_beside_a_product_of_activations() -> None:
    """Its depth is that of the factors, not of what is added."""
    kernel = only(
        "Name: __myl_FcAdd_myl0_4, LayerType: runtime_fusion, Inputs: [ { Name: r, Dimensions: [1,197,384], Datatype: Half }, "
        "{ Name: x, Dimensions: [1,197,1536], Datatype: Int8 }, { Name: w, Dimensions: [1,1536,384], Datatype: Half }], Outputs: "
        "[ { Name: y, Dimensions: [1,197,384], Datatype: Half }], TacticName: t"
    )
    assert kernel.weights is None
    assert (kernel.macs, kernel.dtype) == (TOKENS * 4 * WIDTH**2, "half")


def test_kernels_without_metadata() -> None:
    """They are counted, and belong to no block."""
    line = next(line for line in recorded("int8") if line.startswith("Name: blocks.0/qkv/MatMul"))
    kernel = only(line.partition(", Metadata:")[0])
    assert (kernel.kind, kernel.block, kernel.nodes) == ("gemm", "", ())
    assert kernel.macs == only(line).macs == TOKENS * 3 * WIDTH**2
    found = CompiledPlan(kernels=(kernel,), engine_bytes=1, builder="", seconds=0)
    assert list(found.by_block()) == ["rest"]


@pytest.mark.parametrize("separator", ["", "\x1e", "\x1f"])
def test_nodes_in_metadata(separator: str) -> None:
    """TensorRT 10 puts a control character between them, TensorRT-RTX nothing."""
    metadata = separator.join(["[ONNX Layer: blocks.7/proj/MatMul]", "[ONNX Layer: blocks.7/proj/Add]"])
    kernel = only(
        "Name: __myl_Fc_myl0_69, LayerType: fusion, Inputs: [ { Name: x, Dimensions: [1,197,384], Format/Datatype: Half }], "
        f"Outputs: [ {{ Name: y, Dimensions: [1,197,384], Format/Datatype: Half }}], TacticName: t, Metadata: {metadata}"
    )
    assert kernel.nodes == ("blocks.7/proj/MatMul", "blocks.7/proj/Add")
    assert kernel.block == "blocks.7"


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
    kinds = ("signal", "wait", "shape_call", "no_op", "NoOp", "TrainStation", "Constant")
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


def test_attention_of_one_query() -> None:
    """The last block's: one row of probabilities for each of 6 heads."""
    kernel = only(
        "Name: _gemv_mha_v1_myl0_17, LayerType: kgen, Inputs: [ { Name: q, Dimensions: [6,1,64], Datatype: Half }, { Name: k, "
        "Dimensions: [6,64,197], Datatype: Half }, { Name: v, Dimensions: [6,197,64], Datatype: Half }], Outputs: [ { Name: y, "
        "Dimensions: [6,1,64], Datatype: Half }], TacticName: t"
    )
    assert kernel.macs == 2 * 6 * TOKENS * 64


@pytest.mark.parametrize("name", ["_gemm_mha_v2_myl0_5", "__myl_FcAdd_myl0_9"])
def test_products_of_which_no_tensor_is_told(name: str) -> None:
    (kernel,) = parse_inspector(json.dumps({"Layers": [{"Name": name, "LayerType": "kgen"}]}))
    assert (kernel.macs, kernel.bytes) == (0, 0)


def test_int8_weights_beside_half_inputs_are_multiplied_as_half() -> None:
    """The kernel converts them as it reads them: fewer bytes, but no INT8 product, and nothing to warn of."""
    kernel = only(
        "Name: __myl_CastMulFc_myl0_4, LayerType: fusion, Inputs: [ { Name: x, Dimensions: [1,197,384], Datatype: Half }], "
        "Constants: [ { Name: w, Dimensions: [1,384,1152], Datatype: Int8 }], Outputs: [ { Name: y, Dimensions: [1,197,1152], "
        "Datatype: Half }], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: blocks.0/qkv/MatMul]"
    )
    assert (kernel.dtype, kernel.weights) == ("half", Tensor(shape=(1, 384, 1152), dtype="int8"))
    assert not kernel.dequantizes_weights


@pytest.mark.parametrize(("side", "expected"), [(127, False), (128, True)])
def test_small_constants_are_no_weights(side: int, expected: bool) -> None:
    """Scales and biases are converted, too: what is below 16,384 numbers costs nothing."""
    kernel = only(
        f"Name: __myl_CastMul_myl0_3, LayerType: kgen, Inputs: [], Constants: [ {{ Name: w, Dimensions: [128,{side}], Datatype: "
        f"Int8 }}], Outputs: [ {{ Name: y, Dimensions: [128,{side}], Datatype: Half }}], TacticName: t"
    )
    assert kernel.dequantizes_weights == expected


def test_weights_among_the_inputs() -> None:
    """As TensorRT 9 lists them (and its spelling of the type)."""
    kernel = only(
        "Name: head/MatMul_myl9_4, LayerType: gemm, Inputs: [ { Name: x, Dimensions: [1,384], Format/Datatype: Half }, { Name: "
        "__mye595_dconst, Dimensions: [384,1000], Format/Datatype: Half }, { Name: __mye574head/MatMul_alpha, Dimensions: [1], "
        "Format/Datatype: Float }], Outputs: [ { Name: y, Dimensions: [1,1000], Format/Datatype: Half }], TacticName: t"
    )
    assert kernel.weights == Tensor(shape=(384, 1000), dtype="half")
    assert kernel.inputs == (Tensor(shape=(1, 384), dtype="half"),)
    assert kernel.macs == 384_000
    assert kernel.dtype == "half"


def test_weights_that_are_told_by_their_count() -> None:
    """A matrix product that TensorRT runs as a convolution, outside of Myelin: its residual is the second input."""
    image = "Format/Datatype: Channel major FP32 format where channel % 4 == 0"
    kernel = only(
        "Name: blocks.0/proj/MatMul + blocks.0/residual1/Add, LayerType: CaskGemmConvolution, Inputs: [ { Name: x, Location: "
        f"Device, Dimensions: [197,384,1,1], {image} }}, {{ Name: r, Location: Device, Dimensions: [197,192,1,1], {image} }}], "
        f"Outputs: [ {{ Name: y, Location: Device, Dimensions: [197,192,1,1], {image} }}], ParameterType: Convolution, Kernel: "
        '[1,1], Stride: [1,1], OutMaps: 192, Groups: 1, Weights: {"Type": "Float", "Count": 73728}, Bias: {"Type": "Float", '
        '"Count": 192}, HasBias: 1, HasResidual: 1, TacticName: t, StreamId: 0, Metadata: [ONNX Layer: blocks.0/proj/MatMul]\x1e'
        "[ONNX Layer: blocks.0/residual1/Add]"
    )
    assert [x.dtype for x in (*kernel.inputs, *kernel.outputs)] == ["float"] * 3
    assert kernel.weights == Tensor(shape=(384, 192), dtype="float")
    assert (kernel.kind, kernel.block, kernel.macs) == ("gemm", "blocks.0", TOKENS * 384 * 192)


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


@pytest.mark.parametrize("tokens", [TOKENS, WIDTH])
def test_residual_beside_weights_that_are_not_listed(tokens: int) -> None:
    """Also where tokens are as many as channels, and residual times input were possible."""
    kernel = only(
        f"Name: __myl_FcAddAdd_myl0_9, LayerType: kgen, Inputs: [ {{ Name: r, Dimensions: [1,{tokens},384], Format/Datatype: "
        f"Half }}, {{ Name: x, Dimensions: [1,{tokens},1536], Format/Datatype: Half }}], Outputs: [ {{ Name: y, Dimensions: "
        f"[1,{tokens},384], Format/Datatype: Half }}]"
    )
    assert kernel.macs == tokens * 4 * WIDTH**2
    assert kernel.weights == Tensor(shape=(4 * WIDTH, WIDTH), dtype="half")


def test_product_of_activations_has_no_weights() -> None:
    kernel = only(
        "Name: scores, LayerType: gemm, Inputs: [ { Name: q, Dimensions: [6,197,64], Datatype: Half }, { Name: k, Dimensions: "
        "[6,64,197], Datatype: Half }], Outputs: [ { Name: y, Dimensions: [6,197,197], Datatype: Half }], TacticName: t"
    )
    assert kernel.weights is None
    assert kernel.macs == 6 * TOKENS**2 * 64


INT8_FORMAT = "Thirty-two wide channel vectorized row major Int8 format"


@pytest.mark.parametrize("binding", ["Bindings", "I/O Tensors"])
@pytest.mark.parametrize(
    ("half", "int8"),
    [({"Format/Datatype": "Row major linear FP16 format"}, {"Format/Datatype": INT8_FORMAT}),
     ({"Format/Datatype": "Channel major FP16 format where C % 8 == 0"}, {"Format/Datatype": "Row major Int8 format"}),
     ({"Format/Datatype": "Half"}, {"Format/Datatype": "Int8"}),
     ({"Datatype": "Half", "Format": "(Linear) Row major linear format"}, {"Datatype": "Int8", "Format": "(Linear) Row major"})],
    ids=["formats", "channel major", "one word", "apart"],
)  # fmt: skip
def test_inspector(binding: str, half: dict[str, str], int8: dict[str, str]) -> None:
    """As TensorRT 10 and 11 spell types; what stands beside the layers is not read."""
    gemm = {
        "Name": "blocks.0/qkv/MatMul_myl0_3", "LayerType": "gemm",
        "Inputs": [{"Name": "x", "Location": "Device", "Dimensions": [1, 197, 384], **int8}],
        "Outputs": [{"Name": "y", "Location": "Device", "Dimensions": [1, 197, 1152], **half}],
        "TacticName": "sm80_xmma_gemm_i8f16_i8i32_f32_tn_n", "StreamId": 0, "Metadata": QKV,
    }  # fmt: skip
    signal = {"Name": "__mye6918", "LayerType": "signal", "Inputs": [], "Outputs": [], "TacticName": "", "StreamId": 1}
    station = {"Name": "[trainStation1]", "LayerType": "TrainStation", "Inputs": [], "Outputs": [], "TacticValue": "0x0"}
    text = json.dumps({"Layers": [station, gemm, signal], binding: ["frames", "logits"]})
    (kernel,) = parse_inspector(text)
    assert (kernel.kind, kernel.dtype, kernel.block) == ("gemm", "int8", "blocks.0")
    assert kernel.macs == TOKENS * 3 * WIDTH**2
    assert [x.dtype for x in (*kernel.inputs, *kernel.outputs)] == ["int8", "half"]


def cask(**changes: object) -> dict[str, object]:
    """A layer outside of Myelin, with the keys that TensorRT 10 gives it."""
    image = "Channel major FP16 format where C % 8 == 0"
    return {
        "Name": "embed/MatMul", "LayerType": "CaskConvolution",
        "Inputs": [{"Name": "x", "Location": "Device", "Dimensions": [1, 3, 224, 224], "Format/Datatype": image}],
        "Outputs": [{"Name": "y", "Location": "Device", "Dimensions": [1, 384, 14, 14], "Format/Datatype": image}],
        "ParameterType": "Convolution", "Kernel": [16, 16], "PaddingMode": "kEXPLICIT_ROUND_DOWN", "PrePadding": [0, 0],
        "PostPadding": [0, 0], "Stride": [16, 16], "Dilation": [1, 1], "OutMaps": 384, "Groups": 1,
        "Weights": {"Type": "Half", "Count": 294912}, "Bias": {"Type": "Half", "Count": 384}, "HasBias": 1, "HasReLU": 0,
        "HasSparseWeights": 0, "HasResidual": 0, "Activation": "NONE", "TacticName": "t", "TacticValue": "0x1", "StreamId": 0,
        "Metadata": "[ONNX Layer: embed/MatMul]\u001e[ONNX Layer: embed/Add]",
    } | changes  # fmt: skip


def test_inspector_tells_weights_by_their_count() -> None:
    """An image's 196 patches of 768 numbers, as a convolution."""
    (kernel,) = parse_inspector(json.dumps({"Layers": [cask()], "Bindings": ["x", "y"]}))
    assert (kernel.kind, kernel.dtype, kernel.nodes) == ("gemm", "half", ("embed/MatMul", "embed/Add"))
    assert kernel.weights == Tensor(shape=(768, 384), dtype="half")
    assert kernel.macs == 196 * 768 * 384
    assert kernel.bytes == 2 * (3 * 224**2 + 384 * 196 + 768 * 384)


def test_inspector_tells_weights_of_a_fully_connected_layer() -> None:
    """Without output maps, the output's last side is their width."""
    layer = cask(LayerType="fully_connected", ParameterType="FullyConnected", Weights={"Type": "Int8", "Count": 384_000},
                 Inputs=[{"Name": "x", "Dimensions": [1, 384], "Format/Datatype": "Int8"}],
                 Outputs=[{"Name": "y", "Dimensions": [1, 1000], "Format/Datatype": "Row major linear FP32"}])  # fmt: skip
    del layer["OutMaps"]
    (kernel,) = parse_inspector(json.dumps({"Layers": [layer]}))
    assert kernel.weights == Tensor(shape=(384, 1000), dtype="int8")
    assert (kernel.macs, kernel.dtype, kernel.outputs[0].dtype) == (384_000, "int8", "float")


def test_inspector_marks_left_over_quantization_by_its_origin() -> None:
    """Outside of Myelin it is a reformat, which another reformat is not."""
    tensors = {"Inputs": [{"Name": "x", "Dimensions": [1, 197, 384], "Format/Datatype": "Half"}],
               "Outputs": [{"Name": "y", "Dimensions": [1, 197, 384], "Format/Datatype": "Int8"}]}  # fmt: skip
    layers = [
        tensors | {"Name": "n", "LayerType": "Reformat", "ParameterType": "Reformat", "Origin": origin, "Metadata": ""}
        for origin in ("QDQ", "REFORMAT")
    ]
    assert [kernel.kind for kernel in parse_inspector(json.dumps({"Layers": layers}))] == ["qdq", "other"]
    line = "Name: n, LayerType: Reformat, Inputs: [], Outputs: [], ParameterType: Reformat, Origin: QDQ, TacticValue: 0x0"
    assert only(line).kind == "qdq"


def test_a_whole_network_in_one_layer_is_refused() -> None:
    """One row of many kernels would pass for a plan of one kernel, whose attention is not fused."""
    layer = {"Name": "{ForeignNode[embed/Cast...head/Add]}", "LayerType": "Myelin", "Inputs": [], "Outputs": []}
    with pytest.raises(ValueError, match=r"ForeignNode.* as one layer"):
        parse_inspector(json.dumps({"Layers": [layer], "Bindings": []}))
    with pytest.raises(ValueError, match=r"ForeignNode.* as one layer"):
        only("Name: {ForeignNode[embed/Cast...head/Add]}, LayerType: Myelin, Inputs: [], Outputs: [], TacticName: ")


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


@pytest.mark.parametrize("document", [{"Layers": ["blocks.0/qkv/MatMul_myl0_3"], "Bindings": []}, {}, ["Layers"]])
def test_inspector_without_detail_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="without detailed profiling verbosity"):
        parse_inspector(json.dumps(document))


def test_a_block_without_attention_is_not_missed() -> None:
    """Pruning may leave a map or a bias of it."""
    found = plan("int8_attention")
    assert found.warnings(3) == ("attention is fused in 2 of 3 blocks, not in blocks.2",)
    assert found.warnings(3, bare=[2]) == ()
