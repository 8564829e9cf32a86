"""What is drawn is readable on any picture of any size, leaves the rest of it alone, and nothing crashes it."""

from __future__ import annotations

from typing import Any

import click
import numpy as np
import pytest

from edgevit.cli.outputs import OPTIONS
from edgevit.runtime.caption import Caption
from edgevit.runtime.classify import Prediction
from edgevit.runtime.lettering import ascii_label, text_width
from edgevit.runtime.overlay import OVERLAYS, POSITIONS, draw
from tests.runtime.fakes import prediction

PREDICTIONS = (prediction("golden retriever", 0.9), prediction("tabby", 0.1), prediction("ship", 0.0))


def drawn(image: np.ndarray, predictions=PREDICTIONS, *, fps: float | None = 25.0) -> np.ndarray:
    return draw(image, predictions, fps=fps, precision="int8", latency_ms=12.3, overlay="full")


def flat(height: int, width: int, level: int) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_text_stands_out_on_any_background(level: int) -> None:
    image = drawn(flat(480, 640, level))
    title = image[10:46, 10:400].max(axis=2)
    assert title.max() > 240
    assert np.median(title) <= 255 / 4
    assert (image[300:] == level).all(), "below the panel nothing changes"
    assert (image[:, 480:] == level).all(), "nor beside it"


def test_panel_lets_the_picture_shine_through() -> None:
    image = flat(480, 640, 0)
    image[:, 200:300] = 255
    assert drawn(image)[2, 250].tolist() == [63, 63, 63]


def test_what_is_behind_the_text_has_no_edges() -> None:
    """Other text, a fence, noise: between two neighbours in the panel there is next to no difference."""
    image = flat(480, 640, 0)
    image[:, ::4] = image[::4] = 255
    row = drawn(image, [prediction("", 0.0)])[49, 10:430].astype(int)
    assert np.abs(np.diff(row, axis=0)).max() < 10


def test_title_may_be_another_than_the_first_bar() -> None:
    """Below the threshold, or smoothed."""
    image = flat(480, 640, 0)
    options = {"fps": None, "precision": "int8", "latency_ms": 1.0, "overlay": "full"}
    shown = draw(image, PREDICTIONS, best=prediction("unknown", 0.4), **options)
    plain = draw(image, PREDICTIONS, **options)
    assert (shown[:46] != plain[:46]).any()
    assert (shown[46:] == plain[46:]).all()


def test_what_is_unknown_has_no_confidence() -> None:
    """That of the likeliest class is in its bar."""
    image, options = flat(480, 640, 0), {"fps": None, "precision": "int8", "latency_ms": 1.0, "overlay": "full"}
    one, other = (
        draw(image, PREDICTIONS, best=Prediction(label="unknown", index=-1, confidence=confidence), **options)
        for confidence in (0.4, 0.9)
    )
    assert (one == other).all()


def test_input_is_not_changed() -> None:
    image = flat(480, 640, 200)
    drawn(image)
    assert (image == 200).all()


def test_bars_are_as_long_as_the_confidences() -> None:
    image = drawn(flat(480, 640, 0), (prediction("", 0.5), prediction("", 0.25)))
    # The top line of pixels of a row is above its text.
    lengths = [(image[top, :440] > 0).any(axis=1).sum() for top in (53, 79)]
    assert lengths == pytest.approx([210, 105], abs=2)


def test_one_prediction_more_makes_the_panel_longer() -> None:
    heights = [(drawn(flat(480, 640, 255), PREDICTIONS[:k])[:, 1, 0] < 255).sum() for k in (1, 2, 3)]
    assert heights[0] < heights[1] < heights[2] <= 0.4 * 480


@pytest.mark.parametrize(
    ("size", "want"),
    [((480, 640), (480, 640)), ((224, 224), (480, 480)), ((32, 64), (480, 960)), ((1, 1), (480, 480)),
     ((2160, 3840), (2160, 3840)), ((2, 2000), (2, 2000)), ((2000, 2), (2000, 2)), ((10, 200), (96, 1920))],
)  # fmt: skip
def test_small_images_are_enlarged_and_others_keep_their_size(size: tuple[int, int], want: tuple[int, int]) -> None:
    image = drawn(flat(*size, 100))
    assert image.shape == (*want, 3)
    assert image.dtype == np.uint8


