"""What is written is whole or not there, in nobody else's place, and killed processes leave nothing that stays."""

from __future__ import annotations

import ast
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgevit.errors import ConfigError, StorageError
from edgevit.files import writing
from edgevit.files.own_kinds import HTML
from edgevit.files.writing import beside, put, require_writable, sweep, write_new, write_whole
from edgevit.signing import generate
from tests.support import ROOT, python

linux = pytest.mark.skipif(sys.platform != "linux", reason="one step only on Linux")


def test_content_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for content, wanted in ((b"bytes\0", b"bytes\0"), ("text ü", "text ü".encode()), ("lone \ud800", b"lone \\ud800")):
        write_whole(path, content)
        assert path.read_bytes() == wanted
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_and_never_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "precious", tmp_path / "link"
    target.write_text("precious")
    link.symlink_to(target)
    write_whole(link, "new")
    assert target.read_text() == "precious"
    assert not link.is_symlink()
    assert link.read_text() == "new"
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    assert not write_new(dangling, "new")
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_is_no_file_to_replace(tmp_path: Path) -> None:
    """Exchanging the two in one step would take the folder away with all that is in it."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious").write_text("precious")
    with pytest.raises(StorageError, match="Is a directory"):
        write_whole(tmp_path / "folder", "new")
    assert (tmp_path / "folder" / "precious").read_text() == "precious"


def test_permissions(tmp_path: Path) -> None:
    """The umask's for a new file, its own for one that is replaced, and what is asked for from the first moment on."""
    path, before = tmp_path / "a", os.umask(0o027)
    try:
        write_whole(path, "1")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        write_whole(path, "2")
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
        write_whole(path, "3", mode=0o600)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_names_as_long_as_they_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 127)
    write_whole(path, "1")
    assert path.read_text() == "1"
    with pytest.raises(StorageError, match="name too long"):
        write_whole(tmp_path / ("n" * 256), "1")
    assert list(tmp_path.iterdir()) == [path]


def test_only_its_own_kind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    path.write_text("<!doctype html><title>my page</title>")
    with pytest.raises(ConfigError, match=r"r\.html: holds something else, not an HTML report"):
        write_whole(path, "<!doctype html>", kind=HTML)
    assert "my page" in path.read_text()


