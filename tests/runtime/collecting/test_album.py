"""The folder: what is there stays, what is added is whole and findable, and it does not outgrow its budget."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgevit.errors import ConfigError, DataError, StorageError
from edgevit.images.dataset import load_images
from edgevit.runtime.collecting.album import COLUMNS, TABLE, Album, contents_of
from edgevit.runtime.collecting.look import look_at
from edgevit.runtime.collecting.unsure import Doubt
from edgevit.runtime.frame import Frame
from edgevit.runtime.picture import encoded
from tests.runtime.collecting.scenes import view

IMAGE = view("china", 100)
LOOK = look_at(IMAGE)
SIZE = len(encoded(IMAGE, ".jpg"))


def album(folder: Path, *, suffix: str = ".jpg", most: float = 1e9) -> Album:
    return Album(folder, suffix=suffix, most_bytes=int(most))


def shot(index: int = 0, **changes: object) -> Frame:
    return Frame(**{"image_bgr": IMAGE, "captured": 0.0, "index": index, "name": "cam", **changes})  # type: ignore[arg-type]


def test_names_pictures_and_rows(tmp_path: Path) -> None:
    doubt = Doubt(guess="a/b: c", confidence=0.512, certainty=0.512, margin=0.1)
    with album(tmp_path / "deep" / "new") as one:
        one.save(shot(3, seconds=1.25), LOOK, change=None)
        one.save(shot(4), LOOK, change=0.25, doubt=doubt)
        one.save(shot(5), LOOK, change=0.25, label="=crack", into="=crack")
        names = [each.file for each in one.snapshots]
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{3}Z-0001\.jpg", names[0])
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{3}Z-0002-a_b_c-0\.51\.jpg", names[1])
    assert re.fullmatch(r"=crack/\d{8}T\d{6}\.\d{3}Z-0003\.jpg", names[2])
    assert sorted(names[:2]) == names[:2]
    folder = tmp_path / "deep" / "new"
    for name in names:
        assert cv2.PSNR(cv2.imread(str(folder / name)), IMAGE) > 33  # quality 95
    with (folder / TABLE).open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert ",".join(rows[0]) == COLUMNS
    assert [row["file"].removeprefix("'") for row in rows] == names
    assert rows[0]["seconds"] == "1.25"
    assert (rows[1]["guess"], rows[1]["confidence"], rows[1]["margin"], rows[1]["change"]) == ("a/b: c", "0.512", "0.1", "0.25")
    assert rows[2]["label"] == "'=crack", "no spreadsheet takes it for a formula"
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_png_is_exact(tmp_path: Path) -> None:
    with album(tmp_path, suffix=".png") as one:
        snapshot = one.save(shot(), LOOK, change=None)
    assert snapshot is not None
    assert (cv2.imread(str(tmp_path / snapshot.file)) == IMAGE).all()


def test_a_second_session_adds(tmp_path: Path) -> None:
    """Two at a time, in the same millisecond: nothing is lost, and the table has all of them."""
    frame = shot()
    with album(tmp_path) as one, album(tmp_path) as other:
        for _ in range(3):
            one.save(frame, LOOK, change=None)
            other.save(frame, LOOK, change=None)
    assert len(list(tmp_path.glob("*.jpg"))) == 6
    assert len((tmp_path / TABLE).read_text().splitlines()) == 7
    with album(tmp_path) as third:
        assert third.earlier == 6
        assert len(list(third.earlier_looks())) == 6


def test_earlier_pictures_look_the_same_when_read_small(tmp_path: Path) -> None:
    large = cv2.resize(IMAGE, (2560, 1920), interpolation=cv2.INTER_CUBIC)
    (tmp_path / "photo.jpg").write_bytes(encoded(large, ".jpg"))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("mine")
    with album(tmp_path) as one:
        ((name, look),) = one.earlier_looks()
        assert name == "photo.jpg"
        assert np.abs(look.thumbnail - look_at(large).thumbnail).mean() < 1
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_budget_counts_what_is_there(tmp_path: Path) -> None:
    with album(tmp_path, most=2.5 * SIZE) as one:
        assert [one.save(shot(i), LOOK, change=None) is not None for i in range(4)] == [True, True, False, False]
    with album(tmp_path, most=3.5 * SIZE) as two:
        assert [two.save(shot(i), LOOK, change=None) is not None for i in range(2)] == [True, False]
        two.undo()
        assert two.save(shot(), LOOK, change=None) is not None
    assert sum(path.stat().st_size for path in tmp_path.glob("*.jpg")) <= 3.5 * SIZE


def test_undo(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    with album(tmp_path) as one:
        assert one.undo() is None
        for into in ("crack", "kept", "crack"):
            one.save(shot(), LOOK, change=None, label=into, into=into)
        for left in (2, 1, 0):
            undone = one.undo()
            assert undone is not None
            assert not (tmp_path / undone.file).exists()
            assert len((tmp_path / TABLE).read_text().splitlines()) == 1 + left
        assert one.undo() is None
        assert one.mib == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [TABLE, "kept"], "its own empty folder is gone, another's is not"


def test_undo_leaves_what_others_wrote(tmp_path: Path) -> None:
    with album(tmp_path) as one, album(tmp_path) as other:
        one.save(shot(1), LOOK, change=None)
        kept = other.save(shot(2), LOOK, change=None)
        one.undo()
    assert kept is not None
    assert [path.name for path in tmp_path.glob("*.jpg")] == [kept.file]
    assert kept.file in (tmp_path / TABLE).read_text()


def test_what_is_no_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="cannot make this folder"):
        album(tmp_path / "file")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / TABLE).write_text("my,own,table\n")
    with pytest.raises(ConfigError, match="holds something else"):
        album(tmp_path / "other")
    assert (tmp_path / "other" / TABLE).read_text() == "my,own,table\n"
    with album(tmp_path / "good") as one:
        (tmp_path / "good" / "crack").write_text("mine")
        with pytest.raises(StorageError, match="crack: cannot make this folder"):
            one.save(shot(), LOOK, change=None, into="crack")
        with pytest.raises(DataError, match="cannot write 70000x2 pixels as JPG"):
            one.save(shot(image_bgr=np.zeros((2, 70000, 3), np.uint8)), LOOK, change=None)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 2**20))  # type: ignore[attr-defined]
    with album(tmp_path) as one, pytest.raises(StorageError, match="the disk is full: 1 MiB free, 64 are kept"):
        one.save(shot(), LOOK, change=None)
    assert list(tmp_path.glob("*.jpg")) == []


def test_what_is_collected_is_read_at_once(tmp_path: Path) -> None:
    """As images without labels, as classes, and pictures without a label are no class."""
    with album(tmp_path / "flat") as one:
        one.save(shot(), LOOK, change=None)
    assert load_images(tmp_path / "flat").targets is None
    assert len(load_images(tmp_path / "flat")) == 1
    with album(tmp_path / "classes") as one:
        for into in ("crack", "fine", "unlabelled", "fine"):
            one.save(shot(), LOOK, change=None, label=into, into=into)
    images = load_images(tmp_path / "classes")
    assert (images.class_names, images.targets, images.folders) == (("crack", "fine"), (0, 1, 1), ("crack", "fine"))
    assert images.left_out == f"{tmp_path / 'classes'}: unlabelled/ (1 image) is left out: it is no class"
    images.check()
    found = contents_of(tmp_path / "classes")
    assert (found.classes, found.loose, found.unlabelled) == (("crack", "fine"), 0, 1)
    with album(tmp_path / "only") as one:
        one.save(shot(), LOOK, change=None, into="unlabelled")
    images = load_images(tmp_path / "only")
    assert (len(images), images.class_names, images.targets) == (1, (), None)