def test_text_grows_with_the_image() -> None:
    heights = [(drawn(flat(480 * n, 640 * n, 0))[: 46 * n] > 100).any(axis=(1, 2)).sum() for n in (1, 4)]
    assert heights[1] == pytest.approx(4 * heights[0], rel=0.15)


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (100, 1000)])
def test_long_labels_and_many_predictions_stay_in_the_panel(size: tuple[int, int]) -> None:
    many = [prediction("W" * 1000, 0.01)] * 1000
    image = drawn(flat(*size, 255), many)
    height, width = image.shape[:2]
    panel = (image < 255).any(axis=2)
    assert 0.3 * min(height, width) < panel[:, 1].sum() <= 0.4 * height
    assert not panel[:, int(22 / 24 * min(height, width)) + 2 :].any()


def test_long_label_leaves_room_for_its_figure() -> None:
    """The figure is drawn the same, whether the label is long or short."""
    short, long = (drawn(flat(480, 640, 0), [prediction(label, 0.876)]) for label in ("a", "W" * 1000))
    assert (short[:46, 345:] == long[:46, 345:]).all()


@pytest.mark.parametrize("label", ["日本語", "", "\n\t\x00", "naïve café", "🐈", "\ud800"])
def test_no_label_crashes(label: str) -> None:
    assert drawn(flat(48, 64, 0), [prediction(label)], fps=None).shape == (480, 640, 3)


def test_labels_are_transliterated() -> None:
    assert ascii_label("Crème brûlée ½ № 日本\n") == "Creme brulee 1?2 No ???"


# --- the strip, and what all overlays have in common ------------------------------------------------------------------------

SIZES = ((120, 160), (240, 320), (480, 640), (640, 480), (600, 600), (720, 1280), (1280, 720), (1080, 1920), (2160, 3840))
LONG = "Northern flying squirrel, seen from below, with a nut"


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def strip(image: np.ndarray, label: str = "golden retriever", **options: Any) -> np.ndarray:
    best = prediction(label, 0.931)
    return draw(image, (best, *PREDICTIONS), **{"fps": 29.97, "precision": "int8", "latency_ms": 12.3} | options)


def changed_rows(image: np.ndarray, shown: np.ndarray) -> np.ndarray:
    return np.flatnonzero((image != shown).any(axis=(1, 2)))


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize(("overlay", "most"), [("label", 0.12), ("full", 0.4)])
@pytest.mark.parametrize("size", SIZES)
def test_the_rest_of_the_picture_is_as_it_was(size: tuple[int, int], overlay: str, most: float, position: str) -> None:
    image = noise(*size)
    many = [prediction(LONG, 0.1)] * 20
    shown = draw(image, many, fps=29.97, precision="int8", latency_ms=12.3, overlay=overlay, position=position)
    if min(size) < 480 and overlay == "full":  # enlarged
        image = draw(image, many, fps=None, precision="", latency_ms=1.0, overlay="full", position=POSITIONS[position == "top"])
        assert min(shown.shape[:2]) == 480
        half = slice(300, None) if position == "top" else slice(None, 180)
        assert (shown[half] == image[half]).all() or shown.shape == image.shape
        return
    rows = changed_rows(image, shown)
    assert shown.shape == image.shape
    assert 0 < len(rows) <= most * size[0]
    assert (rows[0] == 0) if position == "top" else (rows[-1] == size[0] - 1)


