"""A recipe: how calibration and quantization are done. One TOML file each, saved with the result."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from edgevit.errors import ConfigError, did_you_mean
from edgevit.shipped import check_keys, find_toml, read_toml

LINEARS = ("qkv", "proj", "fc1", "fc2")
ROUNDINGS = ("gptq", "nearest")


@dataclass(frozen=True, kw_only=True)
class Calibrate:
    """Which data scales are estimated from."""

    images: int = 64
    """Calibration images, drawn class by class."""
    seed: int = 0
    tokens: int = 2048
    """Sampled tokens per layer on which candidates are compared; memory grows with it, not with images."""


@dataclass(frozen=True, kw_only=True)
class Quantize:
    """What becomes INT8, and how scales are chosen."""

    linears: tuple[str, ...] = LINEARS
    migration: tuple[float, ...] = (0.5, 0.75, 0.9)
    """Exponents tried when moving scale from a GEMM's input into its weights; empty is off."""
    scores: bool = True
    """Whether the product of queries and keys is INT8, too, where qkv is."""
    rounding: str = "gptq"
    """``gptq``: weights are rounded so that outputs change least; ``nearest``: each to its nearest code."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a quantized model besides the model and the images."""

    name: str = "default"
    calibrate: Calibrate = Calibrate()
    quantize: Quantize = Quantize()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, as the manifest keeps it."""
        return asdict(self)


def load_recipe(name: str) -> Recipe:
    """Load a shipped recipe by name, or a recipe file by path. Raises ConfigError."""
    path = find_toml("calibration", name)
    data = read_toml(path)
    check_keys(path, "", data, {"calibrate", "quantize"})
    sections: dict[str, Any] = {}
    kinds: dict[str, type[Calibrate] | type[Quantize]] = {"calibrate": Calibrate, "quantize": Quantize}
    for key, section in kinds.items():
        table = data.get(key, {})
        if not isinstance(table, dict):
            msg = f"{path}: {key} must be a table, [{key}]"
            raise ConfigError(msg)
        check_keys(path, key, table, {item.name for item in fields(section)})
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
        sections[key] = section(**settings)
    recipe = Recipe(name=path.stem, **sections)
    _check(recipe, str(path))
    return recipe


def _check(recipe: Recipe, where: str) -> None:
    calibrate, quantize = recipe.calibrate, recipe.quantize
    for key, value, low in (("images", calibrate.images, 1), ("seed", calibrate.seed, 0), ("tokens", calibrate.tokens, 64)):
        if type(value) is not int or value < low:
            msg = f"{where}: calibrate.{key} must be a whole number of at least {low}, not {value!r}"
            raise ConfigError(msg)
    for key, values in (("linears", quantize.linears), ("migration", quantize.migration)):
        if not isinstance(values, tuple):
            msg = f"{where}: quantize.{key} must be a list, not {values!r}"
            raise ConfigError(msg)
        if any(value in values[:i] for i, value in enumerate(values)):
            msg = f"{where}: quantize.{key} names a value twice: {list(values)}"
            raise ConfigError(msg)
    for kind in quantize.linears:
        if kind not in LINEARS:
            msg = f"{where}: quantize.linears: unknown {kind!r}. {did_you_mean(str(kind), LINEARS)}"
            raise ConfigError(msg)
    if type(quantize.scores) is not bool:
        msg = f"{where}: quantize.scores must be true or false, not {quantize.scores!r}"
        raise ConfigError(msg)
    if quantize.rounding not in ROUNDINGS:
        msg = f"{where}: quantize.rounding: unknown {quantize.rounding!r}. {did_you_mean(str(quantize.rounding), ROUNDINGS)}"
        raise ConfigError(msg)
    for alpha in quantize.migration:
        if type(alpha) not in (int, float) or not 0 < alpha <= 1:
            msg = f"{where}: quantize.migration: exponents lie in (0, 1], not {alpha!r}"
            raise ConfigError(msg)
