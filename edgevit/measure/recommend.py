"""What to use, in one sentence with its figures, from the rows of a comparison. A pure function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgevit.measure.comparison import Recommendation
from edgevit.measure.doubt import doubts, is_few, possible_loss, too_few
from edgevit.measure.latency import MIN_TURNS, TURN

if TYPE_CHECKING:
    from edgevit.measure.comparison import Row

    Ratio = Callable[[int, int], tuple[float, float] | None]

SAME_CLASS = 0.98
"""Without labels, a variant whose agreement with the reference is measurably below this counts as worse."""
UNKNOWN = 0.1
"""Where too few runs were timed to know the noise, speeds within this share of one another count as equal."""


def recommend(rows: Sequence[Row], ratio: Ratio) -> Recommendation:
    """The fastest row that is not measurably worse than the first; among equally fast ones the one closest to that.

    Fast is what was measured; where nothing was, what the roofline estimates for the device.

    ``ratio(i, j)`` is the 95 % interval of row i's median time over row j's, None if too little was timed to know. Two rows
    are equally fast if it holds 1. Rows are never recommended for a speed that lies inside the noise.
    """
    sound = [i for i, row in enumerate(rows) if not is_worse(row)]
    timed = [i for i in sound if _time(rows[i]) < float("inf")]
    if len(rows) == 1:
        headline = f"Only {rows[0].name} was measured: there is nothing to choose from."
        return _told(rows, Recommendation(row=0, baseline=0, headline=headline, reasons=()))
    # The gain is what INT8 gives, not what another engine does: against the reference where it is fastest.
    baseline = min((i for i in range(len(rows)) if _is_plain(rows, i)), key=lambda i: _time(rows[i]))
    if not timed or _time(rows[baseline]) == float("inf"):
        return _by_size(rows, sound)
    fastest = min(timed, key=lambda i: _time(rows[i]))
    equal = [i for i in timed if i == fastest or _equally_fast(rows[i], rows[fastest], ratio(i, fastest))]
    best = min(equal, key=lambda i: (not _is_plain(rows, i), -rows[i].accuracy.agreement, -_sqnr(rows[i]), _time(rows[i])))
    reasons = [
        *_basis(rows, ratio(0, fastest)),
        *_close(rows, best, [i for i in equal if i != best]),
        *_worse(rows, best),
        *_others(rows[best] if best else None),
        *(doubts(rows[best]) if best else ()),
    ]
    headline = _headline(rows, best, baseline, ratio)
    return _told(rows, Recommendation(row=best, baseline=baseline, headline=headline, reasons=tuple(reasons)))


def _told(rows: Sequence[Row], found: Recommendation) -> Recommendation:
    """``found``, with a headline that says so first if there are too few images to choose a row, or not to choose one."""
    others = [row for row in rows[1:] if not is_worse(row)]
    if not is_few(rows[0]) or (len(rows) > 1 and not others):  # that the others are worse is told
        return found
    if len(rows) == 1:
        first = f"Too few images to tell: {rows[0].accuracy.images:,} were looked at, {_known(rows[0])}"
    else:
        first = too_few(rows[found.row] if found.row else max(others, key=possible_loss))
    return replace(found, headline=f"{first}. {found.headline}", enough=False)


def _known(row: Row) -> str:
    """What few images tell about a row alone."""
    seen = row.accuracy
    if seen.score is None:
        return "and they have no labels"
    if seen.top1_interval is None:  # mAP, which a handful of images sets
        return f"so {seen.metric} may be far off"
    low, high = (100 * share for share in seen.top1_interval)
    return f"they leave {seen.metric} between {low:.0f} and {high:.0f} %"


def is_worse(row: Row) -> bool:
    """Whether a row is measurably worse than the reference: by the test of its change, without labels by its agreement."""
    if row.change is not None:
        return row.change.worse
    return row.accuracy.agreement_interval[1] < SAME_CLASS


def loss(row: Row) -> str:
    """What a row costs in accuracy against the reference, in words and figures."""
    if row.change is None:
        return _agreement(row)
    change = row.change
    low, high = change.interval
    p = f"p = {p_value(change.p)}"
    figures = f"{points(change.difference)} {row.accuracy.unit}, 95 % interval {points(low)} to {points(high)}, {p}"
    if change.doubtful:
        return f"perhaps {'worse' if change.difference < 0 else 'better'} ({figures})"
    if not change.measurable and is_few(row):
        seen = f"{row.accuracy.images} images"
        if row.accuracy.multi_label:
            return f"fewer labels right on {change.lost} of {seen}, more on {change.won} ({figures})"
        return f"{change.lost} of {seen} lost, {change.won} won ({figures})"
    if not change.measurable:
        return f"no measurable loss ({figures})" if change.difference <= 0 else f"no measurable difference ({figures})"
    return f"measurably {'worse' if change.difference < 0 else 'better'} ({figures})"


def _agreement(row: Row) -> str:
    """How often a row says what the reference does, where nobody knows what is right."""
    share = row.accuracy.agreement
    if row.accuracy.multi_label:
        given = f"{100 * share:.1f} % of the labels that it or the reference gives are given by both"
        return f"{given} (no true labels: accuracy is unknown)"
    low, high = (100 * bound for bound in row.accuracy.agreement_interval)
    return (
        f"the same class as the reference on {100 * share:.1f} % of images "
        f"(95 % interval {low:.1f} to {high:.1f}; no labels: accuracy is unknown)"
    )


def points(share: float) -> str:
    """A difference of shares as signed percentage points; no negative zero."""
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("-0.0", "+0.0") else text


def p_value(p: float) -> str:
    """Two significant digits, down to a thousandth."""
    return f"{p:.2g}" if p >= 0.001 else "under 0.001"


def _is_plain(rows: Sequence[Row], i: int) -> bool:
    """Whether a row is the reference's own precision, on whatever engine."""
    return (rows[i].subject, rows[i].precision) == (rows[0].subject, rows[0].precision)


