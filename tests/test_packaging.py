"""What `pip install` gives: the package with its recipes and targets."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevit.shipped import read_toml
from tests.support import ROOT, Outcome

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytest.importorskip("hatchling")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout, built from a copy, so that nothing is left in it."""
    copy, dist = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("dist")
    for name in ("edgevit", "calibration", "targets"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE", ".gitignore", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy)
    (copy / "README.md").touch()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", dist],
        cwd=copy,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (path,) = dist.glob("*.whl")
    return path


def test_wheel_holds_the_package_and_its_data(wheel: Path) -> None:
    """Every module of the checkout, every recipe, every target, the licence, and nothing that only tests need."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "edgevit").rglob("*.py")}
    page = {f"edgevit/preview/static/{name}" for name in ("page.html", "page.css", "page.js", "icon.svg")}
    data = {
        f"edgevit/_data/{path.relative_to(ROOT).as_posix()}"
        for kind in ("calibration", "targets")
        for path in (ROOT / kind).glob("*")
    }
    assert {"edgevit/_data/calibration/default.toml", "edgevit/_data/targets/cpu.toml"} <= data <= names
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "edgevit" / "report" / "templates").iterdir()}
    assert "edgevit/report/templates/report.html.j2" in templates
    assert modules | page | templates | {"edgevit/py.typed"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "examples", "benchmarks"))]


def test_wheel_names_its_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "edgevit = edgevit.cli:main" in archive.read(entry_points).decode()
        (metadata,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        needed = [line for line in archive.read(metadata).decode().splitlines() if line.startswith("Requires-Dist")]
    always = {line.split()[1].partition(">")[0] for line in needed if ";" not in line}
    assert always == {"click", "jinja2", "markupsafe", "msgspec", "numpy", "rich"}


def test_the_extra_that_is_all_of_them() -> None:
    """But for a board's own, for development and for the documentation: a new extra has to be named there."""
    extras = read_toml(ROOT / "pyproject.toml")["project"]["optional-dependencies"]
    (whole,) = extras["all"]
    assert set(whole.removeprefix("edgevit[").removesuffix("]").split(",")) == set(extras) - {"all", "jetson", "dev", "docs"}


def test_installed_package_finds_its_data(wheel: Path, tmp_path: Path) -> None:
    """Unpacked elsewhere, without a checkout beside it."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import edgevit, sys; from edgevit.shipped import shipped_names; from edgevit.recipe import load_recipe; "
        "from edgevit.target import load_target; assert edgevit.__file__.startswith(sys.argv[1]), edgevit.__file__; "
        "load_recipe('default'); load_target('cpu'); print(*shipped_names('calibration'), *shipped_names('targets'))"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "site"],
        env={"PYTHONPATH": str(tmp_path / "site")}, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    kinds = ("calibration", "targets")
    shipped = [sorted(path.stem for path in (ROOT / kind).glob("*.toml")) for kind in kinds]
    assert outcome.stdout.split() == [*shipped[0], *shipped[1]]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source as it is published."""
    dist = tmp_path_factory.mktemp("sdist")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", dist]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (path,) = dist.glob("*.tar.gz")
    return path


def test_sdist_holds_what_is_needed_to_go_on(sdist: Path) -> None:
    """Source, tests and documentation, and nothing that was made of them."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tops = {name.partition("/")[0] for name in names}
    assert {
        "edgevit",
        "tests",
        "docs",
        "benchmarks",
        "calibration",
        "targets",
        "deploy",
        "Makefile",
        "mkdocs.yml",
        "LICENSE",
    } <= tops
    assert {"SECURITY.md", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "CITATION.cff", "CHANGELOG.md", "constraints.txt"} <= tops
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")} <= names
    assert not tops & {"site", "dist", ".venv"}


def test_an_index_would_take_both(sdist: Path, wheel: Path) -> None:
    """Their metadata are whole, and the description can be rendered."""
    pytest.importorskip("twine")
    words = [sys.executable, "-m", "twine", "check", "--strict", str(sdist), str(wheel)]
    outcome = subprocess.run(
        words, capture_output=True, text=True, timeout=60, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "500"}
    )
    assert outcome.returncode == 0, outcome.stdout
    assert outcome.stdout.count("PASSED") == 2


EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
WITH_TORCH = tuple(name for name in EXTRAS if re.search(r"torch>|edgevit\[[^]]*(build|demo)", " ".join(EXTRAS[name])))
ON_A_BOARD = ("jetson",)
"""Needs the board's own CUDA."""
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def interpreter(version: str) -> str | None:
    """A Python of that version: of pyenv, whose commands on the path only run what it was told to, or on the path."""
    there = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    return str(there[-1]) if there else shutil.which(f"python{version}")


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_installs_from_a_folder_with_each_extra(
    version: str, wheel: Path, bundle_path: Path, image_folder: Path, tmp_path: Path, edgevit: Callable[..., Outcome]
) -> None:
    """Each extra that needs neither torch nor a board, in turn; then nothing is broken, and a bundle runs as it does here."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    subprocess.run([python, "-m", "venv", tmp_path / "env"], check=True, timeout=300)
    pip = [tmp_path / "env" / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    for name in ("", *(name for name in EXTRAS if name not in (*WITH_TORCH, *ON_A_BOARD, "dev"))):
        what = f"edgevit[{name}]" if name else "edgevit"
        words = [*pip, "install", "--quiet", "--find-links", wheel.parent, "--constraint", ROOT / "constraints.txt", what]
        outcome = subprocess.run(words, capture_output=True, text=True, timeout=600, cwd=tmp_path)
        if "Could not find a version that satisfies the requirement click" in outcome.stderr:
            pytest.skip("no package index here")
        assert outcome.returncode == 0, f"{what}: {outcome.stderr}"
    subprocess.run([*pip, "check"], check=True, timeout=60)
    told = subprocess.run(
        [tmp_path / "env" / "bin" / "edgevit", "targets", "cpu"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=True,
    )
    assert "OpenVINO" in told.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_TORCH)
def test_extras_with_torch_can_be_resolved(name: str, wheel: Path, tmp_path: Path) -> None:
    """For this Python, without installing: torch's build for this machine may be gigabytes elsewhere."""
    words = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--find-links", wheel.parent]
    given = ["--constraint", ROOT / "constraints.txt", "--report", tmp_path / "report.json", f"edgevit[{name}]"]
    outcome = subprocess.run([*words, *given], capture_output=True, text=True, timeout=600, cwd=tmp_path)
    if "Could not find a version that satisfies the requirement click" in outcome.stderr:
        pytest.skip("no package index here")
    assert outcome.returncode == 0, outcome.stderr
    chosen = {each["metadata"]["name"].lower() for each in json.loads((tmp_path / "report.json").read_text())["install"]}
    assert {"edgevit", "torch", "onnx", "safetensors"} <= chosen
