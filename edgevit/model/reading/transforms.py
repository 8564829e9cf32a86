"""The preprocessing contract that a checkpoint's metadata asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgevit.errors import CheckpointError, ConfigError, did_you_mean
from edgevit.preprocess import Preprocessing

# PIL's numbers of resampling filters, as transformers stores them. Box averages over the source area.
PIL_FILTERS = {0: "nearest", 1: "lanczos", 2: "linear", 3: "cubic", 4: "area"}
TIMM_FILTERS = {"nearest": "nearest", "lanczos": "lanczos", "bilinear": "linear", "bicubic": "cubic", "box": "area"}
TIMM_MODES = {"center": "shortest", "squash": "squash", "border": "letterbox"}
OVERRIDES = ("mode", "resize", "interpolation", "mean", "std", "color")
HALF, ZEROS, ONES = (0.5,) * 3, (0.0,) * 3, (1.0,) * 3

Size = tuple[int, int]
Floats = tuple[float, ...]


def contract_of(
    config: Mapping[str, Any], processor: Mapping[str, Any], size: Size, channels: int, origin: object
) -> tuple[Preprocessing, list[str]]:
    """The contract for a model of ``size`` (height, width) and ``channels`` colour channels, and what was assumed.

    ``processor`` is transformers' ``preprocessor_config.json``, ``config`` may hold timm's ``pretrained_cfg``;
    they lie beside the file ``origin``.
    Raises CheckpointError if they ask for what edgevit cannot do or make no sense.
    """
    try:
        if processor:
            contract, notes = _from_processor(processor, size, channels)
        elif isinstance(config.get("pretrained_cfg"), dict):
            contract, notes = _from_timm(config["pretrained_cfg"], size, channels)
        else:
            contract, notes = _assumed(size, channels)
    except (TypeError, ValueError, KeyError, ZeroDivisionError, ConfigError) as error:
        msg = f"{origin}: the preprocessing settings beside it make no sense ({error!r}). Mend them or move the weights."
        raise CheckpointError(msg) from error
    if contract.size != size:
        told = f"the settings are for {_text(contract.size)}, the model takes {_text(size)}"
        notes.append(f"preprocessing: {told}; scaled alike, pass --image-size to change")
    return contract.at(size), notes


def delivered_size(processor: Mapping[str, Any]) -> Size | None:
    """(height, width) that transformers' ``preprocessor_config.json`` crops to; None if it does not crop."""
    crop = processor.get("crop_size") if processor.get("do_center_crop") else None
    height, width = (crop.get("height"), crop.get("width")) if isinstance(crop, dict) else (crop, crop)
    return (height, width) if type(height) is int and type(width) is int and min(height, width) > 0 else None


def overridden(contract: Preprocessing, changes: Mapping[str, Any]) -> Preprocessing:
    """``contract`` with single fields replaced; sizes may be one number. Raises ConfigError for a field that is unknown."""
    fields = contract.to_dict()
    for key, value in changes.items():
        if key not in OVERRIDES:
            msg = f"preprocessing: unknown field {key!r}. {did_you_mean(key, OVERRIDES)}"
            raise ConfigError(msg)
        fields[key] = _as_numbers(key, value) if key in ("resize", "mean", "std") else value
    changed = Preprocessing(**fields)
    # A checkpoint's own settings may pad; whoever types a box smaller than the input has mistaken one for the other.
    if "resize" in changes and any(box < side for box, side in zip(changed.resize, changed.size, strict=True)):
        msg = f"preprocessing: resize {_text(changed.resize)} is smaller than the model's input {_text(changed.size)}"
        raise ConfigError(msg)
    return changed


def _as_numbers(key: str, value: Any) -> tuple[int, int] | Floats:
    """A size as (height, width), anything else as floats."""
    try:
        if key == "resize":
            height, width = (value, value) if isinstance(value, int) else value
            return int(height), int(width)
        return (float(value),) if isinstance(value, int | float) else tuple(map(float, value))
    except (TypeError, ValueError) as error:
        msg = f"preprocessing: {key} cannot be {value!r}; give one number, or one a side or channel."
        raise ConfigError(msg) from error


