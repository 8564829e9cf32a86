"""A frame of any shape becomes the model input that training saw."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from edgevit import preprocess_averaging
from edgevit.errors import ConfigError
from edgevit.preprocess import COLORS, INTERPOLATIONS, MODES, Preprocessing, padding_bgr, prepare, scaled_size

PILLOW = {"linear": Image.Resampling.BILINEAR, "cubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}


def preprocessing(size: tuple[int, int] = (24, 32), resize: tuple[int, int] | None = None, **changes: Any) -> Preprocessing:
    return Preprocessing(size=size, resize=resize or size, **changes)


def photo(height: int, width: int) -> np.ndarray:
    """A detailed frame of any size, uint8 BGR."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """A frame without detail, uint8 BGR."""
    y, x = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None, :]
    return np.stack([200 * y + 0 * x, 200 * x + 0 * y, 100 * (y + x)], axis=2).astype(np.uint8)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference in grey levels."""
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


# --- every frame fits every contract -------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("shape", [(48, 64), (24, 32), (7, 9), (100, 20), (20, 100), (1, 1), (1, 50), (50, 1)], ids=str)
def test_result_is_the_models_input(mode: str, interpolation: str, antialias: bool, shape: tuple[int, int]) -> None:
    contract = preprocessing(resize=(30, 40), mode=mode, interpolation=interpolation, antialias=antialias)
    result = prepare(photo(*shape), contract)
    assert (result.shape, result.dtype) == ((24, 32, 3), np.uint8)
    assert result.flags.c_contiguous


@pytest.mark.parametrize("mode", MODES)
def test_huge_frame(mode: str) -> None:
    """An 8K frame, as large as cameras get."""
    assert prepare(np.full((4320, 7680, 3), 90, np.uint8), preprocessing(mode=mode)).shape == (24, 32, 3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 2000), (2000, 1)], ids=str)
