"""The server as programs see it: pictures, values, who may look, and viewers that do not keep up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from time import perf_counter
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from edgevit.errors import ConfigError
from edgevit.preview import app
from edgevit.preview.address import Address, listen, parse_address
from edgevit.runtime.frame import Frame
from tests.preview.conftest import INFO, ask
from tests.runtime.fakes import decision, eventually, frame
from tests.support import python

TOKEN = "right-token_1"


def shown(level: int, *, size: tuple[int, int] = (48, 64), index: int = 0, **changes):
    """A decision on a flat gray picture."""
    image = np.full((*size, 3), level, np.uint8)
    return decision("cat", 0.75, frame=Frame(image_bgr=image, captured=perf_counter(), index=index, name="v"),
                    finished=perf_counter(), **changes)  # fmt: skip


class Viewer:
    """A stream's connection and what was read of it."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket, self._data = connection, b""

    def picture(self, seconds: float = 10.0) -> np.ndarray:
        """The next whole picture. Raises TimeoutError."""
        self._socket.settimeout(seconds)
        while (end := self._data.find(b"\r\n--edgevit\r\n", start := self._data.find(b"\xff\xd8"))) < 0 or start < 0:
            chunk = self._socket.recv(65536)
            assert chunk, "the stream ended"
            self._data += chunk
        jpeg, self._data = self._data[start:end], self._data[end + 2 :]
        return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)

    def drain(self) -> None:
        """Read to the end."""
        with suppress(ConnectionResetError):
            while self._socket.recv(65536):
                pass


@contextmanager
def stream(preview, *, path: str = "/stream", buffer: int | None = None) -> Iterator[Viewer]:
    """A viewer that has sent its request."""
    parts = urlsplit(preview.url)
    with socket.socket() as connection:
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.settimeout(10)
        connection.connect((parts.hostname, parts.port))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        yield Viewer(connection)


# --- values ----------------------------------------------------------------------------------------------------------


def test_state_before_the_first_frame(serve) -> None:
    state = ask(serve().url, "/state").json
    assert {key: state[key] for key in INFO} == INFO
    assert (state["frames"], state["fps"], state["history"]) == (0, None, [])
    assert "label" not in state


def test_state_says_what_the_loop_did(serve) -> None:
    preview = serve(telemetry=lambda: {"gpu": 41.5, "mode": "15W", "fan": None, "load": float("nan")})
    start = perf_counter() - 10
    for i in range(51):
        at = start + i / 5
        preview(decision("cat", 0.75, finished=at, latency_ms=10.0 + i, dropped=i % 2, frame=frame(index=i, captured=at)))
    state = eventually(lambda: (found := ask(preview.url, "/state").json)["telemetry"] and found)
    assert state["telemetry"] == {"gpu": 41.5, "mode": "15W", "fan": None, "load": None}
    assert (state["frames"], state["dropped"], state["fps"]) == (51, 25, 5.0)
    assert (state["label"], state["confidence"], state["frame"]) == ("cat", 0.75, 50)
    assert state["top_k"] == [{"label": "cat", "confidence": 0.75}, {"label": "other", "confidence": 0.25}]
    assert state["latency"] == {"p50": 35.0, "p99": 60.0}
    assert 0 <= state["age"] < 5
    ages, medians, largest = zip(*state["history"], strict=True)
    assert list(ages) == sorted(ages, reverse=True)
    assert ages[0] == pytest.approx(10, abs=3)
    assert all(a <= b for a, b in zip(medians, largest, strict=True))
    assert largest[0] == 12.0, "three frames fall into the first half second: 10, 11, 12 ms"


def test_memory_of_the_chart_is_bounded(serve) -> None:
    preview = serve()
    for i in range(1000):
        preview(decision(finished=100.0 + i))
    assert len(ask(preview.url, "/state").json["history"]) == 120


@pytest.mark.parametrize("broken", ["raises", "hangs"])
def test_telemetry_that_fails_takes_nothing_else_down(serve, broken: str) -> None:
    def sample() -> dict[str, float]:
        if broken == "hangs":
            time.sleep(2)
        msg = "no sensor"
        raise OSError(msg)

    preview = serve(telemetry=sample)
    preview(shown(100))
    start = time.monotonic()
    assert ask(preview.url, "/state").json["label"] == "cat"
    assert time.monotonic() - start < 1.5
    assert ask(preview.url, "/picture.jpg").status == 200
    if broken == "raises":
        eventually(lambda: "no sensor" in str(ask(preview.url, "/state").json["telemetry"]))


