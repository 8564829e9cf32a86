"""`edgevit deploy` to another user over a real sshd: the whole way once, then what goes wrong on it."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest

from edgevit.bundle import Bundle
from edgevit.deploy import lock, several
from edgevit.deploy.destination import Destination
from edgevit.deploy.plan import Plan, make_plan
from edgevit.deploy.several import HostOutcome
from edgevit.deploy.several import deploy as deploy_to
from edgevit.deploy.watcher import Watcher
from edgevit.device.gpu import gpu
from edgevit.errors import ConfigError, LinkError, RemoteError
from tests.deploy.conftest import USER, Board, Proxy, free_port
from tests.support import COMMAND

try:
    distribution("edgevit")
except PackageNotFoundError:
    pytest.skip("edgevit is not installed here, so there is nothing to send: pip install -e .", allow_module_level=True)

NAME = 'tiny "board\'s" ü.edgevit'  # names are hostile, and stay what they are
FRAMES = 20
SLOW = 2000  # frames that take some seconds
HOST = Destination(address="board", folder="my boards/edgevit")


class Noted(Watcher):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, str]] = []
        self.broken = 0

    def end(self, host: Destination, step: str, text: str, seconds: float) -> None:
        self.ends.append((step, text))

    def again(self, host: Destination, error: Exception, pause: float) -> None:
        self.broken += 1


@pytest.fixture(scope="module")
def bundle(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle under a name with everything that a shell might stumble over, and heavy enough to be cut in two."""
    from edgevit.bundle import open_bundle, write_bundle

    opened, path = open_bundle(bundle_path), tmp_path_factory.mktemp("deploy") / NAME
    files = {name: opened.read(name) for name in opened.manifest.files}
    heavy = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(2**18))  # eight megabytes
    write_bundle(path, replace(opened.manifest, name="tiny"), files | {"timing.cache": heavy})
    return path


@pytest.fixture(scope="module")
def installed(board: Board, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, HostOutcome, Noted]:
    """The first deployment: edgevit and its engine are installed by it, the others find them."""
    work = tmp_path_factory.mktemp("first")
    plan = make_plan(bundle, work, work / "out", ssh=board.ssh, frames=FRAMES)
    watcher = Noted()
    (outcome,) = deploy_to(plan, [HOST], watcher)
    return work, outcome, watcher


@pytest.fixture(scope="module")
def again(
    board: Board, bundle: Path, installed: object, tmp_path_factory: pytest.TempPathFactory
) -> tuple[HostOutcome, HostOutcome, Noted]:
    """The second, before any test has taken the bundle away there; to a host that is away as well."""
    work, watcher = tmp_path_factory.mktemp("again"), Noted()
    away = Destination(address="127.0.0.1", port=free_port())
    one, other = deploy_to(make_plan(bundle, work, work / "out", ssh=board.ssh, frames=FRAMES), [away, HOST], watcher)
    return one, other, watcher


@pytest.fixture
def plan(board: Board, bundle: Path, installed: object, tmp_path: Path) -> Iterator[Plan]:
    """On a host that has edgevit, and no bundle yet."""
    board.sh("rm -rf 'my boards/edgevit/'bundles 'my boards/edgevit/'incoming 'my boards/edgevit/'jobs")
    yield make_plan(bundle, tmp_path, tmp_path / "out", ssh=board.ssh, frames=FRAMES)
    board.sh("rm -rf 'my boards/edgevit/'bundles")


def test_the_whole_way(board: Board, bundle: Path, installed: tuple[Path, HostOutcome, Noted]) -> None:
    work, outcome, watcher = installed
    assert outcome.error is None
    assert dict(watcher.ends)["push bundle"].endswith(" MB sent")
    assert [step for step, _ in watcher.ends] == [
        "reach", "push packages", "install", "push bundle", "doctor", "compile", "benchmark", "bring back",
    ]  # fmt: skip
    report = json.loads((work / "out" / "board" / "report.json").read_text(encoding="utf-8"))
    assert report["benchmark"]["summary"]["frames"] == FRAMES
    assert report["benchmark"]["summary"]["infer_ms"]["p50"] > 0
    assert report["folder"] == f"{board.home}/my boards/edgevit"
    there = board.home / "my boards" / "edgevit" / "bundles" / NAME
    assert {path.name for path in there.iterdir()} == {path.name for path in bundle.iterdir()}
    assert there.owner() == USER
    assert not list((there.parents[1] / "jobs").iterdir())  # brought home, forgotten there
    # Neither engine has left an id in the board's home folder, which both do before they report their use.
    assert board.sh("ls -d .cache/Microsoft intel 2>/dev/null || true") == ""


