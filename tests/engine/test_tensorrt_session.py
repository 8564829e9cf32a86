"""The GPU session: on a GPU where there is one, and its bookkeeping on a driver that only keeps books."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.bundle import MODEL, Manifest, write_bundle
from edgevit.engine import tensorrt as engines
from edgevit.engine.base import UNCOUNTED
from edgevit.engine.builder import BuildOptions
from edgevit.engine.profiling import layer_times
from edgevit.engine.tensorrt import TensorRt
from edgevit.engine.tensorrt_log import MOST
from edgevit.engine.tensorrt_profile import node_names
from edgevit.engine.tensorrt_session import WARM_UP, TensorRtSession
from edgevit.errors import EngineError, MissingPackageError
from edgevit.export.form import form_for
from edgevit.export.graph import write_graph
from edgevit.model.quantplan import QuantPlan
from edgevit.plan.preflight import read_plan
from edgevit.preprocess import Preprocessing
from tests.engine.gpu import CLASSES, FREED, SHAPE, Driver, TensorRtModule, installed, some_frames
from tests.zoo import folded, frames


@pytest.fixture(params=[True, False], ids=["integrated", "discrete"])
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    yield from installed(Driver(integrated=request.param), monkeypatch)


def test_every_frame_goes_in_as_it_is_and_its_logits_come_out(driver: Driver) -> None:
    images = some_frames()
    with TensorRtSession(b"a plan", TensorRtModule(driver)) as session:
        logits = session.infer(images)
        assert (session.engine, session.device, session.threads) == ("tensorrt 10.3.0", "a GPU", 1)
        assert driver.log.count("execute") == WARM_UP + 2
        first = logits.copy()
        session.infer(some_frames(1) // 2)
    assert (logits.dtype, logits.shape) == (np.float32, (2, CLASSES))
    np.testing.assert_array_equal(logits, 2.0 * images.reshape(2, -1)[:, :CLASSES])
    np.testing.assert_array_equal(logits, first)  # a later call does not change them


def test_tensorrts_warnings_are_kept_once(driver: Driver) -> None:
    with TensorRtSession(b"a plan", TensorRtModule(driver)) as session:
        assert session.warnings == ("Using an engine plan file across different models of devices",)
        for i in range(10 * MOST):  # for weeks
            with session._logger.heard(session._messages):
                session._logger.log(TensorRtModule.ILogger.WARNING, f"frame {i} was late")
                session._logger.log(TensorRtModule.ILogger.ERROR, f"frame {i} was lost")
        assert len(session.warnings) == len(session._messages.errors) == MOST
        assert session._messages.errors[-1] == f"frame {10 * MOST - 1} was lost"


def test_an_integrated_gpu_copies_nothing(driver: Driver) -> None:
    with TensorRtSession(b"a plan", TensorRtModule(driver)) as session:
        session.infer(some_frames())
    copies = {"device memory", "to device", "from device", "pinned plain"} & set(driver.log)
    assert copies == (set() if driver.integrated else {"device memory", "to device", "from device", "pinned plain"})


def test_all_is_freed_before_the_context_is_popped(driver: Driver) -> None:
    with TensorRtSession(b"a plan", TensorRtModule(driver)) as session:
        session.infer(some_frames())
        driver.log.clear()
    assert driver.log == [*FREED, *([] if driver.integrated else ["free device memory"] * 2), "pop"]
    assert driver.stack == []
    session.close()  # a second time is of no effect
    with pytest.raises(EngineError, match="closed"):
        session.infer(some_frames())


def test_sessions_end_in_any_order(driver: Driver) -> None:
    first, second = (TensorRtSession(b"a plan", TensorRtModule(driver)) for _ in range(2))
    first.close()
    second.infer(some_frames())
    second.close()
    assert driver.stack == []
    assert driver.retained == 1


def in_a_thread(call: Callable[[], object]) -> None:
    """Run ``call`` in a thread that has no context, and leave none there. What it raises is raised here."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def test_any_thread_may_use_and_close_a_session(driver: Driver) -> None:
    images = some_frames()
    session = TensorRtSession(b"a plan", TensorRtModule(driver))
    assert driver.stack == []  # nor does the thread that opened it keep the context
    in_a_thread(lambda: np.testing.assert_array_equal(session.infer(images), 2.0 * images.reshape(2, -1)[:, :CLASSES]))
    in_a_thread(session.close)
    assert driver.stack == []
    assert not [line for line in driver.log if "WITHOUT CONTEXT" in line]
    with pytest.raises(EngineError, match="closed"):
        session.infer(images)


