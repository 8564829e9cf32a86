"""``/metrics`` as whoever asks for it sees it: where it is, and who gets it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from edgevit.errors import ConfigError
from edgevit.runtime.metrics import Counted, RunMetrics
from edgevit.runtime.sinks.tally import Tally
from tests.preview.conftest import ask
from tests.runtime.fakes import FakeCamera, decision

pytest.importorskip("prometheus_client", reason="needs the extra: pip install 'edgevit[metrics]'")
pytest.importorskip("uvicorn", reason="needs the extra: pip install 'edgevit[metrics]'")

TOKEN = "right-token_1"
PATH = "/metrics"


def run(labels: tuple[str, ...] = ("cat", "dog")) -> RunMetrics:
    return RunMetrics(cameras=[Counted(tally=Tally(labels), source=FakeCamera(frames=0, seconds=0))], build={"model": "tiny"})


@pytest.fixture
def serve_metrics() -> Iterator[Callable[..., Any]]:
    """Starts servers of metrics, on a free port of the loopback address unless told otherwise."""
    from edgevit.preview.metrics import MetricsServer

    with ExitStack() as stack:
        yield lambda address="127.0.0.1:0", metrics=None, **options: stack.enter_context(
            closing(MetricsServer(address, metrics or run(), **options))
        )


def test_scrape_sees_what_was_counted(serve_metrics) -> None:
    metrics = run()
    server = serve_metrics(metrics=metrics)
    assert urlsplit(server.url).path == PATH
    metrics.cameras[0].tally(decision("cat"))
    answer = ask(server.url, PATH)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert b'\nedgevit_labels_total{label="cat"} 1.0\n' in answer.body
    assert b'edgevit_build_info{model="tiny"} 1.0' in answer.body


def test_format_is_the_one_that_is_asked_for(serve_metrics) -> None:
    answer = ask(serve_metrics().url, PATH, Accept="application/openmetrics-text;version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")
    assert ask(serve_metrics().url, PATH, **{"Accept-Encoding": "gzip"}).headers["content-encoding"] == "gzip"


@pytest.mark.parametrize(("path", "method", "status"), [("/", "GET", 200), ("/state", "GET", 404), (PATH, "POST", 405)])
def test_there_is_nothing_else(serve_metrics, path: str, method: str, status: int) -> None:
    assert ask(serve_metrics().url, path, method=method).status == status


def test_what_is_no_text_harms_nobody(serve_metrics) -> None:
    server = serve_metrics()
    for path, headers in (
        (f"{PATH}?a=%ff", {}),
        (PATH, {"Accept": "\xff"}),
        (f"{PATH}?name[]=\u20ac".encode().decode("latin-1"), {}),
    ):
        with closing(socket.create_connection(("127.0.0.1", urlsplit(server.url).port), timeout=10)) as connection:
            lines = [f"GET {path} HTTP/1.1", "Host: localhost", *(f"{name}: {text}" for name, text in headers.items())]
            connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"))
            assert connection.recv(20).startswith(b"HTTP/1.1 ")
    assert ask(server.url, PATH).status == 200


# --- access ----------------------------------------------------------------------------------------------------------


def test_name_that_another_site_points_here_gets_nothing(serve_metrics) -> None:
    answer = ask(serve_metrics().url, PATH, host="evil.example")
    assert (answer.status, b"edgevit_" in answer.body) == (421, False)


def test_other_addresses_want_a_token_that_stays(serve_metrics) -> None:
    with pytest.raises(ConfigError, match=r"--metrics 0\.0\.0\.0:0: .* needs a token: set EDGEVIT_METRICS_TOKEN here"):
        serve_metrics("0.0.0.0:0")
    server = serve_metrics("0.0.0.0:0", token=TOKEN)
    assert TOKEN not in server.url, "it is in a log"
    local = f"http://127.0.0.1:{urlsplit(server.url).port}/"
    assert ask(local, PATH, host="board.local:9464", Authorization=f"Bearer {TOKEN}").status == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong-token"}, {"Authorization": TOKEN}])
def test_without_the_token_there_is_nothing(serve_metrics, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevit.preview.access.WRONG_SECONDS", 0.0)
    answer = ask(serve_metrics(token=TOKEN).url, PATH, **headers)
    assert (answer.status, b"edgevit_" in answer.body) == (401, False)


@pytest.mark.parametrize("token", ["", "short", "with space in it"])
def test_token_that_would_not_do_is_refused(serve_metrics, token: str) -> None:
    with pytest.raises(ConfigError, match="--metrics-token: write at least 8 letters"):
        serve_metrics(token=token)


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:99999", "192.0.2.1:0", "", "no.such.host.invalid:80"])
def test_wrong_address_names_the_option(serve_metrics, address: str) -> None:
    with pytest.raises(ConfigError, match=r"^--metrics "):
        serve_metrics(address, token=TOKEN)


def test_taken_port(serve_metrics) -> None:
    port = urlsplit(serve_metrics().url).port
    with pytest.raises(ConfigError, match=rf"--metrics 127\.0\.0\.1:{port}: another program listens there"):
        serve_metrics(f"127.0.0.1:{port}")


def test_closed_it_listens_no_more(serve_metrics) -> None:
    server = serve_metrics()
    server.close()
    server.close()
    with pytest.raises(OSError, match="refused"):
        ask(server.url, PATH)
    serve_metrics(f"127.0.0.1:{urlsplit(server.url).port}")


# --- on the page -----------------------------------------------------------------------------------------------------


def test_page_has_them_under_its_own_rules(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgevit.preview.metrics import Exposition

    monkeypatch.setattr("edgevit.preview.access.WRONG_SECONDS", 0.0)
    page = serve(token=TOKEN, metrics=Exposition(run()))
    assert ask(page.url, PATH).status == 401
    assert b"edgevit_frames_total 0.0" in ask(page.url, PATH, Authorization=f"Bearer {TOKEN}").body
    assert ask(serve().url, PATH).status == 404
