"""The preprocessing contract that a checkpoint's settings ask for, and the size that it feeds the model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgevit.errors import CheckpointError, ConfigError, did_you_mean
from edgevit.model.families.timm_config import TimmConfig
from edgevit.model.onnxin.pixels import Look
from edgevit.model.reading.defaults import CLIP_MEAN, CLIP_STD, HALF, PIPELINES, PROCESSORS
from edgevit.model.reading.files import Files
from edgevit.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

# PIL's numbers of resampling filters, as transformers stores them. Box averages over the source area.
PIL_FILTERS = {0: "nearest", 1: "lanczos", 2: "linear", 3: "cubic", 4: "area"}
TIMM_FILTERS = {"nearest": "nearest", "lanczos": "lanczos", "bilinear": "linear", "bicubic": "cubic", "box": "area"}
TIMM_MODES = {"squash": "squash", "border": "letterbox"}  # whatever else is said is a centre crop
TIMM_CROP = 0.875
OPEN_CLIP_MODES = {"shortest": "shortest", "squash": "squash", "longest": "letterbox"}
ASSUMED = "preprocessing: "
OVERRIDES = ("mode", "resize", "interpolation", "mean", "std", "color")
# Steps of transformers' processors that change the picture in ways that the contract does not have.
UNKNOWN_STEPS = (
    "do_pad",
    "do_thumbnail",
    "do_align_long_axis",
    "do_flip_channel_order",
    "do_grayscale",
    "rescale_offset",
    "crop_pct",
)

# The last stage of DINOv2's pretraining was at 518 pixels, which its position table keeps; its own pipelines feed 224.
DINOV2, PRETRAINED, USED = ("BitImageProcessor", "dinov2"), (518, 518), (224, 224)

Size = tuple[int, int]
Floats = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What the settings beside the weights ask for."""

    contract: Preprocessing
    sized_by: str = ""
    """The file, or the rule, that gives the contract's size; "" if none does, and it has the model's own."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Takes:
    """What is known of the model before its preprocessing is."""

    size: Size
    """(height, width) that its weights were trained for."""
    channels: int
    pipeline: str
    """`Imported.pipeline`."""


def stated_contract(files: Files, model: Takes) -> Stated:
    """What ``files`` ask for; what they leave open is their library's default, with a note.

    Raises CheckpointError if they ask for what edgevit cannot do or make no sense.
    """
    try:
        # As transformers looks for it: a timm model's config.json before a preprocessor_config.json.
        settings = TimmConfig.of(files.config)
        if settings.pretrained:
            return _of_timm(settings, model)
        if isinstance(files.config.get("model_cfg"), dict) and isinstance(files.config.get("preprocess_cfg"), dict):
            return _of_open_clip(files.config["preprocess_cfg"], model)
        if files.processor:
            return _of_processor(files.processor, files.processor_name, model)
        return _assumed(model)
    except (TypeError, ValueError, KeyError, ZeroDivisionError, ConfigError) as error:
        msg = f"{files.origin}: the preprocessing settings beside it make no sense ({error!r}). Mend them or move the weights."
        raise CheckpointError(msg) from error


def fed_size(files: Files) -> Size | None:
    """(height, width) that the settings beside a graph deliver, whatever the graph takes; None if they do not tell."""
    stated = stated_contract(files, Takes(size=USED, channels=3, pipeline=""))
    return stated.contract.size if stated.sized_by else None


def with_look(stated: Stated, look: Look) -> Stated:
    """``stated`` with what an ONNX graph does to pixels by itself, which comes before what lies beside it."""
    changes: dict[str, Any] = {} if look.color is None else {"color": look.color}
    notes = stated.notes
    if look.mean is not None and look.std is not None:
        changes |= {"mean": look.mean, "std": look.std}
        # What is assumed of mean and std is not what is taken.
        notes = tuple(re.sub(r"(, (ImageNet's )?mean\b[^;(]*)", "", note) if note.startswith(ASSUMED) else note for note in notes)
    return replace(stated, contract=replace(stated.contract, **changes), notes=notes)


def at_size(stated: Stated, size: Size, config: Mapping[str, Any]) -> Preprocessing:
    """The contract for another model input size; the crop keeps its share of the frame, rounded as the source rounds it."""
    contract = stated.contract
    share = TimmConfig.of(config).pretrained.get("crop_pct")
    if size != contract.size and isinstance(share, int | float) and share > 0:
        return replace(contract, size=size, resize=(math.floor(size[0] / share), math.floor(size[1] / share)))
    return contract.at(size)


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


def _assumed(model: Takes) -> Stated:
    """Nothing lies beside the weights: what transformers' own processor does by default, or a plain resize."""
    notes: list[str] = []
    if model.pipeline in PROCESSORS:
        contract = _of_processor(PROCESSORS[model.pipeline], "", model).contract
        how = f"no preprocessor_config.json; took transformers' default for it, {model.pipeline}: "
        own = "published DINOv2 models have ImageNet's mean and std" if model.pipeline == "BitImageProcessor" else ""
    else:
        settings, own = PIPELINES[model.pipeline]
        settings = settings | {"image_mean": HALF, "image_std": HALF} if model.channels == 1 else settings
        contract, how = _contract(settings, model, model.size, model.size, "squash", notes), "assumed "
    size, sized_by = model.size, ""
    if model.pipeline in DINOV2 and size == PRETRAINED:
        size, sized_by = USED, "DINOv2 models' usual"
        notes.append(f"image size: took {_text(USED)}, as DINOv2 models are used, not their pretraining's {_text(PRETRAINED)}; "
                     "--image-size 518 takes that")  # fmt: skip
    contract = contract.at(size)
    values = (
        "ImageNet's mean and std"
        if contract.mean == IMAGENET_MEAN
        else f"mean {_numbers(contract.mean)}, std {_numbers(contract.std)}"
    )
    notes.append(f"preprocessing: {how}{contract.describe()}, {values}{f' ({own})' if own else ''}; "
                 "pass --resize-mode, --resize, --mean, --std to change")  # fmt: skip
    return Stated(contract=contract, sized_by=sized_by, notes=tuple(notes))


