"""The unit: what systemd makes of it, what it allows, and what it cannot hold."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import click
import pytest

from edgevit.device.jetson import Board
from edgevit.device.service import Service, argus_deadlocks, commands, csi_stack, quoted, unit
from edgevit.errors import ConfigError
from edgevit.files.own_kinds import UNIT_MARK

ANALYZE = shutil.which("systemd-analyze")
RUNS = Path("/run/systemd/system").is_dir() and Path("/run/systemd/private").exists()
"""Tests that start a user's systemd make the first; process 1 has the second, too."""
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")

PROGRAM = "/usr/bin/env"
"""That is everywhere, and not in /tmp, as this Python may be."""
SERVICE = Service(
    name="edgevit",
    command=(PROGRAM, "-m", "edgevit", "run", "/opt/cells.edgevit", "0", "--headless"),
    bundle=Path("/opt/cells.edgevit"),
    user="root",
)


def analyze(verb: str, folder: Path, service: Service, *options: str) -> subprocess.CompletedProcess[str]:
    path = folder / "edgevit.service"
    path.write_text(unit(service), encoding="utf-8")
    assert ANALYZE is not None
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}  # a user's manager has one
    return subprocess.run(
        [ANALYZE, verb, *options, path], capture_output=True, text=True, timeout=60, check=False, env=environment
    )  # fmt: skip


def settings(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


@needs_systemd
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"on_gpu": True},
        {"on_gpu": True, "csi": "argus"},
        {"on_gpu": True, "csi": "argus", "restarts_argus": True, "groups": ("video", "render")},
        {"csi": "libcamera"},
        {"groups": ("video",)},
        {"writable": (Path("/srv/a folder"), Path("/srv/100%"))},
        {"memory": "1024M", "watchdog_s": 5, "environment": {"EDGEVIT_X": 'a "b" %n $HOME'}},
        {"bundle": Path('/opt/größe "7" 100% $HOME.edgevit')},
        {"command": (PROGRAM, "-m", "edgevit", "run", "/opt/a b", "rtsp://u:p%40ss@cam/1?x=${y}", "--save", "a'b\\c.mp4")},
    ],
    ids=["plain", "gpu", "argus", "deadlock", "libcamera", "groups", "writable", "settings", "odd bundle", "odd command"],
)
def test_systemd_accepts_it(changes: dict, tmp_path: Path) -> None:
    """Not a word of complaint: a wrong key is only a warning there."""
    done = analyze("verify", tmp_path, replace(SERVICE, **changes))
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize("changes", [{}, {"on_gpu": True, "csi": "argus", "restarts_argus": True, "writable": (Path("/srv"),)}])
def test_systemd_accepts_it_of_a_user(changes: dict, tmp_path: Path) -> None:
    """A user's manager takes it as it is; what takes root is not in it, as a service that asks for that does not start there."""
    done = analyze("verify", tmp_path, replace(SERVICE, manager="user", **changes), "--user")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    found = settings(unit(replace(SERVICE, manager="user", **changes)))
    taking_root = {
        "User", "SupplementaryGroups", "CapabilityBoundingSet", "ProtectKernelModules", "ProtectKernelLogs", "ProtectClock",
        "ProtectSystem", "ReadWritePaths", "DevicePolicy", "PrivateTmp", "ExecStartPre",
    }  # fmt: skip
    assert not taking_root & found.keys()
    assert (found["NoNewPrivileges"], found["WantedBy"]) == (["yes"], ["default.target"])


def test_where_it_says_how_it_goes() -> None:
    """In memory, of its own, and kept when it has ended."""
    for manager in ("system", "user"):
        found = settings(unit(replace(SERVICE, name="cam", manager=manager)))  # type: ignore[arg-type]
        assert '"EDGEVIT_STATE=%t/edgevit/cam/state.json"' in found["Environment"]
        assert (found["RuntimeDirectory"], found["RuntimeDirectoryPreserve"]) == (["edgevit/cam"], ["yes"])


@needs_systemd
def test_a_wrong_key_would_be_noticed(tmp_path: Path) -> None:
    """The test above can fail."""
    path = tmp_path / "edgevit.service"
    path.write_text(unit(SERVICE).replace("RestartSec=", "RestartSeconds="), encoding="utf-8")
    done = subprocess.run([ANALYZE, "verify", path], capture_output=True, text=True, timeout=60, check=False)
    assert "RestartSeconds" in done.stderr


