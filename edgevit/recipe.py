"""A recipe: how calibration and quantization are done. One TOML file each, saved with the result."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from edgevit.errors import ConfigError, did_you_mean
from edgevit.part import LINEARS
from edgevit.shipped import check_keys, find_toml, read_toml

CHOICES = {
    "ranges": ("minmax", "percentile", "entropy", "mse", "output"),
    "rounding": ("gptq", "nearest"),
    "bias": ("off", "layer", "network"),
    "attention": ("auto", "off", "scores", "full"),
}


@dataclass(frozen=True, kw_only=True)
class Calibrate:
    """Which data scales are estimated from."""

    images: int = 64
    """Calibration images, drawn class by class."""
    seed: int = 0
    tokens: int = 2048
    """Sampled tokens per layer on which candidates are compared; memory grows with it, not with images."""


@dataclass(frozen=True, kw_only=True)
class QuantizeSettings:
    """What becomes INT8, and how scales are chosen."""

    linears: tuple[str, ...] = LINEARS
    migration: tuple[float, ...] = (0.5, 0.65, 0.75, 0.85, 0.9, 0.95, 1.0)
    """Exponents tried when moving scale from a GEMM's input into its weights; empty is off."""
    centring: bool = True
    """Whether channels are centred before they are scaled."""
    tails: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0)
    """How far ranges may be widened for unseen images, in gaps between the largest and the fourth largest image."""
    ranges: str = "minmax"
    """How the one step of a whole input is estimated once channels are evened."""
    percentile: float = 99.99
    """Percent of an input's magnitudes that are not clipped, where ``ranges`` is ``percentile``."""
    rounding: str = "gptq"
    """``gptq``: weights are rounded so that outputs change least; ``nearest``: each to its nearest code."""
    bias: str = "network"
    """Mean errors go into biases: GEMM by GEMM (``layer``), then once more in network order (``network``), or not (``off``)."""
    attention: str = "auto"
    """INT8 products of attention: ``off``, ``scores``, ``full``, or by block what adds little (``auto``)."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a quantized model besides the model and the images."""

    name: str = "default"
    calibrate: Calibrate = Calibrate()
    quantize: QuantizeSettings = QuantizeSettings()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, as the manifest keeps it."""
        return asdict(self)


def load_recipe(name: str) -> Recipe:
    """Load a shipped recipe by name, or a recipe file by path. Raises ConfigError."""
    path = find_toml("calibration", name)
    data = read_toml(path)
    check_keys(path, "", data, {"calibrate", "quantize"})
    sections: dict[str, Any] = {}
    kinds: dict[str, type[Calibrate] | type[QuantizeSettings]] = {"calibrate": Calibrate, "quantize": QuantizeSettings}
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
    for key, values in (("linears", quantize.linears), ("migration", quantize.migration), ("tails", quantize.tails)):
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
    for key, known in CHOICES.items():
        chosen = getattr(quantize, key)
        if chosen not in known:
            msg = f"{where}: quantize.{key}: unknown {chosen!r}. {did_you_mean(str(chosen), known)}"
            raise ConfigError(msg)
    if type(quantize.centring) is not bool:
        msg = f"{where}: quantize.centring must be true or false, not {quantize.centring!r}"
        raise ConfigError(msg)
    for bounds, numbers, least, most in (
        ("migration: exponents lie in (0, 1]", quantize.migration, 1e-9, 1.0),
        ("tails: widths lie in [0, 10]", quantize.tails, 0.0, 10.0),
        ("percentile: lies in [50, 100]", (quantize.percentile,), 50.0, 100.0),
    ):
        for number in numbers:
            if type(number) not in (int, float) or not least <= number <= most:
                msg = f"{where}: quantize.{bounds}, not {number!r}"
                raise ConfigError(msg)
