"""Names of what a model can be compared in: ``int8``, ``int8+prune20+merge35``, ``int8+speedup1.5``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgevit.errors import ConfigError, did_you_mean
from edgevit.numberformat import FORMATS, MIXED
from edgevit.pruning.settings import GREATEST
from edgevit.search.settings import FASTEST
from edgevit.tokens.settings import GREATEST as MOST_MERGED


@dataclass(frozen=True, kw_only=True)
class Amount:
    """What a step is asked for, as it is written in a name."""

    unit: float
    """Of what is written: 0.01 of a percentage."""
    most: float
    least: float = 0.0
    """Which is too little."""


BASES = tuple(base for item in FORMATS.values() for base in ((f"{item.name}-linear", item.name) if item.scaled else (item.name,)))
"""What a checkpoint can be compared in, each also with steps after a +. A bundle holds what it was built with."""
DEFAULT = ("fp32", "int8")
STEPS = {
    "prune": Amount(unit=0.01, most=GREATEST),
    "merge": Amount(unit=0.01, most=MOST_MERGED),
    "speedup": Amount(unit=1.0, most=FASTEST, least=1.0),
}
"""Steps that may follow a +."""
_STEP = re.compile(rf"({'|'.join(STEPS)})(\d+(?:\.\d+)?)")


@dataclass(frozen=True, kw_only=True)
class Precision:
    """One column of `--precisions`."""

    name: str
    """As it was given."""
    base: str
    """One of `BASES`, or ``mixed``, which only a bundle is."""
    steps: Mapping[str, float] = field(default_factory=dict)
    """By name, of `STEPS`: the share (0..1) of the multiply-accumulates that it is to remove, or the speed-up to reach."""

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
        return bool(self.steps)


def parse_precision(name: str) -> Precision:
    """``base``, ``base+pruneN``, ``base+mergeN`` or both, N in percent of the MACs, or ``base+speedupX``.

    Raises ConfigError for anything else.
    """
    base, *parts = name.split("+")
    if base not in (*BASES, MIXED):
        msg = f"--precisions: unknown {name!r}. {did_you_mean(base, (*BASES, MIXED))}"
        raise ConfigError(msg)
    steps = dict[str, float]()
    for part in parts:
        match = _STEP.fullmatch(part)
        amount = STEPS[match[1]] if match else None
        asked = amount.unit * float(match[2]) if match and amount else 0.0
        if match is None or amount is None or match[1] in steps or not amount.least < asked <= amount.most:
            raise ConfigError(_expected(name, base))
        steps[match[1]] = asked
    if "speedup" in steps and len(steps) > 1:
        msg = f"--precisions: {name!r}: a speed-up says by itself how much is pruned and merged: {base}+speedup1.5."
        raise ConfigError(msg)
    return Precision(name=name, base=base, steps=steps)


def _expected(name: str, base: str) -> str:
    most = " and ".join(f"{kind} up to {100 * STEPS[kind].most:g}" for kind in ("prune", "merge"))
    return (
        f"--precisions: {name!r}: after a + comes a step with a percentage of the MACs, {most}: {base}+prune20+merge35; or a "
        f"speed-up above 1 and up to {FASTEST:g}: {base}+speedup1.5."
    )


def parse_precisions(names: Sequence[str]) -> tuple[Precision, ...]:
    """Each of ``names``. Raises ConfigError for one that nothing can have."""
    return tuple(parse_precision(name) for name in names)
