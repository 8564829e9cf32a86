"""Several labels an image: labels.csv in both forms, and indicators in an .npz."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgevit.errors import DataError
from edgevit.images.datalevel import check_level
from edgevit.images.dataset import ImageSet, load_images
from edgevit.images.labelmatch import Labelled, matched
from edgevit.images.labelsheet import read_sheet
from edgevit.images.missing_truth import missing_truth
from edgevit.problem import MULTI_LABEL, SINGLE_LABEL, join_labels, split_labels
from edgevit.progress import Progress
from tests.support import CLASSES, write_images

IMAGES = ("a.png", "sub/b.png", "c.png")
WANTED = [[True, False], [False, False], [True, True]]


def sheet(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "file,labels\na.png,car\nsub/b.png,\nc.png,car | dog\nelsewhere.png,car\n",
        "file,car,dog\nc.png,1,1\na.png,1,0\nsub\\b.png,0,0\n",
        "\ufeffImage Index;car;dog\n./a.png;1;0\nsub/b.png;0;0\nc.png;1;1\n\n",
    ],
    ids=["lists", "columns", "semicolons, a byte order mark and other spellings of paths"],
)
def test_both_forms(text: str, tmp_path: Path) -> None:
    names, marks = read_sheet(sheet(tmp_path, text), IMAGES)
    assert (names, marks.tolist(), marks.dtype) == (("car", "dog"), WANTED, bool)


def test_one_column_of_zeros_and_ones_is_a_label(tmp_path: Path) -> None:
    names, marks = read_sheet(sheet(tmp_path, "file,smoke\na.png,1\nsub/b.png,0\nc.png,0\n"), IMAGES)
    assert (names, marks.tolist()) == (("smoke",), [[True], [False], [False]])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("file,labels\na.png,car\n", "2 of 3 images have no row, first sub/b.png"),
        ("file,car,dog\na.png,1,yes\nsub/b.png,0,0\nc.png,1,1\n", "'yes' is neither 0 nor 1"),
        ("file,car,dog\na.png,1\n", "has 2 cells under a header of 3"),
        ("file,labels\na.png,car\na.png,dog\n", "'a.png' has two rows"),
        ("file,car,car\na.png,1,1\n", "two columns are called 'car'"),
        ("file,labels\n", "has no rows"),
        ("", "has no rows"),
        ("file\na.png\n", "has 1 cells under a header of 1"),
    ],
)
def test_other_forms_are_refused_in_one_line(text: str, wanted: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.csv: ") as caught:
        read_sheet(sheet(tmp_path, text), IMAGES)
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", [(), ("car",), ("car", "dog"), ("sign|post", 'a "b"', "c,d")])
def test_a_cell_of_labels_reads_back(labels: tuple[str, ...]) -> None:
    assert split_labels(join_labels(labels)) == labels


def test_folder_with_a_sheet(tmp_path: Path) -> None:
    """The subfolders are no classes, then; samples keep their labels."""
    folder = write_images(tmp_path, 2)
    files = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"))]
    sheet(folder, "file,labels\n" + "".join(f"{name},{'odd' if '001' in name else ''}\n" for name in files))
    images = load_images(folder)
    assert (images.class_names, images.targets) == (("odd",), None)
    part = images.split(3, 0)[1]
    truth = part.marks_for(("even", "odd"))
    assert truth is not None
    assert truth.tolist() == [[False, "001" in name] for name in part.names]
    assert images.marks_for(("even",)) is None, "a label that the model does not have"
    assert "'odd', which is none of the model's 1 labels (even)" in missing_truth(images, ("even",), MULTI_LABEL)


def stored(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, images=np.zeros((3, 4, 4), np.uint8), **arrays)
    return path


def test_npz_of_indicators(tmp_path: Path) -> None:
    images = load_images(stored(tmp_path / "a.npz", labels=np.array(WANTED, np.int64), classes=np.array(["car", "dog"])))
    assert images.targets_for(("car", "dog")) is None, "the second image has none of them"
    truth = images.truth_for(("dog", "tree", "car"), MULTI_LABEL)
    assert truth is not None
    assert truth.tolist() == [[False, False, True], [False, False, False], [True, False, True]]


def test_names_match_as_those_of_folders_do(tmp_path: Path) -> None:
    """Whatever the case, blanks and underscores; a label that the model has twice is on both."""
    classes = np.array(["Traffic_Light", "CAR"])
    images = load_images(stored(tmp_path / "a.npz", labels=np.array(WANTED), classes=classes))
    truth = images.truth_for(("car", "traffic light", "car"), MULTI_LABEL)
    assert truth is not None
    assert truth.tolist() == [[second, first, second] for first, second in WANTED]


def test_npz_without_names_goes_by_position(tmp_path: Path) -> None:
    images = load_images(stored(tmp_path / "a.npz", labels=np.array(WANTED, np.float32)))
    assert images.marks_for(("car", "dog")) is not None
    assert images.marks_for(("car", "dog", "tree")) is None


def test_samples_of_an_npz_copy_no_images(tmp_path: Path) -> None:
    images = load_images(stored(tmp_path / "a.npz", labels=np.array(WANTED, np.int64), classes=np.array(["car", "dog"])))
    some = images.subset([2, 0]).subset([1, 0])
    assert some.array is images.array
    assert some.rows == (0, 2)
    truth = some.truth_for(("car", "dog"), MULTI_LABEL)
    assert truth is not None
    assert truth.tolist() == [WANTED[0], WANTED[2]]
    assert images.held_out(2, 0, set()).drawn == "drawn at random, seed 0"


def test_a_sheet_tells_the_level(tmp_path: Path) -> None:
    """Folders of splits with the model's classes in them are no mistake where a sheet lies beside them."""
    for split in ("train", "test"):
        write_images(tmp_path / split, 1)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    (tmp_path / "a.svg").write_text("<svg/>")
    with pytest.raises(DataError, match="did you mean"):
        check_level(load_images(tmp_path), CLASSES)
    sheet(tmp_path, "file,labels\n" + "".join(f"{name},disc\n" for name in files))
    images = load_images(tmp_path)
    assert check_level(images, CLASSES) == []
    assert ".svg" in str(images.left_out)


