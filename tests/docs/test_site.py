"""The documentation as a site: built strictly, whole, and without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import edgevit
from edgevit.cli import COMMANDS
from tests.support import ROOT

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")

FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href", "form": "action"}
"""What a browser asks for by itself, by element."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with every warning an error."""
    folder = tmp_path_factory.mktemp("site")
    outcome = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": ""},
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    return folder


class Read(HTMLParser):
    """Elements of a page: how many of each there are, and what a browser fetches for them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.counts: dict[str, int] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        found = dict(attrs).get(FETCHED.get(tag, ""))
        if found:
            self.fetched.append(found)


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 60
    fetched = {(page.name, each) for page in pages for each in Read(page.read_text(encoding="utf-8")).fetched}
    assert {(page, each) for page, each in fetched if "//" in each and not each.startswith("data:")} == set()
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert styles
    assert [found for text in styles for found in re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\"']*", text)] == []


def test_what_pages_fetch_is_there(site: Path) -> None:
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # its addresses are from the root of a server
            continue
        for each in Read(page.read_text(encoding="utf-8")).fetched:
            assert each.startswith("data:") or (page.parent / each.partition("?")[0].partition("#")[0]).exists(), (page, each)


def test_search_works_from_the_disk(site: Path) -> None:
    """Its index is a script, as browsers fetch no files from a page of the disk."""
    assert (site / "search" / "search_index.js").read_text(encoding="utf-8").startswith("var __index = {")
    assert "iframe-worker.js" in (site / "index.html").read_text(encoding="utf-8")


def test_every_command_and_every_public_name_has_its_place(site: Path) -> None:
    for name in COMMANDS:
        assert f'<h1 id="edgevit-{name}">' in (site / "reference" / "commands" / f"{name}.html").read_text(encoding="utf-8")
    api = (site / "reference" / "python.html").read_text(encoding="utf-8")
    for name in set(edgevit.__all__) - {"__version__"}:
        assert re.search(rf'id="edgevit\.(api|commands\.{name})\.{name}"', api), name


def test_every_page_has_a_place_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    missing = [path.name for path in (ROOT / "docs").glob("*.md") if path.name != "README.md" and f" {path.name}\n" not in text]
    assert missing == [], f"mkdocs.yml: put each into nav with a plain title, as '- Title: {missing[0]}'"


def test_pictures_are_small_and_shown() -> None:
    """They are made by docs/screenshots/make.py."""
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")))
    pictures = list((ROOT / "docs" / "assets").glob("*.webp"))
    assert len(pictures) >= 4
    assert [path.name for path in pictures if f"assets/{path.name})" not in pages] == []
    assert [path.name for path in pictures if path.stat().st_size > 300_000] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_the_site_reads_markdown_as_forges_do(page: Path, site: Path) -> None:
    """As many lists, tables and blocks of code as by CommonMark: Python-Markdown wants empty lines where that does not."""
    markdown_it = pytest.importorskip("markdown_it")
    if page.name == "README.md":
        return
    text = page.read_text(encoding="utf-8").removeprefix("---\nhide: [navigation]\n---\n")
    expected = Read(markdown_it.MarkdownIt("commonmark").enable("table").render(text)).counts
    html = (site / f"{page.stem}.html").read_text(encoding="utf-8")
    article = html[html.index("<article") : html.index("</article>")]
    found = Read(article).counts
    assert {tag: found.get(tag, 0) for tag in ("ul", "ol", "li", "table", "tr")} == {
        tag: expected.get(tag, 0) for tag in ("ul", "ol", "li", "table", "tr")
    }
    assert len(re.findall(r'class="[\w -]*highlight"', article)) == expected.get("pre", 0)
