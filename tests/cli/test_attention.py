"""`edgevit attention`: pictures, arrays and figures of bundles and checkpoints, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgevit.images.dataset import load_images


@pytest.fixture(scope="module")
def image_path(image_folder: Path) -> Path:
    return image_folder / load_images(image_folder).names[0]


def test_a_picture_of_a_bundle(edgevit: Callable[..., Any], bundle_path: Path, image_path: Path, tmp_path: Path) -> None:
    """Both precisions side by side; the figures say how far INT8 moved the attention."""
    out = tmp_path / "look.png"
    outcome = edgevit("attention", bundle_path, image_path, "-o", out)
    assert outcome.code == 0, outcome.stderr
    drawn = cv2.imread(str(out))
    assert drawn.shape[1] > 5 * 240  # the image, two rollouts and two last blocks
    assert edgevit("attention", bundle_path, image_path, "-o", tmp_path / "whole.png", "--all").code == 0
    whole = cv2.imread(str(tmp_path / "whole.png"))
    assert 5 * 240 > whole.shape[1] > 2 * 3 * 112  # two panels of a mean and two heads
    assert whole.shape[0] > 3 * 112  # the image and two blocks
    assert "int8 against fp32" in outcome.stdout
    assert "Maps of 4x4 patches, class token." in outcome.stdout


def test_figures(edgevit: Callable[..., Any], bundle_path: Path, image_path: Path, tmp_path: Path) -> None:
    document = edgevit("attention", bundle_path, image_path, "-o", tmp_path / "x.png", "--json").json
    assert [view["precision"] for view in document["views"]] == ["fp32", "int8"]
    assert document["views"][0]["shapes"] == {"0": [2, 17, 17], "1": [2, 1, 17]}
    shares = [share for block in document["moved"].values() for share in block]
    assert all(0 < share < 0.2 for share in shares)
    assert document["rollout_correlation"] > 0.9
    assert (document["grid"], document["prefix_tokens"]) == ([4, 4], 1)


def test_arrays(edgevit: Callable[..., Any], bundle_path: Path, image_path: Path, tmp_path: Path) -> None:
    """The maps are the class token's rows of the weights, which sum to 1."""
    maps_path, weights_path = tmp_path / "maps.npy", tmp_path / "weights.npz"
    for path in (maps_path, weights_path):
        assert edgevit("attention", bundle_path, image_path, "-o", path).code == 0
    maps = np.load(maps_path, allow_pickle=False)
    assert (maps.shape, maps.dtype) == ((2, 2, 2, 4, 4), np.float32)
    with np.load(weights_path, allow_pickle=False) as stored:
        assert stored["frame"].shape == (32, 32, 3)
        assert stored["fp32/rollout"].shape == (4, 4)
        for i, precision in enumerate(("fp32", "int8")):
            weights = stored[f"{precision}/block0"]
            assert weights.shape == (2, 17, 17)
            assert np.array_equal(maps[i, 0], weights[:, 0, 1:].reshape(2, 4, 4))
        assert stored["fp32/block0"].sum(-1) == pytest.approx(np.ones((2, 17)), abs=1e-5)


def test_chosen_blocks(edgevit: Callable[..., Any], bundle_path: Path, image_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "maps.npy"
    document = edgevit("attention", bundle_path, image_path, "-o", out, "--blocks", "1", "--json").json
    assert list(document["moved"]) == ["1"]
    assert np.load(out).shape[1] == 1


def test_a_checkpoint_in_fp32(
    edgevit: Callable[..., Any], checkpoint_path: Path, image_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without images to calibrate on there is nothing to hold against it; the picture goes beside where one stands."""
    monkeypatch.chdir(tmp_path)
    outcome = edgevit("attention", checkpoint_path, image_path, "--json")
    assert outcome.code == 0, outcome.stderr
    assert [view["precision"] for view in outcome.json["views"]] == ["fp32"]
    assert (outcome.json["moved"], outcome.json["rollout_correlation"]) == (None, None)
    assert (tmp_path / f"{image_path.stem}-attention.png").stat().st_size > 1000


def test_a_checkpoint_in_int8(
    edgevit: Callable[..., Any], checkpoint_path: Path, image_path: Path, image_folder: Path, tmp_path: Path
) -> None:
    document = edgevit("attention", checkpoint_path, image_path, "--data", image_folder, "-o", tmp_path / "x.jpg", "--json").json
    assert [view["precision"] for view in document["views"]] == ["fp32", "int8"]


def test_a_bundle_needs_no_torch(
    edgevit_process: Callable[..., Any], bundle_path: Path, image_path: Path, tmp_path: Path
) -> None:
    outcome = edgevit_process("attention", bundle_path, image_path, "-o", tmp_path / "x.png", "--json", without=("torch",))
    assert outcome.code == 0, outcome.stderr
    assert json.loads(outcome.stdout)["moved"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["-o", "x.gif"], 2, "x.gif: cannot write this kind of file. Choose a name that ends in .jpeg, .jpg, .png"),
        (["--blocks", "0,7"], 2, "--blocks: '7' is no block with attention. Known: 0, 1."),
        (["--blocks", "-1"], 2, "--blocks: '-1' is no block"),
        (["--blocks", ","], 2, "--blocks: names none"),
        (["--heads", "3"], 2, "heads can only be given for a checkpoint"),
        (["--data", "x"], 2, "data can only be given for a checkpoint"),
    ],
)
def test_wrong_options(
    edgevit: Callable[..., Any], bundle_path: Path, image_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    options: list[str], code: int, words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    outcome = edgevit("attention", bundle_path, image_path, *options)
    assert outcome.code == code
    assert words in outcome.stderr
    assert not list(tmp_path.glob("*.png"))


def test_no_image(edgevit: Callable[..., Any], bundle_path: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    assert edgevit("attention", bundle_path, broken, "-o", tmp_path / "x.png").code == 4
    assert edgevit("attention", bundle_path, tmp_path / "none.png", "-o", tmp_path / "x.png").code == 4
    assert not (tmp_path / "x.png").exists()


def test_missing_onnx(edgevit_process: Callable[..., Any], bundle_path: Path, image_path: Path, tmp_path: Path) -> None:
    outcome = edgevit_process("attention", bundle_path, image_path, "-o", tmp_path / "x.png", without=("onnx",))
    assert outcome.code == 8
    assert "pip install 'edgevit[attention]'" in outcome.stderr