@pytest.mark.parametrize("shape", [SHAPE, (0, *SHAPE), (1, 6, 8, 3)], ids=["one frame without N", "no frame", "sides exchanged"])
def test_other_shapes_are_refused(driver: Driver, shape: tuple[int, ...]) -> None:
    with (
        TensorRtSession(b"a plan", TensorRtModule(driver)) as session,
        pytest.raises(EngineError, match=r"expected uint8 frames \(N, 8, 6, 3\), got uint8"),
    ):
        session.infer(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("plan", "options", "message"),
    [
        (
            b"garbage",
            {},
            r"and GPU \(IRuntime::.* Error Code 1: Serialization \(magic tag\)\)\. Compile it here: edgevit compile",
        ),
        (b"a plan", {"logits": "float16"}, "not edgevit's"),
        (b"a plan", {"room": False}, "finds no room in memory"),
    ],
)
def test_what_cannot_be_loaded_is_refused_and_leaves_nothing(
    driver: Driver, plan: bytes, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        TensorRtSession(plan, TensorRtModule(driver, **options))
    assert "\n" not in str(caught.value)
    assert driver.stack == []
    assert not [line for line in driver.log if "WITHOUT CONTEXT" in line]


@pytest.mark.parametrize("images", [some_frames(3)[::-1], some_frames(3)[..., ::-1], np.asfortranarray(some_frames(3))])
def test_frames_need_not_lie_in_one_piece(driver: Driver, images: np.ndarray) -> None:
    """A camera's are often a view of something larger."""
    with TensorRtSession(b"a plan", TensorRtModule(driver)) as session:
        np.testing.assert_array_equal(session.infer(images), 2.0 * images.reshape(3, -1)[:, :CLASSES])


@pytest.mark.parametrize("dtype", ["int8", "float32", "uint16"])
def test_other_types_are_refused(driver: Driver, dtype: str) -> None:
    """Also int8, which is as long as uint8."""
    with (
        TensorRtSession(b"a plan", TensorRtModule(driver)) as session,
        pytest.raises(EngineError, match=rf"expected uint8 frames \(N, 8, 6, 3\), got {dtype} \(2, 8, 6, 3\)"),
    ):
        session.infer(some_frames().astype(dtype))
    assert driver.log.count("execute") == WARM_UP


def test_each_frame_is_waited_for_before_its_logits_are_read(driver: Driver) -> None:
    """The copy back is queued on the same stream: read earlier, the logits are the last frame's."""
    with TensorRtSession(b"a plan", TensorRtModule(driver)) as session:
        driver.log.clear()
        session.infer(some_frames(2))
    once = ["execute", "synchronize"] if driver.integrated else ["to device", "execute", "from device", "synchronize"]
    assert driver.log[: 2 * len(once)] == once * 2


def test_an_inference_that_fails_says_so_and_the_session_lives(driver: Driver) -> None:
    module = TensorRtModule(driver)
    with TensorRtSession(b"a plan", module) as session:
        module.runs = False
        with pytest.raises(EngineError, match=r"tensorrt 10\.3\.0: inference failed \(enqueueV3: .* \(launch failed\)\)$"):
            session.infer(some_frames())
        assert not session._messages.errors  # it explains no later failure
        module.runs, driver.illness = True, "cuStreamSynchronize failed: an illegal memory access was encountered"
        with pytest.raises(EngineError, match="inference failed: cuStreamSynchronize failed: an illegal memory access") as caught:
            session.infer(some_frames())
        assert "\n" not in str(caught.value)
        driver.illness = ""
        images = some_frames()
        np.testing.assert_array_equal(session.infer(images), 2.0 * images.reshape(2, -1)[:, :CLASSES])
    assert driver.stack == []


def test_a_first_inference_that_fails_closes_what_was_loaded(driver: Driver) -> None:
    """In the order of every close: each needs the one behind it."""
    with pytest.raises(EngineError, match="inference failed"):
        TensorRtSession(b"a plan", TensorRtModule(driver, runs=False))
    freed = [line for line in driver.log if line.startswith("free") or line == "pop"]
    assert freed == ["pop", *FREED, *([] if driver.integrated else ["free device memory"] * 2), "pop"]
    assert driver.stack == []


def test_an_error_inside_the_with_block_closes_the_session(driver: Driver) -> None:
    with pytest.raises(ZeroDivisionError), TensorRtSession(b"a plan", TensorRtModule(driver)) as session:
        raise ZeroDivisionError
    with pytest.raises(EngineError, match="closed"):
        session.infer(some_frames())
    assert driver.log[-1] == "pop"
    assert driver.stack == []


def test_layers_are_timed_under_the_names_of_the_graph(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The product of a fused kernel names it; what is of no node keeps its own name; nothing is freed too early."""
    module = TensorRtModule(driver)
    monkeypatch.setattr(engines, "builder_module", lambda _name: module)
    pictures = np.zeros((2, *SHAPE), np.uint8)
    found = layer_times("tensorrt", b"a graph", pictures, threads=None, runs=4, compiled=b"a plan")
    assert [(layer.name, layer.milliseconds) for layer in found] == [
        ("blocks.0/qkv/MatMul", 0.5), ("blocks.0/proj/Add", 0.25), ("a reformat", 0.125),
    ]  # fmt: skip
    assert driver.log.count("execute") == WARM_UP + UNCOUNTED + 4
    assert not any(line.endswith("WITHOUT CONTEXT") for line in driver.log)
    assert driver.stack == []


@pytest.mark.parametrize("text", ["", "no json", "[]", "{}", '{"Layers": ["a name", "another"]}', '{"Layers": 3}'])
def test_an_inspector_that_says_nothing(text: str) -> None:
    assert node_names(text) == {}


def test_no_memory_on_the_gpu_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = next(installing := installed(Driver(integrated=False, memory=False), monkeypatch))
    with pytest.raises(EngineError, match=r"cannot be loaded: cuMemAlloc failed: out of memory"):
        TensorRtSession(b"a plan", TensorRtModule(fake))
    assert fake.stack == []
    assert fake.log[-5:] == [*FREED, "pop"]  # no device memory: there was none
    next(installing, None)


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = next(installing := installed(Driver(integrated=False), monkeypatch))

    def init() -> None:
        msg = "cuInit failed: no CUDA-capable device is detected"
        raise fake.Error(msg)

    monkeypatch.setattr(fake, "init", init)
    with pytest.raises(EngineError, match=r"tensorrt 10\.3\.0: no usable GPU: cuInit failed: no CUDA-capable device"):
        TensorRtSession(b"a plan", TensorRtModule(fake))
    assert fake.log == []
    next(installing, None)


def test_without_pycuda_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'edgevit\[jetson\]'"):
        TensorRtSession(b"a plan", TensorRtModule(Driver(integrated=True)))


def agree(ours: np.ndarray, reference: np.ndarray) -> None:
    np.testing.assert_allclose(ours, reference, atol=0.02 * np.abs(reference).max())


needs_gpu = pytest.mark.skipif(
    find_spec("pycuda") is None or bool(TensorRt().lacking()), reason="needs an NVIDIA GPU, TensorRT and pycuda"
)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_on_a_gpu(precision: str) -> None:
    """Real TensorRT against ONNX Runtime on the CPU."""
    from edgevit.engine import open_session

    model, plan = folded(), QuantPlan(model=folded())
    images = np.stack(list(frames(model.config, 3)))
    engine = TensorRt().build(write_graph(plan, form_for("tensorrt", precision)), BuildOptions()).engine
    with TensorRt().load(engine) as session, open_session("onnxruntime", write_graph(plan)) as reference:
        agree(session.infer(images), reference.infer(images))
        agree(session.infer(images[::-1]), reference.infer(images[::-1]))
        assert session.graph is not None
        assert session.graph.with_ms is not None, session.graph.reason  # captured, and right
        with TensorRt().load(engine, graph=False) as plain:
            assert plain.graph is not None
            assert not plain.graph.used
            agree(plain.infer(images), session.infer(images))
    with pytest.raises(EngineError, match="no engine for this TensorRT and GPU"):
        TensorRt().load(engine[: len(engine) // 2])


@pytest.mark.gpu
@needs_gpu
def test_a_bundle_on_a_gpu(tmp_path: Path) -> None:
    """Compiled into the bundle, opened from it, its plan read from the real inspector; two sessions side by side."""
    from edgevit.commands.compile import compile_bundle
    from edgevit.engine import open_session
    from edgevit.engine.of_bundle import session_of
    from edgevit.engine.tensorrt import BuildOptions

    model, plan = folded(), QuantPlan(model=folded())
    images = np.stack(list(frames(model.config, 3)))
    size = model.config.image_size
    manifest = Manifest(
        name="tiny", family="timm", model=asdict(model.config), preprocessing=Preprocessing(size=size, resize=size),
        labels=tuple("01234"), precision="fp16", blocks=(), recipe={"name": "default"}, target={"name": "jetson"},
        engine="tensorrt", provenance={"weights": {"sha256": "0" * 64}}, edgevit="0",
    )  # fmt: skip
    write_bundle(tmp_path / "tiny.edgevit", manifest, {MODEL: write_graph(plan, form_for("tensorrt", "fp16"))})
    bundle, built = compile_bundle(tmp_path / "tiny.edgevit", BuildOptions())
    found = read_plan(built, blocks=len(model.blocks))
    assert built.inspector is not None
    assert found.plan.kernels, found.warnings
    with open_session("onnxruntime", write_graph(plan)) as reference, session_of(bundle) as first, session_of(bundle) as second:
        kept = first.infer(images)
        agree(kept, reference.infer(images))
        agree(second.infer(images[::-1]), reference.infer(images[::-1]))
        agree(kept, reference.infer(images))
    with pytest.raises(EngineError, match="closed"):
        first.infer(images)