def test_long_thin_frame_takes_little_memory(mode: str, shape: tuple[int, int]) -> None:
    """Covering the box must not scale up the parts that are cropped away: here they are 2000 times the result."""
    strip = np.full((*shape, 3), 60, np.uint8)
    strip[strip.shape[0] // 2, strip.shape[1] // 2] = 200
    tracemalloc.start()
    result = prepare(strip, preprocessing((128, 128), resize=(140, 140), mode=mode))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.shape == (128, 128, 3)
    assert peak < 10e6


@pytest.mark.parametrize("resize", [(24, 32), (30, 41)], ids=str)
@pytest.mark.parametrize("shape", [(60, 81), (7, 9), (11, 70), (70, 11)], ids=str)
def test_shortest_is_resize_then_crop(shape: tuple[int, int], resize: tuple[int, int]) -> None:
    """However it is computed, the result is what resizing the whole frame and cropping gives."""
    frame = smooth(*shape)
    scale = max(resize[0] / shape[0], resize[1] / shape[1])
    whole = (max(resize[0], round(shape[0] * scale)), max(resize[1], round(shape[1] * scale)))
    resized = prepare(frame, preprocessing(whole))
    top, left = (whole[0] - 24) // 2, (whole[1] - 32) // 2
    result = prepare(frame, preprocessing(resize=resize, mode="shortest"))
    assert difference(result, resized[top : top + 24, left : left + 32]) < 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_frame_of_the_right_size_is_untouched(mode: str, interpolation: str) -> None:
    """The pixels that calibration saw are the pixels that the camera delivers."""
    frame = photo(24, 32)
    assert np.array_equal(prepare(frame, preprocessing(mode=mode, interpolation=interpolation)), frame)


def test_the_frame_itself_is_left_alone() -> None:
    frame = photo(48, 64)
    before = frame.copy()
    prepare(frame, preprocessing(mode="letterbox", resize=(40, 40)))
    assert np.array_equal(frame, before)


def test_views_are_taken_as_they_look() -> None:
    """Crops, mirrored and BGR views of RGB arrays are no contiguous memory."""
    frame = photo(60, 80)
    for view in (frame[..., ::-1], frame[::-1, ::-1], frame[5:50, 7:60], frame.transpose(1, 0, 2)):
        for size in (view.shape[:2], (24, 32)):
            assert np.array_equal(prepare(view, preprocessing(size)), prepare(view.copy(), preprocessing(size)))


# --- modes ---------------------------------------------------------------------------------------------------------------


def test_crop_is_centred() -> None:
    """Each pixel holds its own row and column."""
    rows, columns = np.mgrid[:40, :60].astype(np.uint8)
    frame = np.stack([rows, columns, rows], axis=2)
    result = prepare(frame, preprocessing((20, 30), resize=(40, 60)))
    assert np.array_equal(result, frame[10:30, 15:45])
    odd = prepare(frame, preprocessing((21, 31), resize=(40, 60)))
    assert np.array_equal(odd, frame[9:30, 14:45])


def test_squash_sees_every_corner() -> None:
    frame = np.zeros((100, 50, 3), np.uint8)
    frame[:50, :25], frame[50:, 25:] = 80, 160
    result = prepare(frame, preprocessing((10, 10)))
    assert [result[y, x, 0] for y, x in ((0, 0), (0, 9), (9, 0), (9, 9))] == [80, 0, 0, 160]


@pytest.mark.parametrize("shape", [(40, 80), (80, 40)], ids=str)
def test_shortest_covers_the_box_and_cuts_the_long_side(shape: tuple[int, int]) -> None:
    """The middle of the long side is kept, its ends are not."""
    frame = np.zeros((*shape, 3), np.uint8)
    long = shape.index(80)
    middle = (slice(None), slice(20, 60)) if long else (slice(20, 60), slice(None))
    frame[middle] = 200
    assert (prepare(frame, preprocessing((20, 20), mode="shortest")) == 200).all()


@pytest.mark.parametrize("shape", [(20, 40), (40, 20), (40, 41), (41, 40)], ids=str)
def test_letterbox_keeps_everything_and_pads_with_the_mean(shape: tuple[int, int]) -> None:
    """The padding is the training mean, in BGR, so that it is zero for the model."""
    contract = preprocessing((40, 40), mode="letterbox", mean=(0.2, 0.4, 0.8))
    result = prepare(np.full((*shape, 3), 7, np.uint8), contract)
    inside = (result == 7).all(axis=2)
    assert inside.sum() == np.prod([round(side * 40 / max(shape)) for side in shape])
    assert (result[~inside] == (204, 102, 51)).all()
    top, left = (40 - round(shape[0] * 40 / max(shape))) // 2, (40 - round(shape[1] * 40 / max(shape))) // 2
    assert inside[top, left]
    assert not inside[:top].any()
    assert not inside[:, :left].any()


def test_letterbox_colour_follows_the_trained_colour_order() -> None:
    mean = (0.2, 0.4, 0.8)
    assert padding_bgr(preprocessing(mean=mean)) == (204, 102, 51)
    assert padding_bgr(preprocessing(mean=mean, color="bgr")) == (51, 102, 204)
    assert padding_bgr(preprocessing(mean=(0.5,), std=(0.5,), color="gray")) == (128, 128, 128)


# --- what a camera or file may deliver -------------------------------------------------------------------------------------


def test_gray_frames_become_three_equal_channels() -> None:
    gray = photo(48, 64)[..., 0]
    expected = prepare(np.repeat(gray[..., None], 3, axis=2), preprocessing())
    assert np.array_equal(prepare(gray, preprocessing()), expected)
    assert np.array_equal(prepare(gray[..., None], preprocessing()), expected)


def test_alpha_is_dropped() -> None:
    frame = photo(48, 64)
    alpha = np.concatenate([frame, np.full((48, 64, 1), 3, np.uint8)], axis=2)
    assert np.array_equal(prepare(alpha, preprocessing()), prepare(frame, preprocessing()))


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.bool_])
def test_other_dtypes_are_refused(dtype: type) -> None:
    with pytest.raises(ValueError, match="expected a uint8 frame"):
        prepare(np.zeros((8, 8, 3), dtype), preprocessing())


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (5, 5, 2), (5, 5, 5), (5,), (1, 5, 5, 3)], ids=str)
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    """An empty frame, other numbers of channels, and a batch instead of a frame."""
    with pytest.raises(ValueError, match="frame"):
        prepare(np.zeros(shape, np.uint8), preprocessing())


