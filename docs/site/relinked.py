"""Links of a file of the repository, as they are right within the site."""

from __future__ import annotations

import posixpath
import re

LINK = re.compile(r"(?<=\]\()([^)\s#]*)(#[^)\s]*)?(?=\))")

PLACES = {
    "CHANGELOG.md": "reference/changelog.md",
    "CODE_OF_CONDUCT.md": "reference/code_of_conduct.md",
    "CONTRIBUTING.md": "reference/contributing.md",
    "README.md": "index.md",
    "SECURITY.md": "reference/security_policy.md",
    "benchmarks": "reference/benchmarks.md",
    "benchmarks/README.md": "reference/benchmarks.md",
    "calibration": "reference/recipes.md",
    "calibration/README.md": "reference/recipes.md",
    "docs/README.md": "index.md",
    "examples/solar_cells": "reference/solar_cells.md",
    "examples/solar_cells/README.md": "reference/solar_cells.md",
    "targets": "reference/targets.md",
    "targets/README.md": "reference/targets.md",
}
"""Pages of the site by the file of the repository that they are made of."""

ANCHORS = {"README.md": ""}
"""Of files that the site has no whole copy of: where in it their sections are."""


def relinked(text: str, page: str, source: str | None = None) -> str:
    """``text`` of the file ``source`` (by default ``page`` in docs/) with its links as ``page`` of the site needs them."""
    beginning = posixpath.dirname(source or f"docs/{page}")

    def target(found: re.Match[str]) -> str:
        path, anchor = found[1], found[2] or ""
        if not path or "://" in path or path.startswith("mailto:"):
            return found[0]
        whole = posixpath.normpath(posixpath.join(beginning, path))
        place = PLACES.get(whole) or whole.removeprefix("docs/")
        if place == whole and source is None:  # nothing that is elsewhere in the site
            return found[0]
        return posixpath.relpath(place, posixpath.dirname(page) or ".") + ANCHORS.get(whole, anchor)

    return LINK.sub(target, text)
