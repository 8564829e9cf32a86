"""Several labels an image: average precision and F1 against scikit-learn, agreement and intervals against plain counting."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, jaccard_score

from edgevit.measure import multilabel
from edgevit.measure.accuracy import change, measure_accuracy
from edgevit.measure.comparison import Row
from edgevit.measure.details import changed_labels
from edgevit.measure.doubt import budget_note, doubts
from edgevit.measure.recommend import recommend
from edgevit.measure.suspicions import suspicions
from edgevit.problem import MULTI_LABEL
from tests.measure.test_recommend import row

LABELS = ("a", "b", "c", "d")


def drawn(seed: int, images: int = 80, labels: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits with many ties, and truth that goes with them somewhat; label 3 is rare."""
    random = np.random.default_rng(seed)
    logits = random.integers(-4, 5, (images, labels)).astype(np.float32) / 2
    truth = logits + random.normal(0, 2, logits.shape) > np.array([0, 1, -1, 4])[:labels]
    return logits, truth


@pytest.mark.parametrize("seed", range(6))
def test_mean_average_precision_and_f1_are_scikit_learns(seed: int) -> None:
    logits, truth = drawn(seed)
    found = measure_accuracy(logits, logits, truth, MULTI_LABEL)
    seen = truth.any(0)
    wanted = average_precision_score(truth[:, seen], logits[:, seen], average="macro")
    assert found.mean_average_precision == pytest.approx(wanted, abs=1e-12)
    assert found.f1 == pytest.approx(f1_score(truth, logits >= 0, average="micro"), abs=1e-12)
    assert (found.score, found.metric, found.top1, found.top1_interval) == (found.mean_average_precision, "mAP", None, None)


@pytest.mark.parametrize("seed", range(3))
def test_resampled_figures_are_those_of_the_drawn_images(seed: int) -> None:
    """Drawing an image twice is having it twice: also for scikit-learn."""
    logits, truth = drawn(seed, images=30)
    counts = np.random.default_rng(seed).multinomial(30, np.full(30, 1 / 30), 20)
    found = multilabel._resampled(logits, truth, counts)
    for own, value in zip(counts, found, strict=True):
        rows = np.repeat(np.arange(30), own)
        seen = truth[rows].any(0)
        assert value == pytest.approx(average_precision_score(truth[rows][:, seen], logits[rows][:, seen], average="macro"))


def test_labels_on_no_image_are_left_out() -> None:
    logits, truth = drawn(1)
    truth[:, 2] = False
    kept = [0, 1, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's own way to say so
        assert multilabel.mean_average_precision(logits, truth) == pytest.approx(
            average_precision_score(truth[:, kept], logits[:, kept], average="macro")
        )
    assert multilabel.mean_average_precision(logits, np.zeros_like(truth)) is None
    assert multilabel.f1_score(np.zeros_like(truth), np.zeros_like(truth)) is None


def test_agreement_counts_labels_that_either_gives() -> None:
    """Jaccard over all labels: a model that says nothing agrees in nothing, however many labels are on no image."""
    reference, other = drawn(2)[0], drawn(3)[0]
    wanted = jaccard_score(reference >= 0, other >= 0, average="micro")
    found = measure_accuracy(other, reference, None, MULTI_LABEL)
    assert found.agreement == pytest.approx(wanted)
    assert found.agreement_interval[0] < wanted < found.agreement_interval[1]
    assert (found.mean_average_precision, found.f1, found.top1, found.score) == (None, None, None, None)
    silent = np.full_like(reference, -5)
    assert measure_accuracy(silent, reference, None, MULTI_LABEL).agreement == 0
    assert measure_accuracy(silent, silent, None, MULTI_LABEL).agreement == 1


def test_a_logit_of_zero_is_there() -> None:
    """A sigmoid of exactly 0.5 is at the threshold, not below it, as at run time."""
    assert multilabel.there(np.array([[0.0, -1e-6]], np.float32)).tolist() == [[True, False]]


def test_change_tells_noise_from_damage() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (600, 4)).astype(np.float32)
    truth = logits + random.normal(0, 1, logits.shape) > 0.5
    harmless = change(logits + random.normal(0, 0.02, logits.shape).astype(np.float32), logits, truth, LABELS, MULTI_LABEL)
    damage = change(logits + random.normal(0, 2, logits.shape).astype(np.float32), logits, truth, LABELS, MULTI_LABEL)
    assert not harmless.measurable
    assert harmless.interval[0] < 0 < harmless.interval[1]
    assert damage.worse
    assert damage.interval[1] < 0
    wanted = average_precision_score(truth, logits, average="macro")
    assert damage.difference == pytest.approx(
        average_precision_score(truth, logits + _again(), average="macro") - wanted, abs=1e-9
    )
    same = change(logits, logits, truth, LABELS, MULTI_LABEL)
    assert (same.difference, same.interval, same.p, same.lost, same.won) == (0.0, (0.0, 0.0), 1.0, 0, 0)


def _again() -> np.ndarray:
    """The noise of the damaged model above, drawn once more."""
    random = np.random.default_rng(0)
    for scale in (2, 1, 0.02):
        random.normal(0, scale, (600, 4))
    return random.normal(0, 2, (600, 4)).astype(np.float32)


