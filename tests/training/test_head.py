"""The linear head, against scikit-learn's, and the folds that judge it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from edgevit.errors import DataError
from edgevit.training.findings import findings_of, gain_of_doubling
from edgevit.training.folds import folds_of, groups_of, near_duplicates
from edgevit.training.head import fit_heads


def digits(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    data = load_digits()
    return torch.from_numpy(data.data[:count]).float(), torch.from_numpy(data.target[:count]).long()


@pytest.mark.parametrize("penalty", [0.3, 0.01])
def test_it_is_scikit_learns(penalty: float) -> None:
    """The same minimum, also from where another penalty ended, and with weights of photos."""
    x, y = digits(300)
    counts = 1.0 + (torch.arange(300) % 3)
    head = fit_heads(x, y, counts, 10, [1.0, penalty])[-1]
    scaler = StandardScaler().fit(x.numpy().astype(np.float64))
    theirs = LogisticRegression(C=1 / (penalty * float(counts.sum())), max_iter=2000, tol=1e-10)
    theirs.fit(scaler.transform(x.numpy().astype(np.float64)), y.numpy(), sample_weight=counts.numpy())
    wanted = theirs.predict_log_proba(scaler.transform(x.numpy().astype(np.float64)))
    np.testing.assert_allclose(head.logits(x).log_softmax(1).numpy(), wanted, atol=2e-3)


def test_a_channel_that_never_changes_and_a_class_without_photos() -> None:
    x, y = digits(60)
    x[:, 7] = 3.0
    head = fit_heads(x, y % 2, torch.ones(60), 3, [0.1])[0]
    assert torch.isfinite(head.weight).all()
    assert int((head.logits(x).argmax(1) == 2).sum()) == 0


def test_near_duplicates_are_in_one_fold_and_classes_in_all() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 16, generator=generator)
    x[1], x[2] = x[0] + 1e-3, x[0] - 1e-3
    y = torch.arange(40) % 4
    y[1] = y[2] = y[0]
    thumbnails = torch.rand(40, 256, generator=generator)
    assert near_duplicates(x, thumbnails) == []  # the same features alone
    thumbnails[1], thumbnails[2] = thumbnails[0], thumbnails[0] * 0.9
    pairs = near_duplicates(x, thumbnails)
    assert {frozenset(pair) for pair in pairs} == {frozenset(pair) for pair in ((0, 1), (0, 2), (1, 2))}
    folds = folds_of(y, ("a", "b", "c", "d"), groups_of(40, pairs), 5, seed=0)
    assert len(set(folds[:3].tolist())) == 1
    for label in range(4):
        counts = torch.bincount(folds[y == label], minlength=5)
        assert counts.max() - counts.min() <= 3
        assert (counts > 0).sum() >= 4
    assert folds.tolist() == folds_of(y, ("a", "b", "c", "d"), groups_of(40, pairs), 5, seed=0).tolist()


def test_few_photos() -> None:
    """Two of a class are in two folds; one, or two that are one, cannot be judged."""
    y = torch.tensor([0, 0, 1, 1])
    folds = folds_of(y, ("a", "b"), [0, 1, 2, 3], 5, seed=0)
    assert folds[0] != folds[1]
    assert folds[2] != folds[3]
    with pytest.raises(DataError, match="class 'b' has one photo"):
        folds_of(y[:3], ("a", "b"), [0, 1, 2], 5, seed=0)
    with pytest.raises(DataError, match="class 'b' has 2 photos, all nearly the same"):
        folds_of(y, ("a", "b"), [0, 1, 2, 2], 5, seed=0)


def test_findings_by_hand() -> None:
    """Four photos: one wrong and sure of it, which is also nearly the same as one of another class."""
    logits = torch.tensor([[4.0, 0.0], [0.0, 3.0], [5.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    y = torch.tensor([0, 1, 1, 1])
    found = findings_of(logits, y, ("ok", "crack"), ("a", "b", "c", "d"), [(0, 2), (1, 3)], [(0.5, 0.5), (1.0, 0.75)])
    assert (found.right, found.photos, found.accuracy) == (3, 4, 0.75)
    assert found.confusion == ((1, 0), (1, 2))
    assert found.balanced == pytest.approx((1 + 2 / 3) / 2)
    assert [photo.name for photo in found.worst] == [photo.name for photo in found.suspicious] == ["c"]
    assert found.suspicious[0].other == pytest.approx(1 / (1 + np.exp(-5)))
    assert found.contradicting == (("a", "c"),)
    assert found.alike == (("b", "d"),)
    low, high = found.interval
    assert low < 0.75 < high


@pytest.mark.parametrize(("curve", "gain"), [
    ([(0.5, 0.8), (1.0, 0.9)], 0.05),  # errors halve
    ([(0.5, 0.9), (1.0, 0.9)], 0.0), ([(0.5, 0.95), (1.0, 0.9)], 0.0), ([(0.5, 0.9), (1.0, 1.0)], 0.0),
])  # fmt: skip
def test_what_doubling_adds(curve: list[tuple[float, float]], gain: float) -> None:
    assert gain_of_doubling(curve) == pytest.approx(gain)