@pytest.mark.parametrize("exchange", [True, False], ids=["one step", "two renames"])
def test_new_files_take_nobodys_place(tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchange:
        monkeypatch.setattr(writing, "_renamed", lambda *_: False)
    path = tmp_path / "key"
    assert write_new(path, "first", mode=0o600)
    assert not write_new(path, "second")
    assert path.read_text() == "first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_many_at_once_are_never_mixed(tmp_path: Path) -> None:
    path, seen, over = tmp_path / "a", set(), threading.Event()
    contents = [bytes([number]) * 300_000 for number in range(8)]
    write_whole(path, contents[0], durable=False)

    def read() -> None:
        while not over.is_set():
            seen.add(path.read_bytes() in contents)

    reader = threading.Thread(target=read)
    writers = [
        threading.Thread(target=lambda content=content: [write_whole(path, content, durable=False) for _ in range(10)])
        for content in contents
    ]
    reader.start()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    over.set()
    reader.join()
    assert seen == {True}
    assert list(tmp_path.iterdir()) == [path]


# --- folders ---------------------------------------------------------------------------------------------------------


def replace_folder(path: Path, content: str) -> None:
    with beside(path) as folder:
        (folder / "fresh").mkdir()
        (folder / "fresh" / "file").write_text(content)
        put(folder / "fresh", path)


@linux
def test_a_folder_is_there_at_every_moment(tmp_path: Path) -> None:
    """While it is replaced again and again: whoever opens it finds the one or the other."""
    path, over = tmp_path / "b", threading.Event()
    replace_folder(path, "0")
    gone = []

    def look() -> None:
        while not over.is_set():
            if not path.is_dir():
                gone.append(1)

    watcher = threading.Thread(target=look)
    watcher.start()
    for turn in range(200):
        replace_folder(path, str(turn))
    over.set()
    watcher.join()
    assert gone == []
    assert (path / "file").read_text() == "199"
    assert list(tmp_path.iterdir()) == [path]


DIE = """
import os, signal, sys
from pathlib import Path
from edgevit.files import writing
from tests.files.test_writing import replace_folder
if "two renames" in sys.argv:
    writing._renamed = lambda *_: False
die, real = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL), Path.rename
def rename(source, target):
    real(source, target)
    die()  # after the first of the two
Path.rename = rename
writing.shutil.rmtree = die  # after the one
replace_folder(Path(sys.argv[1]), "new")
"""


@pytest.mark.parametrize(("how", "left"), [pytest.param("one step", "new", marks=linux), ("two renames", None)])
def test_killed_between_two_renames(tmp_path: Path, how: str, left: str | None) -> None:
    """The bundle is never without a name where the system can do that, else the next to write there puts it back. No litter."""
    path = tmp_path / "b.edgevit"
    replace_folder(path, "old")
    process = python(DIE, path, how)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == -signal.SIGKILL
    assert (path / "file").read_text() == left if left else not path.exists()
    assert len(list(tmp_path.glob(".*.edgevit-*"))) == 1
    sweep(tmp_path)
    assert (path / "file").read_text() == (left or "old")
    assert list(tmp_path.iterdir()) == [path]
    replace_folder(path, "newer")
    assert list(tmp_path.iterdir()) == [path]


def test_only_what_nobody_holds_is_swept(tmp_path: Path) -> None:
    """Another process's folder stays while it lives, and so does whatever merely has a similar name."""
    code = "import sys; from pathlib import Path; from edgevit.files.writing import beside\nwith beside(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"  # noqa: E501
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "a"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    others = {tmp_path / ".a.edgevit-short", tmp_path / "a.edgevit-abcdefgh", tmp_path / ".edgevit"}
    for other in others:
        other.mkdir()
    (tmp_path / ".a.edgevit-bcdefghi").write_text("a file")
    sweep(tmp_path)
    assert len(set(tmp_path.iterdir()) - others) == 2
    process.kill()
    process.communicate()
    sweep(tmp_path)
    assert set(tmp_path.iterdir()) == others | {tmp_path / ".a.edgevit-bcdefghi"}


# --- full disks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", folder], check=False).returncode:
        pytest.skip("needs root, to mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_leaves_the_old_file_whole(full_disk: Path) -> None:
    path = full_disk / "r.html"
    write_whole(path, b"old" * 1000)
    with pytest.raises(StorageError, match="No space left on device"):
        write_whole(path, b"new" * 10**6)
    assert path.read_bytes() == b"old" * 1000
    assert list(full_disk.iterdir()) == [path]


def test_a_full_disk_leaves_no_key(full_disk: Path) -> None:
    """And the next try is not refused for what the first one left."""
    pytest.importorskip("cryptography")
    ballast = full_disk / "ballast"
    with pytest.raises(OSError, match="No space"), ballast.open("wb") as stream:
        stream.write(b"x" * 10**6)
    with pytest.raises(StorageError):
        generate(full_disk / "k")
    assert list(full_disk.iterdir()) == [ballast]
    ballast.unlink()
    assert generate(full_disk / "k").is_file()
    assert stat.S_IMODE((full_disk / "k").stat().st_mode) == 0o600


def test_a_private_key_that_cannot_be_written_leaves_no_public_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cryptography")
    real = write_new

    def fails(path: Path, content: bytes, *, mode: int | None = None) -> bool:
        if path.suffix != ".pub":
            msg = "full"
            raise StorageError(msg)
        return real(path, content, mode=mode)

    monkeypatch.setattr("edgevit.signing.write_new", fails)
    with pytest.raises(StorageError):
        generate(tmp_path / "k")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"does not exist\. Make it first: mkdir -p"):
        require_writable(tmp_path / "no" / "r.html")
    require_writable(tmp_path / "no" / "b.edgevit", parents=True)
    assert list(tmp_path.iterdir()) == []


# --- the one way -----------------------------------------------------------------------------------------------------

SCRATCH = "in a temporary folder of the process's own"
OTHERWISE = {
    "edgevit/files/writing.py": "the one way",
    "edgevit/bundle.py": "in a folder of `beside`",
    "edgevit/commands/train.py": "in a folder of `beside`",
    "edgevit/runtime/sinks/lines.py": "line by line, for hours",
    "edgevit/runtime/sinks/video.py": "frame by frame, in a folder of `beside`",
    "edgevit/deploy/wheel.py": SCRATCH,
    "edgevit/engine/tensorrt.py": SCRATCH,
    "edgevit/engine/tensorrt_child.py": SCRATCH,
    "edgevit/engine/onnxruntime.py": SCRATCH,
    "edgevit/engine/on_disk.py": SCRATCH,
    "edgevit/measure/startup.py": SCRATCH,
    "edgevit/model/token_store.py": SCRATCH,
    "edgevit/training/views.py": SCRATCH,
    "edgevit/commands/demo/solar.py": "in a folder of `beside`",
    "edgevit/cli/command.py": "click's formatter, which writes no file",
    "edgevit/cache.py": "tries whether the folder can be written",
    "edgevit/deploy/ssh.py": "a socket of ssh's",
    "edgevit/cli/deploy.py": SCRATCH,
    "edgevit/cli/fleet.py": SCRATCH,
    "edgevit/cli/hosts.py": SCRATCH,
    "edgevit/deploy/hosts.py": SCRATCH,
    "edgevit/services/place.py": "links, exchanged by renaming",
    "edgevit/services/supervised.py": "a lock",
    "edgevit/services/supervisor.py": "line by line, for months",
    "edgevit/cli/doctor.py": SCRATCH,
    "edgevit/packaging/dpkg.py": "in a folder of `beside`",
    "edgevit/packaging/mender.py": "in a folder of `beside`",
    "edgevit/packaging/runtime.py": "in a folder of `beside`",
    "edgevit/packaging/tree.py": "in a folder of `beside`",
    "edgevit/commands/acceptance/trtexec.py": SCRATCH,
    "edgevit/commands/sweep_build.py": SCRATCH,
    "edgevit/executor/carried.py": SCRATCH,
    "edgevit/executor/processes.py": "in memory, a file without a name",
    "edgevit/images/carried.py": SCRATCH,
}
"""Modules that write in other ways, and why they may."""
WRITES = {
    "write_text", "write_bytes", "savez", "savez_compressed", "save_file", "save_model", "imwrite", "VideoWriter", "mkstemp",
    "mkdtemp", "NamedTemporaryFile", "TemporaryFile", "TemporaryDirectory", "touch", "tofile", "symlink_to", "hardlink_to",
}  # fmt: skip
STREAMS = ("io.BytesIO(", "stream")  # in memory: numpy's savez, zips


def writes(path: Path) -> list[str]:
    """Every call in a module that may write a file: by name, or an ``open`` with a mode that is not for reading."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = ast.unparse(node.args[0]) if node.args else ""
        modes = [arg.value for arg in (*node.args, *(word.value for word in node.keywords)) if isinstance(arg, ast.Constant)]
        opens = name in ("open", "fdopen", "ZipFile") and any(isinstance(mode, str) and set(mode) & set("wax+") for mode in modes)
        flags = ast.unparse(node).startswith("os.open(") and any(flag in ast.unparse(node) for flag in ("O_WRONLY", "O_RDWR"))
        if opens or flags or (name in WRITES and not first.startswith(STREAMS)):
            found.append(f"{path.relative_to(ROOT)}:{node.lineno} {name}")
    return found


def test_there_is_one_way_to_write_files() -> None:
    """A module that writes another way leaves halves on a full disk, follows links, or takes a place that is not its own."""
    found = {str(path.relative_to(ROOT)): writes(path) for path in sorted((ROOT / "edgevit").rglob("*.py"))}
    strange = [line for name, lines in found.items() if name not in OTHERWISE for line in lines]
    assert strange == [], "write with edgevit.files.writing, or say in OTHERWISE why not"
    assert sorted(name for name in OTHERWISE if not found.get(name)) == [], "they do not write any more"
