"""What is measured of a frame and what is made of it, on real photographs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgevit.errors import ConfigError
from edgevit.runtime.collecting.chooser import Chooser, Filters
from edgevit.runtime.collecting.difference import difference
from edgevit.runtime.collecting.earlier import ALIKE, Earlier
from edgevit.runtime.collecting.look import exposure_of, look_at
from edgevit.runtime.collecting.sharp import PATIENCE, Sharpness, SharpnessFilter, parse_sharpness
from tests.runtime.collecting.scenes import FLAT, defocused, lit, noisy, photo, shaken, view

PLACES = [(name, x, y) for name in ("china", "flower") for x in (0, 160, 320) for y in (0, 90, 187)]


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    """By its definition, written out with NumPy, on a picture that need not be shrunk, less the noise by Immerkaer's mask."""
    image = view("china", 160)[:200, :250]
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float64)
    padded = np.pad(gray, 1, mode="reflect")  # OpenCV's border
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * gray
    rows = padded[:-2] - 2 * padded[1:-1] + padded[2:]
    noise = np.median(np.abs(rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:])) / 0.6745 / 6
    wanted = (laplacian.var() - 20 * noise**2) * (50 / gray.std()) ** 2
    assert look_at(image).sharpness == pytest.approx(wanted, rel=1e-3)


def test_noise_is_not_sharp() -> None:
    for sigma in (2, 5, 10):
        smooth = np.tile(np.linspace(50, 200, 256)[None, :, None], (192, 1, 3)).astype(np.uint8)
        assert look_at(noisy(smooth, sigma)).sharpness < 0.1 * 20 * sigma**2


@pytest.mark.parametrize("place", PLACES)
def test_blur_lowers_it_and_light_does_not(place: tuple[str, int, int]) -> None:
    image = view(*place)
    sharp = look_at(image).sharpness
    for blurred in (defocused(image, 1.5), defocused(image), shaken(image)):
        assert look_at(blurred).sharpness < 0.3 * sharp
        assert look_at(noisy(blurred)).sharpness < 0.4 * look_at(noisy(image)).sharpness
    for factor in (0.4, 0.7):
        assert look_at(lit(image, factor)).sharpness == pytest.approx(sharp, rel=0.05)


def test_sharpness_does_not_depend_on_the_camera_s_resolution() -> None:
    image = cv2.resize(photo(), (1920, 1280), interpolation=cv2.INTER_CUBIC)
    assert look_at(image).sharpness == pytest.approx(look_at(photo()).sharpness, rel=0.15)


@pytest.mark.parametrize(("image", "wanted"), [
    (np.zeros((48, 64, 3), np.uint8), "dark"),
    (noisy(np.zeros((48, 64, 3), np.uint8), 8), "dark"),
    (lit(view("china", 100), 0.1), "dark"),
    (np.full((48, 64, 3), 255, np.uint8), "overexposed"),
    (lit(view("china", 100), 3, 130), "overexposed"),
    (FLAT, "flat"),
    (noisy(FLAT, 2), "flat"),
    (view("china", 100), None),
    (lit(view("flower", 100), 0.35), None),
])  # fmt: skip
def test_exposure(image: np.ndarray, wanted: str | None) -> None:
    assert look_at(image).exposure == wanted


def test_a_small_part_before_black_or_white_is_exposed() -> None:
    """Electroluminescence, a part on a light table, print on paper."""
    for ground, ink in ((0, 200), (255, 30)):
        gray = np.full((200, 200), ground, np.uint8)
        gray[80:120, 80:120] = ink
        assert exposure_of(gray) is None


@pytest.mark.parametrize("place", PLACES)
def test_light_and_noise_are_no_change(place: tuple[str, int, int]) -> None:
    image = view(*place)
    one = look_at(noisy(image, 5, 1)).thumbnail
    for factor, offset in ((1, 0), (0.7, 0), (0.9, 20), (0.6, 40)):
        assert difference(one, look_at(noisy(lit(image, factor, offset), 5, 2)).thumbnail) < 0.03
    assert difference(one, look_at(view(place[0], abs(place[1] - 60), place[2])).thumbnail) > 0.1


def test_difference_of_known_pictures() -> None:
    """A part of a twentieth of the picture that is 51 levels brighter differs by a fifth; its background stays."""
    ground = np.tile(np.linspace(60, 160, 320)[None, :, None], (240, 1, 3)).astype(np.uint8)
    part = ground.copy()
    part[60:114, 80:152] += 51  # 54 x 72 pixels, 5.06 %
    assert difference(look_at(ground).thumbnail, look_at(part).thumbnail) == pytest.approx(0.2, abs=0.02)
    assert difference(look_at(ground).thumbnail, look_at(ground).thumbnail) == 0


