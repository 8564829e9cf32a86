"""What a project has beside its code: files that a forge reads, and what they say of one another."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

import edgevit
from tests.support import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

yaml = pytest.importorskip("yaml")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEXTS = ("CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "README.md", "CHANGELOG.md")


@pytest.fixture(scope="module")
def cut() -> ModuleType:
    """docs/releases/cut.py."""
    spec = importlib.util.spec_from_file_location("cut", ROOT / "docs" / "releases" / "cut.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_nothing_is_left_to_fill_in() -> None:
    for name in TEXTS:
        assert not re.search(r"\[INSERT|TODO|example\.(com|org)|@\w+\.(com|org)\b", text(name)), name


@pytest.mark.parametrize("name", [*TEXTS[:3], "README.md"])
def test_links_between_files_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text(name)):
        assert "://" in target or (ROOT / target).exists(), target


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["version"] == edgevit.__version__
    assert citation["license"] == PROJECT["license"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]


def test_classifiers_are_of_the_pythons_that_are_tested() -> None:
    named = {each.rpartition(" ")[2] for each in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", each)}
    matrix = yaml.safe_load(text(".github/workflows/test.yml"))["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert named == set(matrix)
    assert PROJECT["requires-python"] == f">={min(named, key=lambda version: int(version[2:]))}"


def test_the_workflow_does_what_a_person_would() -> None:
    steps = yaml.safe_load(text(".github/workflows/test.yml"))["jobs"]["test"]["steps"]
    called = re.findall(r"make ([\w-]+)", "\n".join(step.get("run", "") for step in steps))
    assert "test" in called
    assert set(called) <= set(re.findall(r"^([\w-]+):", text("Makefile"), re.MULTILINE))


def test_pre_commit_runs_the_linters_of_make_lint() -> None:
    hooks = [hook for repo in yaml.safe_load(text(".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]]
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", text("Makefile"), re.MULTILINE)
    assert lint is not None
    programs = [line.split()[0].removeprefix("$(BIN)/") for line in lint[1].splitlines()]
    assert [hook["entry"].split()[0] for hook in hooks] == [f".venv/bin/{program}" for program in programs]


def test_issue_forms_are_whole() -> None:
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"]
    assert len(forms) >= 3
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert form["name"]
        assert form["description"]
        names = [field["id"] for field in form["body"] if field["type"] != "markdown"]
        assert len(names) == len(set(names)) > 0
        assert all(field["attributes"]["label"] for field in form["body"] if field["type"] != "markdown")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a release changes, copied."""
    for name in ("edgevit/__init__.py", "CHANGELOG.md", "CITATION.cff"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n### Added\n- A thing.\n\n## [0.1.0] - 2026-01-02\n")
    (tmp_path / "docs" / "releases").mkdir(parents=True)
    (tmp_path / "docs" / "releases" / "9.8.7.md").touch()
    return tmp_path


def test_a_release_changes_all_versions_together(
    checkout: Path, cut: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["cut.py", "9.8.7", "2026-11-29"])
    cut.main(checkout)
    assert '__version__ = "9.8.7"\n' in (checkout / "edgevit" / "__init__.py").read_text()
    changelog = (checkout / "CHANGELOG.md").read_text()
    assert changelog.startswith(
        "# Changelog\n\n## [Unreleased]\n\n## [9.8.7] - 2026-11-29\n\n### Added\n- A thing.\n\n## [0.1.0]"
    )
    citation = yaml.safe_load((checkout / "CITATION.cff").read_text())
    assert citation["version"] == "9.8.7"
    assert str(citation["date-released"]) == "2026-11-29"


@pytest.mark.parametrize(
    ("version", "day", "said"),
    [("9.8", "2026-11-29", "no version"), ("9.8.7", "29.11.2026", "no day"), ("9.9.9", "2026-11-29", "Write the notes first")],
)
def test_a_release_that_cannot_be_changes_nothing(
    version: str, day: str, said: str, checkout: Path, cut: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    monkeypatch.setattr(sys, "argv", ["cut.py", version, day])
    with pytest.raises(SystemExit, match=said):
        cut.main(checkout)
    assert {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()} == before


def test_a_release_without_changes_is_none(checkout: Path, cut: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2026-01-02\n\n### Added\n- All.\n")
    monkeypatch.setattr(sys, "argv", ["cut.py", "9.8.7", "2026-11-29"])
    with pytest.raises(SystemExit, match="nothing there looks like"):
        cut.main(checkout)