def test_nobody_looking_costs_no_samples_and_no_pictures(serve) -> None:
    samples: list[int] = []
    preview = serve(telemetry=lambda: samples.append(1) or {})
    for i in range(50):
        preview(shown(i))
        time.sleep(0.005)
    assert (preview.encoded, samples) == (0, [])


# --- pictures --------------------------------------------------------------------------------------------------------


def test_picture_is_the_newest(serve) -> None:
    preview = serve()
    for level in (10, 200):
        preview(shown(level))
    answer = ask(preview.url, "/picture.jpg")
    image = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)
    assert answer.headers["content-type"] == "image/jpeg"
    assert image.shape == (48, 64, 3)
    assert image.mean() == pytest.approx(200, abs=2)


@pytest.mark.parametrize(("size", "want"), [((2160, 3840), (720, 1280)), ((1, 1), (1, 1)), ((3000, 10), (1280, 4))])
def test_large_pictures_are_shrunk(serve, size: tuple[int, int], want: tuple[int, int]) -> None:
    preview = serve()
    preview(shown(100, size=size))
    image = cv2.imdecode(np.frombuffer(ask(preview.url, "/picture.jpg").body, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[:2] == want


def test_stream_follows_the_frames(serve) -> None:
    preview = serve()
    preview(shown(50))
    with stream(preview) as viewer:
        assert viewer.picture().mean() == pytest.approx(50, abs=2)
        preview(shown(150))
        assert viewer.picture().mean() == pytest.approx(150, abs=2)
        assert ask(preview.url, "/state").json["viewers"] == 1
    eventually(lambda: ask(preview.url, "/state").json["viewers"] == 0)


def test_state_knows_a_stream_by_its_name(serve) -> None:
    preview = serve()
    preview(shown(50))
    with stream(preview, path="/stream?name=mine") as viewer:
        viewer.picture()
        assert ask(preview.url, "/state?name=mine").json["streaming"] is True
        assert ask(preview.url, "/state?name=other").json["streaming"] is False
    eventually(lambda: not ask(preview.url, "/state?name=mine").json["streaming"])


def test_one_encoding_serves_all_viewers(serve) -> None:
    preview = serve()
    with stream(preview) as a, stream(preview) as b, stream(preview) as c:
        eventually(lambda: ask(preview.url, "/state").json["viewers"] == 3)
        preview(shown(50))
        for viewer in (a, b, c):
            viewer.picture()
        assert preview.encoded == 1


def noise(index: int, level: int = 100):
    """A decision on a picture that does not compress: hundreds of kilobytes of JPEG."""
    image = np.random.default_rng(index).integers(level, level + 51, (720, 1280, 3), dtype=np.uint8)
    at = perf_counter()
    return decision("cat", finished=at, frame=Frame(image_bgr=image, captured=at, index=index, name="v"))


def test_viewer_that_takes_nothing_is_dropped_and_costs_the_others_nothing(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "SEND_SECONDS", 0.5)
    preview, pictures = serve(), [noise(i) for i in range(4)]
    with stream(preview, buffer=4096), stream(preview) as reader:
        eventually(lambda: ask(preview.url, "/state").json["viewers"] == 2)
        deadline = time.monotonic() + 10
        for i in range(1000):
            preview(pictures[i % 4])
            reader.picture()
            if ask(preview.url, "/state").json["viewers"] == 1:
                break
            assert time.monotonic() < deadline, "the blocked viewer is still there"
        preview(noise(99))
        reader.picture()


def test_slow_viewer_skips_pictures_and_sees_the_present(serve) -> None:
    """Of 30 pictures sent while it read nothing, it gets what the sockets hold, and then the newest."""
    preview = serve()
    with stream(preview, buffer=65536) as viewer:
        for i in range(30):
            preview(noise(i, level=5 * i))
            time.sleep(0.05)
        preview(noise(30, level=200))
        levels = []
        with suppress(TimeoutError):
            while True:
                levels.append(viewer.picture(1.0).mean())
    assert 1 < len(levels) < 10
    assert levels[-1] == pytest.approx(225, abs=5)


def test_loop_does_not_wait_for_viewers(serve) -> None:
    """A frame costs the same with twenty viewers that read nothing; a busy machine gets a generous limit."""
    preview = serve()
    with closing(ManyViewers(preview, 20)):
        eventually(lambda: ask(preview.url, "/state").json["viewers"] == 20)
        picture = noise(0)
        seconds = []
        for _ in range(300):
            start = time.perf_counter()
            preview(picture)
            seconds.append(time.perf_counter() - start)
            time.sleep(0.001)
        assert sorted(seconds)[150] < 0.001


class ManyViewers:
    """Viewers that read nothing."""

    def __init__(self, preview, count: int) -> None:
        self._streams = [stream(preview, buffer=4096) for _ in range(count)]
        for each in self._streams:
            each.__enter__()

    def close(self) -> None:
        for each in self._streams:
            each.__exit__(None, None, None)


def test_too_many_viewers_are_sent_away(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MAX_VIEWERS", 2)
    preview = serve()
    with stream(preview), stream(preview):
        eventually(lambda: ask(preview.url, "/state").json["viewers"] == 2)
        assert ask(preview.url, "/stream").status == 503


def test_closing_ends_streams_at_once(serve) -> None:
    preview = serve()
    preview(shown(50))
    with stream(preview) as viewer:
        viewer.picture()
        start = time.monotonic()
        preview.close()
        preview.close()
        assert time.monotonic() - start < 2
        viewer.drain()
    with pytest.raises(OSError, match="refused"):
        ask(preview.url)


# --- access ----------------------------------------------------------------------------------------------------------


def test_loopback_needs_no_token(serve) -> None:
    preview = serve()
    assert urlsplit(preview.url).hostname == "127.0.0.1"
    assert urlsplit(preview.url).query == ""
    assert ask(preview.url).status == 200


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:9000", "LOCALHOST"])
def test_loopback_under_its_own_names(serve, host: str) -> None:
    assert ask(serve().url, host=host).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "192.168.1.5:8080", "127.0.0.1.evil.example", "[::2]", "x"]
)
def test_name_that_another_site_points_here_gets_nothing(serve, host: str) -> None:
    """DNS rebinding."""
    preview = serve()
    for path in ("/", "/state", "/stream", "/picture.jpg"):
        answer = ask(preview.url, path, host=host)
        assert answer.status == 421
        assert b"tiny" not in answer.body


def test_other_addresses_want_a_token_that_is_made(serve) -> None:
    preview = serve("0.0.0.0:0")
    port, token = urlsplit(preview.url).port, urlsplit(preview.url).query.removeprefix("token=")
    assert len(token) >= 20
    assert serve("0.0.0.0:0").url.partition("token=")[2] != token
    local = f"http://127.0.0.1:{port}/"
    assert ask(local, "/state").status == 401
    assert ask(local, "/state", Authorization=f"Bearer {token}").status == 200
    assert ask(local, "/state", host="robot.local", Authorization=f"Bearer {token}").status == 200


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong-token"}, {"Authorization": TOKEN}, {"Cookie": "edgevit-1=x"}]
)
def test_without_the_token_there_is_nothing(serve, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevit.preview.access.WRONG_SECONDS", 0.0)
    preview = serve(token=TOKEN)
    for path in ("/", "/state", "/stream", "/picture.jpg", "/page.js", "/nothing"):
        answer = ask(preview.url, path, **headers)
        assert answer.status == 401
        assert "set-cookie" not in answer.headers
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert ask(preview.url, f"{path}?token=wrong", **headers).status == 401
        assert ask(preview.url, f"{path}?token=%ff%00", **headers).status == 401


def test_link_gives_a_cookie_and_leaves_the_address_bar(serve) -> None:
    preview = serve(token=TOKEN)
    answer = ask(preview.url, f"/state?a=1&token={TOKEN}&b=")
    assert (answer.status, answer.headers["location"]) == (303, "/state?a=1&b=")
    cookie = answer.headers["set-cookie"]
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    assert ask(preview.url, "/state", Cookie=cookie.partition(";")[0]).status == 200
    other = serve(token=TOKEN)
    assert cookie.partition("=")[0] != ask(other.url, f"/?token={TOKEN}").headers["set-cookie"].partition("=")[0]


def test_redirect_never_leaves_the_server(serve) -> None:
    preview = serve(token=TOKEN)
    for path in ("//evil.example/", "/\\evil.example/", "/%5Cevil.example/", "/%0d%0aSet-Cookie:x=y"):
        answer = ask(preview.url, f"{path}?token={TOKEN}")
        assert answer.headers["location"].lstrip("/")[:4] in ("evil", "%0D%")
        assert answer.headers["location"][1] not in "/\\"


def test_headers_keep_other_sites_out(serve) -> None:
    preview = serve()
    for path in ("/", "/page.js", "/page.css", "/icon.svg", "/state", "/nothing"):
        headers = ask(preview.url, path, Origin="http://evil.example").headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


def test_there_is_nothing_to_change(serve) -> None:
    preview = serve()
    for method in ("POST", "PUT", "DELETE"):
        assert ask(preview.url, "/state", method=method).status == 405


def test_only_its_own_files_are_served(serve) -> None:
    preview = serve()
    for path in ("/../server.py", "/static/page.js", "/page.js/..", "/%2e%2e/server.py"):
        assert ask(preview.url, path).status == 404


@pytest.mark.parametrize("token", ["", "short", "with space in it", "semi;colon;12", "ümläute123", "new\nline12"])
def test_token_that_would_not_do_is_refused(serve, token: str) -> None:
    with pytest.raises(ConfigError, match="--serve-token: write at least 8 letters"):
        serve(token=token)


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:8080", "127.0.0.1", 8080), ("8080", "127.0.0.1", 8080), (":8080", "127.0.0.1", 8080),
     ("localhost:1", "127.0.0.1", 1), ("[::1]:8080", "::1", 8080), ("0.0.0.0:0", "0.0.0.0", 0), ("[::]:80", "::", 80)],
)  # fmt: skip
def test_addresses(text: str, host: str, port: int) -> None:
    address = parse_address(text)
    assert (address.host, address.port) == (host, port)
    assert address.loopback is (host in ("127.0.0.1", "::1"))


