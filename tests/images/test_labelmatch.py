"""Whether class folders are a model's classes: by name, by the order of a trainer, and as the model itself answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgevit.errors import DataError
from edgevit.images.classes import are_generic, possible_matches
from edgevit.images.datalevel import check_level
from edgevit.images.dataset import ImageSet, load_images
from edgevit.images.labelmatch import ASKED, Labelled, like, matched, tail
from edgevit.measure.labels import comparable
from edgevit.progress import Progress


def numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


TEXT_12 = ("0", "1", "10", "11", "2", "3", "4", "5", "6", "7", "8", "9")


def folders(names: Sequence[str], each: int = 8, every: Sequence[str] = ()) -> ImageSet:
    """``each`` images of every class; nothing is decoded."""
    files = tuple(f"{name}/{i}.png" for name in sorted(names) for i in range(each))
    targets = tuple(i for i in range(len(names)) for _ in range(each))
    return ImageSet(source="set", names=files, class_names=tuple(sorted(names)), targets=targets,
                    folders=tuple(sorted(every or names)))  # fmt: skip


def ask(images: ImageSet, labels: Sequence[str], truth: dict[str, int], right: float = 1.0, order: str | None = None) -> Labelled:
    """`matched` with a model that gives the share ``right`` of a folder's images its true class, the others its neighbour."""
    asked: list[str] = []

    def answers(part: ImageSet) -> np.ndarray:
        logits = np.zeros((len(part), len(labels)), np.float32)
        for row, name in enumerate(part.names):
            asked.append(name)
            answer = truth[name.partition("/")[0]]
            logits[row, answer if len(asked) % 100 < 100 * right else (answer + 1) % len(labels)] = 1
        return logits

    found = matched(images, labels, answers, Progress(), order)
    assert len(asked) == len(set(asked)) <= ASKED
    return found


def targets(found: Labelled, labels: Sequence[str]) -> dict[str, int]:
    """Folder to class, as `ImageSet.targets_for` has it."""
    images = found.images
    values = images.targets_for(labels)
    assert values is not None
    return {name.partition("/")[0]: int(value) for name, value in zip(images.names, values, strict=True)}


# --- which matches are possible ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("labels", "generic"), [
    (numbers(12), True), (("LABEL_0", "LABEL_1"), True), (("1", "2"), False), (("0", "1", "10"), False), (("cat", "dog"), False),
])  # fmt: skip
def test_generic_labels(labels: tuple[str, ...], generic: bool) -> None:
    assert are_generic(labels) == generic


@pytest.mark.parametrize(("names", "labels", "every", "orders"), [
    (numbers(12), numbers(12), (), ["natural", "text"]),
    (numbers(10), numbers(10), (), ["names"]),
    (("cat", "dog"), numbers(2), (), ["text"]),
    (("b", "B", "a"), numbers(3), (), ["text", "natural"]),
    (("cat", "dog"), numbers(3), ("cat", "dog", "empty"), ["text"]),
    (("cat", "dog"), numbers(3), (), []),
    (("5", "11"), numbers(12), (), ["natural", "text"]),
    (("005", "011"), numbers(12), (), ["natural"]),
    (tuple(map(str, range(1, 13))), numbers(12), (), ["text", "natural"]),
    (("cat", "dog"), ("dog", "cat"), (), ["names"]),
    (("cat", "wolf"), ("cat", "dog"), (), []),
    (("n01", "n02"), ("tench", "goldfish"), (), ["text"]),
])  # fmt: skip
def test_orders_that_are_possible(
    names: tuple[str, ...], labels: tuple[str, ...], every: tuple[str, ...], orders: list[str]
) -> None:  # fmt: skip
    found = possible_matches(tuple(sorted(names)), labels, folders=sorted(every or names))
    assert [match.order for match in found] == orders


