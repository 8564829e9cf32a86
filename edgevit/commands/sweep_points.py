"""The points of a sweep: every combination of what is to be tried, named as a comparison names them, typed as a build is."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from edgevit.commands.arguments import wrong_type
from edgevit.errors import ConfigError, did_you_mean
from edgevit.files.paths import own_name
from edgevit.numberformat import FP32
from edgevit.share import meant_by, share_of
from edgevit.shipped import check_keys, read_toml
from edgevit.target import PRECISIONS

NONE = "none"
"""In an axis: without this step, as 0 is, too."""
KNOWN_PRECISIONS = ("auto", *reversed(PRECISIONS))

SHARES = ("prune", "merge")
"""Axes whose numbers are shares of the multiply-accumulates."""
REPEATED = ("prompt",)
"""Options that are given once for each value."""


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What is to be tried, each with all others. Texts and numbers are as `edgevit.build` takes them."""

    recipes: tuple[str, ...] = ("default",)
    prune: tuple[float | str | None, ...] = (None,)
    merge: tuple[float | str | None, ...] = (None,)
    speedup: tuple[float, ...] = ()
    """Points of their own, beside those of ``prune`` and ``merge``: a speed-up says by itself how much is removed."""
    precisions: tuple[str, ...] = ("int8",)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One model to build."""

    model: Path
    precision: str
    recipe: str = "default"
    prune: float | str | None = None
    merge: float | str | None = None
    speedup: float | None = None
    prefix: str = ""
    """Which model, where several are swept."""
    common: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `edgevit.build` that all points share."""

    @property
    def name(self) -> str:
        """Unique within a sweep, and the same in every sweep: ``int8+prune20+merge35``, ``int8@fast``."""
        steps = (("prune", self.prune, 100), ("merge", self.merge, 100), ("speedup", self.speedup, 1))
        told = "".join(
            f"+{step}{value if isinstance(value, str) else f'{unit * value:g}'}" for step, value, unit in steps if value
        )
        recipe = "" if self.recipe == "default" else f"@{own_name(Path(self.recipe))}"
        return f"{self.prefix}{self.precision}{told}{recipe}"

    @property
    def bundle(self) -> str:
        """The name of its file."""
        return f"{self.name}.zip"

    def arguments(self) -> dict[str, Any]:
        """Of `edgevit.build`, but for where it writes."""
        own = {
            "precision": self.precision,
            "recipe": self.recipe,
            "prune": self.prune,
            "merge": self.merge,
            "speedup": self.speedup,
        }
        searched = "auto" in (self.precision, self.prune)
        common = {name: value for name, value in self.common.items() if searched or name != "max_drop"}
        return {"model": self.model, **common, **{name: value for name, value in own.items() if value is not None}}

    def command(self) -> str:
        """What builds it, with all that a bundle has, as a shell takes it."""
        given = self.arguments()
        words = ["edgevit", "build", str(given.pop("model"))]
        defaults = {"recipe": "default", "target": "cpu", "eval_limit": 1024, "device": "auto", "precision": "int8"}
        for name, value in given.items():
            if value not in (None, (), defaults.get(name)):
                for each in value if name in REPEATED and not isinstance(value, str) else [value]:
                    words += [f"--{name.replace('_', '-')}", _spelled(name, each)]
        return shlex.join([*words, "-o", f"{self.name}.edgevit"])


def points_of(models: Sequence[Path], axes: Axes, common: Mapping[str, Any]) -> tuple[Point, ...]:
    """Every model's FP32, which it is held against, then all combinations of ``axes``, each once.

    Raises ConfigError for two models, or two recipes, of one name.
    """
    names = [own_name(model) for model in models]
    for what, own in (("models", names), ("recipes", [own_name(Path(recipe)) for recipe in axes.recipes])):
        if twice := next((name for i, name in enumerate(own) if name in own[:i]), None):
            msg = f"sweep: two {what} are called {twice!r}. Rename one, so that the points can be told apart."
            raise ConfigError(msg)
    found = dict[str, Point]()
    for model, name in zip(models, names, strict=True):
        prefix = f"{name}-" if len(models) > 1 else ""
        for point in _of_model(model, prefix, axes, common):
            found.setdefault(point.name, point)
    return tuple(found.values())


