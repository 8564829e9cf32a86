"""What goes for a speed-up: of tokens, heads, neurons and sublayers those that do the least harm for the time they save.

Every schedule of merges is priced by its own harm; for what it does not save, sublayers are cut, at what they cost with so few
tokens. Of all schedules the one whose harm, with that of the cuts, is least is taken: harms are in one unit (mean squared change
of the logits over their variance, as refitted), and taken to add up.

Precision is not part of the trade. INT8 does a tenth of the harm per millisecond of anything else here (docs/tokens.md), so it
comes first, and what must go back to floating point is decided by measuring accuracy (`edgevit.quantize.accuracy_control`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgevit.errors import ConfigError
from edgevit.pruning.allocation import Choice, allocate
from edgevit.pruning.first_pass import Scored
from edgevit.pruning.shapes import cut_vit_config
from edgevit.pruning.sublayers import Cut
from edgevit.search.schedules import Families, Schedule
from edgevit.tokens.settings import Merges, merged_config
from edgevit.vitconfig import VitConfig


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is left of a model: merged tokens, and a cut of every sublayer."""

    merges: Merges
    cuts: tuple[Cut, ...]
    harm: float
    """As it is expected."""
    config: VitConfig
    """All of its shapes: two models of the same are equally fast."""


@dataclass(frozen=True, kw_only=True)
class Trade:
    """Everything that there is to choose from."""

    scored: Scored
    schedules: Families

    def least_harm(self, speedup: float) -> Shape:
        """The shape whose time, by the costs, is 1 / ``speedup`` of the model's or less. Raises ConfigError if there is none.

        Of a family nothing is looked at that does more harm than what was found, or merges more than it takes.
        """
        limit = self.scored.seconds(self.scored.config) / speedup
        best: Shape | None = None
        for family in self.schedules:
            for schedule in family:
                if best is not None and schedule.harm >= best.harm:
                    break
                shape = self._shape(schedule, limit)
                if shape is not None and (best is None or shape.harm < best.harm):
                    best = shape
                if shape is not None and shape.harm == schedule.harm:  # nothing needs to be cut
                    break
        if best is None:
            msg = (
                f"a speed-up of {speedup:g} is more than there is to gain: it is not reached with every attention and MLP gone. "
                "Ask for less."
            )
            raise ConfigError(msg)
        return best

    def _shape(self, schedule: Schedule, limit: float) -> Shape | None:
        """The least harmful cuts with which a model that merges by ``schedule`` takes at most ``limit``; None if none do."""
        scored, config = self.scored, merged_config(self.scored.config, schedule.merges)
        offered = scored.choices(config)
        fixed = scored.seconds(config) - sum(choices[0].seconds for choices in offered)

        def is_enough(chosen: Sequence[Choice]) -> bool:
            return fixed + sum(choice.seconds for choice in chosen) <= limit

        chosen = allocate(offered, is_enough)
        if chosen is None:
            return None
        cuts = scored.cuts_of(chosen)
        harm = schedule.harm + sum(choices[number].harm for choices, number in zip(offered, chosen, strict=True))
        return Shape(merges=schedule.merges, cuts=cuts, harm=harm, config=cut_vit_config(config, cuts))
