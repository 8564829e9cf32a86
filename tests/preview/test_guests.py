"""Half requests, slow ones and too many: who only sits there makes room for those who want something."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

import pytest

pytest.importorskip("uvicorn", reason="needs the extra: pip install 'edgevit[preview]'")

from edgevit.preview import access, app, guests
from edgevit.preview.address import network
from tests.preview.conftest import ask
from tests.runtime.fakes import decision, eventually

HALF = b"GET /state HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
WHOLE = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
LOOPBACKS = ("127.0.0.1", "127.0.0.2")  # all of 127.0.0.0/8 is Linux's own


def connect(preview, *, own: str = "127.0.0.1", sends: bytes = b"") -> socket.socket:
    parts = urlsplit(preview.url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=5, source_address=(own, 0))
    connection.sendall(sends)
    return connection


def state_of(preview, *, own: str = "127.0.0.1", path: bytes = b"/state") -> bytes:
    """The status line of an answer, of a viewer with an address of its own."""
    with connect(preview, own=own, sends=WHOLE % path) as connection:
        return connection.recv(65536).partition(b"\r\n")[0]


def gone(connection: socket.socket) -> bool:
    """Whether the server has ended it."""
    connection.settimeout(0.01)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


@contextmanager
def sitting(
    preview, count: int, *, sends: bytes = HALF, every: float = 0.2, own: str = "127.0.0.1"
) -> Iterator[list[socket.socket]]:
    """``count`` connections with half a request, and a byte of the rest now and then."""
    over = threading.Event()

    def trickle(connections: list[socket.socket]) -> None:
        while not over.wait(every):
            for connection in connections:
                with suppress(OSError):
                    connection.send(b"x")

    with ExitStack() as stack:
        connections = [stack.enter_context(connect(preview, sends=sends, own=own)) for _ in range(count)]
        thread = threading.Thread(target=trickle, args=(connections,))
        thread.start()
        try:
            yield connections
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("token", [None, "right-token_1"])
def test_slow_heads_shut_nobody_out(serve, token: str | None) -> None:
    """140 of them from one address, as in the attack: all others, of that address as well, are answered at once."""
    preview = serve(token=token)
    wanted = b"HTTP/1.1 200 OK" if token is None else b"HTTP/1.1 401 Unauthorized"
    with sitting(preview, 140):
        for _ in range(5):
            for own in LOOPBACKS:
                start = time.monotonic()
                assert state_of(preview, own=own) == wanted
                assert time.monotonic() - start < 2
            time.sleep(0.2)
        assert len(preview._serving._server.server_state.connections) <= guests.PER_ADDRESS + len(LOOPBACKS)


def test_head_that_is_not_finished_in_time_ends(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte resets uvicorn's own timer, and none resets this one."""
    monkeypatch.setattr(guests, "REQUEST_SECONDS", 0.6)
    preview = serve()
    start = time.monotonic()
    with sitting(preview, 3, every=0.1) as connections:
        eventually(lambda: all(map(gone, connections)), seconds=5)
        assert 0.4 < time.monotonic() - start < 4
    with connect(preview) as silent:  # not a single byte
        eventually(lambda: gone(silent), seconds=5)


def test_slow_head_is_told_why(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests, "REQUEST_SECONDS", 0.3)
    with connect(serve(), sends=HALF) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert connection.recv(1000) == b""


@pytest.mark.parametrize("path", [b"/state", b"/stream"])
def test_body_that_never_ends(serve, monkeypatch: pytest.MonkeyPatch, path: bytes) -> None:
    """Nothing here reads one, and so it must not keep a connection."""
    monkeypatch.setattr(guests, "REQUEST_SECONDS", 0.5)
    preview = serve()
    head = b"POST" if path == b"/state" else b"GET"
    sends = head + b" " + path + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    with sitting(preview, 3, sends=sends, every=0.1) as connections:
        eventually(lambda: all(map(gone, connections)), seconds=5)


