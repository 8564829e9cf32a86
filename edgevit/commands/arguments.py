"""Plain arguments, as a user types them in a shell or a notebook, made the values that the commands work with.

What Click has checked passes; from Python anything may come. Of a wrong type it is a TypeError, else a ConfigError; either names
the argument.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgevit.cache import Cache
from edgevit.device.jetson import here
from edgevit.errors import ConfigError, did_you_mean
from edgevit.files.paths import expanded, own_name
from edgevit.recipe import Recipe, load_recipe
from edgevit.target import Target, load_target


def path_of(value: object, name: str) -> Path:
    """A path; in a text ``~`` is the home folder, as in a shell."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str | os.PathLike):
        raise wrong_type(value, name, "a path (str or Path)", _in_memory(value))
    text = os.fspath(value)
    if not isinstance(text, str) or not text:
        msg = f"{name}: expected a path, got {value!r}"
        raise ConfigError(msg)
    return expanded(text)


def path_or_none(value: object, name: str) -> Path | None:
    """The same of an argument that may be left out."""
    return None if value is None else path_of(value, name)


def target_of(value: object) -> Target:
    """A target by its name, by the path of its TOML file, or itself; a family is narrowed to the board that this machine is."""
    if not isinstance(value, Target | str | os.PathLike):
        raise wrong_type(value, "target", "a name in targets/, the path of a .toml file, or a Target")
    return here(value if isinstance(value, Target) else load_target(os.fspath(value)))


def recipe_of(value: object) -> Recipe:
    """A recipe by its name, by the path of its TOML file, or itself."""
    if not isinstance(value, Recipe | str | os.PathLike):
        raise wrong_type(value, "recipe", "a name in calibration/, the path of a .toml file, or a Recipe")
    return value if isinstance(value, Recipe) else load_recipe(os.fspath(value))


def number_of(value: object, name: str, least: float, most: float = float("inf")) -> Any:
    """A number from ``least`` to ``most``; a whole one where ``least`` is."""
    whole = isinstance(least, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise wrong_type(value, name, "a whole number" if whole else "a number")
    if not least <= value <= most:
        bounds = f"at least {least:g}" if most == float("inf") else f"{least:g} to {most:g}"
        msg = f"{name}: {value:g} is out of range: {bounds}."
        raise ConfigError(msg)
    return value


def number_or_none(value: object, name: str, least: float, most: float = float("inf")) -> Any:
    """The same of an argument that may be left out."""
    return None if value is None else number_of(value, name, least, most)


def device_of(value: object) -> str:
    """The name of where torch computes. Raises ConfigError for a device that is not there."""
    if not isinstance(value, str):
        raise wrong_type(value, "device", "a text: auto, cpu, cuda or cuda:N")
    if value != "auto":
        from edgevit.model.devices import compute_device  # torch, which not every command needs

        compute_device(value)
    return value


def choice_of(value: object, name: str, known: Sequence[str]) -> str | None:
    """One of ``known``, or None for an argument that was left out."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type(value, name, f"one of {', '.join(known)}")
    if value not in known:
        msg = f"{name}: unknown {value!r}. {did_you_mean(value, known)}"
        raise ConfigError(msg)
    return value


def names_of(value: object, name: str) -> tuple[str, ...]:
    """The names of a comma-separated text, or of a list or tuple of texts, each once; none for None."""
    if value is None:
        return ()
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise wrong_type(value, name, "a list of names, or a text of them with commas")
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def classes_of(value: object, name: str) -> tuple[tuple[str, Path], ...]:
    """Classes and folders of ``NAME=FOLDER`` texts, of folders alone, which their classes are called after, or of a mapping."""
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, list | tuple) and all(isinstance(part, str | os.PathLike) for part in value):
        pairs = [_class_of(part) for part in value]
    else:
        raise wrong_type(value, name, "a list of NAME=FOLDER texts, or a mapping of names to folders")
    found = []
    for label, folder in pairs:
        if not isinstance(label, str) or not label.strip():
            msg = f"{name}: a class without a name. Give NAME=FOLDER."
            raise ConfigError(msg)
        found.append((label.strip(), path_of(folder, name)))
    return tuple(found)


def _class_of(given: str | os.PathLike[str]) -> tuple[str, object]:
    label, sign, folder = os.fspath(given).partition("=") if isinstance(given, str) else ("", "", "")
    return (label, folder) if sign else (path_of(given, "add_class").resolve().name, given)


def cache_of(value: Cache | bool) -> Cache:
    """A cache; True is the user's own, False keeps and finds nothing."""
    if not isinstance(value, Cache | bool):
        raise wrong_type(value, "cache", "True, False or a Cache")
    return value if isinstance(value, Cache) else Cache(enabled=value)


def known_options(given: dict[str, Any], known: type) -> dict[str, Any]:
    """What of ``given`` is not None. Raises TypeError, as Python does, for a name that the TypedDict ``known`` lacks."""
    for name in given:
        if name not in known.__annotations__:
            msg = f"unexpected keyword argument {name!r}. {did_you_mean(name, known.__annotations__)}"
            raise TypeError(msg)
    return {name: value for name, value in given.items() if value is not None}


def bundle_named_after(model: Path) -> Path:
    """Where a bundle of ``model`` is written if nobody says: in the working folder."""
    return Path(f"{own_name(model)}.edgevit")


def pruned_named_after(model: Path) -> Path:
    """The same of a pruned checkpoint."""
    return Path(f"{own_name(model)}-pruned.safetensors")


def wrong_type(value: object, name: str, expected: str, step: str = "") -> TypeError:
    """The error to raise for ``value``."""
    kind = type(value)
    got = "None" if value is None else f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    return TypeError(f"{name}: expected {expected}, got {got}{step}")


def _in_memory(value: object) -> str:
    """What to do with a model of torch, which is told without importing torch."""
    if not any(kind.__module__.startswith("torch.nn") for kind in type(value).__mro__):
        return ""
    return (
        ". A model in memory is read from its files: save it with model.save_pretrained('model/') (transformers), or "
        "torch.save(model.state_dict(), 'model.pt'), and give that path."
    )
