"""Frame to model input. Calibration, evaluation and the camera all call `prepare`, so they agree.

The model input is the resized frame itself, uint8 [H, W, 3] BGR. Colour order, 1/255, mean and
standard deviation are part of the contract but are folded into the patch embedding's weights
(`edgevit.model.folded`), so nothing here touches pixel values beyond resampling them.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from edgevit.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Frame = NDArray[np.uint8]

MODES = ("squash", "shortest", "letterbox")
INTERPOLATIONS = ("nearest", "linear", "cubic", "lanczos", "area")
COLORS = ("rgb", "bgr", "gray")
LARGE = 1 << 17
"""Pixels of a frame from which on `edgevit.averaging` is faster than OpenCV."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The contract between training, calibration, evaluation and the camera.

    ``mode`` says how a frame meets the box ``resize``: ``squash`` (each side to the box), ``shortest``
    (keep proportions, cover the box) or ``letterbox`` (keep proportions, fit inside, pad with the
    mean colour). What exceeds ``size`` is then cropped from the centre.
    ``color`` is the channel order the weights were trained on; frames are always BGR.
    """

    size: tuple[int, int]
    """(height, width) of the model input in pixels."""
    resize: tuple[int, int]
    """(height, width) of the box a frame is resized to before the centre crop."""
    mode: str = "squash"
    interpolation: str = "linear"
    antialias: bool = True
    """Average over source pixels when shrinking (as PIL does), instead of skipping them."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    color: str = "rgb"

    def __post_init__(self) -> None:
        for key, value, known in (("mode", self.mode, MODES), ("color", self.color, COLORS),
                                  ("interpolation", self.interpolation, INTERPOLATIONS)):  # fmt: skip
            if value not in known:
                msg = f"preprocessing: unknown {key} {value!r}. {did_you_mean(value, known)}"
                raise ConfigError(msg)
        if min(*self.size, *self.resize) < 1 or any(r < s for r, s in zip(self.resize, self.size, strict=True)):
            msg = f"preprocessing: cannot crop {self.size} (height, width) from {self.resize}; resize must be at least size"
            raise ConfigError(msg)
        channels = 1 if self.color == "gray" else 3
        if len(self.mean) != channels or len(self.std) != channels or min(self.std) <= 0:
            msg = f"preprocessing: {self.color} needs {channels} mean and positive std values, got {self.mean} and {self.std}"
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
        """Inverse of `to_dict`. Raises TypeError for a missing or unknown key."""
        fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
        return cls(**fields)

    def describe(self) -> str:
        """One line for people: what happens to a frame."""
        box, crop = "x".join(map(str, self.resize)), "x".join(map(str, self.size))
        cropped = "" if self.resize == self.size else f", centre crop {crop}"
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

    return np.ascontiguousarray(_centre(_resized(_bgr(frame_bgr), contract), *contract.size))


def _centre(frame: Any, height: int, width: int) -> Any:
    top, left = (frame.shape[0] - height) // 2, (frame.shape[1] - width) // 2
    return frame[top : top + height, left : left + width]


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


def _resized(frame: Any, contract: Preprocessing) -> Any:
    import cv2

    (height, width), (box_height, box_width) = frame.shape[:2], contract.resize
    if contract.mode == "squash":
        return _middle(frame, box_height, box_width, contract.size, contract)
    pick = max if contract.mode == "shortest" else min
    scale = pick(box_height / height, box_width / width)
    if contract.mode == "shortest":
        # The far ends of a strip are cropped away in any case; scaling them up could take gigabytes. Four boxes stay.
        limits = (2 * math.ceil(2 * side / scale) for side in contract.resize)
        frame = _centre(frame, *(min(side, limit + side % 2) for side, limit in zip((height, width), limits, strict=True)))
        height, width = frame.shape[:2]
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    if contract.mode == "shortest":
        return _middle(frame, new_height, new_width, contract.size, contract)
    frame = _middle(frame, new_height, new_width, (new_height, new_width), contract)
    top, left = (box_height - new_height) // 2, (box_width - new_width) // 2
    bottom, right = box_height - new_height - top, box_width - new_width - left
    return cv2.copyMakeBorder(frame, top, bottom, left, right, cv2.BORDER_CONSTANT, value=padding_bgr(contract))


def padding_bgr(contract: Preprocessing) -> tuple[float, ...]:
    """The letterbox colour: the training mean, which is zero after normalisation."""
    levels = [float(round(255 * value)) for value in contract.mean]
    if contract.color == "gray":
        levels *= 3
    return tuple(levels[::-1] if contract.color == "rgb" else levels)


def _middle(frame: Any, height: int, width: int, kept: tuple[int, int], contract: Preprocessing) -> Any:
    """The frame scaled to ``height`` x ``width``, or the middle of that, at least ``kept`` of it.

    Averaging over areas takes time for every pixel of the frame, so as much as possible is cropped before it.
    """
    from edgevit import averaging

    if not _averages(frame, height, width, contract):
        return _scaled(frame, height, width, contract)
    # OpenCV has a fast way of its own where a result pixel stands for whole pixels of the frame.
    whole = not (frame.shape[0] % height or frame.shape[1] % width)
    if frame.shape[0] * frame.shape[1] >= LARGE and not whole and averaging.worthwhile():
        return averaging.averaged(frame, height, width, kept)
    (top, less_height), (left, less_width) = (_margin(*axis) for axis in zip(frame.shape[:2], (height, width), kept, strict=True))
    frame = frame[top : frame.shape[0] - top, left : frame.shape[1] - left]
    return _scaled(frame, height - 2 * less_height, width - 2 * less_width, contract)


def _margin(length: int, scaled: int, kept: int) -> tuple[int, int]:
    """What can be cut off either end of ``length`` pixels, and off the ``scaled`` ones, if their middle ``kept`` matter.

    A cut where a pixel of both begins moves no area: what remains is scaled to the same values, bit by bit.
    """
    period = scaled // math.gcd(length, scaled)
    margin = (scaled - kept) // 2 // period * period
    return margin * length // scaled, margin


def _averages(frame: Any, height: int, width: int, contract: Preprocessing) -> bool:
    """Whether every result pixel is the mean of the area it stands for."""
    shrinks = height <= frame.shape[0] and width <= frame.shape[1]
    return shrinks and contract.interpolation != "nearest" and (contract.antialias or contract.interpolation == "area")


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
