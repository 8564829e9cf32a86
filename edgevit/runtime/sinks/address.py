"""What the addresses of web servers and of brokers have in common."""

from __future__ import annotations

from urllib.parse import SplitResult

from edgevit.printable import printable


def is_clean(url: str, parts: SplitResult) -> bool:
    """Whether ``url``, and ``parts`` of it, means to every program what its user meant.

    No blanks and control characters, which parsers drop; a host that can be looked up; no password with a slash in it, of which
    the first half would be taken for a port and the second be sent to whatever host has that name.
    """
    try:
        (parts.hostname or "").encode("idna")
    except UnicodeError:
        return False
    rest = url.partition("://")[2].partition("/")[2]
    halved = ":" in parts.netloc and "@" not in parts.netloc and "@" in rest
    return printable(url) == url and not any(map(str.isspace, url)) and not halved
