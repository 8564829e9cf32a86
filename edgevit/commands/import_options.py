"""How to read a checkpoint that does not tell everything: one set of arguments for every command that takes a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from edgevit.commands.arguments import choice_of, number_of, number_or_none, path_of, wrong_type
from edgevit.problem import PROBLEM_TYPES


class ImportOptions(TypedDict, total=False):
    """None is as if it were not given: the checkpoint tells."""

    weights: str | None
    """Of several in one file: auto, raw, ema, or the name of an entry."""
    heads: int | None
    """Attention heads."""
    image_size: int | tuple[int, int] | None
    """Model input in pixels: the side, or (height, width)."""
    activation: str | None
    """gelu, gelu_tanh, quick_gelu or relu."""
    labels: str | Path | Sequence[str] | None
    """Class names, or the path of a file of them, one a line or JSON."""
    problem_type: str | None
    """One of `edgevit.problem.PROBLEM_TYPES`."""
    resize_mode: str | None
    """squash, shortest or letterbox."""
    resize: int | tuple[int, int] | None
    """Box that a frame is resized to before the centre crop."""
    interpolation: str | None
    """nearest, linear, cubic, lanczos or area."""
    mean: float | Sequence[float] | None
    """One a colour channel, 0..1."""
    std: float | Sequence[float] | None
    """One a colour channel, 0..1."""
    color: str | None
    """rgb, bgr or gray."""


_OF_PREPROCESSING = {
    "resize_mode": "mode", "resize": "resize", "interpolation": "interpolation", "mean": "mean", "std": "std", "color": "color",
}  # fmt: skip
"""As they are called here, and as `edgevit.preprocess.Preprocessing` calls them."""


def import_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of `load_checkpoint` from ``given``, what of `ImportOptions` was given and is not None.

    Raises TypeError or ConfigError for a value that no checkpoint could have. What the model at hand cannot have, and the fields
    of preprocessing, are checked where they meet it.
    """
    options = {name: value for name, value in given.items() if name not in _OF_PREPROCESSING}
    for name in ("weights", "activation", "problem_type"):
        if not isinstance(options.get(name, ""), str):
            raise wrong_type(options[name], name, "a text")
    choice_of(options.get("problem_type"), "problem_type", PROBLEM_TYPES)
    number_or_none(options.get("heads"), "heads", 1)
    if "image_size" in options:
        options["image_size"] = _size(options["image_size"])
    if "labels" in options:
        options["labels"] = _labels(options["labels"])
    return options | {"preprocessing": {field: given[name] for name, field in _OF_PREPROCESSING.items() if name in given}}


def _size(value: Any) -> tuple[int, int]:
    """(height, width) in pixels."""
    sides = (value, value) if isinstance(value, int) else value
    if not isinstance(sides, tuple | list) or len(sides) != 2:
        raise wrong_type(value, "image_size", "the side in pixels, or (height, width)")
    height, width = (number_of(side, "image_size", 1) for side in sides)
    return height, width


def _labels(value: Any) -> Path | tuple[str, ...]:
    if isinstance(value, str | os.PathLike):
        return path_of(value, "labels")
    if not isinstance(value, tuple | list) or not all(isinstance(label, str) for label in value):
        raise wrong_type(value, "labels", "a list of names, or the path of a file of them")
    return tuple(value)
