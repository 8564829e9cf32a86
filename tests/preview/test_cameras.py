"""Several cameras on one page: each by itself at every path, and in a browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import pytest

from edgevit.preview.picture import SMALL_SIDE
from edgevit.runtime.frame import Box, Frame
from tests.preview.browser import Page, browser
from tests.preview.conftest import ask
from tests.runtime.fakes import decision, eventually

SOURCES = {"gate": "rtsp://gate/live", "door": "camera /dev/video0", "yard": "rtsp://yard/live"}


def seen(camera: str, label: str, level: int, index: int = 0, region: Box | None = None):
    image = np.full((480, 640, 3), level, np.uint8)
    frame = Frame(image_bgr=image, captured=perf_counter(), index=index, name="live", region=region)
    return decision(label, frame=frame, camera=camera, finished=perf_counter(), latency_ms=12.5, dropped=1)


@pytest.fixture
def preview(serve):
    """Two of three cameras show something."""
    preview = serve(sources=SOURCES, attention=lambda image: image[:100])
    for index in range(3):
        preview(seen("gate", "crack", 50, index))
        preview(seen("door", "fine", 200, index))
    return preview


def level(jpeg: bytes) -> float:
    return float(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).mean())


def test_state_is_of_the_camera_that_is_asked_for_with_a_row_of_each(preview) -> None:
    first, door = ask(preview.url, "/state").json, ask(preview.url, "/state?camera=door").json
    assert (first["camera"], first["source"], first["label"]) == ("gate", "rtsp://gate/live", "crack")
    assert (door["camera"], door["source"], door["label"]) == ("door", "camera /dev/video0", "fine")
    rows = door["cameras"]
    assert [(row["camera"], row.get("label"), row["frames"], row["lost"]) for row in rows] == [
        ("gate", "crack", 3, None), ("door", "fine", 3, None), ("yard", None, 0, None),
    ]  # fmt: skip
    assert rows[0]["latency_ms"] == 12.5
    assert rows[0]["dropped"] == 3


def test_camera_that_is_lost_says_why(preview) -> None:
    preview.lose("yard", "given up")
    preview.lose("nobody", "is not on the page")
    state = ask(preview.url, "/state?camera=yard").json
    assert state["lost"] == "given up"
    assert [row["lost"] for row in state["cameras"]] == [None, None, "given up"]


def test_pictures_are_each_cameras_own(preview) -> None:
    for camera, expected in (("gate", 50), ("door", 200)):
        assert abs(level(ask(preview.url, f"/picture.jpg?camera={camera}").body) - expected) < 3
        small = ask(preview.url, f"/picture.jpg?size=small&camera={camera}").body
        assert abs(level(small) - expected) < 3
        assert cv2.imdecode(np.frombuffer(small, np.uint8), cv2.IMREAD_COLOR).shape == (240, SMALL_SIDE, 3)
    assert ask(preview.url, "/picture.jpg?size=small&camera=yard").status == 503


def test_small_picture_is_made_once_for_all_and_not_for_every_frame(preview) -> None:
    first = ask(preview.url, "/picture.jpg?size=small").body
    preview(seen("gate", "crack", 90, 3))
    assert ask(preview.url, "/picture.jpg?size=small").body == first
    eventually(lambda: abs(level(ask(preview.url, "/picture.jpg?size=small").body) - 90) < 3, 5)


@pytest.mark.parametrize("path", ["/state", "/picture.jpg", "/picture.jpg?size=small", "/attention.jpg", "/stream"])
def test_unknown_camera_is_not_found(preview, path: str) -> None:
    answer = ask(preview.url, f"{path}{'&' if '?' in path else '?'}camera=%3Cb%3E")
    assert answer.status == 404
    assert b"<b>" not in answer.body


def test_attention_is_of_the_camera_that_somebody_looks_at(preview) -> None:
    looked = eventually(lambda: ask(preview.url, "/state?camera=door").json["attention"].get("number"), 10)
    assert looked
    assert abs(level(ask(preview.url, "/attention.jpg?camera=door").body) - 200) < 3
    assert ask(preview.url, "/attention.jpg?camera=gate").status == 404


def test_whole_picture_is_shown_with_a_line_around_the_region(preview) -> None:
    preview(seen("yard", "fine", 100, region=Box(left=100, top=100, width=200, height=200)))
    image = cv2.imdecode(np.frombuffer(ask(preview.url, "/picture.jpg?camera=yard").body, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[:2] == (480, 640)
    assert image[200, 100].min() > 180  # white on black
    assert abs(int(image[200, 200].mean()) - 100) < 10


def test_one_camera_is_as_ever(serve) -> None:
    preview = serve()
    preview(decision("crack"))
    state = ask(preview.url, "/state").json
    assert not {"cameras", "camera", "lost"} & set(state)
    assert state["source"] == "a test"


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        page.screen(1280, 800)
        yield page


def test_page_lists_the_cameras_and_shows_the_chosen_one_large(page: Page, preview, tmp_path: Path) -> None:
    preview.lose("yard", "given up")
    page.open(preview.url)
    page.wait("document.getElementById('label')?.innerText === 'crack'")
    page.wait("document.querySelectorAll('#cameras img:not([hidden])').length === 2")
    entries = page.look("[...document.querySelectorAll('#cameras button')].map((each) => each.innerText)")
    assert [entry.split("\n")[:2] for entry in entries] == [["gate", "crack"], ["door", "fine"], ["yard", "–"]]
    assert entries[2].split("\n")[2] == "Lost"
    page.look("document.querySelectorAll('#cameras button')[1].click()")
    page.wait("document.getElementById('label').innerText === 'fine'")
    page.wait("document.getElementById('live').src.includes('camera=door')")
    for index in range(3, 6):  # browsers show a picture of a stream when the next one comes
        preview(seen("door", "fine", 200, index))
        time.sleep(0.3)
    page.wait("document.getElementById('live').naturalWidth === 640")
    pressed = page.look("[...document.querySelectorAll('#cameras button')].map((each) => each.getAttribute('aria-pressed'))")
    assert pressed == ["false", "true", "false"]
    assert page.look("document.title") == "fine · door · tiny"
    preview(seen("door", "crack", 10, 6))
    page.wait("document.getElementById('label').innerText === 'crack'")
    page.look("document.querySelectorAll('#cameras button')[2].click()")
    page.wait("document.getElementById('status').innerText === 'Lost: given up'")
    assert page.look("document.getElementById('label').innerText") == "–", "nothing is left of the camera before"
    time.sleep(0.2)
    assert page.errors == []


def test_list_fits_a_phone_and_a_run_without_that_camera_is_shown(page: Page, preview, serve) -> None:
    page.screen(360, 740, phone=True)
    page.open("about:blank")
    page.open(preview.url)
    page.wait("document.querySelectorAll('#cameras button').length === 3")
    assert page.look("document.documentElement.scrollWidth <= innerWidth")
    page.look("document.querySelectorAll('#cameras button')[1].click()")
    page.wait("document.getElementById('label').innerText === 'fine'")
    port = int(preview.url.rstrip("/").rpartition(":")[2])
    preview.close()
    other = serve(f"127.0.0.1:{port}")
    other(decision("another", finished=perf_counter()))
    page.wait("document.getElementById('label').innerText === 'another' && document.getElementById('cameras').hidden")