@pytest.mark.parametrize(
    "text", ["", "localhost", "localhost:", "127.0.0.1:http", "127.0.0.1:99999", "::1:8080", "[::1]", "http://127.0.0.1:80",
             "no.such.invalid:80",
             "a b:80", "127.0.0.1:-1", "x" * 300 + ":80"],
)  # fmt: skip
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--serve .*HOST:PORT, such as 127.0.0.1:8080") as caught:
        parse_address(text)
    assert "\n" not in str(caught.value)


def test_port_that_is_taken(serve) -> None:
    port = urlsplit(serve().url).port
    with pytest.raises(ConfigError, match=rf"--serve 127\.0\.0\.1:{port}: another program listens there"):
        serve(f"127.0.0.1:{port}")


def test_port_is_free_again_at_once(serve) -> None:
    first = serve()
    port = urlsplit(first.url).port
    with stream(first):
        pass
    first.close()
    assert ask(serve(f"127.0.0.1:{port}").url).status == 200


def test_address_of_another_machine() -> None:
    with pytest.raises(ConfigError, match="this machine has no such address"):
        listen(Address(host="192.0.2.1", port=8080))


def test_missing_extra_says_what_to_install() -> None:
    code = "from edgevit.preview.server import Preview\ntry: Preview('0', info={})\nexcept Exception as e: print(e)"
    for package in ("uvicorn", "starlette"):
        with python(code, without=(package,)) as process:
            out, _ = process.communicate(timeout=30)
        assert "pip install 'edgevit[preview]'" in out
        assert "\n" not in out.strip()


def test_nothing_is_left_of_a_preview(serve) -> None:
    preview = serve()
    preview(shown(50))
    assert ask(preview.url, "/picture.jpg").status == 200
    preview.close()
    assert "preview" not in [thread.name for thread in threading.enumerate()]
