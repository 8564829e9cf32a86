"""Who may look, and what a browser may do with it."""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode

from edgevit.errors import ConfigError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MIN_TOKEN = 8
"""Characters; the ones made here have 22."""
WRONG_SECONDS = 0.5
"""How long the answer to a wrong token takes."""
HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+))(?::\d{1,5})?")
"""A Host header, to its last character: what follows an address must be a port."""
SECURITY = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    # Other sites neither show the picture nor learn where it is.
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def make_token() -> str:
    """A token of 128 random bits, safe in a URL."""
    return secrets.token_urlsafe(16)


def check_token(token: str, option: str = "--serve-token") -> str:
    """The user's own token, of ``option``. Raises ConfigError if it is short or would be mangled in a URL or a header."""
    if len(token) < MIN_TOKEN or not (token.isascii() and token.replace("-", "").replace("_", "").isalnum()):
        msg = f"{option}: write at least {MIN_TOKEN} letters, digits, - or _"
        raise ConfigError(msg)
    return token


class Access:
    """ASGI middleware: checks host and token, and adds the headers that keep other sites out.

    Without a token the page is only for this machine, and only under a name that no other site can have: a page elsewhere
    that makes its own name mean 127.0.0.1 gets nothing. The token comes in the link, once, and then in a cookie that scripts
    do not see and other sites do not send; programs send ``Authorization: Bearer TOKEN``.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, loopback: bool, port: int) -> None:
        self._app, self._token, self._loopback = app, token, loopback
        # Cookies know no ports: two previews on one machine must not share a name.
        self._cookie = f"edgevit-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *((k.encode(), v.encode()) for k, v in SECURITY.items())]
            await send(message)

        answer = self._answer(scope, headers)
        scope.get("state", {})["admitted"] = answer is self._app  # others make room where there are too many
        await answer(scope, receive, secured)

    def _answer(self, scope: Scope, headers: Mapping[str, str]) -> ASGIApp:
        from starlette.responses import PlainTextResponse, Response

        if self._loopback and not _names_loopback(headers.get("host", "")):
            return PlainTextResponse("Open this page as localhost or 127.0.0.1.\n", 421)
        if self._token is None:
            return self._app
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = dict(query).get("token")
        if given is not None and self._right(given):
            rest = urlencode([pair for pair in query if pair[0] != "token"])
            # One slash: two would be the name of another server.
            location = "/" + quote(scope["path"].lstrip("/\\")) + (f"?{rest}" if rest else "")
            response = Response(status_code=303, headers={"location": location})
            response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
            return response
        bearer = headers.get("authorization", "")
        if self._right(_cookie(headers, self._cookie)) or (bearer[:7].lower() == "bearer " and self._right(bearer[7:].strip())):
            return self._app
        return _refuse

    def _right(self, given: str) -> bool:
        assert self._token is not None
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    import anyio
    from starlette.responses import PlainTextResponse

    await anyio.sleep(WRONG_SECONDS)
    text = "This wants its token: open the link that edgevit printed where it runs, or send Authorization: Bearer TOKEN.\n"
    await PlainTextResponse(text, 401, {"www-authenticate": 'Bearer realm="edgevit"'})(scope, receive, send)


def _cookie(headers: Mapping[str, str], name: str) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _names_loopback(host: str) -> bool:
    """Whether a Host header, its port aside, is this machine's own name for itself. Any port: tunnels have others."""
    match = HOST.fullmatch(host)
    if match is None:
        return False
    numeric, name = match.groups()
    if name and name.lower() == "localhost":
        return True
    try:
        return (ipaddress.IPv6Address(numeric) if numeric else ipaddress.IPv4Address(name)).is_loopback
    except ValueError:
        return False
