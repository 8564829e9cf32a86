"""How to read a checkpoint that does not tell everything: one set of arguments for every command that takes a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from edgevit.commands.arguments import choice_of, number_of, number_or_none, path_of, path_or_none, wrong_type
from edgevit.errors import ConfigError
from edgevit.problem import PROBLEM_TYPES
from edgevit.textclasses import TextSource


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
    classes: str | Path | Sequence[str] | None
    """What a CLIP or SigLIP is to tell apart: names, a text with commas between them, or a .txt or .json of them."""
    prompt: str | Sequence[str] | None
    """Sentences with ``{}``, where the class stands."""
    text_embeddings: str | Path | None
    """Instead of both: a file of their embeddings, see `edgevit.textclasses.read_embeddings`."""
    text_model: str | Path | None
    """A checkpoint with the text tower, if the image tower's has none."""
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


FILES_OF_NAMES = (".txt", ".json")
_OF_TEXTS = ("classes", "prompt", "text_embeddings", "text_model")
_OF_PREPROCESSING = {
    "resize_mode": "mode", "resize": "resize", "interpolation": "interpolation", "mean": "mean", "std": "std", "color": "color",
}  # fmt: skip
"""As they are called here, and as `edgevit.preprocess.Preprocessing` calls them."""


def import_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of `load_checkpoint` from ``given``, what of `ImportOptions` was given and is not None.

    Raises TypeError or ConfigError for a value that no checkpoint could have. What the model at hand cannot have, and the fields
    of preprocessing, are checked where they meet it.
    """
    options = {name: value for name, value in given.items() if name not in (*_OF_PREPROCESSING, *_OF_TEXTS)}
    for name in ("weights", "activation", "problem_type"):
        if not isinstance(options.get(name, ""), str):
            raise wrong_type(options[name], name, "a text")
    choice_of(options.get("problem_type"), "problem_type", PROBLEM_TYPES)
    number_or_none(options.get("heads"), "heads", 1)
    if "image_size" in options:
        options["image_size"] = _size(options["image_size"])
    if "labels" in options:
        options["labels"] = _labels(options["labels"])
    if texts := _texts({name: given[name] for name in _OF_TEXTS if given.get(name)}):
        options["texts"] = texts
    return options | {"preprocessing": {field: given[name] for name, field in _OF_PREPROCESSING.items() if name in given}}


def _size(value: Any) -> tuple[int, int]:
    """(height, width) in pixels."""
    sides = (value, value) if isinstance(value, int) else value
    if not isinstance(sides, tuple | list) or len(sides) != 2:
        raise wrong_type(value, "image_size", "the side in pixels, or (height, width)")
    height, width = (number_of(side, "image_size", 1) for side in sides)
    return height, width


def _texts(given: Mapping[str, Any]) -> TextSource | None:
    """Classes as text; None if nothing is said of them. Raises ConfigError for what does not go together."""
    if not given:
        return None
    if "text_embeddings" in given:
        if len(given) > 1:
            msg = "--text-embeddings has the classes and what they are made of: leave --classes, --prompt and --text-model out."
            raise ConfigError(msg)
        return TextSource(embeddings=path_of(given["text_embeddings"], "text_embeddings"))
    if "classes" not in given:
        msg = 'say what to look for: --classes "crack, scratch, fine"'
        raise ConfigError(msg)
    return text_source(given["classes"], given.get("prompt"), given.get("text_model"))


def text_source(classes: Any, prompt: Any = None, model: Any = None) -> TextSource:
    """From plain arguments, as `ImportOptions` has them. Raises TypeError for one of another type."""
    prompts = (prompt,) if isinstance(prompt, str) else prompt or ()
    if not isinstance(prompts, tuple | list) or not all(isinstance(text, str) for text in prompts):
        raise wrong_type(prompt, "prompt", "a sentence with {} in it, or a list of them")
    return TextSource(classes=_classes(classes), prompts=tuple(prompts), model=path_or_none(model, "text_model"))


def _classes(value: Any) -> Path | tuple[str, ...]:
    if isinstance(value, os.PathLike) or (isinstance(value, str) and value.lower().endswith(FILES_OF_NAMES)):
        return path_of(value, "classes")
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise wrong_type(value, "classes", "a list of names, a text with commas between them, or the path of a file of them")
    return tuple(name.strip() for name in names if name.strip())


def _labels(value: Any) -> Path | tuple[str, ...]:
    if isinstance(value, str | os.PathLike):
        return path_of(value, "labels")
    if not isinstance(value, tuple | list) or not all(isinstance(label, str) for label in value):
        raise wrong_type(value, "labels", "a list of names, or the path of a file of them")
    return tuple(value)
