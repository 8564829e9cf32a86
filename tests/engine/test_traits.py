"""Whoever decides something about an engine asks for its traits: not for its name, and not for its package."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from importlib import import_module

import pytest

from edgevit.engine import backend, builder, runs_here
from edgevit.engine.base import JustInTime
from edgevit.engine.builder import AheadOfTime
from edgevit.engines import CPU_FORMS, ENGINES, EngineTraits, runs_on, traits_of
from edgevit.errors import ConfigError, EngineError
from edgevit.export.form import CPU, form_for
from edgevit.shipped import shipped_names
from edgevit.target import load_target
from tests.support import ROOT

try:
    import tomllib
except ImportError:
    import tomli as tomllib

PACKAGE = ROOT / "edgevit"
HEAVY = ("torch", "onnx", "safetensors", "openvino", "onnxruntime", "tensorrt", "tensorrt_rtx", "pycuda")

# What each is known to be: processor, ahead of time, dtype beside INT8, batch, INT8 packed by.
KNOWN = {
    "openvino": ("cpu", False, "fp32", None, 16),
    "onnxruntime": ("cpu", False, "fp32", None, 16),
    "tensorrt": ("gpu", True, "fp16", 1, 32),
    "tensorrt_rtx": ("gpu", True, "fp16", 1, 32),
}


@pytest.fixture(params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def traits(engine: str) -> EngineTraits:
    return traits_of(engine)


# --- every engine ----------------------------------------------------------------------------------------------------


def test_what_is_known_of_each(engine: str, traits: EngineTraits) -> None:
    form = traits.forms.int8
    assert (traits.processor, traits.ahead_of_time, form.dtype, form.batch, traits.multiple) == KNOWN[engine]


def test_its_code_is_where_the_table_says(engine: str, traits: EngineTraits) -> None:
    own = backend(engine)
    assert own.name == engine
    module, _, name = traits.backend.partition(":")
    assert type(own) is getattr(import_module(module), name)
    assert isinstance(own, AheadOfTime if traits.ahead_of_time else JustInTime)


def test_only_what_is_compiled_ahead_of_time_has_a_builder(engine: str, traits: EngineTraits) -> None:
    if traits.ahead_of_time:
        assert builder(engine).name == engine
    else:
        with pytest.raises(ConfigError, match="compiles at every start"):
            builder(engine)


def test_its_extra_is_one_of_edgevits(traits: EngineTraits) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert traits.extra in extras


def test_what_running_takes_is_named(traits: EngineTraits) -> None:
    """The doctor looks for it; a module may be called otherwise than its engine."""
    assert traits.modules
    assert all(module.isidentifier() for module in traits.modules)


def test_its_graphs_are_of_its_forms(engine: str, traits: EngineTraits) -> None:
    for precision in ("fp32", "fp16", "int8", "mixed"):
        assert form_for(engine, precision) == traits.forms.of(precision)
    assert traits.forms.of("mixed") == traits.forms.int8
    assert traits.forms.fp32.dtype == "fp32"


def test_what_a_processor_stands_in_for_is_its_own(traits: EngineTraits) -> None:
    """An engine that stands in for others must keep nothing, and give torch's values."""
    if traits.processor == "cpu":
        assert not traits.ahead_of_time
        assert traits.exact_fp32
        assert traits.forms == CPU_FORMS


def test_what_lacks_is_said_in_a_line(engine: str) -> None:
    said = backend(engine).lacking()
    assert "\n" not in said
    assert runs_here(engine) == (said == "")


def test_what_keeps_nothing_is_bound_to_nothing(engine: str, traits: EngineTraits) -> None:
    own = backend(engine)
    if not traits.ahead_of_time:
        assert own.stamp() == {}
        own.check_stamp({})
        own.check_stamp({"builder": "another"})


def test_an_engine_of_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevit.engine.tensorrt.builder_version", lambda name: f"{name} 10.3.0")
    for name in (name for name, traits in ENGINES.items() if traits.ahead_of_time):
        own = backend(name)
        own.check_stamp(own.stamp())
        with pytest.raises(EngineError, match=rf"compiled elsewhere: builder was old and is {name} 10\.3\.0\. Compile it here"):
            own.check_stamp(own.stamp() | {"builder": "old"})


def test_every_target_is_for_engines_of_the_table() -> None:
    targets = [load_target(name) for name in shipped_names("targets")]
    assert {engine for target in targets for engine in target.engines.values()} == set(ENGINES)
    for target in targets:  # a GPU is recognised by its [device], anything else by its [machine]
        assert all(runs_on(engine, "gpu") == (target.device is not None or bool(target.boards)) for engine in
                   target.engines.values())  # fmt: skip


