"""The panel is readable on any picture of any size, and nothing crashes it."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.runtime.classify import Prediction
from edgevit.runtime.overlay import ascii_label, draw
from tests.runtime.fakes import prediction

PREDICTIONS = (prediction("golden retriever", 0.9), prediction("tabby", 0.1), prediction("ship", 0.0))


def drawn(image: np.ndarray, predictions=PREDICTIONS, *, fps: float | None = 25.0) -> np.ndarray:
    return draw(image, predictions, fps=fps, precision="int8", latency_ms=12.3)


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
    shown = draw(image, PREDICTIONS, best=prediction("unknown", 0.4), fps=None, precision="int8", latency_ms=1.0)
    plain = draw(image, PREDICTIONS, fps=None, precision="int8", latency_ms=1.0)
    assert (shown[:46] != plain[:46]).any()
    assert (shown[46:] == plain[46:]).all()


def test_what_is_unknown_has_no_confidence() -> None:
    """That of the likeliest class is in its bar."""
    image, options = flat(480, 640, 0), {"fps": None, "precision": "int8", "latency_ms": 1.0}
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
    assert heights[0] < heights[1] < heights[2] < 240


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
    assert 0.8 * min(height, width) < panel[:, 1].sum() <= height
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