def _of_timm(settings: TimmConfig, model: Takes) -> Stated:
    """As `timm.data.resolve_data_config` and its evaluation transform read a config.json."""
    notes: list[str] = []
    config = settings.pretrained
    stated = settings.input_size
    size = _pair(stated) if stated is not None else model.size
    if size != model.size and not settings.args.get("dynamic_img_size"):
        size = model.size  # the model takes no other
    share = config.get("crop_pct") or TIMM_CROP
    mean, std = _per_channel(config.get("mean") or IMAGENET_MEAN, config.get("std") or IMAGENET_STD, model.channels, notes)
    tested = config.get("test_input_size")
    if tested and tuple(tested[1:]) != size:
        notes.append(f"image size: timm's config has {_text(tuple(tested[1:]))} for tests; --image-size takes it")
    contract = Preprocessing(
        size=size,
        resize=(math.floor(size[0] / share), math.floor(size[1] / share)),
        mode=TIMM_MODES.get(str(config.get("crop_mode")), "shortest"),
        interpolation=TIMM_FILTERS[config.get("interpolation") or "bicubic"],
        rounding="torchvision",
        mean=mean,
        std=std,
        color="gray" if model.channels == 1 else "rgb",
    )
    return Stated(contract=contract, sized_by="config.json" if stated is not None else "", notes=tuple(notes))


def _of_open_clip(settings: Mapping[str, Any], model: Takes) -> Stated:
    """As ``open_clip.transform.image_transform`` reads ``preprocess_cfg`` of an open_clip_config.json for evaluation."""
    notes: list[str] = []
    mean, std = _per_channel(settings.get("mean") or CLIP_MEAN, settings.get("std") or CLIP_STD, model.channels, notes)
    contract = Preprocessing(
        size=model.size,
        resize=model.size,
        mode=OPEN_CLIP_MODES[settings.get("resize_mode") or "shortest"],
        interpolation=TIMM_FILTERS[settings.get("interpolation") or "bicubic"],
        rounding="torchvision",
        mean=mean,
        std=std,
    )
    return Stated(contract=contract, sized_by="open_clip_config.json", notes=tuple(notes))