def test_interval_is_as_wide_as_the_scatter_of_fresh_images() -> None:
    """The bootstrap's spread against that of differences over many independent draws of images."""

    def both(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        random = np.random.default_rng(seed)
        before = random.normal(0, 2, (200, 3)).astype(np.float32)
        truth = before + random.normal(0, 2, before.shape) > 0.5
        return before, before + random.normal(0, 1, before.shape).astype(np.float32), truth

    def difference(seed: int) -> float:
        before, after, truth = both(seed)
        return (multilabel.mean_average_precision(after, truth) or 0) - (multilabel.mean_average_precision(before, truth) or 0)

    scatter = np.std([difference(seed) for seed in range(200)])
    widths = [high - low for low, high in (multilabel.paired_difference(*both(seed))[0] for seed in range(5))]
    assert np.mean(widths) / (2 * 1.96) == pytest.approx(scatter, rel=0.25)


def test_classes_are_the_images_that_have_a_label() -> None:
    reference = np.array([[1, -1], [1, 1], [-1, 1]], np.float32)
    logits = np.array([[-1, -1], [1, -1], [1, 1]], np.float32)
    truth = np.array([[1, 0], [1, 0], [1, 0]], bool)
    found = change(logits, reference, truth, ("a", "b"), MULTI_LABEL)
    assert [(each.label, each.images, each.before, each.after, each.lost, each.won) for each in found.classes] == [
        ("a", 3, 2, 2, 1, 1)
    ]
    assert (found.lost, found.won) == (1, 2)  # the first image lost a; the second lost a wrong b, the third won a


def test_changed_labels_lost_ones_first() -> None:
    reference = np.array([[1, -1], [1, 1], [-1, 1], [1, 1]], np.float32)
    logits = np.array([[-1, -1], [1, -1], [1, 1], [1, 1]], np.float32)
    truth = np.array([[1, 0], [1, 0], [1, 0], [1, 1]], bool)
    found = changed_labels(logits, reference, truth)
    assert [(each.index, each.outcome, each.gone, each.new) for each in found] == [
        (0, "lost", (0,), ()), (1, "won", (1,), ()), (2, "won", (), (0,)),
    ]  # fmt: skip
    assert {each.outcome for each in changed_labels(logits, reference, None)} == {"changed"}


def rows_of(*logits: np.ndarray, truth: np.ndarray | None) -> list[Row]:
    """A reference and what is held against it, twice as fast each."""
    return [
        replace(
            row(name, 10 / (1 + i)),
            accuracy=measure_accuracy(own, logits[0], truth, MULTI_LABEL),
            change=None if truth is None or not i else change(own, logits[0], truth, LABELS, MULTI_LABEL),
        )
        for i, (name, own) in enumerate(zip(("fp32", "int8"), logits, strict=False))
    ]


@pytest.mark.parametrize("labelled", [True, False])
def test_one_answer_to_everything_is_suspect(labelled: bool) -> None:
    logits, truth = drawn(0)
    known = truth if labelled else None
    silent, stuck = np.full_like(logits, -1), np.where(np.arange(4) < 2, 1, -1) + 0 * logits
    assert suspicions(rows_of(logits, truth=known), [logits], known, LABELS, [None]) == ()
    found = suspicions(rows_of(logits, silent, truth=known), [logits, silent], known, LABELS, [None, None])
    assert [text.partition(". ")[0] for text in found] == ["int8: every one of 80 images is given no label"]
    (found,) = suspicions(rows_of(stuck, truth=known), [stuck], known, LABELS, [{"top1": 0.9, "agreement": 0.1, "images": 900}])
    assert found.startswith("fp32: every one of 80 images is given a, b. ")
    few = stuck[:5]  # of which as many may well have the same
    assert suspicions(rows_of(few, truth=None), [few], None, LABELS, [None]) == ()


def test_one_answer_is_right_for_images_of_the_same_labels() -> None:
    logits, truth = np.ones((30, 4), np.float32), np.ones((30, 4), bool)
    assert suspicions(rows_of(logits, truth=truth), [logits], truth, LABELS, [None]) == ()


def test_few_images_say_so_though_no_order_changed() -> None:
    """The bootstrap of mAP knows no other outcome than the one it saw."""
    logits, truth = drawn(1, images=40)
    rows = rows_of(logits, logits * np.float32(1.01), truth=truth)
    assert rows[1].change is not None
    assert rows[1].change.interval == (0, 0)
    found = recommend(rows, lambda over, under: (rows[over].latency.p50_ms / rows[under].latency.p50_ms,) * 2)  # type: ignore[union-attr]
    assert found.headline.startswith(
        "Too few images to tell: 40 images cannot rule out that int8 loses mAP on others. By speed alone int8: "
    )
    assert "fewer labels right on 0 of 40 images, more on 0 (0.0 points of mAP" in found.headline
    assert not found.enough
    (alone,) = rows_of(logits, truth=truth)
    assert "40 were looked at, so mAP may be far off. " in recommend([alone], lambda *_: None).headline


def test_few_images_without_true_labels() -> None:
    logits, _ = drawn(1, images=40)
    rows = rows_of(logits, logits, truth=None)
    headline = recommend(rows, lambda *_: None).headline
    # Wilson's interval of 40 of 40 begins at 40 / (40 + 1.96^2) = 91.2 %.
    assert headline.startswith("Too few images to tell: 40 images cannot rule out that int8 gives 9 % of its labels otherwise. ")


def test_what_may_hide_is_counted_in_points_of_map() -> None:
    random = np.random.default_rng(3)
    logits, truth = drawn(2, images=200)
    other = logits + random.normal(0, 0.4, logits.shape).astype(np.float32)
    (_, found) = rows_of(logits, other, truth=truth)
    assert found.change is not None
    lost = -100 * found.change.interval[0]
    assert lost > 1
    assert doubts(found) == [f"200 images cannot rule out that int8 loses up to {lost:.1f} points of mAP."]
    assert budget_note(0.5, found) == f"accuracy: 200 images cannot rule out a loss of {lost:.1f} points of mAP"
    assert budget_note(50, found) is None
