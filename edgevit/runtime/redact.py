"""Passwords, tokens and user names are never shown: `redacted` for a source or an address, `without_secrets` for a sentence.

Of an address only what is known to be harmless is shown, because nobody knows all the forms in which cameras and their users
write a password. Where it cannot be told what a part is, it is hidden.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

HIDDEN = "***"
_LONGEST = 4096  # characters: no path is longer
_SECRET = r"(?:token|key|secret|pass|pw|pwd|auth|login|user|usr|cred|cookie|sign|jwt|session|pin\b|sid\b|code\b|sig\b)"
"""What is in the name of a value that is nobody's business."""
_NAME = rf"[\w.-]{{0,40}}{_SECRET}[\w.-]{{0,40}}"  # bounded: a long word must not take seconds
_SECRET_NAME = re.compile(_NAME, re.IGNORECASE)
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
_SCHEMES = frozenset(("csi", "file", "http", "https", "mqtt", "mqtts", "rtmp", "rtsp", "rtsps", "rtspt", "srt", "tcp", "test",
                      "udp", "usb"))  # fmt: skip
_WORDS = frozenset(("access_token", "api_key", "apikey", "auth", "channel", "fps", "height", "key", "login", "loginpas", "pass",
                    "passphrase", "passwd", "password", "port", "profile", "pwd", "resolution", "secret", "stream", "subtype",
                    "token", "user", "username", "usr", "width"))  # fmt: skip
"""Names in a query that may be shown: another may be the second half of a password with ``&`` in it."""

# --- a source or an address ------------------------------------------------------------------------------------------

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}):([/\\]*)")
_PATTERN = re.compile(r"test://[\dx@.]*(?:\?frames=\d*)?")
_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[\w.-]*)(?::\d{1,5})?")
_TIME = re.compile(r"[\d:.T_-]+(?:\.\w{1,5})?")
_NUMBER = re.compile(r"\d{1,5}")
_TOKEN = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w+=-]{24,}")  # as web addresses have them in their path


def redacted(source: str) -> str:
    """``source`` as it may be shown: an address without its login and the values of its query, a pipeline without its secrets.

    Takes every form that `open_source` takes, and what is meant to be one; a path or a device stays as it is. What is equal to
    its redacted form holds no secret that could be told.
    """
    if len(source) > _LONGEST:
        return HIDDEN
    if source[:4].lower() == "gst:":
        return source[:4] + _pipeline(source[4:])
    if _PATTERN.fullmatch(source):
        return source
    match = _SCHEME.match(source)
    if match is None:
        return _path(source)
    scheme, slashes = match.groups()
    if not slashes:  # "user:password", as often as a scheme
        known = scheme.lower() in _SCHEMES and "@" not in source
        return _path(source) if "@" in source else f"{scheme}:{HIDDEN}" if known else HIDDEN
    return f"{scheme}:{slashes}{_location(source[match.end() :])}"


def names_secret(name: str) -> bool:
    """Whether what is called ``name`` is likely to be a secret."""
    return _SECRET_NAME.fullmatch(name) is not None


