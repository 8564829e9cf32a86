"""Webhooks against a real server that is well, slow, broken, gone and back again."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from edgevit.errors import ConfigError
from edgevit.runtime.sinks import worker
from edgevit.runtime.sinks.webhook import Webhook
from tests.runtime.fakes import Notes, decision, eventually, frame


class Server(ThreadingHTTPServer):
    """Answers each request as the next of ``answers`` says, 200 after the last."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.answers: list[Callable[[Any], None] | int] = []
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), json.loads(body)))
        answer = self.server.answers.pop(0) if self.server.answers else 200
        if callable(answer):
            answer(self)
            return
        self.send_response(answer)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        """What a client sends that follows a redirect."""
        self.server.requests.append((self.path, dict(self.headers), None))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def moved(code: int, location: str) -> Callable[[Any], None]:
    """An answer that sends the client elsewhere."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Location", location)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def hook(url: str, notes: Notes | None = None, *, timeout: float = 2.0, waits: tuple[float, ...] = (0.01, 0.01)) -> Webhook:
    return Webhook(url, note=Notes() if notes is None else notes, timeout=timeout, waits=waits)


def test_event_arrives_as_json(server: Server) -> None:
    with closing(hook(server.url)) as sink:
        sink.send(decision("crack ü", 0.875, frame=frame(index=3)))
    ((path, headers, body),) = server.requests
    assert (path, headers["Content-Type"]) == ("/hook", "application/json")
    assert headers["User-Agent"].startswith("edgevit/")
    assert (body["label"], body["confidence"], body["frame"]) == ("crack ü", 0.875, 3)
    assert sink.delivery.sent == 1


def test_user_and_password_are_sent_as_a_header(server: Server) -> None:
    with closing(hook(server.url.replace("//", "//me:p%40ss@"))) as sink:
        sink.send(decision())
    assert base64.b64decode(server.requests[0][1]["Authorization"].removeprefix("Basic ")) == b"me:p@ss"
    assert "p@ss" not in sink.delivery.line()
    assert "p%40ss" not in sink.delivery.line()


@pytest.mark.parametrize("code", [500, 503, 429])
def test_server_that_recovers_gets_the_event(server: Server, code: int) -> None:
    server.answers = [code, code]
    with closing(hook(server.url)) as sink:
        sink.send(decision())
        eventually(lambda: sink.delivery.sent)
    assert len(server.requests) == 3
    assert sink.delivery.complete


def test_server_that_stays_broken_loses_the_event_and_says_so(server: Server) -> None:
    server.answers = [500] * 3
    notes = Notes()
    with closing(hook(server.url, notes)) as sink:
        sink.send(decision())
        eventually(lambda: sink.delivery.failed)
        sink.send(decision())
    assert (sink.delivery.sent, sink.delivery.failed) == (1, 1)
    name = f"webhook 127.0.0.1:{server.server_port}"
    assert notes == [f"{name}: the server answered 500 Internal Server Error. The run goes on", f"{name}: works again"]


def test_refusal_is_not_tried_again(server: Server) -> None:
    server.answers = [404]
    with closing(hook(server.url)) as sink:
        sink.send(decision())
    assert len(server.requests) == 1
    assert sink.delivery.failed == 1


def test_connection_that_is_cut_is_a_failed_attempt(server: Server) -> None:
    server.answers = [lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)]
    with closing(hook(server.url)) as sink:
        sink.send(decision())
        eventually(lambda: sink.delivery.sent)
    assert len(server.requests) == 2


def test_server_that_is_gone_and_comes_back(server: Server) -> None:
    port = server.server_port
    server.stop()
    with closing(hook(server.url, waits=(0.05,) * 100)) as sink:
        sink.send(decision())
        time.sleep(0.2)
        assert sink.delivery.sent == 0
        again = Server(port)
        eventually(lambda: sink.delivery.sent)
        again.stop()


def test_slow_server_does_not_slow_the_caller(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events queue up, the oldest are lost, and the end comes within the time that closing takes."""
    monkeypatch.setattr(worker.Worker.close, "__defaults__", (0.2,))
    server.answers = [lambda _handler: time.sleep(1.5)] * 100
    sink = hook(server.url, timeout=1.0)
    start = time.monotonic()
    for _ in range(200):
        sink.send(decision())
    assert time.monotonic() - start < 0.5
    sink.close()
    assert time.monotonic() - start < 3
    assert (sink.delivery.sent, sink.delivery.dropped) == (0, 200)


def test_timeout_is_a_failure(server: Server) -> None:
    server.answers = [lambda _handler: time.sleep(1)]
    with closing(hook(server.url, timeout=0.1, waits=())) as sink:
        sink.send(decision())
    assert "cannot reach the server: timed out" in sink.delivery.line()


@pytest.mark.parametrize(
    "url", ["", "example.com/hook", "ftp://example.com", "file:///etc/passwd", "http://", "http://h:99999/", "http://[::1"]
)
def test_other_addresses_are_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match="is no address: write http://"):
        hook(url)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["{other}/target", "//{host}/target", "file:///etc/passwd", "gopher://h/x"])
def test_redirect_is_a_failure_and_nobody_else_gets_anything(server: Server, code: int, target: str) -> None:
    """Neither the password nor, as a GET without content, the event."""
    other = Server()
    location = target.format(other=other.url.rpartition("/")[0], host=f"127.0.0.1:{other.server_port}")
    server.answers = [moved(code, location)]
    notes = Notes()
    with closing(hook(server.url.replace("//", "//me:hunter2Z@"), notes)) as sink:
        sink.send(decision())
        eventually(lambda: sink.delivery.failed)
    other.stop()
    assert (other.requests, len(server.requests)) == ([], 1)
    assert (sink.delivery.sent, sink.delivery.failed) == (0, 1)
    assert "the server moved to " in sink.delivery.line()
    assert "change --webhook" in notes[0]


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://me:hunter2Z@h.example/x?token=hunter2Z", "https://h.example/x?token=***"),
        ("https://h.example/hook", "https://h.example/..."),
        ("/hook/", "/.../"),
        ("//[bad", "no valid address"),
        ("https://h.example/\x1b[2J", "https://h.example/"),
    ],
)
def test_place_that_a_server_names_is_shown_without_secrets(server: Server, location: str, shown: str) -> None:
    """Nor with this hook's own path, which often is one."""
    server.answers = [moved(308, location)]
    with closing(hook(server.url)) as sink:
        sink.send(decision())
        eventually(lambda: sink.delivery.failed)
    assert shown in (sink.delivery.error or "")
    assert "hunter2Z" not in (sink.delivery.error or "")
    assert "/hook" not in (sink.delivery.error or "")


@pytest.mark.parametrize("code", [300, 304, 399])
def test_other_answers_of_the_kind_are_failures_too(server: Server, code: int) -> None:
    server.answers = [code]
    with closing(hook(server.url)) as sink:
        sink.send(decision())
    assert (sink.delivery.sent, sink.delivery.failed) == (0, 1)


@pytest.mark.parametrize(
    "url",
    ["http://h/a b", "http://h/a\nb", "http://h /x", "http://me:12/34@h/x", "http://me:p w@h/", "http://a..b/",
     f"http://{'a' * 70}/", "http://h\u202e/"],
)  # fmt: skip
def test_addresses_that_mean_something_else_are_refused(url: str) -> None:
    """A password with a slash would be half a port, half a path, and sent to whoever is called like its user."""
    with pytest.raises(ConfigError, match="is no address"):
        hook(url)
