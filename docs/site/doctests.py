"""Examples of docstrings as code: griffe takes ``>>>`` for text where no heading stands before it."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^(?:>>> .*\n?)+", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts fences around lines that begin with ``>>>``."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of ``obj``."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(
                lambda found: f"```python\n{found[0].replace('>>> ', '').strip()}\n```\n", obj.docstring.value
            )