@needs_systemd
@pytest.mark.parametrize(
    ("changes", "most"),
    [
        ({}, 3.0),
        ({"csi": "libcamera"}, 3.0),
        ({"on_gpu": True}, 5.0),
        ({"on_gpu": True, "csi": "argus"}, 5.0),
        ({"on_gpu": True, "csi": "argus", "restarts_argus": True}, 5.0),
    ],
)
def test_exposure(changes: dict, most: float, tmp_path: Path) -> None:
    """systemd's own score, 0 to 10: without any of this it is 9.6."""
    service = replace(SERVICE, user="edgevit", **changes)
    done = analyze("security", tmp_path, service, "--offline=true", "--no-pager")
    found = re.search(r"exposure level for edgevit\.service: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= most


def test_what_it_says() -> None:
    """Watched, restarted, limited, and not restarted for what a restart cannot change."""
    found = settings(unit(replace(SERVICE, user="cam", watchdog_s=12, memory="512M", groups=("video", "render"))))
    for key, value in {
        "Type": "notify", "User": "cam", "SupplementaryGroups": "video render", "WatchdogSec": "12", "MemoryMax": "512M",
        "Restart": "on-failure", "RestartPreventExitStatus": "2 3 5 8", "ProtectSystem": "strict", "NoNewPrivileges": "yes",
        "KillSignal": "SIGINT", "PrivateTmp": "yes", "DevicePolicy": "closed", "ReadOnlyPaths": '"/opt/cells.edgevit"',
    }.items():  # fmt: skip
        assert found[key] == [value], key


def test_what_a_gpu_needs() -> None:
    """Its nodes and calls differ from driver to driver, and NVIDIA's camera service listens in /tmp."""
    found = settings(unit(replace(SERVICE, on_gpu=True, csi="argus")))
    assert not {"DevicePolicy", "DeviceAllow", "SystemCallFilter", "ProtectClock", "PrivateDevices"} & found.keys()
    assert found["PrivateTmp"] == ["no"]
    assert "ExecStartPre" not in found


def test_what_a_raspberry_pi_needs() -> None:
    """libcamera opens media devices and shared memory beside the camera's own node; nothing of it lies in /tmp."""
    found = settings(unit(replace(SERVICE, csi="libcamera")))
    assert found["DeviceAllow"] == ["char-video4linux rw", "char-media rw", "char-dma_heap rw"]
    assert found["PrivateTmp"] == ["yes"]
    assert settings(unit(SERVICE))["DeviceAllow"] == ["char-video4linux rw"]


def test_camera_service_that_deadlocks_is_started_anew() -> None:
    """Before each start, as root, and whatever comes of it: the watchdog alone would restart into the same deadlock."""
    text = unit(replace(SERVICE, on_gpu=True, csi="argus", restarts_argus=True))
    assert settings(text)["ExecStartPre"] == ["-+/usr/bin/systemctl restart nvargus-daemon"]
    assert text.index("ExecStartPre=") < text.index("ExecStart=")


def test_what_it_keeps() -> None:
    """All caches are where it may write: homes are read-only."""
    found = settings(unit(replace(SERVICE, name="cam")))["Environment"]
    assert {'"XDG_CACHE_HOME=/var/cache/cam"', '"EDGEVIT_CACHE=/var/cache/cam"', '"CUDA_CACHE_PATH=/var/cache/cam/cuda"'} <= set(
        found
    )


JETSON = Board(model="a board", target=None, compute_capability="8.7", l4t=(36, 4, 4), memory_bytes=None)


@pytest.mark.parametrize(
    ("source", "board", "expected"),
    [
        ("csi://0", JETSON, "argus"),
        ("gst:nvarguscamerasrc sensor-id=0 ! nvvidconv", JETSON, "argus"),
        ("gst:tee name=t nvarguscamerasrc ! t. t. ! queue", JETSON, "argus"),
        ("csi://0", None, "libcamera"),
        ('gst:libcamerasrc camera-name="/base/x" ! videoconvert', None, "libcamera"),
        ("gst:v4l2src device=/dev/video0 ! videoconvert", JETSON, None),
        ("usb://0", JETSON, None),
        ("0", None, None),
        ("rtsp://camera/nvargus", JETSON, None),
    ],
)
def test_csi_by_what_is_read(source: str, board: Board | None, expected: str | None) -> None:
    assert csi_stack(source, board) == expected


@pytest.mark.parametrize(
    ("l4t", "expected"),
    [((35, 6, 1), False), ((36, 3, 0), True), ((36, 4, 4), True), ((36, 5, 0), False), ((38, 4, 0), False), (None, False)],
)
def test_camera_services_that_deadlock(l4t: tuple[int, int, int] | None, expected: bool) -> None:
    assert argus_deadlocks(replace(JETSON, l4t=l4t)) == expected
    assert not argus_deadlocks(None)


def test_only_named_folders_are_writable() -> None:
    found = settings(unit(replace(SERVICE, writable=(Path("/srv/videos"), Path("/srv/my videos")))))
    assert found["ReadWritePaths"] == ['"/srv/videos"', '"/srv/my videos"']
    assert "ReadWritePaths" not in settings(unit(SERVICE))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("plain", '"plain"'),
        ("two words", '"two words"'),
        ('say "hi"', r'"say \"hi\""'),
        ("back\\slash", r'"back\\slash"'),
        ("50%", '"50%%"'),
        ("$HOME ${x}", '"$$HOME $${x}"'),
        ("-x;y", '"-x;y"'),
    ],
)
def test_quoted(word: str, expected: str) -> None:
    assert quoted(word) == expected


