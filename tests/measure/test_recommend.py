"""The recommendation never costs accuracy that was measured, never promises speed that was not, and says what it rests on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgevit.measure.accuracy import Accuracy, Change
from edgevit.measure.comparison import Recommendation, Row
from edgevit.measure.latency import Latency
from edgevit.measure.recommend import p_value, points, recommend
from edgevit.measure.statistics import mcnemar, tango, wilson
from edgevit.plan.device_plan import DevicePlan
from edgevit.plan.roofline import Estimate

IMAGES = 1000


def few(name: str, p50: float | None, lost: int = 0, won: int = 0, *, images: int = 9, labels: bool = True) -> Row:
    """A variant on so few images, four fifths of which the first row has right."""
    same, right = images - lost - won, images * 4 // 5
    accuracy = Accuracy(
        images=images,
        top1=(right + won - lost) / images if labels else None,
        agreement=same / images,
        sqnr_db=30,
        top1_interval=wilson(right + won - lost, images) if labels else None,
        agreement_interval=wilson(same, images),
        calibration_error=None,
    )
    change = Change(
        difference=(won - lost) / images, interval=tango(lost, won, images), lost=lost, won=won, p=mcnemar(lost, won), classes=()
    )
    return replace(row(name, p50), accuracy=accuracy, change=change if labels else None)


def row(
    name: str, p50: float | None, lost: int = 0, won: int = 0, *, agree: int | None = None, labels: bool = True, sqnr: float = 30
) -> Row:
    """A variant that loses and wins so many of a thousand images against the first row, 700 of which that has right."""
    same = IMAGES - lost - won if agree is None else agree
    difference = (won - lost) / IMAGES
    change = Change(
        difference=difference,
        interval=(difference - 0.006, difference + 0.006),
        lost=lost,
        won=won,
        p=mcnemar(lost, won),
        classes=(),
    )
    accuracy = Accuracy(
        images=IMAGES,
        top1=0.7 + difference if labels else None,
        agreement=same / IMAGES,
        sqnr_db=sqnr,
        top1_interval=wilson(700, IMAGES) if labels else None,
        agreement_interval=wilson(same, IMAGES),
        calibration_error=0.05 if labels else None,
    )
    time = None if p50 is None else Latency(p50_ms=p50, p90_ms=p50, p99_ms=p50, per_second=1000 / p50, runs=100)
    return Row(
        name=name, precision=name, engine="openvino 1", bytes=1000, accuracy=accuracy, latency=time, speedup=None, change=change
    )


def chosen(*rows: Row, noise: float = 0.03) -> Recommendation:
    """The recommendation for rows whose times are known to +-3 %."""
    first = replace(rows[0], change=None)

    def ratio(over: int, under: int) -> tuple[float, float] | None:
        upper, lower = rows[over].latency, rows[under].latency
        if upper is None or lower is None:
            return None
        middle = upper.p50_ms / lower.p50_ms
        return middle * (1 - noise), middle * (1 + noise)

    return recommend((first, *rows[1:]), ratio)


def test_faster_and_as_good() -> None:
    found = chosen(row("fp32", 60), row("int8", 25, lost=8, won=7))
    assert found.row == 1
    assert found.headline == (
        "Use int8: 2.40x faster than fp32 (2.33 to 2.47), no measurable loss (-0.1 points, 95 % interval -0.7 to +0.5, p = 1)."
    )
    assert found.reasons == ()


def test_the_fastest_is_worse() -> None:
    """It is passed over, and what it would cost is said."""
    found = chosen(row("fp32", 60), row("int8", 25, 8, 7), row("pruned", 15, lost=60, won=20))
    assert found.row == 1
    assert found.reasons == (
        "pruned is 1.67x faster still, but measurably worse (-4.0 points, 95 % interval -4.6 to -3.4, p = under 0.001).",
    )


def test_equally_fast_and_worse_is_never_taken() -> None:
    """Not even where its own clock shows a little less."""
    found = chosen(row("fp32", 60), row("int8", 24.9, lost=40, won=10), row("int8-linear", 25, 8, 7))
    assert found.row == 2
    assert any(reason.startswith("int8 is 1.00x faster still, but measurably worse") for reason in found.reasons)


def test_of_equally_fast_ones_the_closest() -> None:
    found = chosen(row("fp32", 60), row("int8", 24.8, 20, 18), row("int8-linear", 25, 8, 7))
    assert found.row == 2
    assert found.reasons == (
        "int8 is as fast inside the noise; int8-linear was preferred because it is closest to the reference.",
    )


def test_nothing_is_faster() -> None:
    """Inside the noise, the reference stays."""
    found = chosen(row("fp32", 60), row("fp16", 59, 1, 1))
    assert found.row == 0
    assert found.headline == "Keep fp32: nothing is measurably faster without a measurable loss."
    assert found.reasons == ("fp16 is as fast inside the noise; fp32 was preferred because it is the reference.",)


def test_everything_faster_is_worse() -> None:
    found = chosen(row("fp32", 60), row("int8", 25, lost=40, won=5))
    assert found.row == 0
    assert "int8 is 2.40x faster still, but measurably worse" in found.reasons[0]


def test_noise_that_is_not_known() -> None:
    """A few runs: within a tenth is equal, and the reader is told."""
    first = replace(row("fp32", 60), change=None)
    found = recommend((first, row("int8", 56)), lambda _over, _under: None)
    assert (found.row, found.reasons[0]) == (0, "Too few inferences were timed to tell speed from noise: give --runs 30 or more.")
    found = recommend((first, row("int8", 30)), lambda _over, _under: None)
    assert found.headline.startswith("Use int8: 2.00x faster than fp32, no measurable")


def test_measurably_better_and_faster() -> None:
    found = chosen(row("fp32", 60), row("int8", 25, lost=5, won=40))
    assert "measurably better (+3.5 points" in found.headline


def test_few_images_are_said_to_be_few() -> None:
    """No measurable loss is not no loss."""
    doubtful = row("int8", 25, lost=30, won=25)
    assert doubtful.change is not None
    doubtful = replace(doubtful, change=replace(doubtful.change, interval=(-0.021, 0.011)))
    found = chosen(row("fp32", 60), doubtful)
    assert found.row == 1
    assert found.reasons[-1] == (
        "1,000 images cannot rule out that int8 loses up to 2.1 points; to tell a loss of 1 point takes about 2,174."
    )


def test_nine_images_tell_nothing() -> None:
    """None changed: thirty points may hide all the same, and nothing is recommended but by speed."""
    found = chosen(few("fp32", 60), few("int8", 25))
    assert not found.enough
    assert found.headline == (
        "Too few images to tell: 9 images cannot rule out that int8 loses 30 points. By speed alone int8: 2.40x faster than fp32 "
        "(2.33 to 2.47), 0 of 9 images lost, 0 won (0.0 points, 95 % interval -29.9 to +29.9, p = 1)."
    )
    assert "to tell a loss of 1 point takes about 381." in found.reasons[-1]


@pytest.mark.parametrize(("images", "hidden"), [(9, 30), (64, 6), (99, 4)])
def test_how_much_may_hide(images: int, hidden: int) -> None:
    """Also where the reference stays because nothing is faster, where nothing was timed, and where there is one row."""
    for rows in ([few("fp32", 60, images=images), few("int8", 60, images=images)],
                 [few("fp32", None, images=images), replace(few("int8", None, images=images), bytes=10)]):  # fmt: skip
        headline = chosen(*rows).headline
        assert headline.startswith(f"Too few images to tell: {images} images cannot rule out that int8 loses {hidden} points. ")
        assert "without a measurable" not in headline
        assert "no measurable" not in headline
    alone = chosen(few("int8", 60, images=images))
    assert alone.headline.startswith(f"Too few images to tell: {images} were looked at, they leave top-1 between ")
    assert not alone.enough


def test_a_hundred_images_are_enough_to_speak() -> None:
    found = chosen(few("fp32", 60, images=100), few("int8", 25, images=100))
    assert found.enough
    assert "no measurable loss (0.0 points, 95 % interval -3.7 to +3.7, p = 1)" in found.headline
    assert found.reasons[-1].startswith("100 images cannot rule out that int8 loses up to 3.7 points")


def test_few_images_that_tell_are_believed() -> None:
    """Eight of twenty lost and none won is no luck."""
    found = chosen(few("fp32", 60, images=20), few("int8", 25, lost=8, images=20))
    assert found.enough
    assert found.headline == "Keep fp32: nothing is measurably faster without a measurable loss."


def test_few_images_without_labels() -> None:
    found = chosen(few("fp32", 60, labels=False), few("int8", 25, labels=False))
    assert found.headline.startswith(
        "Too few images to tell: 9 images cannot rule out that int8 gives other answers to 30 % of them."
    )
    assert "(95 % interval 70.1 to 100.0; no labels: accuracy is unknown)" in found.headline


def test_where_interval_and_test_disagree_the_answer_is_perhaps() -> None:
    """Sixteen lost and six won: p = 0.052 by the exact test, and yet the interval lies below 0 (Cavo 2012)."""
    found = chosen(few("fp32", 60, images=161), few("int8", 25, lost=16, won=6, images=161))
    assert "perhaps worse (-6.2 points, 95 % interval -12.4 to -0.5, p = 0.052)" in found.headline
    assert "no measurable" not in found.headline


def test_without_labels_agreement_decides() -> None:
    def plain(name: str, p50: float, agree: int) -> Row:
        return replace(row(name, p50, agree=agree, labels=False), change=None)

    found = chosen(plain("fp32", 60, 1000), plain("int8", 25, 985), plain("pruned", 15, 900))
    assert found.row == 1
    assert (
        "same class as the reference on 98.5 % of images (95 % interval 97.5 to 99.1; no labels: accuracy is unknown)"
        in found.headline
    )
    assert "pruned is 1.67x faster still, but the same class as the reference on 90.0 %" in found.reasons[0]


def test_the_gain_is_against_the_fastest_reference() -> None:
    """What another engine gives is not INT8's doing."""
    rows = [
        replace(row(name, p50), precision=name.split()[0])
        for name, p50 in (("fp32 on a", 60), ("fp32 on b", 40), ("int8 on b", 20))
    ]
    found = chosen(*rows)
    assert found.headline.startswith("Use int8 on b: 2.00x faster than fp32 on b (1.94 to 2.06)")


