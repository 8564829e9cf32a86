"""The artefact: what is written is what is read, nothing half-written stays, nothing damaged is believed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgevit import bundle as bundle_module
from edgevit.bundle import (
    MANIFEST,
    MODEL,
    REPORT,
    FileEntry,
    Manifest,
    is_bundle,
    open_bundle,
    write_bundle,
)
from edgevit.errors import BundleError, StorageError
from edgevit.files import writing
from edgevit.files.writing import require_writable
from edgevit.preprocess import Preprocessing
from tests.support import small_graph

FILES = {MODEL: small_graph((32, 32), 3), REPORT: b'{"layers": []}\n'}

MODEL_FACTS = {"image_size": [32, 32], "patch_size": 8, "width": 32, "head_dim": 16, "blocks": [{"heads": 2, "hidden": 64}],
               "classes": 3}  # fmt: skip
CONTRACT = {"size": [32, 32], "resize": [36, 36], "mode": "shortest"}


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        name="tiny",
        family="timm",
        model=MODEL_FACTS,
        preprocessing=Preprocessing(size=(32, 32), resize=(36, 36), mode="shortest"),
        labels=("crème", "猫", "no"),
        precision="int8",
        blocks=({"qkv": "int8", "attention": "fp32"},),
        recipe={"name": "default"},
        target={"name": "cpu"},
        engine="openvino",
        accuracy={"int8": {"top1": 0.5}},
        provenance={"weights": {"file": "w.pt", "sha256": "0" * 64}},
        notes=("an assumption",),
        edgevit="0.1.0",
    )


@pytest.fixture(params=["folder", "zip"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a bundle is to be written: a folder, then a zip."""
    return tmp_path / "out" / ("tiny.zip" if request.param == "zip" else "tiny.edgevit")


