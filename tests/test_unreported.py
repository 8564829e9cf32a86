"""Nothing that edgevit imports reports to its maker, and a user's own imports are as they were."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from edgevit.unreported import OPT_OUT, REPORTER, import_openvino, unreported
from tests.support import ROOT

REPORTING = ("openvino", "onnxruntime", "nncf", "modelopt")
"""Packages that report; see edgevit/unreported.py."""


def alone(script: str, home: Path) -> str:
    """What ``script`` prints in a fresh process with an empty home folder."""
    environment = {key: value for key, value in os.environ.items() if key not in ("CI", "GITHUB_ACTIONS", OPT_OUT)}
    environment |= {"HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, cwd=home)
    return done.stdout


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_an_engine_leaves_no_id_in_the_home_folder(engine: str, tmp_path: Path) -> None:
    """Left alone, both write one there before they send it: this is what the reports need first."""
    version = alone(f"from edgevit.engine import backend; print(backend({engine!r}).version)", tmp_path)
    assert version.startswith(engine)
    assert list(tmp_path.iterdir()) == []


def test_the_processes_own_environment_is_as_before(tmp_path: Path) -> None:
    """Whoever imports edgevit and then reports of his own still can, and his children inherit nothing."""
    script = (
        "import os, sys; from edgevit.unreported import import_onnxruntime, import_openvino\n"
        "import_openvino(); import_onnxruntime()\n"
        f"print({REPORTER!r} in sys.modules, {OPT_OUT!r} in os.environ)\n"
        f"import openvino, {REPORTER}; print({REPORTER}.Telemetry is not None, openvino.Core is not None)"
    )
    assert alone(script, tmp_path).split() == ["False", "False", "True", "True"]


def test_what_was_set_before_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = object()
    monkeypatch.setitem(sys.modules, REPORTER, kept)
    monkeypatch.setenv(OPT_OUT, "0")
    inside = []
    with suppress(KeyError), unreported():
        inside += [sys.modules[REPORTER], os.environ[OPT_OUT]]
        raise KeyError
    assert inside == [None, "1"]
    assert sys.modules[REPORTER] is kept
    assert os.environ[OPT_OUT] == "0"


def test_an_import_that_came_first_is_told_to_report_no_more(tmp_path: Path) -> None:
    """Its own doing, but what edgevit loads with it is not its to tell."""
    script = (
        "import onnxruntime; told = []; onnxruntime.disable_telemetry_events = lambda: told.append(1)\n"
        "from edgevit.engine import backend; backend('onnxruntime').version; backend('onnxruntime').version; print(told)"
    )
    assert alone(script, tmp_path).strip() == "[1]"


def test_the_stand_in_is_openvinos_own() -> None:
    """If OpenVINO drops its stand-in, importing it fails here first."""
    import_openvino()
    assert "openvino.tools.ovc.telemetry_stub" in sys.modules


def _imports(tree: ast.AST) -> list[tuple[str, int]]:
    found = []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [(name, node.lineno) for name in names if name.partition(".")[0] in REPORTING]
    return found


def _guarded(tree: ast.AST) -> set[int]:
    """Lines inside ``with unreported()`` or ``if TYPE_CHECKING``."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        calls = [ast.unparse(item.context_expr) for item in node.items] if isinstance(node, ast.With) else []
        if "unreported()" in calls or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            lines |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    return lines


@pytest.mark.parametrize("folder", ["edgevit", "benchmarks", "tests", "examples"])
def test_nobody_imports_them_otherwise(folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if 'sys.modules["openvino_telemetry"] = None' in text and 'os.environ["ORT_DISABLE_TELEMETRY"] = "1"' in text:
            continue  # a script that also runs without edgevit
        tree = ast.parse(text)
        loose = [f"{path.relative_to(ROOT)}:{line} {name}" for name, line in _imports(tree) if line not in _guarded(tree)]
        assert loose == [], "import them with edgevit.unreported"
