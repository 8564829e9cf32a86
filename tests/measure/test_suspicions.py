"""What makes figures suspect: each is said of answers that have the fault, with its figures, and of no others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgevit.measure.accuracy import measure_accuracy
from edgevit.measure.comparison import Row
from edgevit.measure.doubt import budget_note
from edgevit.measure.suspicions import suspicions
from tests.measure.test_recommend import few, row

LABELS = tuple("abcdefgh")


def answered(answers: np.ndarray, classes: int = 8) -> np.ndarray:
    """Logits whose winners are ``answers``."""
    return np.eye(classes, dtype=np.float32)[answers]


def rows_of(*logits: np.ndarray, targets: np.ndarray | None) -> list[Row]:
    return [
        replace(row(name, 10), accuracy=measure_accuracy(own, logits[0], targets))
        for name, own in zip(("fp32", "int8"), logits, strict=False)
    ]


def said(
    answers: np.ndarray, targets: np.ndarray | None, *others: np.ndarray, earlier: dict[str, Any] | None = None
) -> tuple[str, ...]:
    logits = [answered(answers), *(answered(other) for other in others)]
    return suspicions(rows_of(*logits, targets=targets), logits, targets, LABELS, [earlier, *[None for _ in others]])


def good(count: int = 400, share: float = 0.8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Answers of a model that has so many right, and the classes, as many of each."""
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % 8
    return np.where(rng.random(count) < share, targets, rng.integers(0, 8, count)), targets


def test_a_good_model_on_even_classes_gets_no_word() -> None:
    for seed in range(40):
        answers, targets = good(seed=seed)
        assert said(answers, targets, earlier={"top1": 0.82, "images": 1024}) == ()


