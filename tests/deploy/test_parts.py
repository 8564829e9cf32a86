"""Destinations, the wheel, and jobs, each for itself."""

from __future__ import annotations

import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgevit.deploy import lock
from edgevit.deploy.destination import Destination
from edgevit.deploy.facts import read_facts, what_lacks
from edgevit.deploy.job import Job, settle
from edgevit.deploy.lock import held
from edgevit.deploy.ssh import Ssh
from edgevit.deploy.wheel import brought, make_wheel, requirements
from edgevit.engines import traits_of
from edgevit.errors import ConfigError, LinkError, MissingPackageError, RemoteError
from tests.deploy.conftest import Board, Proxy
from tests.support import ROOT

try:
    distribution("edgevit")
    INSTALLED = True
except PackageNotFoundError:
    INSTALLED = False


@pytest.mark.parametrize(
    "address",
    ["", "-oProxyCommand=touch /tmp/x", "a b", "user@", "@host", "user@host;rm -rf /", "user@host:folder", "$(id)", "a\nb",
     "u@h`id`", "user@-x", "host/x"],
)  # fmt: skip
def test_what_is_no_destination(address: str) -> None:
    with pytest.raises(ConfigError, match="is no destination: write user@host"):
        Destination(address=address)


@pytest.mark.parametrize("folder", ["", "-x", "~root/x", "a\nb", "a\0b"])
def test_what_is_no_folder(folder: str) -> None:
    with pytest.raises(ConfigError, match="--dir "):
        Destination(address="board", folder=folder)


@pytest.mark.parametrize(
    ("address", "ssh", "rsync"),
    [("jetson@10.0.0.5", "jetson@10.0.0.5", "jetson@10.0.0.5"), ("my_board.local", "my_board.local", "my_board.local"),
     ("u@[fe80::1]", "u@fe80::1", "u@[fe80::1]"), ("::1", "::1", "[::1]")],
)  # fmt: skip
def test_destinations(address: str, ssh: str, rsync: str) -> None:
    found = Destination(address=address)
    assert (found.ssh, found.rsync) == (ssh, rsync)


def test_names_of_results_are_plain() -> None:
    assert Destination(address="u@[fe80::1]", port=22).name == "u@fe80__1-22"


@pytest.mark.skipif(not INSTALLED, reason="edgevit is not installed here")
def test_the_wheel_is_this_edgevit(tmp_path: Path) -> None:
    """All modules and data, as hatchling packs them; the same bytes each time; and pip takes it."""
    (tmp_path / "again").mkdir()
    path, again = make_wheel(tmp_path), make_wheel(tmp_path / "again")
    assert path.read_bytes() == again.read_bytes()
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    modules = {item.relative_to(ROOT).as_posix() for item in (ROOT / "edgevit").rglob("*.py")}
    data = {
        f"edgevit/_data/{item.relative_to(ROOT).as_posix()}"
        for kind in ("calibration", "targets")
        for item in (ROOT / kind).glob("*")
    }
    assert modules | data | {"edgevit/py.typed", "edgevit/preview/static/page.html"} <= names
    target = tmp_path / "target"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target, path]
    subprocess.run(command, check=True, capture_output=True)
    code = "import edgevit, sys; from edgevit.target import load_target; print(edgevit.__file__, load_target('jetson').name)"
    done = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(target)!r}); {code}"],
                          check=True, capture_output=True, text=True)  # fmt: skip
    assert done.stdout.split() == [str(target / "edgevit" / "__init__.py"), "jetson"]


@pytest.mark.skipif(not INSTALLED, reason="edgevit is not installed here")
def test_requirements_of_an_extra() -> None:
    everything = requirements("cpu")
    assert any(need.startswith("opencv-python") for need in everything)
    (openvino,) = (need for need in everything if need.startswith("openvino>="))
    assert "platform_machine == 'x86_64'" in openvino
    assert "extra" not in openvino
    assert not any(need.startswith("opencv-python") for need in requirements("cpu", without="opencv-python"))


