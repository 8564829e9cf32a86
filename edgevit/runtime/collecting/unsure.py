"""Whether a model is unsure of a frame, or has seen nothing like it: those are worth a label."""

from __future__ import annotations

from dataclasses import dataclass

from edgevit.runtime.decide import Decision

BELOW = 0.6
UNUSUAL = 0.05
"""Typicality up to which a frame counts, of a bundle that tells unknown objects: where models are sure, and wrong."""


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """What a model takes a frame for, and how sure it is."""

    guess: str
    """The likeliest class; of a multi-label model the label that is nearest to being undecided."""
    confidence: float
    """Of it, 0 to 1."""
    certainty: float
    """The same; of a multi-label model of whichever is likelier, that the label is there or that it is not: 0.5 to 1."""
    margin: float
    """Between the likeliest class and the next; of a multi-label model between there and not there."""
    typicality: float | None = None
    """`edgevit.runtime.unknown.Rarity.typicality`; None of a bundle that does not tell."""


@dataclass(frozen=True, kw_only=True)
class Unsure:
    """What counts as unsure: either is enough, and so is a typicality of at most `UNUSUAL`."""

    below: float | None = BELOW
    """A certainty below it."""
    margin: float | None = None
    """A margin below it."""

    def __call__(self, doubt: Doubt) -> bool:
        """Whether it is."""
        by_certainty = self.below is not None and doubt.certainty < self.below
        unusual = doubt.typicality is not None and doubt.typicality <= UNUSUAL
        return by_certainty or unusual or (self.margin is not None and doubt.margin < self.margin)


def doubt_of(decision: Decision) -> Doubt:
    """Of a decision with at least two predictions, where the model has two classes; of a multi-label model with all of them."""
    typicality = decision.rarity.typicality if decision.rarity else None
    if decision.multi_label:
        open_ = min(decision.every, key=lambda each: abs(each.confidence - 0.5))
        certainty = max(open_.confidence, 1 - open_.confidence)
        return Doubt(
            guess=open_.label, confidence=open_.confidence, certainty=certainty, margin=2 * certainty - 1, typicality=typicality
        )  # fmt: skip
    first, *others = decision.raw
    margin = first.confidence - (others[0].confidence if others else 0.0)
    confidence = first.confidence
    return Doubt(guess=first.label, confidence=confidence, certainty=confidence, margin=margin, typicality=typicality)
