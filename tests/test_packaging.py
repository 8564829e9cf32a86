"""What `pip install` gives: the package with its recipes and targets."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgevit.shipped import read_toml
from tests.support import ROOT

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
    """But for a board's own and for development: a new extra has to be named there."""
    extras = read_toml(ROOT / "pyproject.toml")["project"]["optional-dependencies"]
    (whole,) = extras["all"]
    assert set(whole.removeprefix("edgevit[").removesuffix("]").split(",")) == set(extras) - {"all", "jetson", "dev"}


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