def test_what_is_installed_is_told_for_the_host() -> None:
    """Arm boards get no OpenVINO of the same requirements."""
    for machine, engines in (("x86_64", {"onnxruntime", "openvino"}), ("aarch64", {"onnxruntime"})):
        told = {need.partition(">")[0] for need in brought(requirements("cpu"), machine)}
        assert told == {"opencv-python", *engines}


def test_where_edgevit_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgevit.deploy import wheel

    def missing(_name: str) -> None:
        raise PackageNotFoundError

    monkeypatch.setattr(wheel, "distribution", missing)
    with pytest.raises(MissingPackageError, match="Install it: pip install"):
        make_wheel(tmp_path)


@pytest.fixture
def ssh(board: Board) -> Ssh:
    return Ssh(Destination(address="board"), board.ssh)


def test_arguments_arrive_as_they_are(ssh: Ssh) -> None:
    strange = ["a b", "it's", '"q"', "$HOME", "`id`", "ü\n2", "-n", "*", "\\"]
    with ssh:
        assert ssh.run('printf "%s\\0" "$@"', *strange).out.split("\0")[:-1] == strange


def test_a_job_outlives_its_connection(board: Board, ssh: Ssh) -> None:
    """Started once, whoever asks; found again by another connection; a result is kept until it is forgotten."""
    folder = f"{board.home}/jobs/one"
    script = ["sh", "-c", "echo once >>../runs; sleep 1; echo done"]
    board.sh("rm -rf jobs")
    with ssh:
        first = Job(ssh=ssh, folder=folder, what="a job")
        ssh.run("true")
        from edgevit.deploy.job import _START

        assert ssh.run(_START, folder, *script).code == 0
    other = Ssh(Destination(address="board"), board.ssh)
    with other:
        job = Job(ssh=other, folder=folder, what="a job")
        assert job.run(*script) == "done\n"
        assert job.run(*script) == "done\n"
        assert board.sh("cat jobs/runs") == "once\n"
        job.forget()
        assert job.run(*script) == "done\n"
        assert board.sh("cat jobs/runs") == "once\nonce\n"
    assert first.what == "a job"


def test_jobs_of_others_are_waited_for_and_outdated_ones_ended(board: Board, ssh: Ssh) -> None:
    """Two at once would share one processor, and an old compilation would put an old bundle in the place of the new."""
    from edgevit.deploy.job import _START

    board.sh("rm -rf jobs")
    folder, said = f"{board.home}/jobs", []
    with ssh:
        for name, script in (
            ("a-compile-old", "sleep 300"),
            ("b-compile-x", "sleep 2; echo kept"),
            ("a-compile-new", "sleep 300"),
            ("venv-install-old", "exit 1"),
            ("b-done", "echo kept"),
        ):
            assert ssh.run(_START, f"{folder}/{name}", "sh", "-c", script).code == 0
        time.sleep(0.5)
        settle(ssh, folder, "a", ["a-compile-new"], said.append)
    assert said
    assert set(said) <= {f"waits for a job of another run: {name}" for name in ("a-compile-old", "b-compile-x")}
    assert board.sh("ls jobs").split() == ["a-compile-new", "b-compile-x", "b-done"]
    assert board.sh("cat jobs/b-compile-x/out") == "kept\n"
    board.sh("kill -s KILL -- -$(cat jobs/a-compile-new/pid); rm -rf jobs")
    assert "sleep 300" not in board.sh(f"ps -u {board.home.owner()} -o args=")


def test_a_result_that_nobody_has_collected(board: Board, ssh: Ssh) -> None:
    board.sh("rm -rf jobs")
    with ssh:
        job = Job(ssh=ssh, folder=f"{board.home}/jobs/a", what="compile")
        assert not job.ended()
        job.run("echo", "done")
        assert job.ended()
        job.forget()
        assert not job.ended()


def test_a_job_on_a_full_disk(ssh: Ssh, board: Board) -> None:
    """As pip, TensorRT and Python say it, on the host's own lines."""
    job = Job(ssh=ssh, folder=f"{board.home}/jobs/full", what="install")
    with ssh, pytest.raises(RemoteError, match=r"board: the disk is full at edgevit\. Free space there"):
        job.run("sh", "-c", "dd if=/dev/zero of=/dev/full bs=1 count=1")


