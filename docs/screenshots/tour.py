"""The animation of the README: a terminal in which commands are really run, then the live page of the last of them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

    from tests.preview.browser import Page

SIZE = (1000, 620)
COLUMNS = 96
LINES = 24
"""Of the terminal."""
TERMINAL = """<!doctype html><meta charset="utf-8"><style>
body { margin: 0; overflow: hidden; background: #11171d; color: #dfe7ee; }
pre { margin: 0; padding: 22px 26px; font: 15px/1.42 "DejaVu Sans Mono", monospace; white-space: pre; }
b { color: #6cc6f2; font-weight: 400; } i { color: #8aa0b0; font-style: normal; }
</style><pre id="terminal"></pre>"""
TYPED = 3
"""Frames in which a command is typed."""


def said(words: Sequence[str], folder: Path, environment: dict[str, str]) -> list[str]:
    """What a command prints on a terminal of `COLUMNS`, its notes left out."""
    told = {**environment, "COLUMNS": str(COLUMNS), "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(words, cwd=folder, env=told, check=True, capture_output=True, text=True)
    return done.stdout.rstrip().splitlines()


def scene(page: Page, command: str, output: Sequence[str], *, steps: int = 2) -> list[Image]:
    """Frames in which ``command`` is typed and its ``output`` comes, in so many steps."""
    frames = []
    for i in range(1, TYPED + 1):
        frames.append(shown(page, f"<b>$</b> {escape(command[: len(command) * i // TYPED])}"))
    for i in range(1, steps + 1):
        lines = [
            escape(line if len(line) <= COLUMNS else f"{line[: COLUMNS - 1]}…")
            for line in output[: max(1, len(output) * i // steps)]
        ]
        frames.append(shown(page, "\n".join([f"<b>$</b> {escape(command)}", *lines][:LINES])))
    return [*frames, *frames[-1:] * 4]


def shown(page: Page, markup: str) -> Image:
    """The terminal with this in it."""
    page.call("Runtime.evaluate", expression=f"document.getElementById('terminal').innerHTML = {markup!r}")
    return picture(page)


def picture(page: Page) -> Image:
    """What the browser shows."""
    from PIL import Image

    return Image.open(BytesIO(page.screenshot())).convert("RGB")


def terminal(page: Page, folder: Path) -> None:
    """Open an empty one."""
    path = folder / "terminal.html"
    path.write_text(TERMINAL, encoding="utf-8")
    page.screen(*SIZE)
    page.open(path.as_uri())
    page.wait("document.getElementById('terminal') !== null")


def live(page: Page, address: str, *, frames: int = 12, seconds: float = 1.0) -> list[Image]:
    """The live page, some time after it was opened."""
    page.screen(*SIZE, dark=True)
    page.call("Emulation.setScrollbarsHidden", hidden=True)
    page.open(address)
    page.wait("document.getElementById('live')?.naturalWidth > 0")
    found = []
    for _ in range(frames):
        time.sleep(seconds)
        found.append(picture(page))
    return found