def test_a_clock_in_the_picture_is_no_change() -> None:
    """Network cameras write one into it."""
    images = [view("flower", 100) for _ in range(2)]
    for second, image in enumerate(images):
        cv2.putText(image, f"2026-01-02 03:04:0{3 + 5 * second}", (5, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1)
    assert difference(look_at(images[0]).thumbnail, look_at(images[1]).thumbnail) < 0.05


def thumbnail_16(image: np.ndarray) -> np.ndarray:
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (16, 16), interpolation=cv2.INTER_AREA).astype(float).ravel()
    return small - small.mean()


@pytest.mark.parametrize("name", ["china", "flower"])
def test_nearly_the_same_is_what_train_calls_so(name: str) -> None:
    """By the correlation of 16 x 16 gray levels, computed here from the pictures."""
    first = view(name, 160)
    known = Earlier(change=0.05)
    known.add("first", look_at(first).thumbnail)
    seen = set()
    for x in range(0, 320, 4):
        a, b = thumbnail_16(first), thumbnail_16(view(name, x))
        correlation = a @ b / np.sqrt(a @ a * (b @ b))
        if abs(correlation - ALIKE) > 0.01:
            like = known.like(look_at(view(name, x)).thumbnail)
            assert (like == "first") == (correlation > ALIKE), x
            seen.add(like)
    assert seen == {"first", None}


def test_near_duplicates_of_any_earlier_one() -> None:
    known = Earlier(change=0.05)
    for x in (0, 160, 320):
        known.add(str(x), look_at(view("china", x)).thumbnail)
    for x in (320, 0, 160):
        for changed in (noisy(view("china", x), 8), lit(view("china", x), 0.6, 20), view("china", x + 2 if x < 320 else x - 2)):
            assert known.like(look_at(changed).thumbnail) == str(x)
    assert known.like(look_at(view("china", 80)).thumbnail) is None
    known.forget_last()
    assert known.like(look_at(view("china", 320)).thumbnail) is None


def test_more_pictures_than_there_were_rows() -> None:
    known = Earlier(change=0.05)
    random = np.random.default_rng(0)
    thumbnails = [random.uniform(0, 255, (32, 32)).astype(np.float32) for _ in range(600)]
    for number, thumbnail in enumerate(thumbnails):
        known.add(str(number), thumbnail)
    assert [known.like(thumbnails[number]) for number in (0, 255, 256, 599)] == ["0", "255", "256", "599"]


def test_parts_on_one_stage_are_not_nearly_the_same() -> None:
    """All correlate, because the stage does: yet each shows another part."""

    def stage(x: int, radius: int, seed: int) -> np.ndarray:
        image = np.tile(np.linspace(60, 140, 320)[None, :, None], (240, 1, 3)).astype(np.uint8)
        image[200:] = 30
        cv2.circle(image, (x, 120), radius, (150, 150, 150), -1)
        return noisy(image, 3, seed)

    known = Earlier(change=0.05)
    known.add("first", look_at(stage(150, 25, 0)).thumbnail)
    a, b = (thumbnail_16(stage(x, r, 9)) for x, r in ((150, 25), (170, 20)))
    assert a @ b / np.sqrt(a @ a * (b @ b)) > ALIKE, "the case is one"
    assert known.like(look_at(stage(150, 25, 1)).thumbnail) == "first"
    assert known.like(look_at(stage(170, 20, 2)).thumbnail) is None


@pytest.mark.parametrize(("text", "wanted"), [
    ("off", Sharpness()), ("40%", Sharpness(share=0.4)), ("150", Sharpness(least=150)), (" 12.5 ", Sharpness(least=12.5)),
    ("0", Sharpness()), ("100%", Sharpness(share=1.0)),
])  # fmt: skip
def test_parse_sharpness(text: str, wanted: Sharpness) -> None:
    assert parse_sharpness(text) == wanted


@pytest.mark.parametrize("text", ["", "sharp", "-1", "nan", "inf", "140%", "1e9", "٣", "4 0", "%"])
def test_what_is_no_sharpness(text: str) -> None:
    with pytest.raises(ConfigError, match="--sharp"):
        parse_sharpness(text)


def judged(images: list[np.ndarray], wanted: str = "auto") -> list[bool]:
    judge = SharpnessFilter(parse_sharpness(wanted))
    return [judge.is_blurred(look_at(noisy(image, 3, seed))) for seed, image in enumerate(images)]


def test_blurred_stretches_however_long() -> None:
    """Longer than the sharp one before: the median must not get used to them."""
    sharp = [view("china", x) for x in range(0, 200, 10)]
    for blurred in (
        [defocused(view("china", x)) for x in range(200, 0, -4)],
        [shaken(view("china", x)) for x in range(0, 200, 4)],
    ):
        assert judged([*sharp, *blurred, *sharp]) == [False] * len(sharp) + [True] * len(blurred) + [False] * len(sharp)


