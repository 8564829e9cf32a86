"""The page in a real browser: what it shows, when the connection goes and comes back, keyboard, dark and small screens."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from edgevit.known.fit import Seen, fit_known
from edgevit.runtime.decide import Decider
from edgevit.runtime.frame import Frame
from edgevit.runtime.sinks.condition import Gate, parse_condition
from edgevit.runtime.smoothing import Ema
from tests.preview.browser import Page, browser
from tests.runtime.fakes import prediction, result

LABEL = "<b>crack</b> & 日本"
TOKEN = "right-token_1"
CLOUD = np.random.default_rng(0).normal(size=(49, 4)).astype(np.float32)
KNOWN = replace(
    fit_known(Seen(features=CLOUD, classes=np.zeros(49, np.int64)), 1), distances=np.linspace(-1, 1, 49, dtype=np.float32)
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        page.screen(1280, 800)
        yield page


class Loop:
    """Feeds a preview 20 frames a second, as the loop does."""

    def __init__(self, preview) -> None:
        self.preview, self.going, self.level = preview, True, 90
        self._decide = Decider(smoothing=Ema(4), known=KNOWN)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        index = 0
        while self.going:
            at = perf_counter()
            frame = Frame(image_bgr=np.full((240, 320, 3), self.level, np.uint8), captured=at, index=index, name="camera")
            predictions = (prediction(LABEL, 0.75), prediction("ok", 0.25, 1))
            seen = result(frame=frame, predictions=predictions, finished=perf_counter(), latency_ms=12.5, dropped=1,
                          features=np.zeros(4, np.float32))  # fmt: skip
            self.preview(self._decide(seen))
            index += 1
            time.sleep(0.05)

    def stop(self) -> None:
        self.going = False
        self._thread.join()


@pytest.fixture
def loop(serve) -> Iterator[Loop]:
    loop = Loop(serve(token=TOKEN, telemetry=lambda: {"gpu_celsius": 51.25, "power_mode": "15W", "fan": None}))
    yield loop
    loop.stop()


def text(page: Page, name: str) -> str:
    return page.look(f"document.getElementById('{name}').innerText")


def opened(page: Page, loop: Loop) -> Page:
    page.open("about:blank")  # the page of the test before sees its server close
    page.look("1")
    page.errors.clear()
    page.requests.clear()
    page.open(loop.preview.url)
    page.wait("document.getElementById('label')?.innerText.includes('crack')")
    page.wait("document.getElementById('live').naturalWidth === 320 && !document.getElementById('live').hidden")
    return page


def test_page_shows_what_happens(page: Page, loop: Loop) -> None:
    opened(page, loop)
    page.wait("document.querySelectorAll('#device div').length === 2")
    page.wait("document.getElementById('median').getAttribute('points')")
    assert text(page, "label") == LABEL, "as text, not as markup"
    assert text(page, "confidence") == "75.0 %"
    assert text(page, "top").split("\n") == [LABEL, "75.0 %", "ok", "25.0 %"]
    assert text(page, "model") == "tiny"
    assert text(page, "facts") == "int8 · fake 1 on numpy · a test"
    assert 5 < float(text(page, "fps")) < 25
    assert text(page, "p50") == "12.5 ms"
    assert int(text(page, "dropped")) > 1
    assert text(page, "device").split("\n") == ["gpu", "51.3 °C", "power mode", "15W"]
    assert text(page, "raw") == f"This frame alone: {LABEL}, 75.0 %"
    assert re.fullmatch(
        r"As usual as \d\d\.0 % of the images that it was built with; median 0\.\d\d so far \(0\.50 then\)\.", text(page, "usual")
    )
    assert page.look("document.title").startswith(LABEL)
    assert page.look("document.getElementById('status').hidden")
    assert page.look("getComputedStyle(document.querySelector('.track div')).width.slice(0, -2) > 100")


def test_picture_on_the_page_is_live(page: Page, loop: Loop) -> None:
    opened(page, loop)
    pixel = (
        "(() => { const c = document.createElement('canvas'); const g = c.getContext('2d');"
        "g.drawImage(document.getElementById('live'), 0, 0); return g.getImageData(5, 5, 1, 1).data[0]; })()"
    )
    page.wait(f"Math.abs({pixel} - 90) < 3")
    loop.level = 200
    page.wait(f"Math.abs({pixel} - 200) < 3")


def test_page_asks_only_its_own_server_and_hides_the_token(page: Page, loop: Loop) -> None:
    """No CDN, no error on the console (the content security policy would be one), no token left in the address."""
    opened(page, loop)
    assert page.errors == []
    own = urlsplit(loop.preview.url).netloc
    assert {urlsplit(url).netloc for url in page.requests} == {own}
    assert TOKEN not in page.look("location.href")
    assert page.look("document.cookie") == "", "scripts do not see it"


def test_connection_lost_and_back(page: Page, loop: Loop, serve) -> None:
    opened(page, loop)
    page.wait("!document.getElementById('status').innerText")
    time.sleep(0.6)
    port = urlsplit(loop.preview.url).port
    loop.stop()
    loop.preview.close()
    page.wait("document.getElementById('status').innerText === 'Connection lost, retrying.'")
    assert not page.look("document.getElementById('status').hidden")
    assert page.look("document.getElementById('still').width") == 320, "the last picture stays"
    again = Loop(serve(f"127.0.0.1:{port}", token=TOKEN))
    page.wait("document.getElementById('status').hidden")
    page.wait("!document.getElementById('live').hidden && document.getElementById('live').naturalWidth === 320")
    again.stop()


def test_other_token_after_a_restart_is_said(page: Page, loop: Loop, serve) -> None:
    opened(page, loop)
    port = urlsplit(loop.preview.url).port
    loop.stop()
    loop.preview.close()
    serve(f"127.0.0.1:{port}", token="another-token")
    page.wait("document.getElementById('status').innerText.includes('token is no longer valid')")


def test_source_that_stops_is_said(page: Page, loop: Loop) -> None:
    opened(page, loop)
    loop.stop()
    page.wait("/No new picture for \\d+ s/.test(document.getElementById('status').innerText)")


def test_stream_that_was_dropped_is_begun_again(page: Page, loop: Loop) -> None:
    """The browser does not tell; the page finds out."""
    opened(page, loop)
    first = page.look("document.getElementById('live').src")
    assert page.look("fetch('/state').then(r => r.json()).then(s => s.viewers)") == 1
    stream = next(route.endpoint for route in loop.preview._serving._server.config.app._app.routes if route.path == "/stream")
    stream.names.clear()
    page.wait(f"document.getElementById('live').src && document.getElementById('live').src !== '{first}'")
    page.wait("document.getElementById('live').naturalWidth === 320")


def test_page_shows_where_the_model_looks(page: Page, serve) -> None:
    seen: list[int] = []

    def look(frame_bgr: np.ndarray) -> np.ndarray:
        seen.append(1)
        if len(seen) == 3:
            msg = "<b>no</b> memory"
            raise MemoryError(msg)
        return np.full((448, 448, 3), 60, np.uint8)

    loop = Loop(serve(info={"model": "tiny", "attention_map": "block 3"}, attention=look))
    opened(page, loop)
    page.wait("document.getElementById('look').naturalWidth === 448 && !document.getElementById('lookbox').hidden")
    assert text(page, "lookmap") == "block 3"
    first = page.look("document.getElementById('look').src")
    page.wait("/^Frame \\d+, \\d\\.\\d s old$/.test(document.getElementById('lookage').innerText)")
    page.wait(f"document.getElementById('look').src !== '{first}'")
    page.wait("document.getElementById('lookage').innerText === 'Not available: <b>no</b> memory'")
    assert page.look("document.documentElement.scrollWidth <= innerWidth")
    assert page.errors == []
    loop.stop()


def test_page_lists_events_and_what_went_wrong(page: Page, serve) -> None:
    """Events as ``--when`` picks them; of the source's faults those that there were, its words as text."""
    faults = {"lost": 2, "reconnected": 1, "stalled": 0, "skipped": 0, "stale": 0, "resized": 0, "down_seconds": 7.4,
              "last": "<b>no frame for 5 s</b>"}  # fmt: skip
    gate = Gate([parse_condition("changed", ["crack", "ok"])], every=0.0)
    loop = Loop(serve(token=TOKEN, gates={None: gate}, faults={None: lambda: faults}))
    try:
        opened(page, loop)
        page.wait("!document.getElementById('eventbox').hidden && !document.getElementById('faultbox').hidden")
        first = text(page, "events").split("\n")
        assert first[:2] == [LABEL, "75.0 %"]
        assert re.fullmatch(r"\d+ s ago", first[2])
        assert len(first) == 3, "the label has not changed since"
        assert text(page, "faults").split("\n") == ["lost", "2", "reconnected", "1", "seconds without", "7"]
        assert text(page, "lastfault") == "Last: <b>no frame for 5 s</b>"
    finally:
        loop.stop()