# --- resampling ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [64, 224, 384])
@pytest.mark.parametrize(("interpolation", "limit"), [("linear", 2.5), ("cubic", 2.0), ("lanczos", 2.7)])
def test_shrinking_is_close_to_pillow(interpolation: str, limit: float, side: int) -> None:
    """Training resampled with Pillow. On a photograph full of detail (427 x 640), area averaging differs from it by
    1.3 to 2.5 of 255 levels in the mean; the same filter without antialiasing by 2.9 to 14.
    """
    frame = np.ascontiguousarray(load_sample_image("china.jpg")[..., ::-1])
    wanted = np.asarray(Image.fromarray(frame).resize((side, side), PILLOW[interpolation]))
    averaged, skipped = (prepare(frame, preprocessing((side, side), interpolation=interpolation, antialias=value))
                         for value in (True, False))  # fmt: skip
    assert difference(averaged, wanted) < limit
    assert difference(averaged, wanted) < 0.6 * difference(skipped, wanted)


@pytest.mark.parametrize(("interpolation", "limit"), [("linear", 0.6), ("cubic", 3.2)])
def test_enlarging_is_close_to_pillow(interpolation: str, limit: float) -> None:
    """A digit of 8 x 8 pixels, sevenfold. OpenCV's cubic is sharper than Pillow's (its parameter is -0.75, not -0.5)."""
    digit = np.repeat((load_digits().images[7] * 15).astype(np.uint8)[..., None], 3, axis=2)
    wanted = np.asarray(Image.fromarray(digit).resize((56, 56), PILLOW[interpolation]))
    assert difference(prepare(digit, preprocessing((56, 56), interpolation=interpolation)), wanted) < limit


@pytest.mark.parametrize("shape", [(640, 640), (20, 640), (640, 20)], ids=str)
def test_antialias_averages_where_its_absence_skips(shape: tuple[int, int]) -> None:
    """Noise shrunk tenfold fades to its mean; also where only one side of a thin frame shrinks."""
    noise = np.random.default_rng(0).choice([0, 255], size=(*shape, 1)).astype(np.uint8).repeat(3, axis=2)
    if shape[0] == 20:
        noise = noise[:1].repeat(20, axis=0)  # stripes along the side that grows, so nothing else averages
    if shape[1] == 20:
        noise = noise[:, :1].repeat(20, axis=1)
    smooth, sharp = (prepare(noise, preprocessing((64, 64), antialias=value)).std() for value in (True, False))
    assert smooth < 50 < sharp


# --- rounding ------------------------------------------------------------------------------------------------------------

