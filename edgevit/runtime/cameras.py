"""A source with the name that outputs call it by: what one of several is told apart by."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from edgevit.errors import ConfigError, SourceError, did_you_mean
from edgevit.files.paths import exists, expanded
from edgevit.runtime.frame import Source
from edgevit.runtime.redact import names_secret, redacted
from edgevit.runtime.region import Region, parse_region

NAME = r"[A-Za-z0-9_-]{1,64}"
NAMED = re.compile(rf"({NAME})=(.+)", re.DOTALL)
ROI = re.compile(rf"({NAME}):(.+)", re.DOTALL)
SURELY = re.compile(r"\d{1,2}$|[a-z]+://|gst:|/dev/", re.IGNORECASE)
UNNAMED = "camera{}"
"""Of several, those that nobody named are called by their place."""
Sourcelike = str | Path | Source
"""A source in Python: as the command takes it, or open."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a user asks for as one source."""

    uri: str
    name: str | None = None
    """None of one alone that was given none: outputs then say nothing of a camera."""
    region: Region | None = None
    opened: Source | None = None
    """The source itself, if it is open: it stays open, and ``uri`` only describes it."""


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

    No other source has such a beginning: pipelines and addresses have a colon before their first ``=``. But ``token=SOURCE`` is a
    name only before what is a source beyond doubt: anything else may be a secret, and is never shown.
    """
    match = NAMED.fullmatch(text)
    if match is None or _is_there(text):
        return Asked(uri=text)
    name, uri = match.groups()
    doubtful = names_secret(name) and not SURELY.match(uri) and not _is_there(uri)
    return Asked(uri=text) if doubtful else Asked(name=name, uri=uri)


def shown_source(text: str) -> str:
    """``NAME=SOURCE`` or ``SOURCE`` without its password."""
    asked = parse_named(text)
    return redacted(asked.uri) if asked.name is None else f"{asked.name}={redacted(asked.uri)}"


def _is_there(text: str) -> bool:
    with suppress(SourceError):  # it cannot be a file's name: too long, say
        return exists(expanded(text), SourceError, called=redacted(text))
    return False


def asked_of(texts: Sequence[str], regions: Iterable[str] = ()) -> tuple[Asked, ...]:
    """Sources as a user writes them, with the regions that are theirs: ``X,Y,W,H`` for all, ``NAME:X,Y,W,H`` for one.

    Of several each has a name of its own. Raises ConfigError for names or regions that are given twice, or are nobody's.
    """
    found = _told_apart([parse_named(text) for text in texts])
    return _with_regions(found, _regions(regions, _names(found)))


def cameras_of(
    source: Sourcelike | Sequence[Sourcelike] | Mapping[str, Sourcelike], roi: str | Mapping[str, str] | None = None
) -> tuple[Asked, ...]:  # fmt: skip
    """The same of Python's values: one source, a list of them, or a mapping from their names; ``roi`` of all, or by name.

    Raises ConfigError as `asked_of` does, and for no source.
    """
    if isinstance(source, Mapping):
        found = [replace(_asked(each), name=name) for name, each in source.items()]
        wrong = next((each.name for each in found if not re.fullmatch(NAME, each.name or "")), None)
        if wrong is not None:
            msg = f"source: {wrong!r} is no name: letters, digits, - and _, 64 at most"
            raise ConfigError(msg)
    else:
        found = [_asked(source)] if isinstance(source, str | Path | Source) else list(map(_asked, source))
    if not found:
        msg = "source: there is none. Give at least one"
        raise ConfigError(msg)
    texts = [roi] if isinstance(roi, str) else [f"{name}:{text}" for name, text in (roi or {}).items()]
    found = _told_apart(found)
    return _with_regions(found, _regions(texts, _names(found)))


def _asked(source: Sourcelike) -> Asked:
    if isinstance(source, Source):
        return Asked(uri=source.description, opened=source)
    return parse_named(source) if isinstance(source, str) else Asked(uri=str(source))


def _names(found: Sequence[Asked]) -> list[str]:
    return [each.name for each in found if each.name is not None]


def _told_apart(found: list[Asked]) -> list[Asked]:
    """Each of several with a name, all of them different. Raises ConfigError."""
    if len(found) > 1:
        found = [replace(each, name=each.name or UNNAMED.format(place)) for place, each in enumerate(found, 1)]
    twice = [name for name, count in Counter(each.name for each in found).items() if count > 1]
    if twice:
        msg = f"two sources are called {twice[0]!r}: write NAME=SOURCE with another NAME before one of them"
        raise ConfigError(msg)
    return found


def _with_regions(found: Sequence[Asked], given: Mapping[str | None, Region]) -> tuple[Asked, ...]:
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