@pytest.mark.parametrize("word", ["a\nExecStartPre=/bin/sh", "a\0b", "\x1b[31m", "a\rb"])
def test_control_characters(word: str) -> None:
    """A line break would let a file's name write lines of the unit."""
    for service in (replace(SERVICE, command=(PROGRAM, word)), replace(SERVICE, bundle=Path("/opt") / word),
                    replace(SERVICE, environment={"X": word}), replace(SERVICE, user=word)):  # fmt: skip
        with pytest.raises(ConfigError, match="control characters"):
            unit(service)


@pytest.mark.parametrize("path", ["/tmp/b.edgevit", "/var/tmp/x/b.edgevit"])
def test_folders_that_do_not_last(path: str) -> None:
    with pytest.raises(ConfigError, match="does not outlive a restart"):
        unit(replace(SERVICE, bundle=Path(path)))
    with pytest.raises(ConfigError, match="does not outlive a restart"):
        unit(replace(SERVICE, command=(path, "-m", "edgevit")))


def test_commands() -> None:
    """A unit with a password is not for everyone to read."""
    assert commands(Path("a b.service"), "cam")[0] == "sudo install -m 644 'a b.service' /etc/systemd/system/cam.service"
    assert "-m 600" in commands(Path("cam.service"), "cam", private=True)[0]


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Arguments of the command; tests lie in /tmp, where a service would not."""
    monkeypatch.setattr("edgevit.device.service.UNKEPT", ())
    return lambda *more: ["service", "--user", getpass.getuser(), "-o", tmp_path / "cam.service", bundle_path, *more]


def test_command(edgevit, asked, bundle_path: Path, tmp_path: Path) -> None:
    """What follows -- is run's; a folder for videos becomes writable; the steps are complete."""
    (tmp_path / "videos").mkdir()
    video = tmp_path / "videos" / "out.mp4"
    outcome = edgevit(*asked("0", "--name", "cam", "--", "--top-k", 2, "--save", video))
    assert outcome.code == 0, outcome.stderr
    assert "sudo systemctl enable --now cam" in outcome.stdout
    found = settings((tmp_path / "cam.service").read_text(encoding="utf-8"))
    assert found["ExecStart"][0].endswith(f'"run" "{bundle_path}" "0" "--headless" "--top-k" "2" "--save" "{video}"')
    assert found["ReadWritePaths"] == [f'"{tmp_path}/videos"']
    assert found["CacheDirectory"] == ["cam"]


def test_command_with_several_sources(edgevit, asked, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each named whole; no password is shown, wherever its source stands."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shift.mp4").touch()
    outcome = edgevit(*asked("gate=rtsp://u:hunter2@cam/live", "old=shift.mp4", "0", "--name", "cam", "--", "--json",
                             "yard=rtsp://u:hunter3@cam2/live"))  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    assert "hunter" not in outcome.stdout + outcome.stderr
    assert "gate=rtsp://cam/live" in outcome.stdout
    unit = tmp_path / "cam.service"
    assert unit.stat().st_mode & 0o777 == 0o600
    command = settings(unit.read_text(encoding="utf-8"))["ExecStart"][0]
    assert f'"{bundle_path}" "gate=rtsp://u:hunter2@cam/live" "old={tmp_path}/shift.mp4" "0" "--headless" "--json"' in command


