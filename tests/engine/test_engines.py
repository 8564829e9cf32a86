"""Every engine keeps the same promises: compile, load, infer; INT8 on integers; one clear line for what is wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgevit.device.processor import processor
from edgevit.engine import CPU_ENGINES, Session, backend, open_session
from edgevit.engine.base import available_threads, saturates
from edgevit.engine.onnxruntime import onnxruntime_session, session_options
from edgevit.engine.openvino import OpenVino
from edgevit.errors import ConfigError, EngineError
from edgevit.export.graph import write_graph
from edgevit.model.quantplan import QuantPlan
from edgevit.recipe import QuantizeSettings, Recipe
from edgevit.unreported import import_openvino
from tests.zoo import CLASSES, Frames, folded, frames, int8

ENGINES = sorted(CPU_ENGINES)
openvino = import_openvino()


@pytest.fixture(scope="module")
def fp32() -> bytes:
    return write_graph(QuantPlan(model=folded()))


@pytest.fixture(scope="module")
def quantized() -> bytes:
    return write_graph(int8(folded()))


@pytest.fixture(scope="module")
def images() -> Frames:
    return frames(folded().config, 3)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def session(engine: str, quantized: bytes) -> Iterator[Session]:
    with open_session(engine, quantized, threads=1) as opened:
        yield opened


def refusal(act: Callable[[], object]) -> str:
    """The message of the EngineError: one line, short enough to read."""
    with pytest.raises(EngineError) as caught:
        act()
    message = str(caught.value)
    assert "\n" not in message
    assert ".." not in message
    assert len(message) < 400
    return message


# --- what works --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("large", [False, True], ids=["from bytes", "from files"])
def test_what_is_opened_infers(
    engine: str, quantized: bytes, images: Frames, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:  # fmt: skip
    """A large model goes through files of its own, which are gone when it runs; the logits are the same."""
    with open_session(engine, quantized, threads=1) as plain:
        wanted = plain.infer(images)
    if large:
        monkeypatch.setattr("edgevit.engine.on_disk.LARGE", 0)
    with open_session(engine, quantized, threads=1) as session:
        logits = session.infer(images)
    assert (logits.shape, logits.dtype) == ((3, CLASSES), np.float32)
    assert np.array_equal(logits, wanted)


def test_full_disk_keeps_no_model_from_running(
    engine: str, fp32: bytes, images: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Only the full disk is made up: then the engine takes the bytes."""

    def full(*_args: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgevit.engine.on_disk.LARGE", 0)
    for broken in ("pathlib.Path.write_bytes", "tempfile.TemporaryDirectory"):
        monkeypatch.setattr(broken, full)
        with open_session(engine, fp32, threads=1) as session:
            assert session.infer(images).shape == (3, CLASSES)


def test_engines_agree(fp32: bytes, images: Frames) -> None:
    logits = [open_session(name, fp32, threads=1).infer(images) for name in ENGINES]
    assert np.abs(logits[0] - logits[1]).max() < 1e-4


def test_a_batch_is_its_frames(session: Session, images: Frames) -> None:
    """Also after a batch of another size."""
    batch = session.infer(images)
    singles = np.concatenate([session.infer(image[None]) for image in images])
    assert np.abs(batch - singles).max() < 1e-5
    assert np.abs(session.infer(images[::-1]) - batch[::-1]).max() < 1e-5


def test_views_are_taken_as_they_look(session: Session, images: Frames) -> None:
    """Mirrored frames and frames turned from RGB are no contiguous memory."""
    for view in (images[..., ::-1], images[:, ::-1], images[:, :, ::-1], np.asfortranarray(images)):
        assert np.array_equal(session.infer(view), session.infer(view.copy(order="C")))


def test_the_result_is_the_callers(session: Session, images: Frames) -> None:
    """The next frame does not change the last result, and the caller may."""
    first = session.infer(images[:1])
    kept = first.copy()
    second = session.infer(images[1:2])
    assert not np.array_equal(first, second)
    assert np.array_equal(first, kept)
    first[:] = 0
    assert np.array_equal(session.infer(images[:1]), kept)


def test_frames_are_left_alone_and_not_kept(session: Session, images: Frames) -> None:
    """A camera writes the next frame into the same memory."""
    buffer = images[:1].copy()
    first = session.infer(buffer)
    assert np.array_equal(buffer, images[:1])
    buffer[:] = images[1:2]
    assert np.array_equal(session.infer(buffer), session.infer(images[1:2]))
    assert np.array_equal(first, session.infer(images[:1]))


def test_the_session_says_what_runs_it(session: Session, engine: str) -> None:
    assert session.engine == backend(engine).version
    assert re.fullmatch(rf"{engine} \d+\.\d+(\.\d+)?\S*", session.engine)
    assert session.device == processor()
    assert session.device
    assert session.threads == 1


@pytest.mark.parametrize("threads", [1, 2, None])
def test_threads_are_honoured(engine: str, fp32: bytes, threads: int | None) -> None:
    """The session reports what the engine uses; it never takes more CPUs than this process may."""
    wanted = min(threads or available_threads(), available_threads())
    with open_session(engine, fp32, threads=threads) as session:
        assert session.threads in {wanted, threads}


# --- INT8 runs as INT8 -----------------------------------------------------------------------------------------------


def test_onnxruntime_multiplies_integers(fp32: bytes, tmp_path: Path) -> None:
    """Its optimizer fuses Q/DQ into integer GEMMs: none is left that dequantizes weights on every frame."""

    def ops(model: bytes) -> Counter[str]:
        options = session_options(1)
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        onnxruntime_session(model, options)
        return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)

    # Per block, INT8 products of attention; the patch embedding and the head stay in floating point.
    for attention, products in (("off", 0), ("scores", 1), ("full", 2)):
        counted = ops(write_graph(int8(folded(), Recipe(quantize=QuantizeSettings(attention=attention)))))
        # Behind the product with the values stands proj's own Q: one integer kernel does both.
        fused = 2 * (products == 2)
        assert (counted["MatMulIntegerToFloat"], counted["QLinearMatMul"]) == (8 + 2 * products - fused, fused), attention
        assert counted["QuantizeLinear"] == 8 + 2 * 2 * products - fused, attention
        assert counted["DequantizeLinear"] == 0, attention
        assert counted["MatMul"] == 2 + 2 * (2 - products), attention
    assert ops(fp32)["MatMulIntegerToFloat"] == 0