# --- none of them ----------------------------------------------------------------------------------------------------


def test_an_unknown_engine() -> None:
    with pytest.raises(ConfigError, match=r"unknown engine 'openvno'. Did you mean 'openvino'\?"):
        traits_of("openvno")
    assert not any(runs_on("openvno", processor) for processor in ("cpu", "gpu", "npu"))


def test_a_graph_for_no_engine_in_particular_is_a_cpus() -> None:
    assert {form_for("", precision) for precision in ("fp32", "fp16", "int8", "mixed")} == {CPU}


def test_a_precision_that_is_none() -> None:
    with pytest.raises(KeyError):
        form_for("tensorrt", "int4")


# --- what asking costs -----------------------------------------------------------------------------------------------


def test_asking_imports_no_package() -> None:
    """Of any engine, and of no compressor; nor does asking what is missing."""
    script = f"""
import sys
from edgevit.engines import ENGINES, traits_of
from edgevit.target import load_target
for name in ENGINES:
    traits_of(name), load_target("cpu").on(name).engine()
light = [name for name in {HEAVY!r} if name in sys.modules]
engine = [name for name in sys.modules if name.startswith("edgevit.engine.")]
from edgevit.engine import backend
for name in ENGINES:
    backend(name).lacking()
print(light, engine, [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[] [] []"


# --- who asks by name ------------------------------------------------------------------------------------------------

OWN = [path for path in (PACKAGE / "engine").glob("*.py") if path.name.startswith(tuple(ENGINES))]
OTHERS = sorted(path for path in PACKAGE.rglob("*.py") if path not in OWN and path != PACKAGE / "engines.py")
CLASSES = {traits.backend.partition(":")[2] for traits in ENGINES.values()}
MODULES = {traits.backend.partition(":")[0] for traits in ENGINES.values()}


def texts(node: ast.AST) -> set[str]:
    return {item.value for item in ast.walk(node) if isinstance(item, ast.Constant) and isinstance(item.value, str)}


def names(node: ast.AST) -> set[str]:
    return {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}


def asks_by_name(node: ast.AST) -> bool:
    """``engine == "tensorrt"``, ``engine in ("openvino", ...)``, ``engine.startswith("tensorrt")``, ``isinstance(x, OpenVino)``,
    a match of it, or a table by engine. A text in ``modules`` is no such question: it is about a package.
    """
    if isinstance(node, ast.Compare):
        equal = any(isinstance(operator, (ast.Eq, ast.NotEq)) for operator in node.ops)
        return bool(set(ENGINES) & texts(node)) if equal else any(set(ENGINES) & texts(item) for item in node.comparators)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "startswith":
        return any(text.startswith(tuple(ENGINES)) for argument in node.args for text in texts(argument))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
        return bool(CLASSES & names(node))
    if isinstance(node, ast.match_case):
        return bool(set(ENGINES) & texts(node.pattern))
    return isinstance(node, ast.Dict) and bool(set(ENGINES) & {key.value for key in node.keys if isinstance(key, ast.Constant)})


# Rules of a [[jetpack]]: the version of NVIDIA's package that a board comes with.
ABOUT_A_PACKAGE = {PACKAGE / "target.py": 1}


def test_nobody_asks_by_name() -> None:
    found = Counter(path for path in OTHERS for node in ast.walk(ast.parse(path.read_text())) if asks_by_name(node))
    assert found == ABOUT_A_PACKAGE


@pytest.mark.parametrize("question", [
    'engine == "openvino"', '"tensorrt" != engine', 'engine in ("tensorrt", "tensorrt_rtx")', 'engine.startswith("tensorrt")',
    "isinstance(own, TensorRt)", 'match engine:\n    case "tensorrt":\n        pass', '{"tensorrt": 1}.get(engine)',
])  # fmt: skip
def test_what_counts_as_asking_by_name(question: str) -> None:
    assert any(asks_by_name(node) for node in ast.walk(ast.parse(question)))
    assert not any(asks_by_name(node) for node in ast.walk(ast.parse('"tensorrt" in traits.modules')))


def test_an_engines_own_modules_are_imported_by_the_table_alone() -> None:
    """But for what runs ONNX graphs for pictures of attention, which is ONNX Runtime's whatever the engine."""
    found = set()
    for path in OTHERS:
        for node in ast.walk(ast.parse(path.read_text())):
            imported = {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
            imported |= {item.name for item in node.names} if isinstance(node, ast.Import) else set()
            if any(name == own or name.startswith(f"{own}_") for name in imported for own in MODULES):
                found.add(str(path.relative_to(PACKAGE)))
    assert found == {"engine/outputs.py"}