def origin(address: str) -> str:
    """Scheme, host and port of an address, as far as it has them: of a web address the rest may be a secret as a whole."""
    match = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:[/\\]+[^/\\?#]*", redacted(address))
    return f"{match[0]}/..." if match else "..."


def _location(text: str) -> str:
    """What follows the scheme: login, host, path, query."""
    login, at, rest = text.rpartition("@")
    if at and (set(login) & set("?#") or ("/" in login and "=" in login)):
        return HIDDEN  # the @ may be in a value of the query, and what follows it as well
    authority = re.match(r"[^/\\?#]*", rest)
    assert authority is not None
    if not _AUTHORITY.fullmatch(authority[0]):
        return HIDDEN  # "user:password" where somebody forgot the host
    return authority[0] + _target(rest[authority.end() :])


def _target(text: str) -> str:
    """Path and query of an address."""
    path, mark, query = re.fullmatch(r"([^?#]*)([?#]?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    shown = _shown_parts(map(_segment, path.split("/")))
    return shown if shown.endswith(HIDDEN) else shown + mark + _query(query)


def _shown_parts(parts: Iterable[str]) -> str:
    """A path up to the first part that is hidden: what follows may belong to it."""
    shown: list[str] = []
    for part in parts:
        shown.append(part)
        if part.endswith(HIDDEN):
            break
    return "/".join(shown)


def _segment(text: str) -> str:
    """A part of an address's path; some cameras have their login in one."""
    plain = unquote(text)
    if "=" in plain:
        name = text.partition("=")[0]
        return f"{name}={HIDDEN}" if name.lower() in _WORDS else HIDDEN
    return HIDDEN if ":" in plain or _TOKEN.fullmatch(plain) else text


def _query(text: str) -> str:
    parts = re.split(r"([&;])", text)
    return "".join(part if part in ("&", ";", "") else _parameter(part) for part in parts)


def _parameter(text: str) -> str:
    name, equals, value = text.partition("=")
    if not equals or name.lower() not in _WORDS:
        return HIDDEN
    return text if _NUMBER.fullmatch(value) and not _SECRET_NAME.fullmatch(name) else f"{name}={HIDDEN}"


def _path(text: str) -> str:
    """A path, or an address whose scheme is missing or mistyped."""
    login, at, rest = text.rpartition("@")
    if at:
        return HIDDEN if set(login) & set("?#=") or re.search(r":\s", login) else f"{HIDDEN}@{_location(rest)}"
    text, mark, query = re.fullmatch(r"([^?]*)(\??)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    text = re.sub(rf"({_NAME}\s*[=:]).*", rf"\1{HIDDEN}", text, flags=re.IGNORECASE | re.DOTALL)
    shown = _shown_parts(HIDDEN if ":" in part and not _TIME.fullmatch(part) else part for part in text.split("/"))
    return shown if shown.endswith(HIDDEN) else shown + mark + _query(query)


# --- a pipeline ------------------------------------------------------------------------------------------------------

_PAIR = re.compile(rf"([A-Za-z_][\w:.-]*)(\s*=\s*)({_QUOTED}|[^\s\"'\\]+)(?=\s|$)", re.DOTALL)
_LINK = re.compile(r"\s+!(?=\s|$)|$")
_PAD = re.compile(r"[A-Za-z]\w*\.\w*(?=\s|$)")  # of an element that has a name
_ELEMENT = re.compile(r"[A-Za-z][\w/.()-]*(?:,[\w-]+=(?:\(\w+\))?[\w/.-]+)*(?=\s|$)")  # or the capabilities of a link


def _pipeline(text: str) -> str:
    """A pipeline up to what is none: from there on anything may be a part of a secret."""
    shown, at, head, wary, told = "", 0, True, False, False
    while at < len(text):
        if blank := re.compile(r"\s+").match(text, at):
            shown, at = shown + blank[0], blank.end()
        elif link := re.compile(r"!(?=\s|$)").match(text, at):
            shown, at, head, wary = shown + "!", link.end(), True, False
        elif pair := _PAIR.match(text, at):
            secret = _SECRET_NAME.fullmatch(pair[1]) is not None
            # An unquoted secret may have a blank in it, and this may be its second half.
            if wary and not secret:
                shown, at = shown + HIDDEN, _LINK.search(text, at).start()  # type: ignore[union-attr]  # or the end
                continue
            halved = ":" in pair[3] and "@" in text[pair.end() :]  # an address that may go on behind a blank
            value = HIDDEN if secret or halved else _value(pair[3])
            shown, at, head = shown + pair[1] + pair[2] + value, pair.end(), False
            wary = wary or halved or (HIDDEN in value and pair[3][0] not in "\"'")
            told = told or value != pair[3]
        elif head and (element := _ELEMENT.match(text, at)) and not _SECRET_NAME.search(element[0].partition(",")[2]):
            shown, at, head = shown + element[0], element.end(), False
        elif not told and (pad := _PAD.match(text, at)):
            shown, at, head = shown + pad[0], pad.end(), False
        else:
            return shown + HIDDEN
    return shown


def _value(text: str) -> str:
    quote = text[0] if text[0] in "\"'" else ""
    return quote + redacted(text[1:-1] if quote else text) + quote


# --- a sentence ------------------------------------------------------------------------------------------------------

_SENTENCE = (
    (re.compile(r"(?<=:/)(/*)[^\n]*@"), r"\1"),  # greedy: a password may hold anything, and losing words is the lesser evil
    (re.compile(r"(//)?[^\s:/@'\"]{1,64}:[^\s@]{1,512}@"), rf"\1{HIDDEN}@"),
    (re.compile(rf"({_NAME}\s*=\s*)(?:{_QUOTED}|[^\s&;,]+)", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"((?:authorization|cookie|[\w-]{0,40}(?:key|token|secret))\s*:\s*(?:(?:basic|bearer|digest)\s+)?)[^\s\"']+",
                re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"((?<!\S)(?:-u|--user)[\s=]+)[^\s:]+:\S+"), rf"\1{HIDDEN}"),
)  # fmt: skip
_ADDRESS = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,30}://[^\s'\"<>]*[^\s'\"<>:.,;!?)]")


def without_secrets(sentence: str) -> str:
    """``sentence``, an error of somebody else's or a command, without the logins, passwords and tokens that it quotes."""
    sentence = sentence if len(sentence) <= _LONGEST else f"{sentence[:_LONGEST]}..."
    for pattern, instead in _SENTENCE:
        sentence = pattern.sub(instead, sentence)
    return _ADDRESS.sub(lambda match: redacted(match[0]), sentence)
