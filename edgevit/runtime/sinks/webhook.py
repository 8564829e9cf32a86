"""Events sent to a web server, as JSON."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from edgevit import __version__
from edgevit.errors import ConfigError, EdgevitError
from edgevit.runtime.decide import Decision
from edgevit.runtime.redact import origin, redacted
from edgevit.runtime.sinks.address import is_clean
from edgevit.runtime.sinks.base import Delivery, Note
from edgevit.runtime.sinks.record import record
from edgevit.runtime.sinks.worker import Worker

TIMEOUT_SECONDS = 5.0
"""Without a byte from the server."""
WAITS = (0.5, 2.0)
"""Seconds before each further attempt. A server that is gone or overloaded gets them, one that refuses does not."""
TOO_MANY = 429
REASON = 100
"""Characters of a server's words that are told."""


class Webhook:
    """Posts every event to ``url``, as `record` has it. User and password in the URL are sent as basic authentication.

    To that server only: one that says that it has moved has refused. Whoever followed it would hand the password to a server
    that the user did not name, and the event to nobody, since a redirected post has no content any more.
    """

    def __init__(self, url: str, *, note: Note, timeout: float = TIMEOUT_SECONDS, waits: tuple[float, ...] = WAITS) -> None:
        """Check ``url``. Raises ConfigError for one that is not http or https."""
        self._url, self._headers = _parse(url)
        self.delivery = Delivery(name=f"webhook {urlsplit(self._url).netloc}")
        self._timeout, self._waits = timeout, waits
        self._opener = _opener()
        self._worker: Worker[dict[str, Any]] = Worker(self.delivery, self._post, note=note)

    def send(self, decision: Decision) -> None:
        """Queue one event."""
        self._worker.put(record(decision))

    def close(self) -> None:
        """Send what is queued, for seconds."""
        self._worker.close()

    def _post(self, event: dict[str, Any]) -> None:
        data = json.dumps(event).encode()
        for wait in (*self._waits, None):
            error, again = self._attempt(data)
            if error is None:
                return
            if not again or wait is None or self._worker.closing.wait(wait):
                break
        raise EdgevitError(error)

    def _attempt(self, data: bytes) -> tuple[str | None, bool]:
        """What went wrong, if anything, and whether another attempt may help."""
        request = urllib.request.Request(self._url, data, self._headers)
        try:
            with self._opener.open(request, timeout=self._timeout):
                return None, False
        except urllib.error.HTTPError as error:
            error.close()
            if 300 <= error.code < 400 and (location := error.headers.get("Location")):
                return f"the server moved to {_shown(self._url, location)}: change --webhook", False
            return f"the server answered {error.code} {error.reason[:REASON]}", error.code >= 500 or error.code == TOO_MANY
        except urllib.error.URLError as error:
            return f"cannot reach the server: {getattr(error.reason, 'strerror', None) or error.reason}", True
        except Exception as error:  # http.client's own, and sockets'
            return f"cannot reach the server: {error or type(error).__name__}", True


def _opener() -> urllib.request.OpenerDirector:
    """As urllib's own, proxies included, without what follows redirects and without other schemes."""
    kinds = (
        urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor,
    )  # fmt: skip
    opener = urllib.request.OpenerDirector()
    for kind in kinds:
        opener.add_handler(kind())
    return opener


def _shown(url: str, location: str) -> str:
    """Where a server says that it is now, without what of it may be secret, as the path often is."""
    own = urlsplit(url).path.rstrip("/")
    try:
        parts = urlsplit(redacted(urljoin(url, location)))
    except ValueError:
        return "no valid address"
    path = f"/...{parts.path[len(own) :]}" if own and parts.path.startswith(own) else parts.path
    return parts._replace(path=path).geturl()[:REASON]


def _parse(url: str) -> tuple[str, dict[str, str]]:
    """The URL without its user, and the headers of every request."""
    headers = {"Content-Type": "application/json", "User-Agent": f"edgevit/{__version__}"}
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and is_clean(url, parts)
    except ValueError:
        valid = False
    if not valid:
        form = "write http://HOST[:PORT]/PATH or https://..., and / and @ of a password as %2F and %40"
        msg = f"--webhook: {origin(url)!r} is no address: {form}"
        raise ConfigError(msg)
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return parts.geturl(), headers