def test_second_request_of_a_connection_has_its_own_time(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests, "REQUEST_SECONDS", 0.5)
    with connect(serve()) as connection:
        for _ in range(4):
            connection.sendall(WHOLE % b"/state")
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            time.sleep(0.3)  # longer than the time of one, taken together
        connection.sendall(HALF)
        eventually(lambda: gone(connection), seconds=5)


def test_streams_take_nobody_s_place(serve) -> None:
    """As many as there may be, of one address, and half requests as well."""
    preview = serve()
    preview(decision("cat"))
    with ExitStack() as stack:
        for _ in range(app.MAX_VIEWERS):
            stack.enter_context(connect(preview, sends=WHOLE % b"/stream"))
        eventually(lambda: ask(preview.url, "/state").json["viewers"] == app.MAX_VIEWERS)
        assert state_of(preview, path=b"/stream") == b"HTTP/1.1 503 Service Unavailable"
        with sitting(preview, 100):
            for own in LOOPBACKS:
                assert state_of(preview, own=own) == b"HTTP/1.1 200 OK"
            assert ask(preview.url, "/state").json["viewers"] == app.MAX_VIEWERS, "no stream had to go"


def test_pictures_that_wait_are_no_streams(serve) -> None:
    """Before the first frame `/picture.jpg` waits; that keeps nobody from watching."""
    preview = serve()
    with ExitStack() as stack:
        for number in range(app.MAX_VIEWERS):
            stack.enter_context(connect(preview, sends=WHOLE % b"/picture.jpg", own=f"127.0.0.{number // 8 + 1}"))
        time.sleep(0.3)
        assert state_of(preview, own="127.0.0.9", path=b"/stream") == b"HTTP/1.1 200 OK"


def test_one_address_has_half_of_the_streams(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for this machine's own, where a tunnel or a proxy may end."""
    monkeypatch.setattr(app, "PER_ADDRESS", 2)
    preview = serve()
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(connect(preview, sends=WHOLE % b"/stream"))
        eventually(lambda: ask(preview.url, "/state").json["viewers"] == 3)
        monkeypatch.setattr(app, "peer", lambda _host: ipaddress.ip_address("192.0.2.1"))  # as if from the network
        assert state_of(preview, path=b"/stream") == b"HTTP/1.1 503 Service Unavailable"
        assert state_of(preview, own="127.0.0.2", path=b"/stream") == b"HTTP/1.1 200 OK"


def test_wrong_tokens_shut_nobody_out(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their answers wait, and make room while they do."""
    monkeypatch.setattr(access, "WRONG_SECONDS", 5.0)
    preview = serve(token="right-token_1")
    with ExitStack() as stack:
        for _ in range(140):
            stack.enter_context(connect(preview, sends=WHOLE % b"/state"))
        answer = ask(preview.url, "/state", Authorization="Bearer right-token_1")
        assert answer.status == 200


def test_all_addresses_together_are_bounded(serve) -> None:
    preview = serve()
    with ExitStack() as stack:
        for number in range(4):
            stack.enter_context(sitting(preview, 80, own=f"127.0.0.{number + 10}"))
        assert state_of(preview) == b"HTTP/1.1 200 OK"
        assert len(preview._serving._server.server_state.connections) <= guests.MAX_CONNECTIONS + 2


@pytest.mark.parametrize(
    ("host", "want"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_what_counts_as_one_address(host: str, want: str) -> None:
    assert network(host) == want


@pytest.mark.parametrize(
    "host",
    ["[::1].evil.example", "[::1]evil.example", "[::1]:80.evil.example", "[::1", "::1", "[127.0.0.1]", "localhost:80:80",
     "localhost:", "localhost:http", "127.0.0.1:8o", "evil.example[::1]", "user@localhost", "localhost/x", "localhost.",
     "[::1%lo]", "127.0.0.1\\@evil.example", ""],
)  # fmt: skip
def test_host_is_checked_to_its_last_character(serve, host: str) -> None:
    preview = serve()
    with connect(preview, sends=b"GET /state HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n") as connection:
        assert connection.recv(1000).partition(b" ")[2][:3] in (b"421", b"400")
