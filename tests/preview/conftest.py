"""A running preview, and how to ask it for something."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

INFO = {"model": "tiny", "source": "a test", "precision": "int8", "engine": "fake 1 on numpy"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(url: str, path: str = "/", *, method: str = "GET", host: str | None = None, **headers: str) -> Answer:
    """One request, without following redirects; ``host`` is what the Host header says."""
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)) as connection:
        connection.request(method, path, headers={**({"Host": host} if host else {}), **headers})
        response = connection.getresponse()
        return Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, response.read())


@pytest.fixture
def serve() -> Iterator[Callable[..., Any]]:
    """Starts previews, on a free port of the loopback address unless told otherwise."""
    pytest.importorskip("uvicorn", reason="needs the extra: pip install 'edgevit[preview]'")
    from edgevit.preview.server import Preview

    with ExitStack() as stack:
        yield lambda address="127.0.0.1:0", **options: stack.enter_context(closing(Preview(address, **{"info": INFO, **options})))