def test_the_lock(ssh: Ssh, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """One has it; it cannot be had where nothing can be written, which is another thing to say."""
    monkeypatch.setattr(lock, "WAIT", 1)
    board.sh("mkdir -p locked; rm -f locked/.lock")
    with ssh:
        with (
            held(ssh, f"{board.home}/locked") as holder,
            pytest.raises(RemoteError, match="another deployment"),
            held(ssh, f"{board.home}/locked"),
        ):
            pass
        assert holder.poll() is not None
        with held(ssh, f"{board.home}/locked"):
            pass
        with pytest.raises(RemoteError, match=r"board: /proc: it cannot be locked. Choose another --dir."), held(ssh, "/proc"):
            pass


def test_a_silent_link_gives_the_lock_back(
    board: Board, proxy: Callable[..., Proxy], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A cable that is pulled closes nothing: the host must not wait for a goodbye."""
    monkeypatch.setattr(lock, "BEAT", 0.3)
    monkeypatch.setattr(lock, "SILENT", 2)
    board.sh("mkdir -p locked")
    line = proxy()
    with Ssh(Destination(address="board"), board.ssh) as other:
        first = Ssh(Destination(address="board"), board.through(line.port))
        with first, held(first, f"{board.home}/locked") as holder:
            time.sleep(4)  # twice what it takes to lose it
            assert holder.poll() is None
            line.freeze()
            began = time.monotonic()
            with held(other, f"{board.home}/locked"):
                assert 0.5 < time.monotonic() - began < 10
            line.cut()


def test_what_ssh_says_that_nobody_foresaw(board: Board) -> None:
    with (
        Ssh(Destination(address="board"), f"{board.ssh} -o Ciphers=none-such") as ssh,
        pytest.raises(LinkError, match="none-such"),
    ):
        ssh.run("true")


def test_options_of_the_users_own_that_are_for_terminals(board: Board) -> None:
    """A configuration that logs in to a tmux, say, does no harm."""
    config = board.folder / "config-tmux"
    config.write_text(
        board.config.read_text() + "  RemoteCommand tmux attach\n  RequestTTY force\n  LocalForward 1 localhost:1\n"
    )
    with Ssh(Destination(address="board"), f"ssh -F {config}") as ssh:
        assert ssh.run("echo a; echo b").out == "a\nb\n"


def test_a_job_that_fails_is_started_anew(board: Board, ssh: Ssh) -> None:
    folder = f"{board.home}/jobs/failing"
    with ssh:
        job = Job(ssh=ssh, folder=folder, what="compile")
        with pytest.raises(RemoteError, match=r"board: compile failed \(3\): the reason") as caught:
            job.run("sh", "-c", "echo first >&2; echo 'edgevit: the reason' >&2; exit 3")
        assert "\n" not in str(caught.value)
        assert job.run("echo", "fine") == "fine\n"


def test_a_job_that_is_killed(board: Board, ssh: Ssh) -> None:
    """The host went down, or the kernel took its memory back: said, and the next run starts it again."""
    import threading

    folder = f"{board.home}/jobs/killed"

    def kill() -> None:
        time.sleep(1)
        board.sh("pkill -KILL -f 'sleep 12[3]'")

    threading.Thread(target=kill).start()
    with ssh:
        job = Job(ssh=ssh, folder=folder, what="compile")
        with pytest.raises(RemoteError, match=r"compile (failed \(137\)|was killed)"):
            job.run("sh", "-c", "sleep 123; exit 137")


ENOUGH = """shell=quiet
ours=yes
folder=/home/me/edgevit
machine=aarch64
free_kb=20000000
rsync=yes
flock=yes
setsid=yes
python=3.10.12
venv=yes
driver=yes
cuda=nvcc
cxx=yes
headers=yes
cv2=4.8.0
"""


def lacks(text: str, *, ahead: bool = True, there: bool = False, machine: str = "", wheelhouse: Path | None = None) -> str:
    plan = SimpleNamespace(machine=machine, wheelhouse=wheelhouse,
                           traits=traits_of("tensorrt" if ahead else "onnxruntime"), bytes=100 * 2**20, python="python3",
                           bundle=SimpleNamespace(manifest=SimpleNamespace(engine="tensorrt")))  # fmt: skip
    return what_lacks(read_facts(text), plan, "edgevit", there=there)  # type: ignore[arg-type]


def test_a_board_that_has_everything() -> None:
    facts = read_facts(ENOUGH)
    assert (facts.folder, facts.machine, facts.python, facts.opencv) == ("/home/me/edgevit", "aarch64", "3.10.12", "4.8.0")
    assert lacks(ENOUGH) == ""


@pytest.mark.parametrize(
    ("line", "instead", "words"),
    [
        ("shell=quiet", "Welcome!\nshell=quiet", "its shell prints something unasked,"),
        ("ours=yes", "", "edgevit there has other things in it, or cannot be written. Choose another --dir"),
        ("rsync=yes", "", "it has no rsync. There: sudo apt install rsync"),
        ("setsid=yes", "", "it has no setsid. There: sudo apt install util-linux"),
        ("python=3.10.12", "", "it has no python3."),
        ("python=3.10.12", "python=3.8.10", "its Python is 3.8.10, and edgevit needs 3.10."),
        ("venv=yes", "", "its Python makes no virtual environments. There: sudo apt install python3-venv"),
        ("driver=yes", "", "it has no NVIDIA driver, which tensorrt needs."),
        ("cuda=nvcc", "", "it has no pycuda, and no nvcc to make it with."),
        ("cxx=yes", "", "it has no pycuda, and lacks what it is made with. There: sudo apt install build-essential python3-dev"),
        ("headers=yes", "", "it has no pycuda, and lacks what it is made with."),
        ("free_kb=20000000", "free_kb=200000", "195 MiB are free at edgevit, and about 750 are needed."),
        ("free_kb=20000000", "free_kb=100000\nvenv_there=yes", "98 MiB are free at edgevit, and about 150 are needed."),
    ],
)
def test_what_a_board_may_lack(line: str, instead: str, words: str) -> None:
    assert lacks(ENOUGH.replace(f"{line}\n", f"{instead}\n")).startswith(words)


def test_the_wrong_processor(tmp_path: Path) -> None:
    """Found out before anything is sent: pip would look for wheels that nobody made, and say so after minutes."""
    assert lacks(ENOUGH, machine="aarch64") == ""
    elsewhere = ENOUGH.replace("machine=aarch64", "machine=x86_64")
    assert lacks(elsewhere, machine="aarch64").startswith("the bundle was built for aarch64, and it is x86_64.")
    old = ENOUGH.replace("machine=aarch64", "machine=armv7l")
    assert lacks(old, ahead=False).startswith("it is armv7l, for which engines have no wheels.")
    # A 32-bit Raspberry Pi OS has a 64-bit kernel.
    narrow = ENOUGH.replace("python=3.10.12\n", "python=3.10.12\nbits=32\n")
    assert lacks(narrow, ahead=False).startswith("its Python is of 32 bits, for which engines have no wheels (aarch64).")
    # Whoever brings wheels of their own knows.
    assert {lacks(text, ahead=False, wheelhouse=tmp_path) for text in (old, narrow)} == {""}


def test_what_a_board_need_not_have() -> None:
    """A CPU engine needs no GPU; what is installed and there needs neither venv nor room."""
    assert lacks(ENOUGH.replace("driver=yes\n", "").replace("cuda=nvcc\n", ""), ahead=False) == ""
    # Nor a compiler, where pycuda is there already.
    made = ENOUGH.replace("cxx=yes\nheaders=yes\n", "").replace("cuda=nvcc", "cuda=pycuda")
    assert (lacks(made), lacks(made, ahead=False)) == ("", "")
    assert lacks(ENOUGH.replace("free_kb=20000000", "free_kb=")) == ""  # no df or awk: not known, which is not 0
    small = ENOUGH.replace("free_kb=20000000", "free_kb=100\nvenv_there=yes").replace("\nvenv=yes", "")
    assert lacks(small, there=True) == ""
