"""Names of what a model can be compared in: ``int8``, ``int8+prune20+merge35``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgevit.errors import ConfigError, did_you_mean
from edgevit.numberformat import FORMATS, MIXED
from edgevit.pruning.settings import GREATEST
from edgevit.tokens.settings import GREATEST as MOST_MERGED

BASES = tuple(base for item in FORMATS.values() for base in ((f"{item.name}-linear", item.name) if item.scaled else (item.name,)))
"""What a checkpoint can be compared in, each also as ``+pruneN``, ``+mergeN``, or both. A bundle holds what it was built with."""
DEFAULT = ("fp32", "int8")
STEPS = {"prune": GREATEST, "merge": MOST_MERGED}
"""Steps that may follow a +, each with the largest share."""
_STEP = re.compile(rf"({'|'.join(STEPS)})(\d+(?:\.\d+)?)")


@dataclass(frozen=True, kw_only=True)
class Precision:
    """One column of `--precisions`."""

    name: str
    """As it was given."""
    base: str
    """One of `BASES`, or ``mixed``, which only a bundle is."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """By name of the step, of `STEPS`: the share (0..1) of the multiply-accumulates that it is to remove."""

    @property
    def computed(self) -> str:
        """fp32, fp16 or int8."""
        return self.base.partition("-")[0]

    @property
    def quantized(self) -> bool:
        """Whether it takes calibration images."""
        return self.computed not in FORMATS or FORMATS[self.computed].scaled

    @property
    def fitted(self) -> bool:
        """Whether anything is fitted to images beside those of calibration."""
        return bool(self.shares)


def parse_precision(name: str) -> Precision:
    """``base``, ``base+pruneN``, ``base+mergeN`` or both, N in percent of the MACs. Raises ConfigError for anything else."""
    base, *steps = name.split("+")
    if base not in (*BASES, MIXED):
        msg = f"--precisions: unknown {name!r}. {did_you_mean(base, (*BASES, MIXED))}"
        raise ConfigError(msg)
    shares = dict[str, float]()
    for step in steps:
        match = _STEP.fullmatch(step)
        if match is None or match[1] in shares or not 0 < float(match[2]) <= 100 * STEPS[match[1]]:
            most = " and ".join(f"{kind} up to {100 * limit:g}" for kind, limit in STEPS.items())
            msg = f"--precisions: {name!r}: after a + comes a step with a percentage of the MACs, {most}: {base}+prune20+merge35."
            raise ConfigError(msg)
        shares[match[1]] = float(match[2]) / 100
    return Precision(name=name, base=base, shares=shares)


def parse_precisions(names: Sequence[str]) -> tuple[Precision, ...]:
    """Each of ``names``. Raises ConfigError for one that nothing can have."""
    return tuple(parse_precision(name) for name in names)
