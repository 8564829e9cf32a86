"""Names of what a model can be compared in: ``int8``, ``int8+prune20``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgevit.errors import ConfigError, did_you_mean
from edgevit.numberformat import FORMATS, MIXED
from edgevit.pruning.settings import GREATEST

BASES = tuple(base for item in FORMATS.values() for base in ((f"{item.name}-linear", item.name) if item.scaled else (item.name,)))
"""What a checkpoint can be compared in, each also as ``+pruneN``. A bundle holds what it was built with."""
DEFAULT = ("fp32", "int8")
_PRUNED = re.compile(r"prune(\d+(?:\.\d+)?)")


@dataclass(frozen=True, kw_only=True)
class Precision:
    """One column of `--precisions`."""

    name: str
    """As it was given."""
    base: str
    """One of `BASES`, or ``mixed``, which only a bundle is."""
    pruned: float | None = None
    """Share of the multiply-accumulates that is removed first, 0..1."""

    @property
    def computed(self) -> str:
        """fp32, fp16 or int8."""
        return self.base.partition("-")[0]

    @property
    def quantized(self) -> bool:
        """Whether it takes calibration images."""
        return self.computed not in FORMATS or FORMATS[self.computed].scaled


def parse_precision(name: str) -> Precision:
    """``base`` or ``base+pruneN``, N in percent of the multiply-accumulates. Raises ConfigError for anything else."""
    base, plus, cut = name.partition("+")
    if base not in (*BASES, MIXED):
        msg = f"--precisions: unknown {name!r}. {did_you_mean(base, (*BASES, MIXED))}"
        raise ConfigError(msg)
    if not plus:
        return Precision(name=name, base=base)
    match = _PRUNED.fullmatch(cut)
    if match is None or not 0 < float(match[1]) <= 100 * GREATEST:
        most = f"{100 * GREATEST:g}"
        msg = f"--precisions: {name!r}: after the + comes prune with a percentage of the MACs up to {most}: {base}+prune20."
        raise ConfigError(msg)
    return Precision(name=name, base=base, pruned=float(match[1]) / 100)


def parse_precisions(names: Sequence[str]) -> tuple[Precision, ...]:
    """Each of ``names``. Raises ConfigError for one that nothing can have."""
    return tuple(parse_precision(name) for name in names)