def test_numbers_of_an_array_are_the_models_own() -> None:
    assert [match.classes for match in possible_matches(numbers(12), numbers(20), numbered=True)] == [tuple(range(12))]
    assert possible_matches(("a", "b"), ("x", "y"), numbered=True) == ()
    doubled = ("crane", "dog", "crane")
    assert possible_matches(doubled, doubled, numbered=True)[0].classes == (0, 1, 2)


# --- what the model answers ----------------------------------------------------------------------------------------------


def test_text_order_is_found() -> None:
    """torchvision.datasets.ImageFolder(root).class_to_idx of twelve such folders, version 0.28.0."""
    true = {"0": 0, "1": 1, "10": 2, "11": 3, "2": 4, "3": 5, "4": 6, "5": 7, "6": 8, "7": 9, "8": 10, "9": 11}
    found = ask(folders(numbers(12)), numbers(12), true)
    assert targets(found, numbers(12)) == true
    assert found.labels == TEXT_12
    (note,) = found.notes
    assert (
        "text order (0, 1, 10, 11, 2, ...), as torchvision sorts: the model has 16 of 16 images right, and 0 in natural order"
        in note
    )
    assert "--class-order natural to change" in note


def test_natural_order_is_found() -> None:
    true = {name: int(name) for name in numbers(12)}
    found = ask(folders(numbers(12)), numbers(12), true, right=0.7)
    assert targets(found, numbers(12)) == true
    assert found.labels is None
    assert "natural order (0, 1, 2, 3, 4, ...), as timm sorts: the model has" in found.notes[0]


@pytest.mark.parametrize(("order", "ten"), [("text", 2), ("natural", 10)])
def test_an_order_that_is_asked_for_is_taken_unseen(order: str, ten: int) -> None:
    found = ask(folders(numbers(12)), numbers(12), {}, order=order)
    assert targets(found, numbers(12))["10"] == ten


def test_an_order_changes_nothing_where_there_is_one_way() -> None:
    found = ask(folders(("cat", "dog")), ("dog", "cat"), {}, order="natural")
    assert targets(found, ("dog", "cat")) == {"cat": 1, "dog": 0}


def test_guessing_is_said_first() -> None:
    """A model that gives every image one class is right in none of the orders."""
    found = ask(folders(numbers(12)), numbers(12), dict.fromkeys(numbers(12), 0))
    assert found.notes[0].startswith("labels: the model has 0 of 64 images right, and 0 in ")
    assert "what guessing gives" in found.notes[0]
    assert found.labels is None


def test_too_few_images_do_not_decide() -> None:
    found = ask(folders(("2", "10"), each=2, every=numbers(12)), numbers(12), {"2": 4, "10": 2})
    assert "the model does not tell (" in found.notes[0] or "guessing" in found.notes[0]


def test_a_model_without_names_gets_those_of_its_folders() -> None:
    found = ask(folders(("cat", "dog", "fox")), ("LABEL_0", "LABEL_1", "LABEL_2"), {"cat": 0, "dog": 1, "fox": 2}, right=0.9)
    assert found.labels == ("cat", "dog", "fox")
    assert found.notes[0].endswith("its classes are named after them")


def test_other_names_count_only_if_the_answers_fit() -> None:
    """ImageNet's folders are called n01440764, the model's class tench."""
    images, labels = folders(("n1", "n2", "n3")), ("tench", "goldfish", "shark")
    fits = ask(images, labels, {"n1": 0, "n2": 1, "n3": 2})
    assert targets(fits, labels) == {"n1": 0, "n2": 1, "n3": 2}
    assert "none is called like a class of the model" in fits.notes[0]
    other = ask(images, labels, {"n1": 1, "n2": 2, "n3": 0})
    assert (other.images.targets_for(labels), other.notes) == (None, ())


def test_names_are_not_asked_about() -> None:
    found = ask(folders(("cat", "dog")), ("dog", "cat"), {})
    assert (found.notes, targets(found, ("dog", "cat"))) == ((), {"cat": 1, "dog": 0})


