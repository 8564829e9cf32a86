"""What MkDocs calls while it builds the site: pages that are made, links out of docs/, drawings in the page's colours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from generated import ROOT, pages
from mkdocs.structure.files import File
from relinked import relinked

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

DRAWING = re.compile(r'<img alt="([^"]*)" src="(?:\.\./)*drawings/([\w-]+\.svg)"\s*/?>')
COMMANDS = "reference/commands/"


def on_config(config: MkDocsConfig) -> None:
    """Put a page per command behind the one that lists them: nobody has to keep a list."""
    listed = [uri for uri in pages() if uri.startswith(COMMANDS) and uri != f"{COMMANDS}index.md"]
    config.nav = _with(config.nav, listed)


def _with(nav: object, listed: list[str]) -> object:
    """``nav`` with ``listed`` below the entry called Commands."""
    if isinstance(nav, list):
        return [_with(item, listed) for item in nav]
    if isinstance(nav, dict):
        return {name: [below, *listed] if name == "Commands" else _with(below, listed) for name, below in nav.items()}
    return nav


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, as if they lay in docs/."""
    for uri, content in pages().items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links that leave docs/ end at the page that is made of their file."""
    return relinked(markdown, page.file.src_uri)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put drawings into the page itself: an image knows nothing of the switch between light and dark."""
    return DRAWING.sub(lambda found: _drawing(found[2], found[1]), html)


def _drawing(name: str, alt: str) -> str:
    svg = (ROOT / "docs" / "drawings" / name).read_text(encoding="utf-8")
    labelled = svg.replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)
    return f'<div class="drawing">{labelled}</div>'