def test_without_either_there_is_no_box(page: Page, loop: Loop) -> None:
    opened(page, loop)
    assert page.look("document.getElementById('eventbox').hidden && document.getElementById('faultbox').hidden")


def test_picture_is_saved_under_a_name_of_its_own(page: Page, loop: Loop) -> None:
    opened(page, loop)
    page.look("HTMLAnchorElement.prototype.click = function () { window.saved = this.download; }, 1")
    page.look("URL.createObjectURL = (blob) => { window.kept = [blob.type, blob.size]; return 'blob:kept'; }, 1")
    page.look("document.getElementById('snapshot').click(), 1")
    page.wait("window.saved")
    assert re.fullmatch(r"tiny-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.jpg", page.look("window.saved"))
    kind, size = page.look("window.kept")
    assert kind == "image/jpeg"
    assert size > 500


def test_page_without_looks_shows_no_box(page: Page, loop: Loop) -> None:
    opened(page, loop)
    assert page.look("document.getElementById('lookbox').hidden")


def test_dropped_frames_are_of_all_frames(page: Page, loop: Loop) -> None:
    """Each of the loop's decisions comes with one dropped: half of all."""
    opened(page, loop)
    loop.stop()
    page.wait("2 * Number(document.getElementById('dropped').innerText) === Number(document.getElementById('frames').innerText)")


