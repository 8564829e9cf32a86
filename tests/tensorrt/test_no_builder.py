"""TensorRT that is installed and of no use, or fails at the end: every case is one line. Modules here are made up."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgevit.cli import main
from edgevit.engine import tensorrt as trt
from edgevit.engine.tensorrt import (
    BuilderRefusedError,
    BuildOptions,
    Gpu,
    NoBuilderError,
    _last_words,
    _workspace,
    build_engine,
    builder_version,
)
from edgevit.errors import EngineError, MissingPackageError
from tests.tensorrt.test_builder import GRAPH

LOGGER = "class ILogger:\n    ERROR, INTERNAL_ERROR, WARNING = 1, 0, 2\n"
WITHOUT_DRIVER = f"""
__version__ = "11.4.0"
{LOGGER}
class Builder:
    def __init__(self, logger):
        logger.log(1, "CUDA initialization failure with error: 35. Please check your CUDA installation.\\n")
        raise TypeError("pybind11::init(): factory function returned nullptr")
"""
TOO_OLD = f"""
__version__ = "8.6.2"
{LOGGER}
class Builder:
    def __init__(self, logger):
        pass
class NetworkDefinitionCreationFlag:
    EXPLICIT_BATCH = 0
class BuilderFlag:
    FP16 = 0
"""

INSPECTED = """
# The test bed's own, and in the child, a GPU with a runtime that ends as it is told to.
import os
from tensorrt import *
from tensorrt import __version__
if os.getpid() != TESTS:
    import edgevit.device.gpu
    edgevit.device.gpu.gpu = lambda: "a GPU"
class LayerInformationFormat:
    JSON = 1
class Runtime:
    def __init__(self, logger):
        self.logger = logger
    def deserialize_cuda_engine(self, plan):
        assert len(plan) > 10_000
        FAILURE
        return self
    def create_engine_inspector(self):
        return self
    def get_engine_information(self, format):
        return '{"Layers": []}'
"""

UNSEEN = "the engine is complete, and its plan could not be inspected"

Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make a module with this source the one that TensorRT is imported from, here and in child processes."""

    def install(source: str) -> None:
        name = f"tensorrt_{tmp_path.name}"
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
        monkeypatch.setitem(trt.MODULES, "tensorrt", (name,))

    return install


def test_without_a_driver(install: Install) -> None:
    install(WITHOUT_DRIVER)
    with pytest.raises(
        NoBuilderError, match=r"11\.4\.0: the builder cannot start: CUDA initialization failure .* needs an NVIDIA GPU"
    ) as caught:
        build_engine(GRAPH, BuildOptions())
    assert "\n" not in str(caught.value)


def test_before_strong_typing(install: Install) -> None:
    install(TOO_OLD)
    with pytest.raises(BuilderRefusedError, match=r"8\.6\.2 .*no strongly typed networks.*JetPack 6\.1"):
        build_engine(GRAPH, BuildOptions())


def test_a_library_that_is_not_there(install: Install) -> None:
    install("raise ImportError('libnvinfer.so.10: cannot open shared object file')")
    with pytest.raises(MissingPackageError, match=r"does not load: libnvinfer\.so\.10.*--system-site-packages"):
        builder_version()


def test_a_folder_that_is_called_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tensorrt_of_mine"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(trt.MODULES, "tensorrt", (folder.name,))
    with pytest.raises(MissingPackageError, match=f"{folder} is imported as tensorrt_of_mine and is not NVIDIA's"):
        builder_version()


def test_too_little_memory_is_not_the_graphs_fault(builder: Path) -> None:
    """So no block is taken out of INT8 for it."""
    with pytest.raises(EngineError, match=r"not enough memory: .*workspace limit.*--workspace") as caught:
        build_engine(GRAPH, BuildOptions(workspace=1))
    assert not isinstance(caught.value, BuilderRefusedError)


def test_memory_that_the_gpu_does_not_share_is_not_divided() -> None:
    board, card = (
        Gpu(compute_capability="8.7", multiprocessors=8, memory=2**33, integrated=integrated, cuda="12.6")
        for integrated in (True, False)
    )
    assert _workspace(card) is None
    for shared in (board, None):
        share = _workspace(shared)
        assert share is not None
        assert share >= 256 * 2**20


def test_peak_memory_is_told(builder: Path) -> None:
    assert 50 < build_engine(GRAPH, BuildOptions()).peak_mib < 100_000


@pytest.mark.parametrize(
    ("failure", "warning"),
    [
        ("raise MemoryError('std::bad_alloc')", f"{UNSEEN}: exit code 1: MemoryError: std::bad_alloc"),
        ("os.kill(os.getpid(), 9)", f"{UNSEEN}: killed, most likely for memory"),
        ("self.logger.log(ILogger.ERROR, 'no room'); return None", f"{UNSEEN}: exit code 1: no room"),
        ("Runtime.get_engine_information = lambda *_: '{\"Layers\": [nan'",
         "the engine is complete, and its inspector's report is no JSON: Expecting value: line 1 column 13 (char 12)"),
        ("pass", None),
    ],
    ids=["exception", "killed", "not loaded", "no JSON", "fine"],
)  # fmt: skip
def test_an_engine_outlives_its_inspection(builder: Path, install: Install, failure: str, warning: str | None) -> None:
    install(INSPECTED.replace("FAILURE", failure).replace("TESTS", str(os.getpid())))
    built = build_engine(GRAPH, BuildOptions())
    assert len(built.engine) > 10_000
    assert built.layers
    assert built.inspector == (None if warning else '{"Layers": []}')
    assert [text for text in built.warnings if "inspect" in text] == ([warning] if warning else [])


def test_an_absurd_workspace_is_one_short_line(builder: Path) -> None:
    with pytest.raises(EngineError, match=r"exit code 1 and no engine.*TypeError: .*incompatible function arguments\.$"):
        build_engine(GRAPH, BuildOptions(workspace=2**70))
    result = CliRunner().invoke(main, ["compile", "bundle", "--workspace", str(2**20 + 1)])
    assert result.exit_code == 2
    assert "1 to 1048576" in result.output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "nothing"),
        ("one\ntwo\n", "two"),
        ("Traceback (most recent call last):\n  File\nValueError: first\n\nDuring it:\n\n"
         "Traceback (most recent call last):\n  File\nTypeError: f(): bad. The following argument types are supported:\n"
         "    1. (int) -> None\n\nInvoked with: 'a'\n", "TypeError: f(): bad."),
        ("x" * 1000, "x" * 300 + " ..."),
    ],
)  # fmt: skip
def test_last_words(text: str, words: str) -> None:
    assert _last_words(text) == words