# Made with torchvision 0.28.0 and transformers 5.24.0, and asked for again by tests/parity/test_preprocess.py:
#   y, x = np.mgrid[1 : h + 1, 1 : w + 1]; image = Image.fromarray(np.stack([y, x, 0 * y], 2).astype(np.uint8))
#   Compose([Resize(r, InterpolationMode.NEAREST), CenterCrop(32)])(image)
#   BitImageProcessor(size={"shortest_edge": r}, crop_size={"height": 32, "width": 32}, resample=0, do_rescale=False,
#                     do_normalize=False)(image)
TRUE_CROPS = {
    ((35, 35), 35): ((2, 2), (1, 1)),
    ((35, 50), 35): ((2, 9), (1, 9)),
    ((39, 36), 36): ((4, 2), (3, 2)),
    ((36, 39), 36): ((2, 4), (2, 3)),
    ((36, 41), 36): ((2, 4), (2, 4)),
    ((33, 47), 33): ((0, 8), (0, 7)),
    ((35, 37), 35): ((2, 2), (1, 2)),
    ((36, 36), 36): ((2, 2), (2, 2)),
    ((28, 28), 28): ((-2, -2), (-2, -2)),
    ((29, 40), 29): ((-1, 4), (-1, 4)),
    ((27, 31), 27): ((-2, 0), (-2, 0)),
    ((20, 33), 20): ((-6, 0), (-6, 0)),
}
"""(height, width) of a frame that is not scaled, and its box: row and column where its 32 x 32 begin in torchvision and in
transformers; negative where padding comes first."""
# torchvision.transforms.functional._compute_resized_output_size(shape, [box]) of the same version; from the ninth on
# timm.data.transforms.ResizeKeepRatio.get_params(image, box, longest) of timm 1.0.31, longest=1.0 for letterbox.
TRUE_SIZES = [
    ((53, 37), (36, 36), "shortest", (51, 36)),
    ((40, 71), (36, 36), "shortest", (36, 63)),
    ((64, 47), (36, 36), "shortest", (49, 36)),
    ((427, 640), (256, 256), "shortest", (256, 383)),
    ((375, 500), (256, 256), "shortest", (256, 341)),
    ((500, 333), (248, 248), "shortest", (372, 248)),
    ((36, 73), (36, 36), "shortest", (36, 73)),
    ((1080, 1920), (224, 224), "shortest", (224, 398)),
    ((53, 37), (36, 36), "letterbox", (36, 25)),
    ((427, 640), (224, 224), "letterbox", (149, 224)),
    ((53, 37), (36, 54), "shortest", (77, 54)),
    ((427, 640), (248, 497), "shortest", (332, 497)),
]


@pytest.mark.parametrize(("rounding", "which"), [("torchvision", 0), ("transformers", 1)])
@pytest.mark.parametrize(("shape", "box"), TRUE_CROPS, ids=str)
def test_crops_begin_where_the_trainer_had_them(shape: tuple[int, int], box: int, rounding: str, which: int) -> None:
    rows, columns = np.mgrid[1 : shape[0] + 1, 1 : shape[1] + 1].astype(np.uint8)
    frame = np.stack([rows, columns, rows], axis=2)
    row, column = TRUE_CROPS[shape, box][which]
    padded = np.zeros((200, 200, 3), np.uint8)
    padded[50 : 50 + shape[0], 50 : 50 + shape[1]] = frame
    contract = preprocessing((32, 32), resize=(box, box), mode="shortest", rounding=rounding)
    assert np.array_equal(prepare(frame, contract), padded[50 + row : 82 + row, 50 + column : 82 + column])


@pytest.mark.parametrize(("shape", "box", "mode", "expected"), TRUE_SIZES, ids=str)
def test_sides_are_scaled_to_the_trainers_pixels(
    shape: tuple[int, int], box: tuple[int, int], mode: str, expected: tuple[int, int]
) -> None:
    contract = preprocessing((32, 32), resize=box, mode=mode, rounding="torchvision")
    assert scaled_size(shape, contract) == expected


def test_an_older_contract_rounds_as_it_did() -> None:
    """A bundle without the field keeps the pixels that it was measured on."""
    data = preprocessing((32, 32), resize=(36, 36), mode="shortest").to_dict()
    del data["rounding"]
    contract = Preprocessing.from_dict(data)
    assert contract.rounding == "nearest"
    assert (scaled_size((53, 37), contract), scaled_size((40, 71), contract)) == ((52, 36), (36, 64))


@pytest.mark.parametrize("rounding", ["torchvision", "transformers"])
def test_what_the_input_exceeds_is_black(rounding: str) -> None:
    frame = np.full((40, 40, 3), 200, np.uint8)
    result = prepare(frame, preprocessing((32, 32), resize=(29, 29), mode="squash", rounding=rounding))
    assert (result[1:30, 1:30] == 200).all()
    assert not result[0].any()
    assert not result[30:].any()
    assert not result[:, 0].any()
    assert not result[:, 30:].any()
    assert preprocessing((32, 32), resize=(29, 29), rounding=rounding).describe() == (
        "squash to 29x29 (linear), centre crop or pad to 32x32, rgb"
    )