def test_pause_by_keyboard(page: Page, loop: Loop) -> None:
    opened(page, loop)
    page.press("Tab", 9)
    assert page.look("document.activeElement.id") == "pause"
    assert page.look("getComputedStyle(document.activeElement).outlineStyle") == "solid", "one sees where one is"
    page.look("document.activeElement.click()")
    assert text(page, "pause") == "Resume"
    assert page.look("document.getElementById('pause').getAttribute('aria-pressed')") == "true"
    assert page.look("document.getElementById('still').width") == 320
    assert page.look("!document.getElementById('still').hidden && document.getElementById('live').hidden")
    page.wait("fetch('/state').then(r => r.json()).then(s => s.viewers === 0)")
    page.look("document.getElementById('pause').click()")
    page.wait("!document.getElementById('live').hidden && document.getElementById('live').naturalWidth === 320")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844), (360, 740)])
def test_page_fits_and_is_readable(page: Page, loop: Loop, tmp_path: Path, dark: bool, width: int, height: int) -> None:
    """Nothing is wider than the screen; text and ground differ by at least 7 to 1, as WCAG counts it."""
    page.screen(width, height, dark=dark, phone=width < 500)
    opened(page, loop)
    assert page.look("document.documentElement.scrollWidth <= innerWidth")
    facts = "document.getElementById('facts').innerText = 'int8 · openvino 2026.4.1 on AMD EPYC · video line/of/a/factory.mp4'"
    assert page.look(f"{facts}; document.querySelector('header').offsetHeight") < 200  # buttons leave the facts their room
    colors = page.look("['body', '#answer', '#label'].map(q => getComputedStyle(document.querySelector(q)))"
                       ".map(s => [s.color, s.backgroundColor])")  # fmt: skip
    ink, card = luminance(colors[2][0]), luminance(colors[1][1])
    assert (max(ink, card) + 0.05) / (min(ink, card) + 0.05) > 7
    assert (card < 0.2) is dark
    shot = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert shot.shape == (height, width, 3)
    page.screen(1280, 800)


def luminance(color: str) -> float:
    """Of a CSS rgb(), by WCAG 2."""
    channels = [int(each) / 255 for each in color[4:-1].split(",")]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
