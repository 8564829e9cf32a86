"""Bundles that were made to do harm: paths that escape, links, pipes, floods, and zips that mean two things."""

from __future__ import annotations

import json
import os
import resource
import shutil
import stat
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgevit.bundle import MANIFEST, MODEL, is_bundle, open_bundle
from edgevit.errors import BundleError

GIB = 2**30


@pytest.fixture
def folder(bundle_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_path, tmp_path / "b.edgevit"))


@pytest.fixture
def zipped(folder: Path) -> Callable[..., Path]:
    """Makes a zip of the bundle with further members, and a manifest that ``change`` has changed."""

    def make(*more: tuple[zipfile.ZipInfo | str, bytes], change: Callable[[dict[str, Any]], None] | None = None) -> Path:
        path = folder.with_name("b.zip")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.iterdir()):
                content = file.read_bytes()
                if file.name == MANIFEST and change:
                    content = changed(content, change)
                archive.writestr(file.name, content)
            for name, content in more:
                archive.writestr(name, content)
        return path

    return make


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """A flood ends in MemoryError, not in a machine that swaps."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + GIB, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def changed(manifest: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    data = json.loads(manifest)
    change(data)
    return json.dumps(data).encode()


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    (folder / MANIFEST).write_bytes(changed((folder / MANIFEST).read_bytes(), change))
    return folder


def refused(path: Path) -> str:
    """The one line for it, soon."""
    start = time.monotonic()
    with pytest.raises(BundleError) as caught:
        open_bundle(path).verify()
    assert time.monotonic() - start < 20
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


# --- names -----------------------------------------------------------------------------------------------------------

ESCAPES = (
    "../x", "a/../../x", "/etc/passwd", "..", ".", "", "sub/model.onnx", "..\\x", "C:\\x", "C:x", "model.onnx\0.txt", "a\nb",
    ".hidden", "-rf", "~root", "nul\u202egpj.onnx", "x" * 101, MANIFEST, f"{MANIFEST}.sig", "MANIFEST.JSON/..",
)  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES, ids=repr)
def test_names_in_the_manifest(name: str, folder: Path) -> None:
    """Not even with the right hash of what lies there."""
    edit(folder, lambda data: data["files"].update({name: data["files"][MODEL]}))
    assert "names a file outside the bundle" in refused(folder)


@pytest.mark.parametrize("name", ["../x", "/etc/cron.d/x", "b/../../x", "..\\x", "C:/x", "other.onnx\0.txt"], ids=repr)
def test_names_in_the_zip(name: str, zipped) -> None:
    """Nothing is ever unpacked; but somebody may unzip what edgevit had called good."""
    info = zipfile.ZipInfo("placeholder")
    info.filename = info.orig_filename = name
    assert "names a file outside the bundle" in refused(zipped((info, b"x")))


def test_case_tricks(folder: Path, zipped) -> None:
    """Two files on one system, one on another."""
    assert "two of the zip's files have one name" in refused(zipped(("MODEL.ONNX", b"x")))
    edit(folder, lambda data: data["files"].update({"Model.onnx": data["files"][MODEL]}))
    assert "differ in case only" in refused(folder)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", [MANIFEST, MODEL])
def test_two_of_one_name(name: str, zipped) -> None:
    """Readers differ in which one they take: one that checks and one that runs must not."""
    assert "two of the zip's files have one name" in refused(zipped((name, b"{}")))


def test_too_many_files(folder: Path) -> None:
    edit(folder, lambda data: data["files"].update({f"f{number}": data["files"][MODEL] for number in range(100)}))
    assert "names more than 64 files" in refused(folder)


# --- what is no file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [MANIFEST, MODEL])
@pytest.mark.parametrize("kind", ["link out", "link to nothing", "link to itself", "pipe", "zeros", "folder"])
def test_no_regular_file(kind: str, name: str, folder: Path) -> None:
    """A link leads out of the bundle, a pipe never ends, and /dev/zero neither."""
    path, content = folder / name, (folder / name).read_bytes()
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        outside = folder.with_name("outside")
        outside.write_bytes(content)  # the very bytes: the hash would match
        path.symlink_to({"link out": outside, "link to itself": path, "zeros": Path("/dev/zero")}.get(kind, "nothing"))
    message = refused(folder)
    assert f"{name} cannot be read" in message or "this folder is no bundle" in message


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_link_in_a_zip(kind: int, zipped) -> None:
    """unzip would make it."""
    info = zipfile.ZipInfo("shadow")
    info.external_attr = (kind | 0o777) << 16
    assert "is a link or a device" in refused(zipped((info, b"/etc/shadow")))


def test_bundle_that_is_a_link_is_fine(folder: Path) -> None:
    """The user's own path may be one: a link to the newest bundle is how devices are updated."""
    link = folder.with_name("current.edgevit")
    link.symlink_to(folder)
    open_bundle(link).verify()


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_path_that_is_no_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "b.edgevit"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    assert "neither a folder nor a complete zip" in refused(path)
    assert not is_bundle(path)