def test_another_engine_may_be_all_that_helps() -> None:
    rows = [
        replace(row(name, p50), precision=name.split()[0])
        for name, p50 in (("fp32 on a", 60), ("fp32 on b", 40), ("int8 on b", 40))
    ]
    found = chosen(*rows)
    assert found.row == 1
    assert found.headline.startswith("Keep fp32 on b:")


def test_not_timed() -> None:
    """Elsewhere than on the target size counts, and the lack is said."""
    first, small, smaller = row("fp32", None), row("int8", None, 8, 7), row("pruned", None, 60, 20)
    found = chosen(first, replace(small, bytes=250), replace(smaller, bytes=200))
    assert found.row == 1
    assert found.headline.startswith("Use int8: 4.0x smaller than fp32, no measurable loss")
    assert found.reasons[0] == "Speed was not measured here: this machine is not the target."
    assert any(reason.startswith("pruned is measurably worse") for reason in found.reasons)


def test_not_timed_and_nothing_smaller() -> None:
    assert chosen(row("fp32", None), replace(row("int8", None, 60, 20), bytes=1)).row == 0


def test_one_row() -> None:
    assert chosen(row("int8", 60)).headline == "Only int8 was measured: there is nothing to choose from."


@pytest.mark.parametrize(("share", "text"), [(0.0, "0.0"), (-0.0004, "0.0"), (0.012, "+1.2"), (-0.012, "-1.2")])
def test_points(share: float, text: str) -> None:
    assert points(share) == text


