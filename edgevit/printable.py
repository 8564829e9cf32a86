"""Text from elsewhere, made fit for a terminal, a log or a spreadsheet: it is shown and does nothing."""

from __future__ import annotations

import json
import re
from typing import Any

# Control characters (C0, DEL, C1), what turns the direction of writing or cannot be seen, separators of lines and
# paragraphs, and halves of surrogate pairs, which no encoding has. Joiners stay: words and emoji are written with them.
_UNFIT = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_FORMULA = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
"""What a spreadsheet takes for the beginning of a formula, in full width, too."""


def printable(text: object) -> str:
    r"""``text`` on one line, with escapes such as ``\x1b`` and ``\u202e`` in place of all that would act on a terminal."""
    return _UNFIT.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(text))


def json_text(document: Any, *, indent: int | None = None) -> str:
    """``document`` as JSON that any terminal may show: readable, and nothing in it acts. It reads back as it was."""
    text = json.dumps(document, indent=indent, ensure_ascii=False, default=str)
    return _UNFIT.sub(lambda match: match[0] if match[0] == "\n" else json.dumps(match[0])[1:-1], text)


def cell(value: Any) -> Any:
    """``value`` for a field of CSV: a text that a spreadsheet would take for a formula gets a leading ``'``."""
    return f"'{value}" if isinstance(value, str) and value[:1] and value[0] in _FORMULA else value