def test_another_set_is_seen_as_the_first_was() -> None:
    true = {name: i for i, name in enumerate(TEXT_12)}
    found = ask(folders(numbers(12)), numbers(12), true)
    other = like(folders(("10", "3"), every=numbers(12)), numbers(12), found.images)
    assert list(dict.fromkeys(other.targets_for(numbers(12)))) == [2, 5]


def test_the_binomials_tail() -> None:
    """scipy.stats.binom.sf(least - 1, trials, chance) of scipy 1.17.1."""
    for least, trials, chance, expected in (
        (10, 10, 0.5, 0.0009765625), (3, 64, 1 / 12, 0.9104185750284876), (21, 60, 1 / 3, 0.43968615125915), (0, 5, 0.2, 1.0),
    ):  # fmt: skip
        assert tail(least, trials, chance) == pytest.approx(expected, rel=1e-12)


# --- names that several classes have -------------------------------------------------------------------------------------


def test_doubled_names_count_as_one() -> None:
    labels = ("crane", "dog", "crane", "cat")
    found = ask(folders(("cat", "crane", "dog"), each=2), labels, {})
    assert "several classes have one name: 'crane' (0, 2); accuracy counts them as one" in found.notes[0]
    logits = np.eye(4, dtype=np.float32)[[3, 3, 0, 2, 1, 1]]
    (merged,), wanted, names = comparable([logits], found.images, labels)
    assert names == ("crane", "dog", "cat")
    assert wanted is not None
    assert (merged.argmax(1) == wanted).all()


# --- a level too high or too low ---------------------------------------------------------------------------------------------


def tree(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    return root


NAMED, UNNAMED = ("cat", "dog"), numbers(2)


@pytest.mark.parametrize("labels", [NAMED, UNNAMED], ids=["named", "unnamed"])
def test_a_level_too_high(labels: tuple[str, ...], tmp_path: Path) -> None:
    tree(tmp_path, *(f"{split}/{name}/1.png" for split in ("calib", "test") for name in ("cat", "dog")))
    (tmp_path / "cells.edgevit" / "parts").mkdir(parents=True)  # what holds no images does not count
    with pytest.raises(DataError) as caught:
        check_level(load_images(tmp_path), labels)
    assert str(caught.value) == (
        f"{tmp_path}: calib, test are no classes of the model, but hold its classes: "
        f"did you mean --data {tmp_path / 'calib'} or --data {tmp_path / 'test'}?"
    )
    assert check_level(load_images(tmp_path / "calib"), labels) == []


def test_a_level_too_high_beside_other_files(tmp_path: Path) -> None:
    """As Kaggle packs it: the test set has no labels."""
    tree(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/1.png")
    with pytest.raises(DataError, match=r"train is no class of the model, but holds its classes: did you mean --data .*train\?"):
        check_level(load_images(tmp_path), NAMED)


def test_one_class_alone(tmp_path: Path) -> None:
    tree(tmp_path, "calib/cat/1.png", "calib/dog/1.png")
    images = load_images(tmp_path / "calib" / "cat")
    with pytest.raises(DataError, match=rf"the images of one class, .* dog: did you mean --eval-data {tmp_path / 'calib'}\?"):
        check_level(images, NAMED, "--eval-data")
    (note,) = check_level(images, UNNAMED)  # two folders may be anything: a guess
    assert "If it is one of them, did you mean --data" in note


@pytest.mark.parametrize("files", [
    ("cat/1.png", "dog/1.png"), ("cat/a/1.png", "cat/b/1.png", "dog/a/1.png", "dog/b/1.png"), ("1.png", "2.png"),
    ("cat/cat/1.png", "cat/dog/1.png", "dog/1.png"), ("fox/1.png", "owl/1.png"),
])  # fmt: skip
def test_other_folders_are_left_alone(files: tuple[str, ...], tmp_path: Path) -> None:
    assert check_level(load_images(tree(tmp_path / "set", *files)), NAMED) == []