@pytest.mark.skipif(saturates(), reason="without VNNI integers are multiplied in FP32")
def test_openvino_multiplies_integers(fp32: bytes, quantized: bytes) -> None:
    """Asked of the model as it will run: every quantized GEMM in i8, the others in float, not in bfloat16."""

    def precisions(model: bytes) -> dict[str, str]:
        found = {}
        for node in OpenVino().compiled(model, 1, {}).get_runtime_model().get_ops():
            told = {key: value.value for key, value in dict(node.get_rt_info()).items()}
            if told.get("layerType") in ("FullyConnected", "MatMul"):
                part = re.search(r"blocks\.\d+/(qkv|proj|fc1|fc2)|embed|logits", told["originalLayersNames"])
                found[part[0] if part else told["originalLayersNames"]] = told["runtimePrecision"]
        return found

    gemms = {f"blocks.{i}/{kind}" for i in range(2) for kind in ("qkv", "proj", "fc1", "fc2")}
    told = precisions(quantized)
    integer = {name for name, precision in told.items() if precision in ("i8", "u8")}
    assert integer >= gemms
    # With AVX-512 attention is one fused kernel; with AVX2 its products stand alone, in integers as the plan says.
    assert all("/attention/" in name for name in integer - gemms)
    assert told["embed"] == told["logits"] == "f32"
    assert set(precisions(fp32).values()) == {"f32"}


# --- what does not ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [
    np.zeros((1, 16, 16, 3), np.float32),
    np.zeros((16, 16, 3), np.uint8),
    np.zeros((0, 16, 16, 3), np.uint8),
    np.zeros((1, 3, 16, 16), np.uint8),
    np.zeros((1, 16, 17, 3), np.uint8),
    np.zeros((1, 16, 16, 1), np.uint8),
    np.zeros((1, 1, 16, 16, 3), np.uint8),
], ids=lambda value: f"{value.dtype} {value.shape}")  # fmt: skip
def test_wrong_frames_are_refused(session: Session, wrong: np.ndarray) -> None:
    message = refusal(lambda: session.infer(wrong))
    assert "expected uint8 frames (N, 16, 16, 3)" in message
    assert f"got {wrong.dtype} {wrong.shape}" in message


@pytest.mark.parametrize("garbage", [b"", b"garbage", bytes(1000)], ids=["empty", "text", "zeros"])
def test_garbage_is_refused(engine: str, garbage: bytes) -> None:
    assert backend(engine).version in refusal(lambda: backend(engine).open(garbage, threads=1))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("large", [False, True], ids=["from bytes", "from files"])
def test_half_a_file_is_refused(
    engine: str, fp32: bytes, share: float, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:  # fmt: skip
    if large:
        monkeypatch.setattr("edgevit.engine.on_disk.LARGE", 0)
    refusal(lambda: open_session(engine, fp32[: int(share * len(fp32))], threads=1))


def test_a_model_that_fails_on_its_frames_is_an_engine_error(engine: str, capfd: pytest.CaptureFixture[str]) -> None:
    """12 pixels do not reshape to rows of 7: one engine notices when it compiles, the other on the first frame."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "shape"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "fails",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", 2, 2, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([-1, 7]), "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()

    def act() -> None:
        open_session(engine, model, threads=1).infer(np.zeros((1, 2, 2, 3), np.uint8))

    with pytest.raises(EngineError, match=r"dimensions|inference failed"):
        act()
    capfd.readouterr()  # ONNX Runtime logs it as well


def test_a_closed_session_says_so(engine: str, fp32: bytes, images: Frames) -> None:
    with open_session(engine, fp32, threads=1) as session:
        session.infer(images)
    assert "this session is closed" in refusal(lambda: session.infer(images))
    session.close()  # twice does no harm


def test_a_session_closes_when_its_block_fails(engine: str, fp32: bytes, images: Frames) -> None:
    with pytest.raises(KeyError), open_session(engine, fp32, threads=1) as session:
        raise KeyError
    refusal(lambda: session.infer(images))


def test_unknown_engines_get_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown engine 'openvno'. Did you mean 'openvino'\?"):
        backend("openvno")
    with pytest.raises(ConfigError, match="Known: onnxruntime, openvino"):
        backend("zzz")
