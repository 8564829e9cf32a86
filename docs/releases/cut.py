"""Cut a release: ``python docs/releases/cut.py 0.2.0 2026-11-29``. Everything that has a version gets it, or nothing is changed.

What stands under [Unreleased] in CHANGELOG.md becomes the version's; its notes, docs/releases/VERSION.md, are written before.
"""

from __future__ import annotations

import re
import sys
from datetime import date
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[2]


def changes(root: Path, version: str, day: str) -> dict[Path, str]:
    """The new text of every file. Raises SystemExit, with the reason, where one is not as it has to be."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        _refuse(f"{version!r} is no version: write three numbers, as in 0.2.0")
    try:
        date.fromisoformat(day)
    except ValueError:
        _refuse(f"{day!r} is no day: write YYYY-MM-DD")
    notes = root / "docs" / "releases" / f"{version}.md"
    if not notes.exists():
        _refuse(f"{notes}: is not there. Write the notes first")
    return {
        path: _replaced(path, pattern, text)
        for path, pattern, text in (
            (root / "edgevit" / "__init__.py", r'(?m)^__version__ = ".*"$', f'__version__ = "{version}"'),
            (root / "CHANGELOG.md", r"(?m)^## \[Unreleased\]\n+(?=### )", f"## [Unreleased]\n\n## [{version}] - {day}\n\n"),
            (root / "CITATION.cff", r"(?m)^version: .*\n(?:date-released: .*\n)?", f"version: {version}\ndate-released: {day}\n"),
        )
    }


def _refuse(why: str) -> NoReturn:
    raise SystemExit(why)


def _replaced(path: Path, pattern: str, text: str) -> str:
    found, count = re.subn(pattern, text, path.read_text(encoding="utf-8"), count=1)
    if count != 1:
        _refuse(f"{path}: nothing there looks like {pattern}")
    return found


def main(root: Path = ROOT) -> None:
    """Write them."""
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    for path, text in changes(root, *sys.argv[1:]).items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(root))


if __name__ == "__main__":
    main()