def test_again_only_measures(again: tuple[HostOutcome, HostOutcome, Noted]) -> None:
    _, outcome, watcher = again
    assert outcome.error is None
    assert {step for step, text in watcher.ends if text == "already done"} == {"push packages", "install", "push bundle"}
    assert dict(watcher.ends)["benchmark"] != "already done"


def test_several_hosts_of_which_one_is_away(again: tuple[HostOutcome, HostOutcome, Noted]) -> None:
    one, other, _ = again
    assert str(one.error).startswith("127.0.0.1: no ssh server answers there. Check --port")
    assert one.report["steps"] == {}
    assert other.error is None
    assert other.report["benchmark"]["summary"]["frames"] == FRAMES


@pytest.mark.slow
def test_a_changed_bundle_sends_what_changed(plan: Plan, tmp_path: Path) -> None:
    from edgevit.bundle import open_bundle, write_bundle

    assert deploy_to(plan, [HOST], Noted())[0].error is None
    opened, other = open_bundle(plan.bundle.path), tmp_path / NAME
    write_bundle(other, replace(opened.manifest, notes=("new",)), {name: opened.read(name) for name in opened.manifest.files})
    watcher = Noted()
    changed = make_plan(other, tmp_path, tmp_path / "out", ssh=plan.ssh, frames=FRAMES)
    assert deploy_to(changed, [HOST], watcher)[0].error is None
    assert _sent(dict(watcher.ends)["push bundle"]) < 0.2


def _sent(text: str) -> float:
    """Megabytes, of a step's text."""
    return 0.0 if text == "already done" else float(text.split()[-3])


def test_cut_while_the_bundle_is_pushed(plan: Plan, board: Board, proxy: Callable[..., Proxy]) -> None:
    """What has arrived is not sent again: not by the next run, not by one that tries again itself."""
    cutting = proxy(limit=7_000_000)
    broken = replace(plan, ssh=board.through(cutting.port))
    (outcome,) = deploy_to(broken, [HOST], Noted(), pauses=())
    assert isinstance(outcome.error, LinkError)
    assert "Run the same command again" in str(outcome.error)
    assert "push bundle" not in outcome.report["steps"]
    assert not (board.home / "my boards/edgevit/bundles" / NAME).exists()
    watcher = Noted()
    (outcome,) = deploy_to(plan, [HOST], watcher)
    assert outcome.error is None
    assert _sent(dict(watcher.ends)["push bundle"]) < 6  # of more than eight; what ssh had not yet passed on is lost


@pytest.mark.slow
def test_a_broken_link_is_tried_again(plan: Plan, board: Board, proxy: Callable[..., Proxy]) -> None:
    cutting, watcher = proxy(limit=7_000_000), Noted()
    (outcome,) = deploy_to(replace(plan, ssh=board.through(cutting.port)), [HOST], watcher, pauses=(0.1,))
    assert (outcome.error, watcher.broken) == (None, 1)


@pytest.mark.slow
def test_cut_while_something_runs_there(plan: Plan, board: Board, proxy: Callable[..., Proxy]) -> None:
    """It goes on, and the next run collects it instead of starting it again."""
    line = proxy()
    slow = replace(plan, ssh=board.through(line.port), frames=SLOW)

    class Cutting(Noted):
        def begin(self, host: Destination, step: str) -> None:
            if step == "benchmark":
                _once_begun(board, line)

    (outcome,) = deploy_to(slow, [HOST], Cutting(), pauses=())
    assert isinstance(outcome.error, LinkError)
    (job,) = (board.home / "my boards/edgevit/jobs").iterdir()
    begun = (job / "begun").stat().st_mtime_ns
    kept: list[int] = []

    class Looking(Noted):
        def begin(self, host: Destination, step: str) -> None:
            if step == "benchmark":
                kept.append((job / "begun").stat().st_mtime_ns)

    (outcome,) = deploy_to(replace(slow, ssh=plan.ssh), [HOST], Looking())
    assert outcome.error is None
    assert kept == [begun]
    assert outcome.report["benchmark"]["summary"]["frames"] == SLOW
    assert not job.exists()


def _once_begun(board: Board, line: Proxy) -> None:
    """Cut ``line`` for good as soon as a job runs on the board: an ssh that finds the line again just goes on."""
    import threading

    def watch() -> None:
        for _ in range(600):
            if list((board.home / "my boards/edgevit/jobs").glob("*-benchmark-*/begun")):
                time.sleep(0.5)
                line.close()
                return
            time.sleep(0.05)

    threading.Thread(target=watch, daemon=True).start()