# --- averaging -------------------------------------------------------------------------------------------------------------

FRAMES = [(720, 1280), (480, 640), (1080, 1920), (511, 389), (720, 405)]
CROPPED = [
    ("shortest", (256, 256)),
    ("shortest", (248, 248)),
    ("shortest", (224, 224)),
    ("squash", (256, 256)),
    ("squash", (235, 251)),
]


def opencv(frame: np.ndarray, mode: str, resize: tuple[int, int]) -> np.ndarray:
    """The whole frame averaged by OpenCV, and then 224 x 224 from its centre."""
    scale = max(box / side for box, side in zip(resize, frame.shape, strict=False))
    height, width = resize if mode == "squash" else (round(side * scale) for side in frame.shape[:2])
    whole = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    top, left = (height - 224) // 2, (width - 224) // 2
    return whole[top : top + 224, left : left + 224]


@pytest.mark.parametrize("shape", FRAMES, ids=str)
@pytest.mark.parametrize(("mode", "resize"), CROPPED, ids=str)
def test_crop_before_averaging_changes_no_bit(
    mode: str, resize: tuple[int, int], shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where OpenCV averages, it is given part of the frame, and gives the same."""
    monkeypatch.setattr(preprocess_averaging, "worthwhile", lambda: False)
    frame = photo(*shape)
    result = prepare(frame, preprocessing((224, 224), resize=resize, mode=mode, interpolation="cubic"))
    assert np.array_equal(result, opencv(frame, mode, resize))


@pytest.mark.parametrize("shape", FRAMES, ids=str)
@pytest.mark.parametrize(("mode", "resize"), CROPPED, ids=str)
def test_matrix_products_average_as_opencv_does(
    mode: str, resize: tuple[int, int], shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On noise, one value in 5000 at most is rounded to the level beside."""
    monkeypatch.setattr(preprocess_averaging, "worthwhile", lambda: True)
    frame = photo(*shape)
    result = prepare(frame, preprocessing((224, 224), resize=resize, mode=mode, interpolation="cubic"))
    off = np.abs(result.astype(int) - opencv(frame, mode, resize))
    assert off.max() <= 1
    assert np.count_nonzero(off) <= off.size / 5000


@pytest.mark.parametrize("kept", [(29, 31), (8, 7), (1, 1)], ids=str)
@pytest.mark.parametrize("shape", [(97, 140), (29, 31), (30, 140), (97, 31)], ids=str)
def test_each_result_is_the_mean_of_its_area(shape: tuple[int, int], kept: tuple[int, int]) -> None:
    """Enlarged until areas are whole pixels, the mean is a plain one."""
    frame = photo(*shape)
    fine = frame.repeat(29, axis=0).repeat(31, axis=1).reshape(29, shape[0], 31, shape[1], 3)
    exact = fine.mean(axis=(1, 3))[(29 - kept[0]) // 2 :, (31 - kept[1]) // 2 :][: kept[0], : kept[1]]
    result = preprocess_averaging.averaged(frame, 29, 31, kept)
    assert (result.shape, result.dtype) == ((*kept, 3), np.uint8)
    assert np.abs(result - exact).max() < 0.5001


def test_views_are_averaged_as_they_look() -> None:
    frame = photo(600, 800)
    for view in (frame[..., ::-1], frame[::-1, ::-1], frame[5:501, 7:607], frame.transpose(1, 0, 2)):
        contract = preprocessing((224, 224), resize=(256, 256), mode="shortest")
        assert np.array_equal(prepare(view, contract), prepare(view.copy(), contract))


def test_letterbox_averages_too(monkeypatch: pytest.MonkeyPatch) -> None:
    frame, contract = photo(720, 1280), preprocessing((224, 224), mode="letterbox")
    results = []
    for fast in (True, False):
        monkeypatch.setattr(preprocess_averaging, "worthwhile", lambda fast=fast: fast)
        results.append(prepare(frame, contract).astype(int))
    assert np.abs(results[0] - results[1]).max() <= 1


def test_opencv_keeps_what_it_does_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small frames, and areas of whole pixels."""

    def never(*_arguments: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(preprocess_averaging, "averaged", never)
    for shape, size in (((300, 300), (224, 224)), ((448, 672), (224, 224)), ((1080, 1920), (270, 480))):
        assert prepare(photo(*shape), preprocessing(size)).shape[:2] == size


def test_old_numpy_does_not_tell_how_it_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then OpenCV averages."""

    def show_config() -> None:
        """As before numpy 1.26."""

    monkeypatch.setattr(np, "show_config", show_config)
    assert not preprocess_averaging.worthwhile.__wrapped__()


# --- the contract ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mode": "squish"}, r"unknown mode 'squish'. Did you mean 'squash'\?"),
        ({"interpolation": "bilinear"}, r"unknown interpolation 'bilinear'. Did you mean 'linear'\?"),
        ({"color": "RBG"}, "unknown color 'RBG'. Known: bgr, gray, rgb"),
        ({"resize": (23, 32)}, "resize must be at least size"),
        ({"size": (0, 32)}, "resize must be at least size"),
        ({"mean": (0.5,)}, "rgb needs 3 mean and positive std values"),
        ({"std": (0.5, 0.0, 0.5)}, "rgb needs 3 mean and positive std values"),
        ({"color": "gray"}, "gray needs 1 mean"),
        ({"rounding": "floor"}, "unknown rounding 'floor'. Known: nearest, torchvision, transformers"),
        ({"size": (24.0, 32)}, "size must be two whole numbers"),
        ({"size": (24, True)}, "size must be two whole numbers"),
        ({"resize": (24, 32, 3)}, "resize must be two whole numbers"),
        ({"resize": (60000, 60000)}, "is more than 16,777,216 pixels"),
        ({"mean": ("0.5", 0.5, 0.5)}, "mean and std must be finite numbers"),
        ({"std": (0.5, float("nan"), 0.5)}, "mean and std must be finite numbers"),
        ({"std": (0.5, 10**400, 0.5)}, "mean and std must be finite numbers"),
    ],
)
def test_wrong_contracts_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Preprocessing(**({"size": (24, 32), "resize": (24, 32)} | wrong))