# --- floods ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "message"),
    [(4 * GIB + 1, "expected int <= 4294967296"), (2**62, "expected int <= 4294967296"), (10**30, "a number of 31 digits")],
)
def test_sizes_are_bounded_before_reading(size: int, message: str, folder: Path) -> None:
    edit(folder, lambda data: data["files"][MODEL].update(bytes=size))
    assert message in refused(folder)


def test_huge_model_in_a_folder(folder: Path) -> None:
    """A sparse terabyte where a small model should be: read no further than the model's own size."""
    with (folder / MODEL).open("r+b") as stream:
        stream.truncate(2**40)
    assert "is not the file that was built" in refused(folder)


def claims(size: int) -> Callable[[dict[str, Any]], None]:
    """A manifest that names ``more.bin``, of ``size`` bytes."""
    return lambda data: data["files"].update({"more.bin": {"sha256": "0" * 64, "bytes": size}})


def test_bomb_in_a_zip(zipped) -> None:
    """200 MB from 200 kB; the manifest says so, too, and still."""
    size = 200 * 10**6
    path = zipped(("more.bin", bytes(size)), change=claims(size))
    assert path.stat().st_size < 10**7
    assert "made to flood" in refused(path)


def test_bomb_that_lies_about_its_size(zipped) -> None:
    """The header says 10 bytes, the stream holds 60 MB: no more is unpacked than the manifest allows."""
    path = zipped(("more.bin", bytes(60 * 10**6)), change=claims(10))
    content = bytearray(path.read_bytes())
    at = content.rfind(b"more.bin") - 46  # in the central directory
    assert content[at : at + 4] == b"PK\1\2"
    content[at + 24 : at + 28] = struct.pack("<I", 10)
    path.write_bytes(content)
    refused(path)


def test_oversized_manifest(folder: Path, zipped) -> None:
    (folder / MANIFEST).write_bytes(b" " * (17 * 2**20))
    assert "over 16777216 bytes" in refused(folder)
    assert "over 16777216 bytes" in refused(zipped())


@pytest.mark.parametrize(
    "text", [b"[" * 10**6, b'{"a":' * 10**6, b"1" * 10**7, b'{"schema": 1' + b"0" * 10**6 + b"}"], ids=range(4)
)
def test_manifest_that_is_hard_to_parse(text: bytes, folder: Path) -> None:
    (folder / MANIFEST).write_bytes(text)
    assert "not a valid manifest" in refused(folder)


def test_zip_with_a_huge_directory(tmp_path: Path) -> None:
    """zipfile would read all of it before a single name is looked at."""
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{number:060d}", b"")
    assert "its directory is over 1048576 bytes" in refused(path)


def test_zip_with_a_hidden_huge_directory(zipped) -> None:
    """The plain record says little, the one of the 64-bit form says much: zipfile believes the second."""
    path = zipped()
    content = path.read_bytes()
    end = content.rfind(b"PK\5\6")
    record = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 2**40, 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    path.write_bytes(content[:end] + record + locator + content[end:])
    assert "its directory is over 1048576 bytes" in refused(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_uncommon_packing(method: int, zipped) -> None:
    """Two unpackers fewer that could be at fault."""
    info = zipfile.ZipInfo("more.bin")
    info.compress_type = method
    assert "packed in an uncommon way" in refused(zipped((info, b"x" * 100)))


def test_what_is_good_stays_good(folder: Path, zipped) -> None:
    """The same bundle, whole, is still opened in both forms, with strangers' files beside its own."""
    (folder / "notes.txt").write_text("mine")
    open_bundle(folder).verify()
    open_bundle(zipped()).verify()
