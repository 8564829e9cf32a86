"""A region of the picture: how it is written, where it lies, and what it does when the picture changes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgevit.errors import ConfigError
from edgevit.runtime.cameras import Camera
from edgevit.runtime.frame import Box, Frame, Source
from edgevit.runtime.images import Images
from edgevit.runtime.loop import classify_cameras
from edgevit.runtime.outline import outlined
from edgevit.runtime.region import Placing, parse_region
from tests.runtime.fakes import CONTRACT, LABELS, FakeCamera, FakeSession, Notes, frame, write_image


class Sizes(Source):
    """A live camera whose picture has one size after the other, (width, height); black with a white lower right quarter."""

    live, description = True, "sizes"

    def __init__(self, *sizes: tuple[int, int]) -> None:
        self.sizes = sizes

    def __iter__(self) -> Iterator[Frame]:
        for index, (width, height) in enumerate(self.sizes):
            image = np.zeros((height, width, 3), np.uint8)
            image[height // 2 :, width // 2 :] = 255
            yield Frame(image_bgr=image, captured=time.perf_counter(), index=index, name="sizes")
            time.sleep(0.05)


def labels(source: Source, text: str, note=lambda _text: None) -> list[str]:
    camera = Camera(source=source, region=parse_region(text))
    results = classify_cameras([camera], FakeSession(), CONTRACT, LABELS, note=note)
    return [result.predictions[0].label for result in results]


@pytest.mark.parametrize(
    ("text", "size", "box"),
    [
        ("10,20,30,40", (100, 100), (10, 20, 30, 40)),
        ("0,0,100,50", (100, 50), (0, 0, 100, 50)),
        (" 1, 2, 3, 4 ", (9, 9), (1, 2, 3, 4)),
        ("25%,50%,50%,50%", (640, 480), (160, 240, 320, 240)),
        ("0%,0%,100%,100%", (7, 5), (0, 0, 7, 5)),
        ("33.3%,0%,33.3%,100%", (30, 10), (10, 0, 10, 10)),
    ],
)
def test_where_it_lies(text: str, size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    left, top, width, height = box
    assert parse_region(text).box(size) == Box(left=left, top=top, width=width, height=height)


@pytest.mark.parametrize(
    "text",
    ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "-1,0,5,5", "1,2,0,4", "1,2,3,0", "10%,10,5,5", "60%,0%,50%,10%", "1.5,0,5",
     "1e9,0,1,1", "\0,1,2,3", "１,２,３,４٪"],
)  # fmt: skip
def test_what_is_no_region_is_said(text: str) -> None:
    with pytest.raises(ConfigError, match="--roi"):
        parse_region(text)


def test_model_sees_the_region_alone() -> None:
    assert labels(Sizes((64, 48)), "32,24,32,24") == ["bright"]
    assert labels(Sizes((64, 48)), "0,0,32,24") == ["dark"]
    assert labels(Sizes((64, 48)), "50%,50%,50%,50%") == ["bright"]


def test_region_outside_of_the_picture_is_refused_with_its_size() -> None:
    with pytest.raises(ConfigError, match=r"--roi 40,0,32,24: not within the picture, which has 64x48 pixels"):
        labels(Sizes((64, 48)), "40,0,32,24")


def test_pixels_follow_a_camera_that_changes_its_size_and_that_is_told() -> None:
    notes = Notes()
    assert set(labels(Sizes((64, 48), (128, 96), (32, 24)), "32,24,32,24", notes)) == {"bright"}
    assert notes[0] == "sizes: the picture has 128x96 pixels now, after 64x48; the region is 64,48,64,48 of it"
    assert notes[1].endswith("the region is 16,12,16,12 of it")


def test_pixels_stay_in_a_folder_of_images(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", size_wh=(20, 10))
    write_image(tmp_path / "b.png", size_wh=(40, 20))
    notes = Notes()
    found = list(classify_cameras(
        [Camera(source=Images(tmp_path), region=parse_region("10,5,10,5"))], FakeSession(), CONTRACT, LABELS, note=notes
    ))  # fmt: skip
    assert [each.frame.region for each in found] == [Box(left=10, top=5, width=10, height=5)] * 2
    assert notes == []
    write_image(tmp_path / "c.png", size_wh=(12, 10))
    with pytest.raises(ConfigError, match=r"not within the picture of c.png, which has 12x10 pixels"):
        labels(Images(tmp_path), "10,5,10,5")


def test_frame_keeps_the_whole_picture_and_outline_does_not_change_it() -> None:
    whole = replace(frame(), image_bgr=np.full((120, 160, 3), 100, np.uint8))
    placed = Placing(parse_region("40,20,80,60"), FakeCamera(frames=0, seconds=0), Notes())(whole)
    assert placed.image_bgr.shape == (120, 160, 3)
    assert placed.seen.shape == (60, 80, 3)
    shown = outlined(placed)
    assert (placed.image_bgr == 100).all()
    assert (shown[20, 40:120] == 255).all()
    assert (shown[[0, 50], [0, 80]] == 100).all()
    assert outlined(replace(placed, region=None)) is placed.image_bgr
