"""From which confidence on a label counts: one figure for all, and others for single labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgevit.errors import ConfigError, did_you_mean
from edgevit.problem import MULTI_LABEL, THRESHOLD
from edgevit.runtime.classify import Prediction
from edgevit.share import meant_by, share_of

FORM = "write a confidence from 0 to 1 such as 0.6 or 60%, for all labels, or LABEL=0.6 for one"


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Confidences, 0 to 1."""

    all: float = 0.0
    own: Mapping[str, float] = field(default_factory=dict)
    """By label, where it is not ``all``."""

    def passed_by(self, prediction: Prediction) -> bool:
        """Whether the confidence is enough for its label."""
        return prediction.confidence >= self.own.get(prediction.label, self.all)


def default_threshold(problem_type: str) -> float:
    """Where nothing is asked for: 0.5 for the labels of a multi-label model, none for the likeliest class of others."""
    return THRESHOLD if problem_type == MULTI_LABEL else 0.0


def thresholds_of(
    asked: float | Mapping[str, float] | None, labels: Sequence[str], problem_type: str
) -> Thresholds:  # fmt: skip
    """One figure for all ``labels`` of a model, or figures by label; labels that are not named, and None, have the default.

    Raises ConfigError for a label that the model does not have, or a figure outside 0 to 1.
    """
    if asked is None or isinstance(asked, Mapping):
        return _checked(Thresholds(all=default_threshold(problem_type), own=dict(asked or {})), labels)
    return _checked(Thresholds(all=asked), labels)


def parse_thresholds(texts: Sequence[str], labels: Sequence[str], problem_type: str) -> Thresholds:
    """What `--threshold` was given: ``0.6``, ``60%``, ``LABEL=0.7``, each label and the rest at most once.

    Raises ConfigError for anything else.
    """
    found: dict[str, float] = {}
    for text in texts:
        label, _, figure = text.rpartition("=")
        share = share_of(figure)
        if share is None or label in found:
            msg = f"--threshold {text!r}: {FORM if share is None else 'given twice'}"
            raise ConfigError(msg)
        if share > 1:
            msg = f"--threshold {text!r}: {share:g} is no confidence; {FORM}.{meant_by(figure)}"
            raise ConfigError(msg)
        found[label] = share
    return _checked(Thresholds(all=found.pop("", default_threshold(problem_type)), own=found), labels)


def _checked(thresholds: Thresholds, labels: Sequence[str]) -> Thresholds:
    if unknown := next((label for label in thresholds.own if label not in labels), None):
        msg = f"threshold: no label of this model is {unknown!r}. {did_you_mean(unknown, labels[:50])}"
        raise ConfigError(msg)
    for value in (thresholds.all, *thresholds.own.values()):
        if not 0 <= value <= 1:
            msg = f"threshold: {value:g} is no confidence; {FORM}"
            raise ConfigError(msg)
    return thresholds