def test_a_model_of_several_labels_is_not_asked_which_folder_is_which(tmp_path: Path) -> None:
    """Its highest score is no answer to that."""
    images = load_images(write_images(tmp_path, 2))

    def never(_images: ImageSet) -> np.ndarray:
        raise AssertionError

    labels = tuple(f"LABEL_{i}" for i in range(3))
    assert matched(images, labels, never, Progress(), problem_type=MULTI_LABEL) == Labelled(images=images)
    with pytest.raises(AssertionError):
        matched(images, labels, never, Progress())


def test_one_label_on_every_image_is_a_class(tmp_path: Path) -> None:
    images = load_images(stored(tmp_path / "a.npz", labels=np.eye(3, dtype=int), classes=np.array(["x", "y", "z"])))
    targets = images.truth_for(("z", "y", "x"), SINGLE_LABEL)
    assert targets is not None
    assert targets.tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("labels", "classes", "wanted"),
    [
        (np.full((3, 2), 2), None, "must be 0 and 1, [3, classes]"),
        (np.zeros((2, 2)), None, "must be 0 and 1, [3, classes]"),
        (np.zeros((3, 2)), ["a"], "2 different names"),
        (np.zeros((3, 2)), ["a", "a"], "2 different names"),
    ],
)
def test_other_indicators_are_refused(labels: np.ndarray, classes: list[str] | None, wanted: str, tmp_path: Path) -> None:
    extra = {} if classes is None else {"classes": np.array(classes)}
    with pytest.raises(DataError) as caught:
        load_images(stored(tmp_path / "a.npz", labels=labels, **extra))
    assert wanted in str(caught.value)


def test_folders_tell_one_label_and_are_not_taken_for_all(tmp_path: Path) -> None:
    images = load_images(write_images(tmp_path, 1))
    assert images.truth_for(("disc", "square", "stripes"), MULTI_LABEL) is None
    assert "write them into a labels.csv there" in missing_truth(images, ("disc",), MULTI_LABEL)
