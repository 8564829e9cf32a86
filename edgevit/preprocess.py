"""Frame to model input. Calibration, evaluation and the camera all call `prepare`, so they agree.

The model input is the resized frame itself, uint8 [H, W, 3] BGR. Colour order, 1/255, mean and
standard deviation are part of the contract but are folded into the patch embedding's weights
(`edgevit.model.folded`), so nothing here touches pixel values beyond resampling them.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from edgevit.errors import ConfigError, did_you_mean
from edgevit.files.fromjson import conform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Frame = NDArray[np.uint8]

MODES = ("squash", "shortest", "letterbox")
INTERPOLATIONS = ("nearest", "linear", "cubic", "lanczos", "area")
COLORS = ("rgb", "bgr", "gray")
ROUNDINGS = ("nearest", "torchvision", "transformers")
MOST_PIXELS = 1 << 24
"""Of a model input, or of the box before its crop: 4096 x 4096. A bundle must not make a small frame fill the memory."""
LARGEST = 1e9
"""Of a mean or standard deviation; JSON can hold whole numbers that no float can."""
STRIP = 1 << 23
"""Pixels that a long thin frame may be scaled up to before its far ends are cut off unseen."""
LARGE = 1 << 17
"""Pixels of a frame from which on `edgevit.preprocess_averaging` is faster than OpenCV."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Beyond any input, and any mean or standard deviation of values in 0..1: a mistake, or made to take all memory.
Side = Annotated[int, Meta(ge=1, le=2**14)]
Level = Annotated[float, Meta(ge=-1e6, le=1e6)]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The contract between training, calibration, evaluation and the camera.

    ``mode`` says how a frame meets the box ``resize``: ``squash`` (each side to the box), ``shortest``
    (keep proportions, cover the box) or ``letterbox`` (keep proportions, fit inside, pad with the
    mean colour). What exceeds ``size`` is then cropped from the centre; what it exceeds is padded with black.

    ``rounding`` says how sizes and crops become whole pixels, as whoever trained the model has it: ``torchvision`` (and timm: a
    side that follows the other is truncated, a crop begins at the even one of two middles), ``transformers`` (truncated, at the
    first), or ``nearest`` (the nearest size, the first middle; no padding), which is what a contract without the field means.
    ``color`` is the channel order the weights were trained on; frames are always BGR.
    """

    size: tuple[Side, Side]
    """(height, width) of the model input in pixels."""
    resize: tuple[Side, Side]
    """(height, width) of the box a frame is resized to before the centre crop."""
    mode: str = "squash"
    interpolation: str = "linear"
    antialias: bool = True
    """Average over source pixels when shrinking (as PIL does), instead of skipping them."""
    mean: tuple[Level, ...] = IMAGENET_MEAN
    std: tuple[Level, ...] = IMAGENET_STD
    color: str = "rgb"
    rounding: str = "nearest"

    def __post_init__(self) -> None:
        for key, value, known in (("mode", self.mode, MODES), ("color", self.color, COLORS),
                                  ("interpolation", self.interpolation, INTERPOLATIONS),
                                  ("rounding", self.rounding, ROUNDINGS)):  # fmt: skip
            if value not in known:
                msg = f"preprocessing: unknown {key} {value!r}. {did_you_mean(str(value), known)}"
                raise ConfigError(msg)
        self._check_sizes()
        if not all(_is_number(value) for value in (*self.mean, *self.std)):
            msg = f"preprocessing: mean and std must be finite numbers, not {self.mean} and {self.std}"
            raise ConfigError(msg)
        channels = 1 if self.color == "gray" else 3
        if len(self.mean) != channels or len(self.std) != channels or min(self.std) <= 0:
            msg = f"preprocessing: {self.color} needs {channels} mean and positive std values, got {self.mean} and {self.std}"
            raise ConfigError(msg)

    def _check_sizes(self) -> None:
        for key, value in (("size", self.size), ("resize", self.resize)):
            if not (isinstance(value, tuple) and len(value) == 2 and all(type(side) is int for side in value)):
                msg = f"preprocessing: {key} must be two whole numbers, height and width, not {value!r}"
                raise ConfigError(msg)
            if min(value) > 0 and value[0] * value[1] > MOST_PIXELS:
                msg = f"preprocessing: {key} {value} is more than {MOST_PIXELS:,} pixels; no ViT takes so many"
                raise ConfigError(msg)
        smaller = any(r < s for r, s in zip(self.resize, self.size, strict=True))
        if min(*self.size, *self.resize) < 1 or (smaller and self.rounding == "nearest"):
            msg = f"preprocessing: cannot crop {self.size} (height, width) from {self.resize}; resize must be at least size"
            raise ConfigError(msg)

    def at(self, size: tuple[int, int]) -> Preprocessing:
        """The same contract for another model input size; the crop keeps its share of the frame."""
        ratio = [r / s for r, s in zip(self.resize, self.size, strict=True)]
        box = (round(size[0] * ratio[0]), round(size[1] * ratio[1]))
        return replace(self, size=size, resize=box)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Preprocessing:
        """Inverse of `to_dict`, for what a file holds. Raises ValueError or ConfigError naming the key that does not fit."""
        return conform(data, cls, "preprocessing")

    def describe(self) -> str:
        """One line for people: what happens to a frame."""
        box, crop = "x".join(map(str, self.resize)), "x".join(map(str, self.size))
        padded = any(r < s for r, s in zip(self.resize, self.size, strict=True))
        cropped = "" if self.resize == self.size else f", {'centre crop or pad to' if padded else 'centre crop'} {crop}"
        return f"{self.mode} to {box} ({self.interpolation}){cropped}, {self.color}"


def prepare(frame_bgr: Frame, contract: Preprocessing) -> Frame:
    """Turn one frame into one model input.

    Args:
        frame_bgr: uint8, [H, W, 3] BGR as OpenCV delivers it, [H, W, 4] BGRA or [H, W] gray.
        contract: the model's preprocessing.

    Returns:
        uint8 [height, width, 3] BGR, contiguous, of ``contract.size``.
    """
    import numpy as np

    return np.ascontiguousarray(_placed(_bgr(frame_bgr), contract))


def _bgr(frame: Frame) -> Any:
    import cv2

    if frame.dtype.name != "uint8":
        msg = f"expected a uint8 frame, got {frame.dtype}"
        raise ValueError(msg)
    if frame.ndim not in (2, 3) or not frame.size or frame.shape[2:] not in ((), (1,), (3,), (4,)):
        msg = f"expected a frame [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], got {list(frame.shape)}"
        raise ValueError(msg)
    if frame.ndim == 2 or frame.shape[2] == 1:
        return cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)
    return cv2.cvtColor(frame, cv2.COLOR_BGRA2BGR) if frame.shape[2] == 4 else frame


def _placed(frame: Any, contract: Preprocessing) -> Any:
    """The window of ``contract.size`` that the model sees of the scaled frame; where it reaches beyond it, padding."""
    import cv2

    if contract.mode == "shortest":
        frame = _without_ends(frame, contract)
    scaled = scaled_size(frame.shape[:2], contract)
    first = [_first(*axis, contract) for axis in zip(scaled, contract.size, contract.resize, strict=True)]
    seen = [(max(0, start), min(start + size, side)) for start, size, side in zip(first, contract.size, scaled, strict=True)]
    (top, bottom), (left, right) = seen
    frame = _window(frame, *scaled, (top, left), (bottom - top, right - left), contract)
    borders = [(start - begin, begin + size - stop)
               for (start, stop), begin, size in zip(seen, first, contract.size, strict=True)]  # fmt: skip
    if not any(map(any, borders)):
        return frame
    value = padding_bgr(contract) if contract.mode == "letterbox" else (0.0,) * 3
    return cv2.copyMakeBorder(frame, *borders[0], *borders[1], cv2.BORDER_CONSTANT, value=value)


def _without_ends(frame: Any, contract: Preprocessing) -> Any:
    """``frame`` without the far ends of a long strip: they are cropped away in any case, and scaled up could take gigabytes."""
    sides, boxes = frame.shape[:2], 2
    if contract.rounding != "nearest":  # where every pixel counts, no more is cut than memory asks for
        boxes = max(boxes, STRIP // (2 * contract.resize[0] * contract.resize[1]))
    scale = max(box / side for box, side in zip(contract.resize, sides, strict=True))
    limits = [2 * math.ceil(boxes * max(box, size) / scale) for box, size in zip(contract.resize, contract.size, strict=True)]
    height, width = (min(side, limit + side % 2) for side, limit in zip(sides, limits, strict=True))
    top, left = (sides[0] - height) // 2, (sides[1] - width) // 2
    return frame[top : top + height, left : left + width]


def scaled_size(shape: tuple[int, int], contract: Preprocessing) -> tuple[int, int]:
    """(height, width) that a frame of ``shape`` is resized to."""
    (height, width), box = shape, contract.resize
    if contract.mode == "squash":
        return box
    if contract.rounding != "nearest" and contract.mode == "shortest" and box[0] == box[1]:
        # torchvision's Resize of one number; transformers' shortest_edge is the same.
        short, long = sorted(shape)
        longer = int(box[0] * long / short)
        return (longer, box[1]) if width <= height else (box[0], longer)
    if contract.rounding == "nearest":
        scale = (max if contract.mode == "shortest" else min)(box[0] / height, box[1] / width)
        return max(1, round(height * scale)), max(1, round(width * scale))
    # timm's ResizeKeepRatio.
    ratio = (min if contract.mode == "shortest" else max)(height / box[0], width / box[1])
    return max(1, round(height / ratio)), max(1, round(width / ratio))


def _first(scaled: int, size: int, box: int, contract: Preprocessing) -> int:
    """Where along one side the ``size`` pixels begin that are kept of ``scaled``; negative where padding comes first."""
    if contract.rounding == "nearest" and contract.mode == "letterbox":
        return (box - size) // 2 - (box - scaled) // 2
    if scaled < size:
        return -((size - scaled) // 2)
    # Python rounds a half to the even neighbour, as torchvision's int(round(x / 2.0)) does.
    return round((scaled - size) / 2) if contract.rounding == "torchvision" else (scaled - size) // 2


def padding_bgr(contract: Preprocessing) -> tuple[float, ...]:
    """The letterbox colour: the training mean, which is zero after normalisation."""
    levels = [float(round(255 * value)) for value in contract.mean]
    if contract.color == "gray":
        levels *= 3
    return tuple(levels[::-1] if contract.color == "rgb" else levels)


def _window(
    frame: Any, height: int, width: int, first: tuple[int, int], kept: tuple[int, int], contract: Preprocessing
) -> Any:  # fmt: skip
    """The ``kept`` pixels from ``first`` (row, column) on of the frame scaled to ``height`` x ``width``.

    Averaging over areas takes time for every pixel of the frame, so as much as possible is cropped before it.
    """
    from edgevit import preprocess_averaging

    if _averages(frame, height, width, contract):
        # OpenCV has a fast way of its own where a result pixel stands for whole pixels of the frame.
        whole = not (frame.shape[0] % height or frame.shape[1] % width)
        if frame.shape[0] * frame.shape[1] >= LARGE and not whole and preprocess_averaging.worthwhile():
            return preprocess_averaging.averaged(frame, height, width, kept, first)
        (top, bottom, row, height), (left, right, column, width) = (
            _margins(*axis) for axis in zip(frame.shape[:2], (height, width), first, kept, strict=True)
        )
        frame, first = frame[top:bottom, left:right], (row, column)
    scaled = _scaled(frame, height, width, contract)
    return scaled[first[0] : first[0] + kept[0], first[1] : first[1] + kept[1]]


def _margins(length: int, scaled: int, first: int, kept: int) -> tuple[int, int, int, int]:
    """What of ``length`` pixels the ``kept`` of the ``scaled`` ones need: its range, ``first`` within it, its own scaled size.

    A cut where a pixel of both begins moves no area: what remains is scaled to the same values, bit by bit.
    """
    period = scaled // math.gcd(length, scaled)
    before, after = first // period * period, (scaled - first - kept) // period * period
    return before * length // scaled, length - after * length // scaled, first - before, scaled - before - after


def _averages(frame: Any, height: int, width: int, contract: Preprocessing) -> bool:
    """Whether every result pixel is the mean of the area it stands for."""
    shrinks = height <= frame.shape[0] and width <= frame.shape[1]
    return shrinks and contract.interpolation != "nearest" and (contract.antialias or contract.interpolation == "area")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _scaled(frame: Any, height: int, width: int, contract: Preprocessing) -> Any:
    import cv2

    if frame.shape[:2] == (height, width):
        return frame
    shrinks = frame.shape[0] > height or frame.shape[1] > width
    grows = frame.shape[0] < height or frame.shape[1] < width
    if shrinks and grows:
        # INTER_AREA averages only where neither side grows, so each side has its own turn.
        frame = _scaled(frame, min(frame.shape[0], height), min(frame.shape[1], width), contract)
        return _scaled(frame, height, width, contract)
    # OpenCV's linear and cubic filters look at 2 and 4 source pixels however far they shrink; area
    # averaging is its antialiased filter, closest to the PIL resampling that models are trained with.
    flags = {"nearest": cv2.INTER_NEAREST, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC,
             "lanczos": cv2.INTER_LANCZOS4, "area": cv2.INTER_AREA}  # fmt: skip
    flag = cv2.INTER_AREA if _averages(frame, height, width, contract) else flags[contract.interpolation]
    return cv2.resize(frame, (width, height), interpolation=flag)
