"""A source with the name that outputs call it by: what one of several is told apart by."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from edgevit.errors import ConfigError, SourceError, did_you_mean
from edgevit.files.paths import exists, expanded
from edgevit.runtime.frame import Source
from edgevit.runtime.redact import redacted
from edgevit.runtime.region import Region, parse_region

NAMED = re.compile(r"([A-Za-z0-9_-]{1,64})=(.+)", re.DOTALL)
ROI = re.compile(r"([A-Za-z0-9_-]{1,64}):(.+)", re.DOTALL)
UNNAMED = "camera{}"
"""Of several, those that nobody named are called by their place."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a user asks for as one source."""

    uri: str
    name: str | None = None
    """None of one alone that was given none: outputs then say nothing of a camera."""
    region: Region | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Camera:
    """An open source, live or not, with what it is called and what of its picture is looked at."""

    source: Source
    name: str | None = None
    region: Region | None = None

    @property
    def called(self) -> str:
        """For people."""
        return self.name or self.source.description


def parse_named(text: str) -> Asked:
    """``NAME=SOURCE`` or ``SOURCE``. A NAME has letters, digits, ``-`` and ``_``; a file that is called so is that file.

    No other source has such a beginning: pipelines and addresses have a colon before their first ``=``.
    """
    match = NAMED.fullmatch(text)
    if match is None or _is_there(text):
        return Asked(uri=text)
    return Asked(name=match[1], uri=match[2])


def _is_there(text: str) -> bool:
    with suppress(SourceError):  # it cannot be a file's name: too long, say
        return exists(expanded(text), SourceError, called=redacted(text))
    return False


def asked_of(texts: Sequence[str], regions: Iterable[str] = ()) -> tuple[Asked, ...]:
    """Sources as a user writes them, with the regions that are theirs: ``X,Y,W,H`` for all, ``NAME:X,Y,W,H`` for one.

    Of several each has a name of its own. Raises ConfigError for names or regions that are given twice, or are nobody's.
    """
    found = [parse_named(text) for text in texts]
    if len(found) > 1:
        found = [replace(each, name=each.name or UNNAMED.format(place)) for place, each in enumerate(found, 1)]
    twice = [name for name, count in Counter(each.name for each in found).items() if count > 1]
    if twice:
        msg = f"two sources are called {twice[0]!r}: write NAME=SOURCE with another NAME before one of them"
        raise ConfigError(msg)
    given = _regions(regions, [each.name for each in found if each.name is not None])
    return tuple(replace(each, region=given.get(each.name, given.get(None))) for each in found)


def _regions(texts: Iterable[str], names: Sequence[str]) -> dict[str | None, Region]:
    found: dict[str | None, Region] = {}
    for text in texts:
        match = ROI.fullmatch(text)
        name, rest = (match[1], match[2]) if match else (None, text)
        if name is not None and name not in names:
            known = did_you_mean(name, names) if names else "Give the source one: NAME=SOURCE"
            msg = f"--roi {text!r}: no source is called {name!r}. {known}"
            raise ConfigError(msg)
        if name in found:
            msg = f"--roi {text!r}: the second for {'all' if name is None else name}. Leave one out"
            raise ConfigError(msg)
        found[name] = parse_region(rest)
    return found