def _assumed(size: Size, channels: int) -> tuple[Preprocessing, list[str]]:
    if channels == 1:
        contract = Preprocessing(size=size, resize=size, mean=(0.5,), std=(0.5,), color="gray", rounding="torchvision")
        values = "mean and std 0.5"
    else:
        contract = Preprocessing(size=size, resize=size, rounding="torchvision")
        values = "ImageNet's mean and std"
    how = f"{contract.mode} to {_text(size)} and {values}"
    return contract, [f"preprocessing: assumed {how}; pass --resize-mode, --mean, --std to change"]


def _from_timm(config: Mapping[str, Any], size: Size, channels: int) -> tuple[Preprocessing, list[str]]:
    notes: list[str] = []
    height, width = (config.get("input_size") or (channels, *size))[1:]
    share = config.get("crop_pct") or 0.875
    mean, std = _per_channel(config.get("mean"), config.get("std"), channels, notes)
    contract = Preprocessing(
        size=(height, width),
        resize=(math.floor(height / share), math.floor(width / share)),
        mode=TIMM_MODES[config.get("crop_mode") or "center"],
        interpolation=TIMM_FILTERS[config.get("interpolation") or "bilinear"],
        rounding="torchvision",
        mean=mean,
        std=std,
        color="gray" if channels == 1 else "rgb",
    )
    return contract, notes


def _from_processor(config: Mapping[str, Any], size: Size, channels: int) -> tuple[Preprocessing, list[str]]:
    notes: list[str] = []
    box, mode = _box(config, size, notes)
    crop = _square(config["crop_size"]) if config.get("do_center_crop") and config.get("crop_size") else box
    normalised = config.get("do_normalize", True)
    mean, std = _per_channel(
        config.get("image_mean") if normalised else ZEROS, config.get("image_std") if normalised else ONES, channels, notes
    )
    # Normalising x * factor is normalising x / 255, as the contract has it, with both constants over 255 * factor.
    factor = 255 * (config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0)
    if not math.isclose(factor, 1.0, rel_tol=1e-6):
        mean, std = tuple(value / factor for value in mean), tuple(value / factor for value in std)
    contract = Preprocessing(
        size=crop,
        resize=box,
        mode=mode,
        interpolation=PIL_FILTERS[config.get("resample", 2)],
        rounding="transformers",
        mean=mean,
        std=std,
        color="gray" if channels == 1 else "rgb",
    )
    return contract, notes


def _box(config: Mapping[str, Any], size: Size, notes: list[str]) -> tuple[Size, str]:
    """The box a frame is resized to, and how it meets it."""
    stated = config.get("size")
    if not config.get("do_resize", True) or stated is None:
        notes.append(
            "preprocessing: the settings do not resize; assumed squash to the model's size, pass --resize-mode to change"
        )
        return size, "squash"
    if isinstance(stated, dict) and "shortest_edge" in stated:
        return (stated["shortest_edge"], stated["shortest_edge"]), "shortest"
    return _square(stated), "squash"


def _square(value: Any) -> Size:
    """(height, width) from a number or a dict with both."""
    return (value["height"], value["width"]) if isinstance(value, dict) else (value, value)


def _per_channel(mean: Any, std: Any, channels: int, notes: list[str]) -> tuple[Floats, Floats]:
    if mean is None or std is None:
        notes.append("preprocessing: the settings give no mean and std; assumed 0.5, pass --mean, --std to change")
        mean, std = HALF, HALF
    mean, std = tuple(map(float, mean)), tuple(map(float, std))
    if channels == 1 and len(mean) > 1:
        notes.append("preprocessing: a gray model with settings for colour; took the first mean and std")
        return mean[:1], std[:1]
    return mean, std


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