@pytest.mark.slow
def test_two_at_once(plan: Plan, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is refused in one line, and the lock goes with its connection."""
    monkeypatch.setattr(lock, "WAIT", 1)
    file = "my boards/edgevit/.lock"
    with subprocess.Popen(["flock", board.home / file, "cat"], stdin=subprocess.PIPE) as holder:
        time.sleep(0.3)
        (outcome,) = deploy_to(plan, [HOST], Noted())
        holder.communicate(b"")
    assert str(outcome.error) == "board: another deployment to it is under way. Wait for that one, or use another --dir."
    assert deploy_to(plan, [HOST], Noted())[0].error is None


def test_a_folder_of_somebody_elses(plan: Plan, board: Board) -> None:
    """Steps remove and replace: never what others have put there."""
    board.sh("mkdir -p project/venv; echo mine >project/venv/file")
    (outcome,) = deploy_to(plan, [replace(HOST, folder="project")], Noted())
    assert str(outcome.error).startswith(
        "board: project there has other things in it, or cannot be written. Choose another --dir"
    )
    assert board.sh("find project -type f") == "project/venv/file\n"
    (outcome,) = deploy_to(plan, [replace(HOST, folder="/root/edgevit")], Noted())
    assert str(outcome.error).startswith("board: /root/edgevit cannot be made: ")


def test_a_full_disk(plan: Plan, board: Board) -> None:
    """Said before anything is sent where it shows, and in one line where it comes later; what was there stays."""
    small = board.home / "small"
    board.sh("mkdir -p small")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1500k,mode=777", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs to mount a small file system, which this container may not")
    try:
        board.sh("touch small/.edgevit; ln -s ~/'my boards/edgevit/venv' small/venv")
        (outcome,) = deploy_to(plan, [Destination(address="board", folder="small")], Noted())
        assert isinstance(outcome.error, RemoteError)
        assert "MiB are free at small, and about" in str(outcome.error)
        tight = replace(plan, bytes=1000)  # as if it were small: the disk fills while it is pushed
        (outcome,) = deploy_to(tight, [Destination(address="board", folder="small")], Noted())
        assert isinstance(outcome.error, RemoteError)
        assert str(outcome.error) == "board: the disk is full at small. Free space there, or choose another --dir."
    finally:
        subprocess.run(["umount", "-l", small], check=True)


@pytest.mark.slow
def test_another_bundle_in_its_place(plan: Plan, board: Board, tmp_path: Path) -> None:
    """Whole, and under the same name, but not the one that was sent: what counts is what is there."""
    from edgevit.bundle import open_bundle, write_bundle

    assert deploy_to(plan, [HOST], Noted())[0].error is None
    opened, other = open_bundle(plan.bundle.path), tmp_path / NAME
    labels = tuple(f"not {label}" for label in opened.manifest.labels)
    write_bundle(other, replace(opened.manifest, labels=labels), {name: opened.read(name) for name in opened.manifest.files})
    there = board.home / "my boards/edgevit/bundles" / NAME
    (there / "manifest.json").write_bytes((other / "manifest.json").read_bytes())
    watcher = Noted()
    assert deploy_to(plan, [HOST], watcher)[0].error is None
    assert dict(watcher.ends)["push bundle"] != "already done"
    assert (there / "manifest.json").read_bytes() == (plan.bundle.path / "manifest.json").read_bytes()


@pytest.mark.slow
def test_only_what_the_manifest_vouches_for_is_sent(plan: Plan, board: Board, tmp_path: Path) -> None:
    """What else lies in the folder is the user's own; what an interrupted run left there is of no use any more."""
    import shutil

    shutil.copytree(plan.bundle.path, tmp_path / NAME)
    (tmp_path / NAME / "private.txt").write_text("not for the board")
    (tmp_path / NAME / "folder").mkdir()
    (tmp_path / NAME / "folder" / "too.txt").write_text("nor is this")
    left = shlex.quote(f"my boards/edgevit/incoming/{NAME}")
    board.sh(f"mkdir -p {left}; touch {left}/left.bin")
    changed = make_plan(tmp_path / NAME, tmp_path, tmp_path / "out", ssh=plan.ssh, frames=FRAMES)
    assert deploy_to(changed, [HOST], Noted())[0].error is None
    there = board.home / "my boards/edgevit/bundles" / NAME
    assert {path.name for path in there.iterdir()} == {path.name for path in plan.bundle.path.iterdir()}


@pytest.mark.slow
def test_a_zip_takes_the_place_of_a_folder_and_back(plan: Plan, board: Board, tmp_path: Path) -> None:
    """Also of what an interrupted run of the other kind left."""
    import shutil

    zipped = tmp_path / "zipped" / NAME
    zipped.parent.mkdir()
    shutil.move(shutil.make_archive(str(tmp_path / "made"), "zip", plan.bundle.path), zipped)
    packed = make_plan(zipped, tmp_path, tmp_path / "out", ssh=plan.ssh, frames=FRAMES)
    there = board.home / "my boards/edgevit/bundles" / NAME
    coming = "'my boards/edgevit/incoming'"
    for name, each, left in (("zip", packed, f'mkdir -p {coming}/"$0"'), ("folder", plan, f'touch {coming}/"$0"')):
        board.sh(f"mkdir -p {coming}; sh -c {shlex.quote(left)} {shlex.quote(NAME)}")
        # The manifests are the same, so it is sent only if it is not there.
        board.sh("rm -rf 'my boards/edgevit/bundles/.pushed-'*")
        (outcome,) = deploy_to(each, [HOST], Noted())
        assert outcome.error is None, name
        assert there.is_dir() == (name == "folder")


def test_a_name_that_looks_like_a_host(plan: Plan, board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """rsync takes ``a:b`` for b on the host a, unless it is told that it is a path."""
    import shutil

    shutil.copytree(plan.bundle.path, tmp_path / "-v:1.edgevit")
    monkeypatch.chdir(tmp_path)
    odd = make_plan(Path("-v:1.edgevit"), tmp_path, Path("o:ut"), ssh=plan.ssh, frames=FRAMES)
    (outcome,) = deploy_to(odd, [HOST], Noted())
    assert outcome.error is None
    assert (tmp_path / "o:ut" / "board" / "report.json").is_file()


def test_the_bundle_that_one_stands_in(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``edgevit deploy . board``: a dot is no name, and two would be the folder above."""
    (plan.bundle.path / "sub").mkdir()
    try:
        for folder, path in ((plan.bundle.path, "."), (plan.bundle.path / "sub", "..")):
            monkeypatch.chdir(folder)
            assert make_plan(Path(path), tmp_path, tmp_path).name == NAME
    finally:
        (plan.bundle.path / "sub").rmdir()


@pytest.mark.parametrize("name", [".hidden.edgevit", "line\nbreak.edgevit", "no-utf8-\udcff.edgevit"])
def test_names_that_cannot_be_one_there(plan: Plan, tmp_path: Path, name: str) -> None:
    import shutil

    shutil.copytree(plan.bundle.path, tmp_path / name)
    with pytest.raises(ConfigError, match="Rename it"):
        make_plan(tmp_path / name, tmp_path, tmp_path)


@pytest.mark.slow
def test_an_installation_that_was_killed_is_made_anew(plan: Plan, board: Board) -> None:
    """What pip had half done cannot be told from what it had done; a result of long ago installs nothing."""
    board.sh("cd 'my boards/edgevit/venv'; rm -f .edgevit; touch .begun; rm -rf lib/python3*/site-packages/numpy/linalg")
    watcher = Noted()
    assert deploy_to(plan, [HOST], watcher)[0].error is None
    assert dict(watcher.ends)["install"].startswith("edgevit and onnxruntime")
    assert not (board.home / "my boards/edgevit/venv/.begun").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"python": "python9"}, "board: it has no python9. There: sudo apt install python3; or name another with --python."),
        ({"ssh": "ssh -o IdentityFile=/nowhere -o IdentitiesOnly=yes -p 1"}, "board: "),
    ],
)
def test_what_a_host_lacks(plan: Plan, change: dict[str, Any], words: str) -> None:
    (outcome,) = deploy_to(replace(plan, **change), [HOST], Noted())
    assert isinstance(outcome.error, RemoteError)
    assert str(outcome.error).startswith(words)
    assert "\n" not in str(outcome.error)


@pytest.mark.skipif(gpu() is not None, reason="this machine has a GPU")
def test_a_board_without_a_gpu(plan: Plan) -> None:
    """Found before minutes of compiling pycuda end in somebody else's traceback."""
    manifest = replace(plan.bundle.manifest, engine="tensorrt")
    opened = Bundle(plan.bundle.path, manifest)
    (outcome,) = deploy_to(replace(plan, bundle=opened), [HOST], Noted())
    assert str(outcome.error).startswith("board: it has no NVIDIA driver, which tensorrt needs.")


def test_no_key_of_ours(plan: Plan, board: Board, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    config = tmp_path / "config"
    config.write_text(board.config.read_text().replace(f"{board.folder}/id", str(tmp_path / "other")))
    (outcome,) = deploy_to(replace(plan, ssh=f"ssh -F {config}"), [HOST], Noted())
    assert str(outcome.error) == "board: it accepts none of your keys. Bring one there: ssh-copy-id board"


def test_another_host_key(plan: Plan, board: Board, tmp_path: Path) -> None:
    """Whoever answers there is not who answered before."""
    known = tmp_path / "known"
    other = (board.folder / "id.pub").read_text()
    known.write_text(f"[127.0.0.1]:{board.port} {' '.join(other.split()[:2])}\n")
    config = tmp_path / "config"
    text = board.config.read_text().replace(f"{board.folder}/known", str(known))
    config.write_text(text.replace("StrictHostKeyChecking no", "StrictHostKeyChecking yes"))
    (outcome,) = deploy_to(replace(plan, ssh=f"ssh -F {config}"), [HOST], Noted())
    said = "board: its host key has changed. If it was installed anew: ssh-keygen"
    assert str(outcome.error) == f'{said} -f "{known}" -R "[127.0.0.1]:{board.port}"'


def test_the_command(edgevit: Callable[..., Any], plan: Plan, board: Board, tmp_path: Path) -> None:
    """Lines for what is done, one table, a report to read by a program."""
    asked = (
        "deploy",
        plan.bundle.path,
        "board",
        "--dir",
        HOST.folder,
        "--ssh",
        board.ssh,
        "--frames",
        FRAMES,
        "-o",
        tmp_path / "o",
    )
    outcome = edgevit(*asked)
    assert outcome.code == 0, outcome.stderr
    assert "capture to label p50/p99 ms" in outcome.stdout
    assert "fps" in outcome.stdout
    (document,) = edgevit(*asked, "--json").json
    assert document["error"] is None
    assert document["steps"]["push bundle"]["text"] == "already done"
    failed = edgevit(*asked[:2], "127.0.0.1", "board", *asked[3:-2], "-o", tmp_path / "p", "--port", free_port())
    assert failed.code == 11
    assert "edgevit: 127.0.0.1: no ssh server answers there." in failed.stderr


def test_nothing_is_sent_of_a_bad_bundle(edgevit: Callable[..., Any], plan: Plan, board: Board, tmp_path: Path) -> None:
    """Tampered, or without the signature that is asked for: refused before anybody is called."""
    import shutil

    before = board.connections()
    bad = tmp_path / "bad.edgevit"
    shutil.copytree(plan.bundle.path, bad)
    with (bad / "model.onnx").open("r+b") as stream:
        stream.seek(100)
        stream.write(b"\xff\x00\xff")
    outcome = edgevit("deploy", bad, "board", "--ssh", board.ssh)
    assert outcome.code == 5
    assert edgevit("keygen", tmp_path / "key").code == 0
    outcome = edgevit("deploy", plan.bundle.path, "board", "--ssh", board.ssh, "--require-signature", tmp_path / "key.pub")
    assert outcome.code == 5
    assert "sign" in outcome.stderr
    assert board.connections() == before


def test_dry_run(edgevit: Callable[..., Any], plan: Plan, board: Board) -> None:
    before = board.connections()
    outcome = edgevit("deploy", plan.bundle.path, "board", "board2", "--ssh", board.ssh, "--dry-run")
    assert outcome.code == 0
    assert "On board, board2, in edgevit/:" in outcome.stdout
    assert "nothing to compile" in outcome.stdout
    assert board.connections() == before


@pytest.mark.slow
def test_ctrl_c(plan: Plan, board: Board, tmp_path: Path) -> None:
    """One line, exit 130, no connection left; the next run takes over what runs there."""
    command = (
        "deploy",
        plan.bundle.path,
        "board",
        "--dir",
        HOST.folder,
        "--ssh",
        board.ssh,
        "--frames",
        str(SLOW),
        "-o",
        tmp_path,
    )
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(600):
        if list((board.home / "my boards/edgevit/jobs").glob("*-benchmark-*/begun")):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "interrupted. Finished stages are kept" in err
    assert "Traceback" not in err
    time.sleep(0.5)
    left = subprocess.run(["pgrep", "-f", f"ssh -F {board.config}"], capture_output=True, text=True, check=False).stdout.split()
    assert not [pid for pid in left if pid != str(os.getpid())]
    (outcome,) = deploy_to(replace(plan, frames=SLOW), [HOST], Noted())
    assert outcome.error is None


def test_pauses_are_not_long() -> None:
    """A board that reboots takes a minute; nobody waits for more than the sum."""
    assert sum(several.PAUSES) <= 60