def refusal(path: Path, name: str = MODEL) -> str:
    """The message of the BundleError for ``path``, on opening it or on reading ``name``: one line that names it."""
    with pytest.raises(BundleError) as caught:
        open_bundle(path).read(name)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change the manifest of a folder in place."""
    data = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    change(data)
    (path / MANIFEST).write_text(json.dumps(data), encoding="utf-8")
    return path


# --- writing and reading ---------------------------------------------------------------------------------------------


def test_what_is_written_is_read_again(path: Path, manifest: Manifest) -> None:
    """Folder and zip give back every byte and the whole manifest, tuples included."""
    written = write_bundle(path, manifest, FILES)
    opened = open_bundle(path)
    assert {name: opened.read(name) for name in opened.manifest.files} == FILES
    assert opened.manifest == written.manifest == replace(manifest, files=opened.manifest.files)
    assert opened.bytes == sum(map(len, FILES.values()))
    assert is_bundle(path)
    opened.verify()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["tiny.zip", "tiny.edgevit"])
def test_a_bundle_stays_what_it_is(path: Path, manifest: Manifest, name: str) -> None:
    """Replaced in its own form, whatever it was renamed to."""
    write_bundle(path, manifest, FILES)
    was_folder = path.is_dir()
    renamed = path.rename(path.parent / name)
    write_bundle(renamed, replace(manifest, name="newer"), FILES)
    assert renamed.is_dir() == was_folder
    assert open_bundle(renamed).manifest.name == "newer"


def test_hashes_are_those_of_sha256sum(path: Path, manifest: Manifest) -> None:
    """Anyone can check a bundle without edgevit."""
    import hashlib

    entry = write_bundle(path, manifest, FILES).manifest.files[MODEL]
    assert entry == FileEntry(sha256=hashlib.sha256(FILES[MODEL]).hexdigest(), bytes=len(FILES[MODEL]))


def test_zip_of_the_folder_is_a_bundle(tmp_path: Path, manifest: Manifest) -> None:
    """``zip -r tiny.zip tiny.edgevit`` puts everything under one folder; ``cd tiny.edgevit; zip -r`` does not."""
    folder = tmp_path / "tiny.edgevit"
    write_bundle(folder, manifest, FILES)
    for name, root in (("nested", tmp_path), ("flat", folder)):
        archive = shutil.make_archive(str(tmp_path / name), "zip", root, "tiny.edgevit" if root == tmp_path else None)
        assert is_bundle(archive)
        assert open_bundle(archive).read(MODEL) == FILES[MODEL]


def test_unicode_and_spaces_in_the_path(tmp_path: Path, manifest: Manifest) -> None:
    for name in ("модель 模型 é.edgevit", "модель 模型 é.zip"):
        path = tmp_path / "папка ü" / name
        write_bundle(path, manifest, FILES)
        assert open_bundle(path).manifest.labels == ("crème", "猫", "no")


def test_same_content_gives_the_same_zip(tmp_path: Path, manifest: Manifest) -> None:
    """No clock and no chance in the file: it can be signed, cached and compared."""
    for name in ("a.zip", "b.zip"):
        write_bundle(tmp_path / name, manifest, FILES)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_manifest_is_readable_json(tmp_path: Path, manifest: Manifest) -> None:
    """Labels stand as themselves, not as escapes."""
    write_bundle(tmp_path / "b", manifest, FILES)
    text = (tmp_path / "b" / MANIFEST).read_text(encoding="utf-8")
    assert "猫" in text
    assert json.loads(text)["files"][MODEL]["bytes"] == len(FILES[MODEL])


def test_unknown_file_gets_the_nearest_name(path: Path, manifest: Manifest) -> None:
    write_bundle(path, manifest, FILES)
    assert "Did you mean 'model.onnx'?" in refusal(path, "model.onx")


# --- writing safely --------------------------------------------------------------------------------------------------


def test_older_bundle_is_replaced(path: Path, manifest: Manifest) -> None:
    """The new one is whole: no file of the old one stays in it."""
    write_bundle(path, manifest, {**FILES, "old.bin": b"x"})
    write_bundle(path, replace(manifest, name="new"), {MODEL: FILES[MODEL]})
    opened = open_bundle(path)
    assert opened.manifest.name == "new"
    assert opened.read(MODEL) == FILES[MODEL]
    assert "old.bin" not in opened.manifest.files
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert path.is_file() or sorted(entry.name for entry in path.iterdir()) == [MANIFEST, MODEL]


def test_anything_else_is_left_alone(tmp_path: Path, manifest: Manifest) -> None:
    """A folder of photos, a text file or somebody's zip at the output path is never touched."""
    folder, text, archive = tmp_path / "photos", tmp_path / "notes.txt", tmp_path / "data.zip"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(b"jpg")
    text.write_text("notes")
    with zipfile.ZipFile(archive, "w") as stream:
        stream.writestr("1.jpg", b"jpg")
    before = archive.read_bytes()
    for path in (folder, text, archive):
        with pytest.raises(BundleError, match="exists and is no edgevit bundle"):
            write_bundle(path, manifest, FILES)
    assert (folder / "1.jpg").read_bytes() == b"jpg"
    assert text.read_text() == "notes"
    assert archive.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_other_programs_manifest_is_left_alone(tmp_path: Path, manifest: Manifest) -> None:
    """Browser extensions and web apps have a manifest.json, too."""
    folder = tmp_path / "webapp"
    folder.mkdir()
    (folder / MANIFEST).write_text('{"manifest_version": 3, "name": "app"}')
    (folder / "app.js").write_text("precious")
    with pytest.raises(BundleError, match="no edgevit bundle"):
        write_bundle(folder, manifest, FILES)
    assert (folder / "app.js").read_text() == "precious"


def disk_full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("older", [False, True], ids=["first", "over an older one"])
@pytest.mark.parametrize("fails", ["write", "exchange", "rename", "last rename", "interrupt"])
def test_failed_write_leaves_nothing_new(path: Path, manifest: Manifest, older: bool, fails: str, monkeypatch) -> None:
    """A full disk or Ctrl-C at any point: no half a bundle, no litter, and the old bundle is as it was.

    Also where folders cannot be exchanged in one step, and two renames must do.
    """
    if older:
        write_bundle(path, replace(manifest, name="older"), FILES)
    else:
        path.parent.mkdir()
    before = {entry: entry.read_bytes() for entry in path.parent.rglob("*") if entry.is_file()}
    with monkeypatch.context() as patch:
        if fails == "write":
            patch.setattr(os, "fsync", disk_full)
            patch.setattr("zipfile._ZipWriteFile.write", disk_full)
        elif fails == "exchange" and older and path.suffix != ".zip":
            patch.setattr(writing, "_renamed", disk_full)
        else:
            patch.setattr(writing, "_renamed", lambda *_: False)
            moves = {name: getattr(Path, name) for name in ("rename", "replace")}

            def moved(name: str, source: Path, target: Path) -> Path:
                if fails in ("rename", "exchange") or Path(target) == path:
                    # The way back must stay open, as on a real disk: renaming takes no space.
                    patch.undo()
                    if fails == "interrupt":
                        raise KeyboardInterrupt
                    disk_full()
                return moves[name](source, target)

            patch.setattr(Path, "rename", lambda source, target: moved("rename", source, target))
            patch.setattr(Path, "replace", lambda source, target: moved("replace", source, target))
        with pytest.raises(KeyboardInterrupt if fails == "interrupt" else StorageError):
            write_bundle(path, manifest, FILES)
    assert {entry: entry.read_bytes() for entry in path.parent.rglob("*") if entry.is_file()} == before
    assert sorted(path.parent.iterdir()) == ([path] if older else [])


