"""Looks at the attention: as often as somebody asks, of the newest frame, in nobody's way."""

from __future__ import annotations

import os
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from tests.preview.conftest import ask
from tests.preview.test_server import shown
from tests.runtime.fakes import eventually


def attention(preview) -> dict:
    return ask(preview.url, "/state").json["attention"]


def negative(frame_bgr: np.ndarray) -> np.ndarray:
    return 255 - frame_bgr


def test_picture_and_age_of_the_newest_frame(serve) -> None:
    preview = serve(attention=negative)
    assert attention(preview) == {}, "nothing to look at"
    assert ask(preview.url, "/attention.jpg").status == 404
    preview(shown(10, index=3))
    preview(shown(200, index=4))
    found = eventually(lambda: (state := attention(preview)) and state["number"] == 1 and state)
    assert found["frame"] == 4
    assert 0 <= found["age"] < 5
    answer = ask(preview.url, "/attention.jpg?number=1")
    assert answer.headers["content-type"] == "image/jpeg"
    assert cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR).mean() == pytest.approx(55, abs=2)
    age = found["age"]
    assert eventually(lambda: attention(preview)["age"] > age), "it gets older: the source has stopped"
    assert attention(preview)["number"] == 1, "a frame is not looked at twice"


def test_no_looks_unless_asked_for(serve) -> None:
    preview = serve()
    preview(shown(100))
    assert ask(preview.url, "/state").json["attention"] is None
    assert ask(preview.url, "/attention.jpg").status == 404


def test_nobody_looking_costs_no_looks(serve) -> None:
    looks: list[int] = []
    preview = serve(attention=lambda frame: looks.append(1) or frame)
    for i in range(30):
        preview(shown(i))
        time.sleep(0.01)
    assert looks == []


def test_looks_about_once_a_second(serve) -> None:
    looks: list[float] = []
    preview = serve(attention=lambda frame: looks.append(time.monotonic()) or frame)
    end = time.monotonic() + 2.6
    for i in range(1000):
        preview(shown(i % 256))
        attention(preview)
        time.sleep(0.02)
        if time.monotonic() > end:
            break
    assert 2 <= len(looks) <= 4
    assert min(np.diff(looks)) > 0.8


def test_a_look_that_takes_long_keeps_nobody_waiting(serve) -> None:
    going, threads = threading.Event(), []

    def slow(frame_bgr: np.ndarray) -> np.ndarray:
        threads.append((threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
        going.wait(10)
        return frame_bgr

    preview = serve(attention=slow)
    preview(shown(100))
    eventually(lambda: attention(preview) is not None and threads)
    start = time.monotonic()
    for i in range(100):
        preview(shown(i))
    assert ask(preview.url, "/picture.jpg").status == 200
    assert time.monotonic() - start < 2
    assert len(threads) == 1
    going.set()
    if sys.platform == "linux":
        assert threads[0][1] == 19, "others run first"
        assert os.getpriority(os.PRIO_PROCESS, 0) < 19, "and only this thread stands back"


def test_a_look_that_fails_is_told_and_tried_again(serve) -> None:
    looks: list[int] = []

    def once(frame_bgr: np.ndarray) -> np.ndarray:
        looks.append(1)
        if len(looks) == 1:
            msg = "no memory"
            raise MemoryError(msg)
        return frame_bgr

    preview = serve(attention=once)
    preview(shown(100))
    assert eventually(lambda: attention(preview).get("error")) == "no memory"
    preview(shown(101))
    assert eventually(lambda: attention(preview).get("number")) == 1
    assert "error" not in attention(preview)