def test_a_poor_model_is_not_taken_for_one_with_other_labels() -> None:
    """Confusing neighbours is no order of labels: the name that helps half of the images does not help the other half."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        targets = np.arange(400) % 8
        answers = np.where(rng.random(400) < 0.5, targets, (targets + rng.choice([-1, 1], 400)) % 8)
        assert said(answers, targets) == ()


def test_far_from_the_build() -> None:
    """Both figures; 23 of 64 where it was 74.1 % of 1,024 (Fisher's exact test, p = 1e-9)."""
    targets = np.arange(64) % 8
    answers = np.where(np.arange(64) < 23, targets, (targets + 1 + np.arange(64) % 3) % 8)
    (sentence,) = said(answers, targets, earlier={"top1": 759 / 1024, "images": 1024})
    assert sentence.startswith(
        "these images are not like those at build time: fp32 has 35.9 % of 64 right, and then had 74.1 % of 1,024."
    )
    assert said(answers, targets, earlier={"top1": 0.40, "images": 1024}) == ()
    assert said(answers, targets, earlier={"top1": 0.7, "images": 5}) == ()


STRANGE: list[dict[str, Any]] = [
    {}, {"top1": None, "images": 9}, {"top1": 0.9}, {"top1": 7.5, "images": 9}, {"top1": 0.9, "images": 0},
    {"top1": 0.9, "images": 8.5}, {"top1": "x", "images": 9},
]  # fmt: skip


@pytest.mark.parametrize("earlier", STRANGE)
def test_figures_of_a_strange_manifest_are_passed_over(earlier: dict[str, Any]) -> None:
    answers, targets = good(share=0.5)
    assert said(answers, targets, earlier=earlier) == ()


def test_far_from_the_build_without_labels() -> None:
    """Then agreement tells."""
    answers, _ = good()
    other = np.where(np.arange(400) % 4 == 0, (answers + 1) % 8, answers)
    logits = [answered(answers), answered(other)]
    found = suspicions(rows_of(*logits, targets=None), logits, None, LABELS, [None, {"agreement": 0.98, "images": 500}])
    assert found[0].startswith("these images are not like those at build time: int8 has 75.0 % of 400 in the class of fp32")


def test_labels_in_another_order() -> None:
    """Two exchanged: said with what exchanging gives, though the model is far above chance."""
    answers, targets = good(share=0.95)
    exchanged = np.array([1, 0, 2, 3, 4, 5, 6, 7])[answers]
    (sentence,) = said(exchanged, targets)
    assert sentence.startswith("the labels may be in another order: b is answered a, a is answered b. With those exchanged fp32 ")
    assert "instead of" in sentence


def test_all_labels_in_another_order() -> None:
    """Text order for natural order, or counted from one: below chance, and what would be right."""
    answers, targets = good(share=0.95)
    chance, order = said((answers + 1) % 8, targets)
    assert "no better than chance. Are the labels in the order of training" in chance
    assert "b is answered a" not in order  # it is a that is answered b
    assert "and 5 more. With those exchanged fp32 would have 9" in order


def test_guesses() -> None:
    rng = np.random.default_rng(0)
    targets = np.arange(400) % 8
    (sentence,) = said(rng.integers(0, 8, 400), targets)
    assert "no better than chance" in sentence


def test_the_commonest_class_is_no_skill() -> None:
    """Sixty per cent right by answering nearly all images with the class of sixty per cent."""
    rng = np.random.default_rng(0)
    targets = rng.choice(8, 400, p=[0.6, *[0.4 / 7] * 7])
    answers = np.where(rng.random(400) < 0.97, 0, rng.integers(0, 8, 400))
    assert any("no better than chance" in sentence for sentence in said(answers, targets))


def test_one_answer_to_everything() -> None:
    """Said of the variants that do it, together, and once: that it is chance needs no further word."""
    _, targets = good()
    always = np.full(400, 3)
    (sentence,) = said(always, targets, always)
    assert sentence.startswith("fp32 and int8: every one of 400 images is answered d. ")
    answers, targets = good()
    (sentence,) = said(answers, targets, always)
    assert sentence.startswith("int8: every one of 400 images")
    assert said(np.full(30, 3), None)[0].startswith("fp32: every one of 30 images is answered d")
    assert said(np.full(5, 3), None) == ()


def test_classes_without_images() -> None:
    answers, targets = good()
    kept = targets < 3
    (sentence,) = said(answers[kept], targets[kept])
    assert sentence == (
        "5 of the model's 8 classes have no image here: d, e, f and 2 more. Nothing here tells how often they are right."
    )


def test_images_of_one_class_are_not_called_chance() -> None:
    (sentence,) = said(np.where(np.arange(50) < 40, 2, 1), np.full(50, 2))
    assert sentence.startswith("7 of the model's 8 classes have no image here")


def test_uneven_classes() -> None:
    targets = np.repeat(np.arange(8), [244, 48, 23, 129, 355, 60, 15, 150])
    rng = np.random.default_rng(0)
    answers = np.where(rng.random(1024) < 0.74, targets, rng.integers(0, 8, 1024))
    (sentence,) = said(answers, targets)
    assert sentence.startswith("the classes are uneven, from 15 images (g) to 355 (e): ")


# --- budgets -------------------------------------------------------------------------------------------------------------------


def test_a_budget_that_the_images_cannot_tell() -> None:
    """Nine without a change leave thirty points possible: that is no budget kept; nor can few others vouch for it."""
    assert budget_note(0.5, few("int8", 10), 9) == (
        "accuracy: 9 images cannot rule out a loss of 29.9 points, and the 9 that it was judged on can no better; "
        "to be sure of a budget of 0.5 takes about 765"
    )
    assert str(budget_note(1.0, few("int8", 10, images=380))).endswith("to be sure of a budget of 1 takes about 381")
    assert budget_note(1.0, few("int8", 10, images=381)) is None
    assert "judged" not in str(budget_note(0.5, few("int8", 10), 500))


def test_a_budget_of_agreement() -> None:
    note = budget_note(1.0, few("int8", 10, images=100, labels=False))
    assert note == "accuracy: 100 images cannot rule out a loss of 3.7 points; to be sure of a budget of 1 takes about 381"
