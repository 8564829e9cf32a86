"""Drawings of the documentation: what the script draws today from the tables of the pages."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.support import ROOT

DRAWINGS = ROOT / "docs" / "drawings"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawings")
    subprocess.run([sys.executable, DRAWINGS / "make.py", folder], check=True, timeout=30)
    return folder


def test_drawings_have_the_figures_of_the_pages(drawn: Path) -> None:
    """Tables change, and the drawings with them: python docs/drawings/make.py."""
    names = {path.name for path in drawn.iterdir()}
    assert names == {path.name for path in DRAWINGS.glob("*.svg")}
    assert len(names) >= 5
    for name in names:
        assert (drawn / name).read_text(encoding="utf-8") == (DRAWINGS / name).read_text(encoding="utf-8"), name


def test_drawings_are_whole_and_named(drawn: Path) -> None:
    for path in drawn.iterdir():
        root = ET.parse(path).getroot()
        assert root.find("{http://www.w3.org/2000/svg}title") is not None
        assert "script" not in path.read_text(encoding="utf-8")


def test_figures_are_those_of_the_tables() -> None:
    """Some, looked up by hand."""
    assert "155 kernels" in (DRAWINGS / "graph.svg").read_text(encoding="utf-8")
    assert "30.4 dB" in (DRAWINGS / "folding.svg").read_text(encoding="utf-8")
    merging = (DRAWINGS / "merging.svg").read_text(encoding="utf-8")
    assert all(f">{tokens}<" in merging for tokens in (257, 192, 128, 72))


def test_every_drawing_is_in_a_page() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    assert all(f"drawings/{path.name})" in pages for path in DRAWINGS.glob("*.svg"))