@pytest.mark.parametrize("color", COLORS)
def test_survives_json(color: str) -> None:
    statistics = {"mean": (0.5,), "std": (0.25,)} if color == "gray" else {}
    contract = preprocessing(resize=(30, 40), mode="shortest", interpolation="cubic", antialias=False, color=color, **statistics)
    assert Preprocessing.from_dict(json.loads(json.dumps(contract.to_dict()))) == contract


def test_from_dict_wants_the_known_keys() -> None:
    data = preprocessing().to_dict()
    with pytest.raises(ValueError, match="preprocessing: unexpected 'colour'"):
        Preprocessing.from_dict(data | {"colour": "rgb"})
    del data["size"]
    with pytest.raises(ValueError, match="preprocessing: object missing required field size"):
        Preprocessing.from_dict(data)


def test_at_another_size_the_crop_keeps_its_share() -> None:
    contract = preprocessing((224, 224), resize=(256, 256), mode="shortest", interpolation="cubic")
    other = contract.at((336, 448))
    assert (other.size, other.resize) == ((336, 448), (384, 512))
    assert (other.mode, other.interpolation) == ("shortest", "cubic")
    assert preprocessing().at((8, 8)).resize == (8, 8)


@pytest.mark.parametrize("side", range(1, 60))
def test_at_any_size_the_crop_fits(side: int) -> None:
    """Rounding never makes the box smaller than the crop: the contract would refuse it."""
    assert preprocessing((224, 224), resize=(225, 256)).at((side, side)).size == (side, side)


def test_describe_names_what_happens() -> None:
    assert preprocessing().describe() == "squash to 24x32 (linear), rgb"
    assert preprocessing(resize=(30, 40), mode="shortest").describe() == "shortest to 30x40 (linear), centre crop 24x32, rgb"