def _headline(rows: Sequence[Row], best: int, baseline: int, ratio: Ratio) -> str:
    row = rows[best]
    if _is_plain(rows, best):
        faster = "measurably faster" if row.latency else "estimated to be faster"
        # Of few images nothing is known to be without a loss, and where none is worse, speed alone decided.
        unsure = is_few(row) and not any(is_worse(other) for other in rows)
        return f"Keep {row.name}: nothing is {faster}{'' if unsure else ' without a measurable loss'}."
    sure = ratio(baseline, best)
    factor = f"{_time(rows[baseline]) / _time(row):.2f}x faster than {rows[baseline].name}"
    use = "By speed alone" if is_few(row) else "Use"
    return f"{use} {row.name}: {_estimated(row)}{factor}{f' ({sure[0]:.2f} to {sure[1]:.2f})' if sure else ''}, {loss(row)}."


def _estimated(row: Row) -> str:
    """What stands before a figure that was not measured."""
    return "" if row.latency else "estimated "


def _basis(rows: Sequence[Row], interval: tuple[float, float] | None) -> list[str]:
    """What the speeds rest on, where that is not enough inferences."""
    plan = rows[0].device
    if rows[0].latency is None and plan is not None and plan.best is not None:
        where = f"{plan.best.target} in mode {plan.best.mode}"
        return [f"Speed is estimated from compiled plans for {where}, and differences under {UNKNOWN:.0%} are taken for none: "
                "measure on the board before promising it."]  # fmt: skip
    return (
        [] if interval else [f"Too few inferences were timed to tell speed from noise: give --runs {MIN_TURNS * TURN} or more."]
    )


def _by_size(rows: Sequence[Row], sound: Sequence[int]) -> Recommendation:
    """Nothing was timed: what is smallest without a measurable loss."""
    best = min(sound, key=lambda i: rows[i].bytes)
    reasons: tuple[str, ...] = ("Speed was not measured here: this machine is not the target.",)
    if best == 0:
        headline = f"Keep {rows[0].name}: nothing smaller is without a measurable loss."
        return _told(rows, Recommendation(row=0, baseline=0, headline=headline, reasons=reasons))
    smaller = f"{rows[0].bytes / rows[best].bytes:.1f}x smaller than {rows[0].name}"
    use = "By size alone" if is_few(rows[best]) else "Use"
    headline = f"{use} {rows[best].name}: {smaller}, {loss(rows[best])}."
    reasons = (*reasons, *_worse(rows, best), *_others(rows[best]), *doubts(rows[best]))
    return _told(rows, Recommendation(row=best, baseline=0, headline=headline, reasons=reasons))


def _close(rows: Sequence[Row], best: int, equal: Sequence[int]) -> list[str]:
    if not equal:
        return []
    names, be = _listed([rows[i].name for i in equal]), "is" if len(equal) == 1 else "are"
    same = f"{be} as fast inside the noise" if rows[best].latency else f"{be} estimated to be about as fast"
    why = "it is the reference" if _is_plain(rows, best) else "it is closest to the reference"
    return [f"{names} {same}; {rows[best].name} was preferred because {why}."]


def _worse(rows: Sequence[Row], best: int) -> list[str]:
    """Rows that were passed over for their accuracy although they are faster, or smaller where nothing was timed."""
    chosen = rows[best]
    found = []
    for row in rows:
        if not is_worse(row):
            continue
        if _time(row) < _time(chosen) < float("inf"):
            found.append(f"{row.name} is {_estimated(row)}{_time(chosen) / _time(row):.2f}x faster still, but {loss(row)}.")
        else:
            found.append(f"{row.name} is {loss(row)}.")
    return found


def _others(row: Row | None) -> list[str]:
    """How many answers are others than the reference's, where that is many: some users care for more than how many are right."""
    if row is None or row.change is None or row.change.measurable or row.accuracy.agreement_interval[1] >= SAME_CLASS:
        return []
    change = row.change
    share = 100 * (1 - row.accuracy.agreement)
    if row.accuracy.multi_label:
        return [f"{share:.1f} % of the labels that {row.name} or the reference gives, only one of the two does: {row.name} has "
                f"fewer right on {change.lost} images, more on {change.won}."]  # fmt: skip
    return [f"{row.name} answers {share:.1f} % of the images otherwise than the reference: of those, "
            f"{change.lost} were right before, {change.won} are now."]  # fmt: skip


def _equally_fast(row: Row, fastest: Row, interval: tuple[float, float] | None) -> bool:
    if interval is None:
        return _time(row) <= _time(fastest) * (1 + UNKNOWN)
    return interval[0] <= 1 <= interval[1]


def _time(row: Row) -> float:
    """Milliseconds, measured or estimated: a comparison either times all rows or none."""
    return row.latency.p50_ms if row.latency else row.estimated_ms or float("inf")


def _sqnr(row: Row) -> float:
    """Equal logits come first."""
    return float("inf") if row.accuracy.sqnr_db is None else row.accuracy.sqnr_db


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
