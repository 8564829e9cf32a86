"""Folders and arrays of images: what is found, how it is labelled and split, and what bad data gets."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgevit.errors import DataError
from edgevit.images.dataset import SUFFIXES, ImageSet, load_images, read_image
from edgevit.preprocess import Preprocessing, prepare

CONTRACT = Preprocessing(size=(6, 6), resize=(6, 6))


def write(path: Path, level: int = 100, size: tuple[int, int] = (8, 10)) -> Path:
    """An image file of one grey level, and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix, pixels = path.suffix.lower(), np.full((*size, 3), level, np.uint8)
    if suffix in (".jfif", ".jif"):
        suffix = ".jpg"
    if suffix in (".pgm", ".pbm"):
        pixels = pixels[..., 0]
    path.write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())
    return path


def labelled(folder: Path, counts: dict[str, int]) -> ImageSet:
    """``counts[c]`` images in ``folder/c``, all different."""
    for position, (name, count) in enumerate(counts.items()):
        for i in range(count):
            write(folder / name / f"{i}.png", level=10 * position + i)
    return load_images(folder)


def npz(path: Path, **arrays: Any) -> Path:
    with path.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    return path


def rgb(count: int = 4, shape: tuple[int, ...] = (8, 10, 3), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def refusal(path: Path) -> str:
    """The message of the DataError for ``path``: one line that names it."""
    with pytest.raises(DataError) as caught:
        list(load_images(path).prepared(CONTRACT))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


# --- folders -----------------------------------------------------------------------------------------------------------


def test_class_per_subfolder(tmp_path: Path) -> None:
    """Classes are sorted as torchvision's ImageFolder sorts them, and named by the first folder however deep files lie."""
    for name in ("dog/1.png", "cat/2.png", "cat/deep/er/3.png", "Zebra/4.png"):
        write(tmp_path / name)
    images = load_images(tmp_path)
    assert images.class_names == ("Zebra", "cat", "dog")
    assert dict(zip(images.names, images.targets or (), strict=True)) == {
        "Zebra/4.png": 0, "cat/2.png": 1, "cat/deep/er/3.png": 1, "dog/1.png": 2,
    }  # fmt: skip


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    write(tmp_path / "b.png", 2)
    write(tmp_path / "a.png", 1)
    images = load_images(tmp_path)
    assert (images.names, images.targets, images.class_names) == (("a.png", "b.png"), None, ())
    assert [int(images.frame(i)[0, 0, 0]) for i in range(len(images))] == [1, 2]


def test_files_beside_folders_leave_no_labels(tmp_path: Path) -> None:
    """A mixed folder is no labelled set: the loose file belongs to no class."""
    write(tmp_path / "cat" / "1.png")
    write(tmp_path / "loose.png")
    images = load_images(tmp_path)
    assert (len(images), images.targets) == (2, None)
    assert images.targets_for(["cat"]) is None


def test_names_of_every_kind(tmp_path: Path) -> None:
    """Unicode, spaces and uppercase suffixes are names like others; OpenCV's own file reading would refuse some."""
    for name in ("ñandú 1/模型 é.PNG", "ñandú 1/a b.Jpeg", "emu/x.y.z.bmp"):
        write(tmp_path / "data set" / name)
    images = load_images(tmp_path / "data set")
    assert images.class_names == ("emu", "ñandú 1")
    assert next(images.prepared(CONTRACT, batch=8)).shape == (3, 6, 6, 3)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_listed_suffix_is_read(suffix: str, tmp_path: Path) -> None:
    write(tmp_path / f"a{suffix}", level=100)
    frame = load_images(tmp_path).frame(0)
    assert (frame.shape, frame.dtype) == ((8, 10, 3), np.uint8)
    assert abs(int(frame[4, 5, 0]) - (255 if suffix == ".pbm" else 100)) <= 2


def test_torchvisions_suffixes_are_read() -> None:
    """torchvision.datasets.folder.IMG_EXTENSIONS of 0.28.0."""
    assert {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"} <= set(SUFFIXES)


def test_what_looks_like_an_image_is_counted(tmp_path: Path) -> None:
    """A class of nothing else would vanish without a word."""
    write(tmp_path / "cat" / "1.png")
    for name in ("dog/1.heic", "dog/2.HEIC", "cat/3.gif", "cat/notes.txt", ".x/4.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    images = load_images(tmp_path)
    assert (images.class_names, images.folders) == (("cat",), ("cat", "dog"))
    assert images.left_out == (
        f"{tmp_path}: 3 files that look like images are left out (2 .heic, 1 .gif); nothing else lies in dog. "
        "Convert to PNG or JPEG to use them"
    )
    assert images.subset([0]).left_out == images.left_out


def test_other_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    """Notes, folders that are called like an image, and links to nothing."""
    write(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert load_images(tmp_path).names == ("a.png",)


def test_hidden_files_and_folders_are_no_images(tmp_path: Path) -> None:
    """macOS puts ``._1.png`` beside files it copies; notebooks and viewers keep hidden folders of previews."""
    write(tmp_path / "cat" / "1.png")
    (tmp_path / "cat" / "._1.png").write_bytes(b"\0\5\x16\7 Mac OS X")
    write(tmp_path / ".ipynb_checkpoints" / "1-checkpoint.png")
    images = load_images(tmp_path)
    assert (images.names, images.class_names) == (("cat/1.png",), ("cat",))


def test_a_hidden_folder_above_is_the_users_choice(tmp_path: Path) -> None:
    write(tmp_path / ".cache" / "cat" / "1.png")
    assert load_images(tmp_path / ".cache").class_names == ("cat",)


@pytest.mark.parametrize(("pixels", "expected"), [
    (np.full((4, 4), 50, np.uint8), 50),
    (np.full((4, 4, 4), 50, np.uint8), 50),
    (np.full((4, 4, 3), 50 * 257, np.uint16), 50),
], ids=["gray", "alpha", "16 bit"])  # fmt: skip
def test_every_kind_of_png_becomes_8_bit_bgr(pixels: np.ndarray, expected: int, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    frame = read_image(tmp_path / "a.png")
    assert (frame.shape, frame.dtype) == ((4, 4, 3), np.uint8)
    assert (frame == expected).all()


# --- bad folders and files -----------------------------------------------------------------------------------------------


def test_missing_folder(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none")


def test_a_file_that_is_no_npz(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    assert "is not a folder or an .npz" in refusal(tmp_path / "a.txt")
    assert f"this is one image. Give the folder that it lies in: {tmp_path}" in refusal(write(tmp_path / "a.png"))


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert "no images in this folder (looked for .bmp, .jfif" in refusal(tmp_path)
    (tmp_path / "1.avif").write_bytes(b"x")
    assert "1 file that looks like an image is left out (1 .avif)" in refusal(tmp_path)


def test_unreadable_images_are_named(tmp_path: Path) -> None:
    for name, content in (("empty.png", b""), ("text.jpg", b"not an image at all"), ("zeros.webp", bytes(5000))):
        path = tmp_path / name
        path.write_bytes(content)
        assert f"not a readable image ({len(content)} bytes)" in refusal(tmp_path)
        with pytest.raises(DataError, match=r"1 of 1 images cannot be read: .*Remove or replace it"):
            load_images(tmp_path).check()
        with pytest.raises(DataError, match=name):
            read_image(path)
        path.unlink()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif"])
def test_truncated_images_are_named(suffix: str, tmp_path: Path) -> None:
    """Half a file, as an interrupted copy leaves it: half a picture would be calibrated on in silence."""
    encoded = cv2.imencode(suffix, rgb(1, (64, 64, 3))[0])[1].tobytes()
    (tmp_path / f"half{suffix}").write_bytes(encoded[: len(encoded) // 2])
    assert f"half{suffix}: not a readable image" in refusal(tmp_path)


def test_all_bad_images_are_named_at_once(tmp_path: Path) -> None:
    """Ten of them, and how many there are; whole ones are not decoded for it."""
    for i in range(20):
        path = write(tmp_path / f"{i:02}.jpg", level=i)
        if i % 5:
            path.write_bytes(path.read_bytes()[:-5])
    os.mkfifo(tmp_path / "pipe.png")  # `find_images` passes it over
    steps: list[int] = []
    with pytest.raises(DataError) as caught:
        load_images(tmp_path).check(lambda: steps.append(1))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: 16 of 20 images cannot be read: 01.jpg (cut off or damaged), 02.jpg")
    assert message.endswith("12.jpg (cut off or damaged) and 6 more. Remove or replace them.")
    assert len(steps) == 20


def bomb(path: Path, width: int, height: int) -> Path:
    """A PNG of a few hundred bytes whose header claims this size."""
    ok = cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes()
    header = ok[12:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + ok[24:29]
    path.write_bytes(ok[:12] + header + zlib.crc32(header).to_bytes(4, "big") + ok[33:])
    return path


@pytest.mark.parametrize(("width", "height", "said"), [
    (32000, 32000, "32000x32000 pixels, more than 134,217,728"),
    (40000, 40000, "40000x40000 pixels"),
    (2**31 - 1, 2**31 - 1, "2147483647x2147483647 pixels"),
    (1_100_000, 40, "a side of more than 1,048,576"),
])  # fmt: skip
def test_an_image_that_claims_gigabytes_is_refused(width: int, height: int, said: str, tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.png", width, height)
    with pytest.raises(DataError, match=said):
        read_image(path)
    with pytest.raises(DataError, match=said):
        load_images(tmp_path).check()


def test_pipes_and_devices_are_no_images(tmp_path: Path) -> None:
    """Opening a pipe would wait for ever; a device never ends."""
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match="no regular file"):
        read_image(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="no regular file"):
        read_image(tmp_path / "b.png")


def test_what_a_file_is_counts_not_its_name(tmp_path: Path) -> None:
    """A WebP called .jpg is read; a picture of no kind that is known is not handed to a decoder."""
    encoded = cv2.imencode(".webp", np.full((8, 10, 3), 100, np.uint8))[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(encoded)
    assert read_image(tmp_path / "a.jpg").shape == (8, 10, 3)
    (tmp_path / "b.jpg").write_bytes(cv2.imencode(".ras", np.full((8, 10, 3), 100, np.uint8))[1].tobytes())
    with pytest.raises(DataError, match="not a readable image"):
        read_image(tmp_path / "b.jpg")


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    """Files from an old disk: read, and their digest taken."""
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)  # noqa: PTH102 (a path of bytes)
    write(tmp_path / "a.png").rename(os.fsdecode(folder + b"/\xff.png"))
    images = load_images(tmp_path)
    assert images.class_names == ("caf\ufffd",)
    assert len(images.digest()) == 64
    assert images.frame(0).shape == (8, 10, 3)


def test_image_that_vanishes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png")
    images = load_images(tmp_path)
    path.unlink()
    for ask in (images.frame, images.fingerprint):
        with pytest.raises(DataError, match=r"a\.png: cannot read this image: No such file"):
            ask(0)


# --- arrays --------------------------------------------------------------------------------------------------------------


def test_npz_is_rgb_and_frames_are_bgr(tmp_path: Path) -> None:
    stored = rgb()
    images = load_images(npz(tmp_path / "a.npz", images=stored))
    assert (images.names, images.targets) == (("0", "1", "2", "3"), None)
    assert np.array_equal(images.frame(2), stored[2, :, :, ::-1])


@pytest.mark.parametrize("shape", [(8, 10), (8, 10, 1)], ids=str)
def test_npz_gray(shape: tuple[int, ...], tmp_path: Path) -> None:
    stored = rgb(shape=shape)
    frame = load_images(npz(tmp_path / "a.npz", images=stored)).frame(1)
    assert np.array_equal(frame, stored[1].reshape(8, 10, 1).repeat(3, axis=2))


def test_npz_labels_and_classes(tmp_path: Path) -> None:
    labels = np.array([2, 0, 0, 1], np.int64)
    images = load_images(npz(tmp_path / "A.NPZ", images=rgb(), labels=labels, classes=np.array(["a", "b", "ç"])))
    assert (images.targets, images.class_names) == ((2, 0, 0, 1), ("a", "b", "ç"))
    assert load_images(npz(tmp_path / "b.npz", images=rgb(), labels=labels)).class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"pictures": rgb()}, "and is missing"),
        ({"images": rgb().astype(np.float32)}, "and is float32"),
        ({"images": rgb(0)}, r"and is uint8 (0, 8, 10, 3)"),
        ({"images": rgb()[0, 0]}, "and is uint8 (10, 3)"),
        ({"images": rgb(shape=(3, 8, 10))}, "1 or 3 channels last"),
        ({"images": np.array([rgb()], object)}, "not a readable .npz"),
        ({"images": rgb(), "labels": np.arange(3)}, "4 integers from 0"),
        ({"images": rgb(), "labels": np.arange(4) - 1}, "4 integers from 0"),
        ({"images": rgb(), "labels": np.arange(4.0)}, "4 integers from 0"),
        ({"images": rgb(), "labels": 2 * np.eye(4, dtype=int)}, "must be 0 and 1, [4, classes]"),
        ({"images": rgb(), "labels": np.arange(4), "classes": np.array(["a", "b"])}, "label 3 has no name"),
        ({"images": rgb(), "labels": np.arange(4), "classes": np.array(["a", None], object)}, "not a readable .npz"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_npz_of_another_form_is_refused(arrays: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in refusal(npz(tmp_path / "a.npz", **arrays))


def test_npz_that_claims_too_much_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    """133 million images of one pixel in 400 kB, zeros that shrink a thousandfold, and a header that lies."""
    assert "no images shrink so far" in refusal(npz(tmp_path / "a.npz", images=np.zeros((4000, 200, 200), np.uint8)))
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive, archive.open("images.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"shape": (10**12, 3, 3), "fortran_order": False, "descr": "|u1"})
    assert "is shorter than its shape" in refusal(tmp_path / "b.npz")
    many = np.random.default_rng(0).integers(0, 256, (2**21 + 1, 1, 1), np.uint8)
    assert "more than 2,097,152" in refusal(npz(tmp_path / "c.npz", images=many))
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive, archive.open("images.npy", "w") as member:
        member.write(b"\x93NUMPY\x01\x00\x08\x00((((((((")
    assert "not a readable .npz" in refusal(tmp_path / "d.npz")


@pytest.mark.parametrize("classes", [np.array("cat"), np.array([["a", "b"]]), np.array([0.5, 1.5])], ids=str)
def test_npz_classes_must_be_a_list_of_names(classes: np.ndarray, tmp_path: Path) -> None:
    labels = np.array([0, 1, 0, 1])
    assert "'classes' must be a list of names" in refusal(npz(tmp_path / "a.npz", images=rgb(), labels=labels, classes=classes))


def test_npz_is_not_copied_by_its_parts(tmp_path: Path) -> None:
    images = load_images(npz(tmp_path / "a.npz", images=rgb(50, (8, 10))))
    chosen, others = images.split(10, seed=0)
    assert chosen.array is others.array is images.array
    again = others.subset([3, 1])
    assert np.array_equal(again.frame(1), images.frame(int(again.names[1])))


def test_npz_object_arrays_are_never_unpickled(tmp_path: Path) -> None:
    """A pickle runs code when it is read."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    refusal(npz(tmp_path / "a.npz", images=np.array([Trap()], object)))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_truncated_npz(keep: float, tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", images=rgb(50))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    assert "not a readable .npz" in refusal(path)


def test_damaged_npz(tmp_path: Path) -> None:
    """A flipped byte in the compressed data, wherever it is."""
    path = npz(tmp_path / "a.npz", images=rgb(2) // 64)
    content = path.read_bytes()
    positions = range(80, content.index(b"PK\1\2"), 3)
    assert len(positions) > 30
    for position in positions:
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        assert "not a readable .npz" in refusal(path)


@pytest.mark.parametrize("content", ["npy", "text", "zip"])
def test_other_files_called_npz(content: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with path.open("wb") as stream:
        if content == "npy":
            np.save(stream, rgb())
        elif content == "text":
            stream.write(b"hello")
        else:
            with zipfile.ZipFile(stream, "w") as archive:
                archive.writestr("images.npy", b"hello")
    refusal(path)


# --- batches and subsets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3, 4, 100])
def test_prepared_is_prepare_of_every_frame_in_order(batch: int, tmp_path: Path) -> None:
    images = load_images(npz(tmp_path / "a.npz", images=rgb(7)))
    batches = list(images.prepared(CONTRACT, batch))
    assert [len(part) for part in batches] == [min(batch, 7 - start) for start in range(0, 7, batch)]
    expected = np.stack([prepare(images.frame(i), CONTRACT) for i in range(7)])
    assert np.array_equal(np.concatenate(batches), expected)


def test_subset_keeps_images_labels_and_order(tmp_path: Path) -> None:
    stored = rgb()
    both = (
        load_images(npz(tmp_path / "a.npz", images=stored, labels=np.arange(4))),
        labelled(tmp_path / "folder", {"a": 2, "b": 2}),
    )
    for images in both:
        part = images.subset([3, 1])
        assert part.names == (images.names[3], images.names[1])
        assert images.targets is not None
        assert part.targets == (images.targets[3], images.targets[1])
        assert np.array_equal(part.frame(1), images.frame(1))
        assert part.class_names == images.class_names
        assert len(images.subset([])) == 0


# --- split -----------------------------------------------------------------------------------------------------------------


def test_split_takes_every_class_in_turn(tmp_path: Path) -> None:
    """Rare classes are seen first; a large class fills what is left."""
    images = labelled(tmp_path, {"many": 9, "few": 2, "one": 1})
    chosen, others = images.split(7, seed=0)
    assert Counter(images.class_names[target] for target in chosen.targets or ()) == {"many": 4, "few": 2, "one": 1}
    assert set(chosen.names) | set(others.names) == set(images.names)
    assert not set(chosen.names) & set(others.names)


def test_split_is_decided_by_its_seed(tmp_path: Path) -> None:
    images = labelled(tmp_path, {"a": 9, "b": 9})
    assert images.split(4, seed=0) == images.split(4, seed=0)
    assert len({images.split(4, seed=seed)[0].names for seed in range(5)}) > 1


def test_split_without_labels_is_random(tmp_path: Path) -> None:
    images = load_images(npz(tmp_path / "a.npz", images=rgb(50)))
    chosen, others = images.split(10, seed=0)
    assert (len(chosen), len(others)) == (10, 40)
    assert sorted(map(int, chosen.names + others.names)) == list(range(50))
    assert list(map(int, chosen.names)) != list(range(10))


def test_split_of_all_or_more_leaves_nothing(tmp_path: Path) -> None:
    images = labelled(tmp_path, {"a": 2, "b": 3})
    for count in (5, 6, 1000):
        chosen, others = images.split(count, seed=0)
        assert (len(chosen), len(others)) == (5, 0)
    assert [len(part) for part in images.split(0, seed=0)] == [0, 5]


# --- labels of a model ---------------------------------------------------------------------------------------------------------


def with_classes(*names: str) -> ImageSet:
    """One image of each class; nothing is decoded."""
    return ImageSet(source="", names=names, class_names=names, targets=tuple(range(len(names))))


@pytest.mark.parametrize(
    ("folders", "labels", "expected"),
    [
        (("cat", "dog"), ("dog", "cat"), [1, 0]),
        (("cat",), ("dog", "cat", "emu"), [1]),
        (("cat", "cow"), ("dog", "cat"), None),
        (("cat", "dog"), ("0", "1"), [0, 1]),
        (("cat", "dog"), ("LABEL_0", "LABEL_1"), [0, 1]),
        (("cat", "dog"), ("0", "1", "2"), None),
        (("cat", "dog", "emu"), ("0", "1"), None),
        (("1", "10", "2"), tuple(map(str, range(11))), [1, 10, 2]),
        (("Cat", "golden_retriever"), ("golden retriever", "cat"), [1, 0]),
        (("cafe\u0301",), ("caf\u00e9", "bar"), [0]),
        (("crane", "dog"), ("crane", "dog", "crane"), [0, 1]),
        (("n01", "n02"), ("tench", "goldfish"), None),
    ],
)
def test_targets_for(folders: tuple[str, ...], labels: tuple[str, ...], expected: list[int] | None) -> None:
    """By name; else by position, if the model's labels are only numbers and as many."""
    targets = with_classes(*folders).targets_for(labels)
    assert (None if targets is None else targets.tolist()) == expected


def test_targets_for_gives_int64_per_image(tmp_path: Path) -> None:
    targets = labelled(tmp_path, {"a": 2, "b": 1}).targets_for(["b", "a"])
    assert targets is not None
    assert (targets.dtype, targets.tolist()) == (np.int64, [1, 1, 0])


def test_numbered_folders_keep_their_numbers() -> None:
    """Sorted as text, folder 10 stands before folder 2; the model's LABEL_10 is still class 10."""
    targets = with_classes(*sorted(map(str, range(12)))).targets_for([f"LABEL_{i}" for i in range(12)])
    assert targets is not None
    assert targets.tolist() == [int(name) for name in sorted(map(str, range(12)))]


# --- identity ------------------------------------------------------------------------------------------------------------------


def test_digest_notices_content_names_order_and_number(tmp_path: Path) -> None:
    images = labelled(tmp_path, {"a": 3})
    digests = {
        images.digest(), images.subset([0, 1]).digest(), images.subset([1, 0, 2]).digest(), images.subset([]).digest(),
    }  # fmt: skip
    write(tmp_path / "a" / "1.png", level=99)
    digests.add(load_images(tmp_path).digest())
    (tmp_path / "a" / "1.png").rename(tmp_path / "a" / "1b.png")
    digests.add(load_images(tmp_path).digest())
    assert len(digests) == 6
    assert load_images(tmp_path).digest() == load_images(tmp_path).digest()


def test_digest_does_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    assert labelled(tmp_path / "x", {"a": 2}).digest() == labelled(tmp_path / "y", {"a": 2}).digest()


def test_array_fingerprint_notices_content_and_shape(tmp_path: Path) -> None:
    """The same bytes as a wide and as a tall image are two images."""
    stored = rgb(2, (4, 6, 3))
    wide, tall = (load_images(npz(tmp_path / f"{i}.npz", images=x)) for i, x in enumerate((stored, stored.reshape(2, 6, 4, 3))))
    assert wide.fingerprint(0) != wide.fingerprint(1)
    assert np.array_equal(wide.frame(0)[..., ::-1].ravel(), tall.frame(0)[..., ::-1].ravel())
    flat = load_images(npz(tmp_path / "flat.npz", images=stored[..., 0]))
    high = load_images(npz(tmp_path / "high.npz", images=stored[..., 0].reshape(2, 6, 4)))
    assert wide.fingerprint(0) != tall.fingerprint(0)
    assert flat.fingerprint(0) != high.fingerprint(0)


# --- samples to evaluate on ----------------------------------------------------------------------------------------------------

UNEVEN = {"ok": 244, "minor": 48, "major": 23, "defect": 129, "poly-ok": 355, "poly-minor": 60, "poly-major": 15, "poly": 150}
"""Images per class of a real test set of solar cells (elpv-dataset)."""


def uneven(counts: dict[str, int] = UNEVEN) -> ImageSet:
    """``counts[c]`` images of class c, all different, of two pixels."""
    names = tuple(f"{label}/{i}.png" for label in sorted(counts) for i in range(counts[label]))
    targets = tuple(i for i, label in enumerate(sorted(counts)) for _ in range(counts[label]))
    array = np.arange(len(names), dtype="<u8").view(np.uint8).reshape(-1, 1, 8)[..., :6].reshape(-1, 1, 2, 3)
    return ImageSet(source="cells", names=names, class_names=tuple(sorted(counts)), targets=targets, array=array)


def counts_of(images: ImageSet) -> dict[str, int]:
    assert images.targets is not None
    found = Counter(images.targets)
    return {label: found[i] for i, label in enumerate(images.class_names)}


@pytest.mark.parametrize("limit", [20, 200, 512, 1000])
def test_a_sample_has_the_classes_shares(limit: int) -> None:
    """Of every class as many as its share makes, give or take one."""
    images = uneven()
    sample = images.held_out(limit, 0, ())
    assert len(set(sample.names)) == len(sample) == limit
    for label, count in counts_of(sample).items():
        assert abs(count - UNEVEN[label] * limit / len(images)) < 2, label
    assert (sample.population, sample.drawn) == (1024, "drawn in proportion to their classes, seed 0")


def test_every_image_is_as_likely_to_be_drawn() -> None:
    """Also those of the smallest classes: over 400 seeds each of 60 images is in about half of the samples of 30."""
    images = uneven({"a": 1, "b": 2, "c": 7, "d": 50})
    seen = Counter(name for seed in range(400) for name in images.held_out(30, seed, ()).names)
    assert len(seen) == 60
    assert all(150 <= count <= 250 for count in seen.values()), seen


def test_the_sample_tells_the_sets_accuracy() -> None:
    """A model that is right by class: its top-1 of the whole is that of samples of 200 to two points; class by class, not."""
    images = uneven()
    right = dict(zip(sorted(UNEVEN), (0.9, 0.2, 0.3, 0.8, 0.9, 0.2, 0.1, 0.85), strict=True))

    def accuracy(sample: ImageSet) -> float:
        return sum(right[label] * count for label, count in counts_of(sample).items()) / len(sample)

    whole = accuracy(images)
    assert max(abs(accuracy(images.held_out(200, seed, ())) - whole) for seed in range(20)) < 0.02
    assert abs(accuracy(images.split(200, 0)[0]) - whole) > 0.1


def test_what_calibration_took_does_not_bend_the_shares() -> None:
    """64 images of calibration, eight of every class: the sample still has the whole's shares, and none of those images."""
    images = uneven()
    used = images.split(64, 0)[0].fingerprints()
    sample = images.held_out(200, 0, used)
    assert not used & sample.fingerprints()
    for label, count in counts_of(sample).items():
        assert abs(count - UNEVEN[label] * 200 / 1024) < 2, label
    assert sample.drawn == "drawn in proportion to their classes, seed 0"


def test_a_class_that_calibration_used_up_is_named() -> None:
    images = uneven({"a": 60, "b": 30, "c": 8})
    used = images.split(24, 0)[0].fingerprints()
    sample = images.held_out(1000, 0, used)
    assert counts_of(sample) == {"a": 52, "b": 22, "c": 0}
    assert sample.drawn == (
        "all that no model was fitted to; c is 0.0 % of these and 8.2 % of all images, because others of it were fitted to"
    )


def test_the_whole_set_is_no_sample() -> None:
    sample = uneven().held_out(1024, 0, ())
    assert (len(sample), sample.population, sample.drawn) == (1024, 0, "")


def test_unlabelled_images_are_drawn_at_random() -> None:
    images = ImageSet(source="x", names=tuple(map(str, range(50))), class_names=(), targets=None)
    sample = images.held_out(10, 3, ())
    assert (len(set(sample.names)), sample.drawn) == (10, "drawn at random, seed 3")


def test_a_sample_divided_stays_in_proportion() -> None:
    one, other = uneven().held_out(800, 0, ()).divide(400, 0)
    assert not set(one.names) & set(other.names)
    for part in (one, other):
        assert (len(part), part.population) == (400, 1024)
        assert all(abs(count - UNEVEN[label] * 400 / 1024) <= 2.5 for label, count in counts_of(part).items())


def test_images_to_prune_on_begin_with_those_of_calibration() -> None:
    """And the others leave the rest its shares: of the smallest class no more is taken, where in turns all would be."""
    images = uneven()
    chosen, calibration = images.to_fit(512, 64, 0), images.split(64, 0)[0]
    assert (len(set(chosen.names)), chosen.names[:64]) == (512, calibration.names)
    assert counts_of(chosen)["poly-major"] == 8
    assert counts_of(images.split(512, 0)[0])["poly-major"] == 15
    assert len(images.to_fit(10, 64, 0)) == 64