@pytest.mark.parametrize(("p", "text"), [(1.0, "1"), (0.0312, "0.031"), (0.00099, "under 0.001")])
def test_p_value(p: float, text: str) -> None:
    assert p_value(p) == text


def estimated(name: str, milliseconds: float | None, lost: int = 0, won: int = 0) -> Row:
    """A row that was compiled for a board and not timed."""
    estimates = (
        () if milliseconds is None else (estimate_of("nano", "15W", 2 * milliseconds), estimate_of("nano", "25W", milliseconds))
    )
    plan = DevicePlan(builder="b", stand_in=True, kernels=9, int8_share=0.9, megabytes=1, fused_attention=1, estimates=estimates)
    return replace(row(name, None, lost, won), device=plan)


def estimate_of(target: str, mode: str, milliseconds: float) -> Estimate:
    return Estimate(target=target, mode=mode, milliseconds=milliseconds, compute_bound=0.5, memory_bound=0.4, launches=0.1)


def test_estimates_stand_in_for_times() -> None:
    """The fastest by the roofline, said to be estimated; what it rests on is the first reason."""
    found = chosen(estimated("fp16", 4.0), estimated("int8", 2.0, 8, 7), estimated("pruned", 1.5, 60, 20))
    assert found.row == 1
    assert found.headline.startswith("Use int8: estimated 2.00x faster than fp16, no measurable loss")
    assert found.reasons[0].startswith("Speed is estimated from compiled plans for nano in mode 25W")
    assert any(reason.startswith("pruned is estimated 1.33x faster still, but measurably worse") for reason in found.reasons)


def test_estimates_within_a_tenth_are_equal() -> None:
    found = chosen(estimated("fp16", 2.05), estimated("int8", 2.0, 8, 7))
    assert found.row == 0
    assert found.headline == "Keep fp16: nothing is estimated to be faster without a measurable loss."
    assert "int8 is estimated to be about as fast; fp16 was preferred because it is the reference." in found.reasons


def test_a_reference_without_an_estimate() -> None:
    """Then there is nothing to be faster than: size counts."""
    found = chosen(estimated("fp32", None), replace(estimated("int8", 2.0, 8, 7), bytes=250))
    assert found.headline.startswith("Use int8: 4.0x smaller than fp32")


def test_many_other_answers_are_said() -> None:
    """As many right as before, and yet another model: who counts on single answers must know."""
    found = chosen(row("fp32", 60), row("pruned", 20, 30, 28, agree=930))
    assert found.row == 1
    assert (
        "pruned answers 7.0 % of the images otherwise than the reference: of those, 30 were right before, 28 are now."
        in found.reasons
    )
    assert not any("otherwise" in reason for reason in chosen(row("fp32", 60), row("int8", 20, 7, 6)).reasons)