def _of_processor(settings: Mapping[str, Any], name: str, model: Takes) -> Stated:
    """As the image processors of transformers read their settings."""
    notes: list[str] = []
    kind = _kind(settings, model, notes)
    settings = {**PROCESSORS[kind], **{key: value for key, value in settings.items() if value is not None}}
    for step in UNKNOWN_STEPS:
        if settings.get(step) and step in settings:
            notes.append(f"preprocessing: the settings ask for {step}, which edgevit leaves out")
    box, mode = _box(settings)
    if isinstance(settings["size"], dict) and len(settings["size"]) > 1 and mode == "shortest":
        notes.append(f"preprocessing: took shortest_edge of {settings['size']}; its limit to the other side is left out")
    crop = _pair(settings["crop_size"]) if settings["do_center_crop"] and settings.get("crop_size") is not None else None
    sized_by = name
    if not settings["do_resize"]:
        sized_by = name if crop else ""
        box, mode = crop or model.size, "squash"
        notes.append(f"preprocessing: the settings do not resize; assumed squash to {_text(box)}, pass --resize-mode to change")
    elif crop is None and mode == "shortest":
        notes.append(
            f"preprocessing: the settings keep a frame's proportions and crop nothing; took the middle {_text(box)} of it, "
            "pass --image-size HEIGHTxWIDTH for another shape"
        )
    contract = replace(_contract(settings, model, crop or box, box, mode, notes), rounding="transformers")
    return Stated(contract=contract, sized_by=sized_by, notes=tuple(notes))


def _kind(settings: Mapping[str, Any], model: Takes, notes: list[str]) -> str:
    """The image processor's name, without what transformers appends to it for the way it computes."""
    default = model.pipeline if model.pipeline in PROCESSORS else "ViTImageProcessor"
    stated = settings.get("image_processor_type")
    if stated is None:
        stated = str(settings.get("feature_extractor_type") or default).replace("FeatureExtractor", "ImageProcessor")
    kind = str(stated).removesuffix("Fast").removesuffix("Pil")
    if kind in PROCESSORS:
        return kind
    notes.append(f"preprocessing: {kind} is not known here; read as resize, centre crop and normalisation")
    return default


def _contract(settings: Mapping[str, Any], model: Takes, size: Size, box: Size, mode: str, notes: list[str]) -> Preprocessing:
    normalised = settings["do_normalize"]
    mean, std = settings["image_mean"] if normalised else (0.0,) * 3, settings["image_std"] if normalised else (1.0,) * 3
    mean, std = _per_channel(mean, std, model.channels, notes)
    # Normalising x * factor is normalising x / 255, as the contract has it, with both constants over 255 * factor.
    factor = 255 * (settings["rescale_factor"] if settings["do_rescale"] else 1.0)
    if not math.isclose(factor, 1.0, rel_tol=1e-6):
        mean, std = tuple(value / factor for value in mean), tuple(value / factor for value in std)
    return Preprocessing(
        size=size,
        resize=box,
        mode=mode,
        interpolation=PIL_FILTERS[settings["resample"]],
        rounding="torchvision",
        mean=mean,
        std=std,
        color="gray" if model.channels == 1 else "rgb",
    )


def _box(settings: Mapping[str, Any]) -> tuple[Size, str]:
    """The box a frame is resized to, and how it meets it."""
    stated = settings["size"]
    if isinstance(stated, dict) and "shortest_edge" in stated:
        return (stated["shortest_edge"], stated["shortest_edge"]), "shortest"
    if isinstance(stated, int) and not settings["default_to_square"]:
        return (stated, stated), "shortest"
    return _pair(stated), "squash"


def _pair(value: Any) -> Size:
    """(height, width) from a number, a pair, or a dict with both."""
    height, width = (
        (value["height"], value["width"])
        if isinstance(value, dict)
        else value
        if isinstance(value, list | tuple)
        else (value,) * 2
    )
    if type(height) is not int or type(width) is not int or min(height, width) < 1:
        msg = f"{value!r} is no size"
        raise ValueError(msg)
    return height, width


def _per_channel(mean: Any, std: Any, channels: int, notes: list[str]) -> tuple[Floats, Floats]:
    """Mean and std as one number a channel; one number counts for all, and one channel takes the first of three."""
    means, stds = ((value,) if isinstance(value, int | float) else tuple(map(float, value)) for value in (mean, std))
    if channels == 1 and len(means) > 1:
        if len({*means, *stds}) > 2:
            notes.append("preprocessing: a gray model with settings for colour; took the first mean and std")
        return means[:1], stds[:1]
    return (means * channels if len(means) == 1 else means), (stds * channels if len(stds) == 1 else stds)


def _numbers(values: Floats) -> str:
    texts = [f"{value:.4g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else ",".join(texts)


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
