"""Standard output and error that take every text, whatever they are encoded in."""

from __future__ import annotations

import codecs
import sys

ESCAPED = "edgevit.escaped"
"""Name of the error handler."""


def forgiving_streams() -> None:
    r"""Let standard output and error write ``\u4e2d`` for what their encoding has not, instead of raising UnicodeEncodeError.

    A terminal or a log may be ASCII or Latin-1, and a file name that is no UTF-8 fits no encoding. The form is that of JSON, so
    lines of JSON stay what they are.
    """
    codecs.register_error(ESCAPED, _escaped)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a test, or another program, may have put something else there
            reconfigure(errors=ESCAPED)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    codes = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{codes[i : i + 2].hex()}" for i in range(0, len(codes), 2)), error.end
