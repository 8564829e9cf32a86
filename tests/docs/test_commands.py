"""The commands of tutorials and how-to pages are run as they stand, page by page, but for what a test has not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgevit import train
from edgevit.device import service
from tests.model import references
from tests.support import ROOT, Outcome, built, write_images
from tests.typed import CLIP, Typed, at_hand, typed

PAGES = sorted(path for folder in ("tutorial", "howto") for path in (ROOT / "docs" / folder).glob("*.md"))
LINES = {page: typed(page.read_text(encoding="utf-8")) for page in PAGES}
SLOW = ("add-classes.md", "photos-without-a-model.md", "which-precision.md")
"""Pages that take longest; of what they show, the tutorials and docs/start.md have the like."""


def test_few_commands_are_not_run_and_each_says_why() -> None:
    left_out = [each for lines in LINES.values() for each in lines if each.not_run]
    assert len(left_out) <= 14, f"too many are not run: {left_out}"
    assert {each.not_run for each in left_out} <= {
        "installs packages", "needs a board", "needs the run to go on", "changes your shell"
    }  # fmt: skip


def test_what_is_run_is_edgevit() -> None:
    """Other programs are marked: this test would not run them."""
    lines = [each for lines in LINES.values() for each in lines if not each.not_run]
    assert len(lines) > 50
    assert [each.line for each in lines if not each.is_edgevit] == []


def test_every_question_has_an_answer_to_type() -> None:
    assert [
        page.name for page, lines in LINES.items() if not any(each.is_edgevit for each in lines) and page.name != "index.md"
    ] == []


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, checkpoint_path: Path) -> Path:
    """What pages begin from."""
    folder = tmp_path_factory.mktemp("pages")
    photos = write_images(folder / "photos", 24)
    write_images(folder / "elsewhere-all", 6, first=50)
    shutil.move(folder / "elsewhere-all" / "disc", folder / "elsewhere")
    write_images(folder / "frames", 4)
    for label in ("crack", "scratch", "fine"):
        shutil.copytree(photos / "disc", folder / "sorted" / label)
    shutil.copy(photos / "disc" / "000.png", folder / "new.jpg")
    shutil.copy(ROOT / "tests" / "model" / "fixtures" / "onnx" / "timm" / "model.onnx", folder / "model.onnx")
    state = references.randomise(references.TimmVit(), seed=5).state_dict()
    torch.save({"epoch": 3, "state_dict": state, "state_dict_ema": state}, folder / "best.pth.tar")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEVIT_CACHE", str(folder / "cache"))
        train(photos, backbone=checkpoint_path, out=folder / "cells", crops=0)
    bundle = built(checkpoint_path, folder, data=photos, unknown=True, features=True)
    for name in ("cells.edgevit", "before.edgevit", "board.edgevit"):
        shutil.copytree(bundle, folder / name)
    (folder / "boards.txt").write_text("user@board1\nuser@board2\n", encoding="utf-8")
    shutil.copy(CLIP / "embeddings.npz", folder / "other.npz")
    return folder


def shown(folder: Path) -> Path:
    """Pictures that a camera might see, each unlike the others: sharp patches, uint8 [120, 160, 3], new ones at every call."""
    random = np.random.default_rng(len(list(folder.parent.iterdir())))
    folder.mkdir()
    for i in range(8):
        patches = random.integers(0, 255, (6, 8, 3), np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(patches, (160, 120), interpolation=cv2.INTER_NEAREST))
    return folder


@pytest.fixture
def place(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it to work in."""
    shutil.copytree(shared, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(service, "UNKEPT", ())  # tests work in /tmp, where no service may
    return tmp_path / "here"


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow if page.name in SLOW else (), id=f"{page.parent.name}/{page.name}")
             for page in PAGES if any(each.is_edgevit and not each.not_run for each in LINES[page])],
)  # fmt: skip
def test_commands_of_a_page(
    page: Path, place: Path, checkpoint_path: Path, edgevit: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count()
    for each in LINES[page]:
        if not each.not_run:
            run(each, place / f"shown-{next(calls)}", checkpoint_path, edgevit, monkeypatch)


def run(each: Typed, camera: Path, checkpoint: Path, edgevit: Callable[..., Outcome], patch: pytest.MonkeyPatch) -> None:
    if each.arguments[0] == "embed":  # its text tower is not here; other.npz is
        return
    for name, value in each.environment.items():
        patch.setenv(name, value)
    source = str(shown(camera)) if each.arguments[0] == "collect" else ""
    outcome = edgevit(*at_hand(each.arguments, checkpoint, *([source] if source else [])))
    assert outcome.code == 0, f"{each.line}\n{outcome.stderr}"