def _of_model(model: Path, prefix: str, axes: Axes, common: Mapping[str, Any]) -> Iterator[Point]:
    yield Point(model=model, precision=FP32.name, prefix=prefix, common=common)
    smaller: list[dict[str, Any]] = [{"prune": prune, "merge": merge} for prune, merge in product(axes.prune, axes.merge)]
    smaller += [{"speedup": speedup} for speedup in axes.speedup]
    for precision, steps in product(axes.precisions, smaller):
        # Nothing of FP32 is calibrated.
        for recipe in axes.recipes[:1] if precision == FP32.name and not any(steps.values()) else axes.recipes:
            own = "default" if precision == FP32.name and not any(steps.values()) else recipe
            yield Point(model=model, precision=precision, recipe=own, prefix=prefix, common=common, **steps)


def axes_of(grid: Path | None, **given: Any) -> Axes:
    """The axes of the TOML file ``grid``, and in their place those that are ``given``: texts with commas, or lists.

    Raises ConfigError or TypeError for values that no build takes.
    """
    table = {} if grid is None else read_toml(grid)
    if grid is not None:
        check_keys(grid, "", table, set(Axes.__annotations__))
    told = table | {name: value for name, value in given.items() if value is not None and value != ()}
    found: dict[str, Any] = {}
    for name, value in told.items():
        where = f"{grid}: {name}" if name in table and given.get(name) in (None, ()) else f"--{name}"
        items = tuple(dict.fromkeys(_items(value, where, name)))
        if not items:
            msg = f"{where}: nothing is named. Give one value at least, or leave it out."
            raise ConfigError(msg)
        found[name] = items
    return Axes(**found)


def _items(value: Any, where: str, name: str) -> Iterator[Any]:
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, bool) or not isinstance(item, str | int | float):
            raise wrong_type(item, where, "a list of values, or a text of them with commas")
        for part in _parts(item) if isinstance(item, str) else [item]:
            yield _item(part, where, name)


def _parts(text: str) -> list[str]:
    """What stands between commas; tokens at blocks that follow one another, ``64@2,64@5``, are one schedule."""
    found: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        if "@" in part and found and "@" in found[-1]:
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


def _item(value: Any, where: str, name: str) -> Any:
    """One value of an axis: a name, or a number where it is one."""
    if name in ("recipes", "precisions"):
        known = KNOWN_PRECISIONS if name == "precisions" else ()
        if not isinstance(value, str) or not value or (known and value not in known):
            msg = f"{where}: unknown {value!r}. {did_you_mean(str(value), known or ('default',))}"
            raise ConfigError(msg)
        return value
    number = _number(value, name)
    if number == 0 and name != "speedup":
        return None
    if number is None and ((name == "prune" and value == "auto") or (name == "merge" and "@" in value)):
        return value
    if number is None or not 0 < number < float("inf") or (name in SHARES and number > 1):
        hint = meant_by(str(value)) if name in SHARES else ""
        expected = {"prune": "0, 0.2 or auto", "merge": "none, 0.35 or 64@2,64@5", "speedup": "1.5"}[name]
        msg = f"{where}: {value!r} is not one of its values: {expected}.{hint}"
        raise ConfigError(msg)
    return number


def _spelled(name: str, value: Any) -> str:
    """An argument as the command line has it."""
    if name in ("image_size", "resize") and isinstance(value, tuple):
        return "x".join(map(str, value))
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _number(value: str | float, name: str) -> float | None:
    """``0.2``, of a share ``20%``, too, and ``none`` as 0; None of a text that is no number."""
    if not isinstance(value, str):
        return float(value)
    if value == NONE:
        return 0.0
    return share_of(value) if name in SHARES or "%" not in value else None