def test_service_without_a_source_is_refused(edgevit, asked) -> None:
    outcome = edgevit(*asked("--", "--json"))
    assert outcome.code == 2
    assert "no SOURCE before --json" in outcome.stderr


def test_command_with_a_pipeline_of_nvidias(edgevit, asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a board with a JetPack whose camera service deadlocks: found by what the pipeline has in it."""
    monkeypatch.setattr("edgevit.device.jetson.detect", lambda: JETSON)
    outcome = edgevit(*asked("gst:nvarguscamerasrc ! video/x-raw(memory:NVMM) ! nvvidconv ! video/x-raw,format=BGRx"))
    assert outcome.code == 0, outcome.stderr
    found = settings((tmp_path / "cam.service").read_text(encoding="utf-8"))
    assert (found["PrivateTmp"], len(found["ExecStartPre"])) == (["no"], 1)
    assert "DevicePolicy" not in found


@pytest.mark.skipif(not RUNS or os.geteuid() != 0, reason="systemd does not run here, or for others")
def test_a_unit_that_systemd_runs(edgevit, bundle_path: Path, tmp_path: Path) -> None:
    """Started for real: ready at its first label, alive under its watchdog, and ended with its summary."""
    name = f"edgevit-test-{os.getpid()}"
    home = Path(f"/opt/{name}")
    unit_path = Path(f"/run/systemd/system/{name}.service")
    shutil.copytree(bundle_path, home / "b.edgevit")

    def systemctl(*arguments: str) -> str:
        done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, timeout=120, check=False)
        return done.stdout + done.stderr

    try:
        arguments = ["--user", "root", "--name", name, "--watchdog", "5", "-o", tmp_path / "a.service", home / "b.edgevit"]
        assert edgevit("service", *arguments, "test://64x48@10", "--", "--engine", "onnxruntime").code == 0
        shutil.copy(tmp_path / "a.service", unit_path)
        systemctl("daemon-reload")
        said = systemctl("start", name)
        time.sleep(8)  # longer than its watchdog waits
        shown = set(systemctl("show", name, "-p", "ActiveState,SubState,NRestarts").splitlines())
        assert shown == {"ActiveState=active", "SubState=running", "NRestarts=0"}, said
        systemctl("stop", name)
        assert "Result=success" in systemctl("show", name, "-p", "Result")
    finally:
        systemctl("stop", name)
        unit_path.unlink(missing_ok=True)
        systemctl("daemon-reload")
        shutil.rmtree(home)


def test_command_json(edgevit, asked, tmp_path: Path) -> None:
    outcome = edgevit(*asked("test://64x48", "--json"))
    assert outcome.json["unit"] == str(tmp_path / "cam.service")
    assert outcome.json["command"][1:4] == ["-m", "edgevit", "run"]
    assert len(outcome.json["steps"]) == 4


def test_the_units_command_runs(edgevit, asked) -> None:
    """What ExecStart names is there and classifies."""
    command = edgevit(*asked("test://64x48?frames=2", "--json")).json["command"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert "2 frames" in done.stdout


def test_relative_files_become_whole(edgevit, asked, image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(image_folder.parent)
    assert str(image_folder) in edgevit(*asked(image_folder.name, "--json")).json["command"]


def test_every_output_of_run_is_writable(edgevit, asked, tmp_path: Path) -> None:
    """Whatever option of run names a path can be written by the service; a new one must be told to it."""
    from edgevit.cli.run import run
    from edgevit.cli.service import WRITTEN, WRITTEN_FOLDERS

    paths = {option.name for option in run.params if isinstance(option.type, click.Path)}
    assert paths - {"bundle", "keys"} == {*WRITTEN, *WRITTEN_FOLDERS}
    (tmp_path / "pictures").mkdir()
    options = ["--", "--jsonl", tmp_path / "a.jsonl", "--snapshot", tmp_path / "pictures", "--when", "changed"]
    assert edgevit(*asked("0", *options)).code == 0
    found = settings((tmp_path / "cam.service").read_text(encoding="utf-8"))
    assert found["ReadWritePaths"] == [f'"{tmp_path}"', f'"{tmp_path}/pictures"']


def test_output_in_a_folder_that_is_not_there(edgevit, asked, tmp_path: Path) -> None:
    """The unit would not start."""
    outcome = edgevit(*asked("0", "--", "--snapshot", tmp_path / "none", "--when", "changed"))
    assert outcome.code == 2
    assert f"mkdir -p {tmp_path / 'none'}" in outcome.stderr


def test_relative_output(edgevit, asked) -> None:
    outcome = edgevit(*asked("0", "--", "--save", "out.mp4"))
    assert outcome.code == 2
    assert "a service has no current folder. Write the whole path: /" in outcome.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["rtsp://me:secret@camera/1"],
        ["rtsp://camera/1?token=secret"],
        ["gst:rtspsrc location=rtsp://camera/1 user-pw=secret"],
        ["0", "--", "--serve", "0.0.0.0:80", "--serve-token", "secret123"],
        ["0", "--", "--serve", "0.0.0.0:80", "--serve-token=secret123"],
        ["0", "--", "--metrics", "0.0.0.0:9464", "--metrics-token", "secret123"],
        ["0", "--", "--webhook", "http://host/x?key=secret"],
        ["0", "--", "--webhook=http://me:secret@host/x"],
        ["0", "--", "--mqtt", "mqtt://me:secret@host/x"],
        ["0", "--", "--on-label", "curl -u me:secret http://host"],
    ],
)
def test_password_in_the_arguments(edgevit, asked, arguments: list[str], tmp_path: Path) -> None:
    """The unit is for its owner alone, and a note says where it shows all the same."""
    outcome = edgevit(*asked(*arguments))
    assert outcome.code == 0, outcome.stderr
    assert "secret" not in outcome.stdout + outcome.stderr
    assert "(mode 600)" in outcome.stderr
    assert "ps and systemctl show it" in outcome.stderr
    assert "sudo install -m 600" in outcome.stdout
    assert "secret" in (tmp_path / "cam.service").read_text()
    assert (tmp_path / "cam.service").stat().st_mode & 0o777 == 0o600
    assert "secret" not in edgevit(*asked(*arguments[:1], "--json", *arguments[1:])).stdout


@pytest.mark.parametrize(
    "arguments", [["0", "--", "--top-k", "2"], ["gst:videotestsrc ! videoconvert"], ["rtsp://camera/1?channel=1"],
                  ["0", "--", "--on-label", "logger defect", "--webhook", "http://host/x"]]
)  # fmt: skip
def test_unit_without_a_secret_is_for_all_to_read(edgevit, asked, arguments: list[str], tmp_path: Path) -> None:
    outcome = edgevit(*asked(*arguments))
    assert (outcome.code, outcome.stderr) == (0, "")
    assert (tmp_path / "cam.service").stat().st_mode & 0o777 == 0o644


def test_unit_with_a_secret_is_written_to_no_file_of_others(edgevit, asked, tmp_path: Path) -> None:
    """What an earlier attempt, or somebody else, left beside it is not written into."""
    left = tmp_path / ".cam.service.partial"
    left.write_text("left")
    left.chmod(0o644)
    assert edgevit(*asked("rtsp://me:secret@camera/1")).code == 0
    assert left.read_text() == "left"
    assert sorted(path.name for path in tmp_path.glob("*cam*")) == [".cam.service.partial", "cam.service"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["0", "--", "--top-k", "0"], "top-k"),
        (["0", "--", "--no-such-option"], "No such option"),
        (["0", "--name", "../evil"], "letters, digits"),
        (["0", "--watchdog", "1"], "watchdog"),
    ],
)
def test_wrong_options(edgevit, asked, arguments: list[str], words: str, tmp_path: Path) -> None:
    """Refused when the unit is written, not when it is started."""
    outcome = edgevit(*asked(*arguments))
    assert outcome.code == 2
    assert words in outcome.stderr
    assert not (tmp_path / "cam.service").exists()


def test_unknown_user(edgevit, bundle_path: Path, tmp_path: Path) -> None:
    outcome = edgevit("service", bundle_path, "0", "--user", "no-such-user", "-o", tmp_path / "cam.service")
    assert outcome.code == 2
    assert "sudo useradd --system --groups video no-such-user" in outcome.stderr


def test_other_files_are_left_alone(edgevit, asked, tmp_path: Path) -> None:
    (tmp_path / "cam.service").write_text("[Unit]\nDescription=mine\n")
    outcome = edgevit(*asked("0"))
    assert outcome.code == 2
    assert "holds something else, not a unit by edgevit service" in outcome.stderr
    (tmp_path / "cam.service").write_text(f"{UNIT_MARK} old\n")
    assert edgevit(*asked("0")).code == 0