def test_another_scene_with_less_detail_is_not_blurred() -> None:
    china, flower = ([view(name, x) for x in range(0, 300, 10)] for name in ("china", "flower"))
    assert look_at(flower[0]).sharpness < 0.3 * look_at(china[0]).sharpness, "the case is one"
    assert not any(judged(china + flower + china))


def stamped(image: np.ndarray, second: int) -> np.ndarray:
    """As network cameras do, last of all."""
    return cv2.putText(image.copy(), f"2026-01-02 03:04:{second:02d}", (5, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)


@pytest.mark.parametrize("name", ["china", "flower"])
def test_a_clock_in_the_picture_is_as_sharp_as_ever(name: str) -> None:
    scene = [view(name, x) for x in range(100, 140, 2)]
    blurred = [defocused(image) for image in scene]
    wanted = [False] * len(scene) + [True] * len(blurred) + [False] * len(scene)
    assert judged([stamped(image, i % 60) for i, image in enumerate([*scene, *blurred, *scene])]) == wanted


def test_a_part_that_comes_is_not_blurred_nor_the_stage_that_it_leaves() -> None:
    stage = lit(view("flower", 100), 0.5, 20)
    part = stage.copy()
    part[80:160, 120:220] = view("china", 200)[80:160, 120:220]
    assert not any(judged([stage] * 6 + [part] * 3 + [stage] * 6 + [part] * 3))


def test_a_source_that_begins_out_of_focus() -> None:
    assert judged([defocused(view("flower", 0), 4)] * 3 + [view("flower", 0)] * 3)[3:] == [False] * 3
    judge = SharpnessFilter()
    assert judge.is_blurred(look_at(defocused(view("flower", 0), 4)))


def test_darker_is_not_blurred() -> None:
    assert not any(judged([view("china", 100)] * 10 + [lit(view("china", 100), 0.5)] * 10))


def test_a_source_that_stays_softer_is_taken_again() -> None:
    """A lens that fogged up for good: better those than nothing."""
    judge = SharpnessFilter(Sharpness(share=0.4))
    sharp, soft = look_at(view("china", 100)), look_at(defocused(view("china", 100), 1.5))
    assert not any(judge.is_blurred(sharp) for _ in range(20))
    assert [judge.is_blurred(soft) for _ in range(PATIENCE + 3)] == [True] * (PATIENCE + 1) + [False] * 2


def test_absolute_and_off() -> None:
    images = [view("china", 100), defocused(view("china", 100))]
    values = [look_at(noisy(image, 3, seed)).sharpness for seed, image in enumerate(images)]
    assert judged(images, f"{sum(values) / 2:.0f}") == [False, True]
    assert judged(images, "off") == [False, False]


def chosen(frames: list[tuple[float | None, np.ndarray]], **filters: object) -> tuple[list[int], dict[str, int]]:
    wanted = Filters(**filters)  # type: ignore[arg-type]
    chooser = Chooser(wanted, Earlier(alike=wanted.alike, change=wanted.change))
    kept = []
    for number, (at, image) in enumerate(frames):
        look = look_at(image)
        if chooser.passes(look, at):
            chooser.keep(str(number), look, at)
            kept.append(number)
    return kept, dict(chooser.left_out)


def test_the_rate() -> None:
    frames: list[tuple[float | None, np.ndarray]] = [(i / 10, view("china", 16 * i)) for i in range(20)]
    assert chosen(frames, every=0.5)[0] == [0, 5, 10, 15]
    assert chosen(frames, every=0.5)[1] == {"too soon": 16}
    assert chosen([(None, image) for _, image in frames[::3]], every=0.5)[0] == list(range(7)), "images have no time"


def test_each_reason_once() -> None:
    frames: list[tuple[float | None, np.ndarray]] = [
        (0.0, view("china", 0)), (0.5, view("china", 160)), (2.0, lit(view("china", 0), 0.05)), (2.1, FLAT),
        (2.2, defocused(view("china", 160), 4)), (2.3, noisy(view("china", 0))), (2.4, view("china", 160)),
        (4.0, noisy(view("china", 0))), (4.1, np.full_like(FLAT, 255)),
    ]  # fmt: skip
    kept, left_out = chosen(frames)
    assert kept == [0, 6]
    assert left_out == {
        "too soon": 1, "dark": 1, "flat": 1, "blurred": 1, "unchanged": 1, "duplicate": 1, "overexposed": 1,
    }  # fmt: skip


def test_all_off_keeps_all_but_repetitions() -> None:
    frames: list[tuple[float | None, np.ndarray]] = [(i / 25, noisy(view("china", 100), 4, i)) for i in range(5)]
    frames.append((1.0, frames[0][1]))
    assert chosen(frames, every=0, change=0, sharp=Sharpness(), alike=1.0, any_light=True) == ([0, 1, 2, 3, 4], {"duplicate": 1})