def test_full_disk_is_one_line_with_the_next_step(path: Path, manifest: Manifest, monkeypatch) -> None:
    monkeypatch.setattr(os, "fsync", disk_full)
    monkeypatch.setattr("zipfile._ZipWriteFile.write", disk_full)
    with pytest.raises(StorageError) as caught:
        write_bundle(path, manifest, FILES)
    assert str(caught.value).startswith(f"{path}: cannot write: No space left on device.")
    assert "-o" in str(caught.value)


@pytest.mark.skipif(not Path("/proc/self").exists() or sys.platform != "linux", reason="needs a folder that nobody can write")
def test_unwritable_places(tmp_path: Path, manifest: Manifest) -> None:
    """Inside a file, and inside /proc, where not even root can make one."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "b.edgevit", tmp_path / "file" / "deep" / "b.edgevit", Path("/proc/none/b.edgevit")):
        with pytest.raises(StorageError):
            require_writable(path, parents=True)
        with pytest.raises(StorageError):
            write_bundle(path, manifest, FILES)


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:], "is not the file that was built"),
        (lambda data: data[:-1], f"({len(FILES[MODEL]) - 1} bytes, expected {len(FILES[MODEL])}"),
        (lambda data: data + b"\0" * 1000, "is not the file that was built"),
        (lambda data: b"", "(0 bytes"),
        (lambda data: None, "model.onnx is missing"),
    ],
    ids=["one bit", "truncated", "extra bytes", "empty", "missing"],
)
def test_changed_file_is_noticed(tmp_path: Path, manifest: Manifest, damage, message: str) -> None:
    """Other files of the same bundle can still be read."""
    write_bundle(tmp_path / "b", manifest, FILES)
    damaged = damage(FILES[MODEL])
    if damaged is None:
        (tmp_path / "b" / MODEL).unlink()
    else:
        (tmp_path / "b" / MODEL).write_bytes(damaged)
    assert message in refusal(tmp_path / "b")
    with pytest.raises(BundleError):
        open_bundle(tmp_path / "b").verify()
    assert open_bundle(tmp_path / "b").read(REPORT) == FILES[REPORT]


def test_file_that_grew_is_not_read_whole(tmp_path: Path, manifest: Manifest) -> None:
    """A sparse terabyte in place of the model costs neither memory nor time."""
    write_bundle(tmp_path / "b", manifest, FILES)
    with (tmp_path / "b" / MODEL).open("r+b") as stream:
        stream.truncate(2**40)
    assert "is not the file that was built" in refusal(tmp_path / "b")


def test_folder_in_place_of_a_file(tmp_path: Path, manifest: Manifest) -> None:
    write_bundle(tmp_path / "b", manifest, FILES)
    (tmp_path / "b" / MODEL).unlink()
    (tmp_path / "b" / MODEL).mkdir()
    assert "cannot be read" in refusal(tmp_path / "b")


def test_truncated_zip_at_any_length(tmp_path: Path, manifest: Manifest) -> None:
    """A download that stopped: always one line."""
    path = tmp_path / "b.zip"
    write_bundle(path, manifest, FILES)
    whole = path.read_bytes()
    for keep in (0, 1, 10, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:keep])
        assert "not a bundle" in refusal(path)


def test_zip_with_any_byte_changed(tmp_path: Path, manifest: Manifest) -> None:
    """Whatever byte flips, the content read is right or the error is one line: never a trace."""
    path = tmp_path / "b.zip"
    write_bundle(path, manifest, FILES)
    whole = path.read_bytes()
    refusals = []
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            opened = open_bundle(path)
            assert {name: opened.read(name) for name in FILES} == FILES
        except BundleError as error:
            refusals.append(str(error))
    assert len(refusals) > 50
    assert not any("\n" in line for line in refusals)


def test_zip_with_a_broken_directory_is_no_bundle(tmp_path: Path, manifest: Manifest) -> None:
    """`is_bundle` answers; it does not raise."""
    path = tmp_path / "b.zip"
    write_bundle(path, manifest, FILES)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"PK\x01\x02", b"PK\x09\x09"))
    assert not is_bundle(path)
    refusal(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a valid manifest"),
        (b"{", "not a valid manifest"),
        (b"[]", "not a valid manifest"),
        (b"null", "not a valid manifest"),
        (b"\xff\xfe\x00", "not a valid manifest"),
        (b"[" * 100_000, "not a valid manifest"),
        (b"{}", "misses 'schema'"),
        (b'{"schema": 1}', "Object missing required field name"),
        (b'{"schema": 999}', "bundle schema 999, this edgevit reads 1"),
        (b'{"schema": "1"}', "bundle schema 1, this edgevit reads 1"),
        (b" " * (16 * 2**20 + 1), "over 16777216 bytes"),
    ],
    ids=["empty", "cut", "list", "null", "not utf-8", "deep", "no keys", "one key", "newer", "text schema", "oversized"],
)
def test_invalid_manifest(tmp_path: Path, manifest: Manifest, content: bytes, message: str) -> None:
    write_bundle(tmp_path / "b", manifest, FILES)
    (tmp_path / "b" / MANIFEST).write_bytes(content)
    assert message in refusal(tmp_path / "b")


@pytest.mark.parametrize("key", ["name", "model", "preprocessing", "labels", "blocks", "engine", "files", "target"])
def test_missing_key(tmp_path: Path, manifest: Manifest, key: str) -> None:
    """Each is needed, and the error says which one is not there."""
    write_bundle(tmp_path / "b", manifest, FILES)
    message = refusal(edited(tmp_path / "b", lambda data: data.pop(key)))
    # Without files the manifest is valid as such, and holds nothing.
    assert key in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("labels", 5),
        ("labels", [1, 2, 3]),
        ("labels", "abc"),
        ("files", []),
        ("files", {MODEL: {"sha256": "0"}}),
        ("files", {MODEL: {"sha256": "0" * 64, "bytes": "many"}}),
        ("files", {MODEL: {"sha256": "0" * 64, "bytes": -5}}),
        ("files", {MODEL: {"sha256": "0" * 64, "bytes": 10**30}}),
        ("preprocessing", {"size": [32, 32]}),
        ("preprocessing", {"size": [32, 32], "resize": [32, 32], "mode": "stretch"}),
        ("preprocessing", "squash"),
        ("model", "a ViT"),
        ("recipe", None),
        ("provenance", 3),
        ("blocks", [1]),
        ("surprise", 1),
        ("problem_type", "regression"),
        ("problem_type", None),
        ("problem_type", ["multi_label_classification"]),
        ("accuracy", {"int8": {"mean_average_precision": "high"}}),
        ("engine", 3),
        ("engine", ["tensorrt"]),
        ("precision", None),
        *(("model", {name: value for name, value in MODEL_FACTS.items() if name != missing}) for missing in MODEL_FACTS),
        *(
            ("model", MODEL_FACTS | {name: value})
            for name, value in [
                ("image_size", 32),
                ("image_size", ["32", "32"]),
                ("image_size", [32]),
                ("image_size", [32, 32, 32]),
                ("image_size", [16, 16]),
                ("image_size", [32.5, 32]),
                ("patch_size", 0),
                ("patch_size", "8"),
                ("patch_size", 7),
                ("width", "32"),
                ("width", -1),
                ("classes", "3"),
                ("classes", True),
                ("class_token", "yes"),
                ("class_token", None),
            ]
        ),
        *(
            ("preprocessing", CONTRACT | {name: value})
            for name, value in [
                ("size", [32, 32, 32]),
                ("size", ["32", "32"]),
                ("size", [32.0, 32.0]),
                ("size", 32),
                ("resize", [32]),
                ("resize", [10**9, 10**9]),
                ("mean", ["0", "0", "0"]),
                ("mean", [float("nan"), 0, 0]),
                ("mean", 0.5),
                ("std", ["1", "1", "1"]),
                ("std", [10**400, 1, 1]),
                ("antialias", "yes"),
                ("mode", ["squash"]),
                ("color", {}),
            ]
        ),
        ("notes", [1]),
        ("reasons", ["noise"]),
        ("recipe", {"name": 3}),
        ("target", {"name": ["cpu"]}),
        ("target", {"name": "cpu", "machine": "a Pi"}),
        ("target", {"name": "cpu", "machine": {"arch": 64}}),
        ("target", {"name": "cpu", "machine": {"models": "a Pi"}}),
        ("accuracy", 5),
        ("accuracy", {"int8": 0.5}),
        ("accuracy", {"int8": {"top1": "high"}}),
        ("accuracy", {"conditions": "good"}),
        ("latency", [1]),
        ("latency", {"int8": [1]}),
        ("latency", {"int8": {"p50_ms": 10**400}}),
        ("compiled", "yes"),
        ("compiled", {"engine": "here"}),
        ("compiled", {"engine": {"builder": 11}}),
        ("compiled", {"plan": [1]}),
        ("compiled", {"plan": {"int8_share": "all"}}),
        ("compiled", {"plan": {"warnings": "none"}}),
        ("compiled", {"plan": {"kernels": "many"}}),
        ("compiled", {"stand_in": 112}),
        ("compiled", {"stand_in": {"kernels": [112]}}),
        ("compiled", {"graph": "used"}),
        ("compiled", {"graph": {"used": True, "with_ms": "1"}}),
        ("compiled", {"tried": {"form": "INT8 attention"}}),
        ("compiled", {"tried": ["INT8 attention"]}),
        ("compiled", {"tried": [{"form": "INT8 attention", "p50_ms": "fast"}]}),
        ("provenance", {"weights": "w.pt"}),
        ("provenance", {"weights": {"sha256": ""}, "versions": [1]}),
        ("provenance", {"weights": {"sha256": ""}, "calibration_images": [[1]]}),
    ],
)
def test_wrong_value(tmp_path: Path, manifest: Manifest, key: str, value: object) -> None:
    """A manifest that was edited by hand is refused when the bundle is opened, as a damaged bundle."""
    write_bundle(tmp_path / "b", manifest, FILES)
    refusal(edited(tmp_path / "b", lambda data: data.update({key: value})))


def test_bundles_from_before_there_was_a_choice_are_single_label(tmp_path: Path, manifest: Manifest) -> None:
    write_bundle(tmp_path / "b", replace(manifest, problem_type="multi_label_classification"), FILES)
    assert open_bundle(tmp_path / "b").manifest.problem_type == "multi_label_classification"
    edited(tmp_path / "b", lambda data: data.pop("problem_type"))
    assert open_bundle(tmp_path / "b").manifest.problem_type == "single_label_classification"


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "sub/model.onnx", "..", ".", "", "..\\outside", "C:\\x", MANIFEST, "a/../../x"]
)
def test_names_cannot_leave_the_bundle(tmp_path: Path, manifest: Manifest, name: str) -> None:
    """Not even with the right hash."""
    write_bundle(tmp_path / "b", manifest, FILES)
    (tmp_path / "outside").write_bytes(FILES[MODEL])
    folder = edited(tmp_path / "b", lambda data: data["files"].update({name: data["files"][MODEL]}))
    with pytest.raises(BundleError, match="names a file outside the bundle"):
        open_bundle(folder)


@pytest.mark.parametrize("make", ["nothing", "empty folder", "text", "jpg", "broken link"])
def test_what_is_no_bundle(tmp_path: Path, make: str) -> None:
    path = tmp_path / "x"
    if make == "empty folder":
        path.mkdir()
    elif make == "broken link":
        path.symlink_to(tmp_path / "gone")
    elif make != "nothing":
        path.write_bytes(b"\xff\xd8\xff" if make == "jpg" else b"hello")
    assert not is_bundle(path)
    expected = {"nothing": "no such bundle", "broken link": "no such bundle", "empty folder": "has no manifest.json"}
    assert expected.get(make, "not a bundle") in refusal(path)


def test_nothing_in_a_zip_is_unpacked_beyond_what_the_manifest_says(tmp_path: Path, manifest: Manifest) -> None:
    """A zip bomb: a gigabyte of zeros behind a small entry is cut off, not inflated."""
    write_bundle(tmp_path / "b.zip", manifest, FILES)
    content = zipfile.ZipFile(tmp_path / "b.zip").read(MANIFEST)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, content)
        with archive.open(MODEL, "w") as stream:
            for _ in range(64):
                stream.write(bytes(2**20))
    read = []

    def watched(path: Path, name: str, limit: int) -> bytes:
        data = original(path, name, limit)
        read.append(len(data))
        return data

    original = bundle_module._read_member
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle_module, "_read_member", watched)
        refusal(tmp_path / "bomb.zip")
    assert max(read) <= max(len(FILES[MODEL]) + 1, len(content))