@pytest.mark.parametrize("size", SIZES)
def test_the_label_is_legible(size: tuple[int, int]) -> None:
    """White strokes at least 7 pixels high, on a ground a quarter as bright as white, with nothing cut off at an edge."""
    image = flat(*size, 255)
    shown = strip(image, "HI")
    rows = changed_rows(image, shown)
    text = (shown[rows][:, : size[1] // 3].min(axis=2) > 200).any(axis=1)
    assert text.sum() >= 7
    assert not text[0]
    assert not text[-1]
    assert np.median(shown[rows]) <= 255 / 4


@pytest.mark.parametrize("size", SIZES)
def test_a_long_label_is_cut_and_keeps_its_confidence(size: tuple[int, int]) -> None:
    """The pixels of the figure are there, whatever the label: the strip of a longer one differs only where letters are."""
    image = flat(*size, 0)
    one, other = strip(image, LONG * 4), strip(image, LONG * 4 + "x")
    assert (one == other).all(), "both are cut"
    assert (one != strip(image, LONG * 4, best=prediction(LONG * 4, 0.5))).any(), "the figure is still there"
    margin = len(changed_rows(image, one)) // 4
    assert not one[:, size[1] - margin :].any(), "and nothing reaches the edge"


def test_what_is_unknown_is_said_without_a_confidence() -> None:
    image = flat(480, 640, 0)
    unknown = [Prediction(label="unknown", index=-1, confidence=confidence) for confidence in (0.4, 0.9)]
    one, other = (strip(image, best=best) for best in unknown)
    assert (one == other).all()
    assert (one != strip(image, "unknown")).any()


def test_several_labels_are_all_named() -> None:
    image = flat(480, 640, 0)
    there = (prediction("a", 0.9), prediction("b", 0.8))
    assert (strip(image, labels=there) == strip(image, best=prediction("a, b", 0.9), labels=())).all()


def test_off_is_the_picture_itself() -> None:
    image = noise(12, 16)
    assert strip(image, overlay="off") is image


@pytest.mark.parametrize("size", [(1, 1), (2, 2000), (2000, 2), (10, 200), (28, 28), (33, 1900)])
def test_pictures_too_small_for_text(size: tuple[int, int]) -> None:
    """They are enlarged until it fits, or where they are too thin for that left as they are."""
    shown = strip(flat(*size, 100))
    if max(size) > 1900:
        assert shown.shape[:2] == size
        assert (shown == 100).all()
    else:
        assert shown.shape[0] / size[0] == pytest.approx(shown.shape[1] / size[1], rel=0.02)


@pytest.mark.parametrize("label", ["日本語", "", "\n\t\x00", "naïve café", "🐈", "\ud800"])
def test_no_label_crashes_the_strip(label: str) -> None:
    assert strip(flat(480, 640, 0), label, fps=None).shape == (480, 640, 3)


def test_the_speed_gives_way_to_the_label() -> None:
    """It is in the right corner beside a short label, and not drawn where the label needs the room."""
    image = flat(480, 640, 0)
    assert strip(image, "cat")[:34, 640 - 11 - text_width("30.0 fps", 34) :].any()
    assert (strip(image, LONG) == strip(image, LONG, fps=None)).all()


@pytest.mark.parametrize(
    ("fps", "processed", "short", "whole"),
    [
        (29.97, None, "30.0 fps", "30.0 fps   12.3 ms"),
        (29.97, 235.54, "29.97 fps", "29.97 fps, processed at 235.5/s   12.3 ms"),
        (30.0, 235.54, "30 fps", "30 fps, processed at 235.5/s   12.3 ms"),
        (None, 235.54, "", "processed at 235.5/s   12.3 ms"),
        (None, None, "", "12.3 ms"),
    ],
)
def test_a_file_has_its_own_pace(fps: float | None, processed: float | None, short: str, whole: str) -> None:
    best = prediction("cat", 0.9)
    caption = Caption(
        predictions=(best,), best=best, labels=None, fps=fps, processed=processed, precision="int8", latency_ms=12.3
    )  # fmt: skip
    assert (caption.pace, caption.speed) == (short, whole)


def test_the_command_line_knows_every_overlay() -> None:
    command = OPTIONS[0]
    for option in OPTIONS:
        command = option(command)
    choices = {each.name: each.type.choices for each in command.__click_params__ if isinstance(each.type, click.Choice)}
    assert choices == {"overlay": OVERLAYS, "overlay_position": POSITIONS}
