"""``--merge``: a bundle of a model that merges tokens, what is told of it, and what cannot be asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgevit.bundle import REPORT, open_bundle
from edgevit.engine.of_bundle import session_of
from tests.support import Outcome


def test_a_bundle_that_merges(
    edgevit: Callable[..., Outcome], checkpoint_path: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgevit.commands.build.RUNS", 5)
    out = tmp_path / "out.edgevit"
    done = edgevit("build", checkpoint_path, "--data", image_folder, "--merge", "6@0", "-o", out, "--json")
    assert done.code == 0, done.stderr
    rows = [row["precision"] for row in done.json["comparison"]["rows"]]
    assert rows == ["fp32", "fp32-merged", "int8"]
    assert any(note.startswith("merged: 17 tokens to 11 (6@0), ") for note in done.json["notes"])
    bundle = open_bundle(out)
    assert [block.get("merged", 0) for block in bundle.manifest.model["blocks"]] == [6, 0]
    assert bundle.manifest.provenance["merging"]["merges"] == {"0": 6}
    assert json.loads(bundle.read(REPORT))["merging"]["tokens"] == 11
    assert {check["precision"] for check in bundle.manifest.checks} == {"fp32", "fp32-merged", "int8"}
    frames = np.zeros((2, *bundle.manifest.preprocessing.size, 3), np.uint8)
    with session_of(bundle) as session:
        assert session.infer(frames).shape == (2, len(bundle.manifest.labels))
    assert "17 tokens" in edgevit("inspect", out).stdout
    looked = edgevit("attention", out, next(image_folder.rglob("*.png")), "-o", tmp_path / "map.png", "--json")
    assert looked.code == 0, looked.stderr
    assert [view["precision"] for view in looked.json["views"]] == ["fp32", "int8"]
    profiled = edgevit("profile", out, image_folder, "--runs", 5, "--json")
    assert profiled.code == 0, profiled.stderr
    assert "merge" in {part["part"] for part in profiled.json["parts"]}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("much", "expected tokens at blocks"),
        ("0", "above 0"),
        ("0.95", "at most at 0.9"),
        ("nan", "expected tokens at blocks"),
        ("0.85", "at most. Ask for less"),
        ("4@1", "block 1 cannot merge 4 tokens away: behind the last block's attention they save nothing"),
        ("9@0", "at most half of them can go"),
        ("4@7", "there is no block 7"),
        ("", "expected tokens at blocks"),
    ],
)
def test_what_cannot_be_asked_for(
    edgevit: Callable[..., Outcome], checkpoint_path: Path, image_folder: Path, tmp_path: Path, asked: str, said: str
) -> None:
    done = edgevit("build", checkpoint_path, "--data", image_folder, "--merge", asked, "-o", tmp_path / "out.edgevit")
    assert done.code == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 4
    assert not (tmp_path / "out.edgevit").exists()


def test_it_takes_images(edgevit: Callable[..., Outcome], checkpoint_path: Path, tmp_path: Path) -> None:
    done = edgevit("build", checkpoint_path, "--precision", "fp32", "--merge", "6@0", "-o", tmp_path / "out.edgevit")
    assert done.code == 4
    assert "Pruning and merging need images" in done.stderr
