"""Steadier labels: what the last few frames say together, instead of each on its own."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgevit.errors import ConfigError
from edgevit.runtime.classify import Prediction
from edgevit.runtime.threshold import Thresholds

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORM = "write ema:N or majority:N, N frames from 2 to 1000, such as ema:8; a number alone is ema"
MAX_FRAMES = 1000


class Smoothing(Protocol):
    """Takes every frame's predictions, likeliest first, and gives those of the frames so far."""

    frames: int

    def add(self, predictions: Sequence[Prediction]) -> tuple[Prediction, ...]:
        """Predictions after this frame, likeliest first."""
        ...

    def reset(self) -> None:
        """Forget every frame."""
        ...


class Ema:
    """Exponential moving average of the confidences, class by class.

    The weight of a frame shrinks by 1 - 2 / (``frames`` + 1) with every later one, so that the average is about as old
    as that of ``frames`` frames. Weights are divided by their sum: the first frames count no more than they should.
    A class that a frame does not list counts as 0 there.
    """

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self._kept = 1 - 2 / (frames + 1)
        self._sums: dict[int, float] = {}
        self._labels: dict[int, str] = {}
        self._weight = 0.0

    def add(self, predictions: Sequence[Prediction]) -> tuple[Prediction, ...]:
        """See `Smoothing.add`; ties keep the order of the classes."""
        self._sums = {index: self._kept * value for index, value in self._sums.items() if value > 1e-9}
        self._weight = self._kept * self._weight + 1
        for each in predictions:
            self._sums[each.index] = self._sums.get(each.index, 0.0) + each.confidence
            self._labels[each.index] = each.label
        best = sorted(self._sums, key=lambda index: (-self._sums[index], index))
        return tuple(Prediction(label=self._labels[i], index=i, confidence=self._sums[i] / self._weight) for i in best)

    def reset(self) -> None:
        """See `Smoothing.reset`."""
        self._sums.clear()
        self._weight = 0.0


class Majority:
    """The class that was likeliest most often in the last ``frames`` frames; of several, the one seen last.

    The classes voted for come in order of their votes, each with the mean confidence of its votes.
    """

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self._votes: deque[Prediction] = deque(maxlen=frames)

    def add(self, predictions: Sequence[Prediction]) -> tuple[Prediction, ...]:
        """See `Smoothing.add`."""
        self._votes.append(predictions[0])
        counts = Counter(vote.index for vote in self._votes)
        latest = {vote.index: place for place, vote in enumerate(self._votes)}
        order = sorted(counts, key=lambda index: (counts[index], latest[index]), reverse=True)
        return tuple(self._mean(index) for index in order)

    def reset(self) -> None:
        """See `Smoothing.reset`."""
        self._votes.clear()

    def _mean(self, index: int) -> Prediction:
        votes = [vote for vote in self._votes if vote.index == index]
        return Prediction(label=votes[0].label, index=index, confidence=sum(vote.confidence for vote in votes) / len(votes))


class MajorityOfEach:
    """`Majority` for several labels at once: each is there if it was above its threshold in most of the last ``frames`` frames.

    Where as many frames say yes as no, the latest decides. A label's confidence is the mean over the frames that the majority
    stands for, so it lies on the majority's side of the threshold. Takes frames that list every label.
    """

    def __init__(self, frames: int, thresholds: Thresholds) -> None:
        self.frames, self._thresholds = frames, thresholds
        self._seen: deque[tuple[NDArray[np.float64], NDArray[np.bool_]]] = deque(maxlen=frames)

    def add(self, predictions: Sequence[Prediction]) -> tuple[Prediction, ...]:
        """See `Smoothing.add`; ties keep the order of the labels."""
        ordered = sorted(predictions, key=lambda each: each.index)
        passed = np.array([self._thresholds.passed_by(each) for each in ordered])
        self._seen.append((np.array([each.confidence for each in ordered]), passed))
        confidences, votes = (np.stack(parts) for parts in zip(*self._seen, strict=True))
        yes = votes.sum(0)
        there = np.where(2 * yes == len(votes), passed, 2 * yes > len(votes))
        agreed = votes == there
        means = (confidences * agreed).sum(0) / agreed.sum(0)
        order = np.argsort(-means, kind="stable")
        return tuple(Prediction(label=ordered[i].label, index=ordered[i].index, confidence=float(means[i])) for i in order)

    def reset(self) -> None:
        """See `Smoothing.reset`."""
        self._seen.clear()


KINDS = ("ema", "majority")


def parse_smoothing(text: str, several: Thresholds | None = None) -> Smoothing:
    """``ema:N``, also as ``N``, or ``majority:N``; ``several``: a multi-label model's thresholds.

    Raises ConfigError for anything else.
    """
    kind, _, frames = text.strip().partition(":") if ":" in text else ("ema", "", text.strip())
    if kind not in KINDS or not (frames.isascii() and frames.isdecimal()) or not 2 <= int(frames) <= MAX_FRAMES:
        msg = f"{text!r} is no smoothing: {FORM}"
        raise ConfigError(msg)
    if kind == "ema":
        return Ema(int(frames))
    return Majority(int(frames)) if several is None else MajorityOfEach(int(frames), several)
