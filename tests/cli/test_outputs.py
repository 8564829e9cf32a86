"""What ``edgevit run`` does with a label, as a user types it."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import stat
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgevit.cli.outputs import OPTIONS
from edgevit.runtime.sinks.command import environment
from edgevit.runtime.sinks.condition import ALWAYS, CHANGED, COMPARISONS, FIGURES
from edgevit.runtime.sinks.record import record
from tests.runtime.fakes import decision, eventually
from tests.support import CLASSES, COMMAND, ROOT, python

TEST = "test://64x64?frames=12"


@pytest.fixture
def run(edgevit, bundle_path: Path):
    """``edgevit run`` on the tiny bundle."""
    return lambda source, *options: edgevit("run", bundle_path, source, "--headless", "--threads", 1, *options)


def test_every_output_at_once(run, tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = tmp_path / "tell.sh"
    script.write_text(f'#!/bin/sh\necho "$EDGEVIT_LABEL" >> {told}\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    outcome = run(
        TEST, "--json", "--jsonl", tmp_path / "a.jsonl", "--csv", tmp_path / "a.csv", "--save", tmp_path / "a.avi",
        "--snapshot", tmp_path / "shots", "--on-label", script, "--when", "always", "--every", 0, "--smooth", "majority:3",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    *frames, last = outcome.lines
    labels = [frame["label"] for frame in frames]
    assert len(labels) == 12
    assert [json.loads(line)["label"] for line in (tmp_path / "a.jsonl").read_text().splitlines()] == labels
    with (tmp_path / "a.csv").open() as file:
        assert [row["label"] for row in csv.DictReader(file)] == labels
    outputs = {each["name"]: each for each in last["outputs"]}
    assert set(outputs) == {"snapshots", "on-label"}
    for each in outputs.values():
        assert each["sent"] + each["dropped"] == 12
        assert each["failed"] == 0
    assert len(list((tmp_path / "shots").glob("*.jpg"))) == outputs["snapshots"]["sent"]
    assert len(told.read_text().split()) == outputs["on-label"]["sent"]
    assert (tmp_path / "a.avi").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        (["--overlay", "off"], None),
        ([], (0, 0.12)),
        (["--overlay-position", "bottom"], (0.88, 1)),
        (["--overlay", "full", "--overlay-position", "bottom"], (0.6, 1)),
    ],
    ids=["off", "label", "bottom", "full"],
)
def test_the_video_is_the_source_but_for_its_overlay(
    run, tmp_path: Path, options: list[str], changed: tuple[float, float] | None
) -> None:
    """Which rows of the gray film are others in the video, in shares of the height; the codec moves a level or two."""
    height, width = 480, 640
    film = cv2.VideoWriter(str(tmp_path / "film.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (width, height))
    for _ in range(3):
        film.write(np.full((height, width, 3), 128, np.uint8))
    film.release()
    outcome = run(tmp_path / "film.avi", "--save", tmp_path / "shown.avi", *options)
    assert outcome.code == 0, outcome.stderr
    video = cv2.VideoCapture(str(tmp_path / "shown.avi"))
    frames = [frame for _ in range(4) if (frame := video.read()[1]) is not None]
    assert [frame.shape for frame in frames] == [(height, width, 3)] * 3
    for frame in frames:
        rows = np.flatnonzero((np.abs(frame.astype(int) - 128) > 24).any(axis=(1, 2)))
        if changed is None:
            assert not rows.size
        else:
            edge = 8  # rows of a block of the codec
            assert rows.size > 20
            assert changed[0] * height - edge <= rows.min() <= rows.max() < changed[1] * height + edge


def test_summary_says_what_was_delivered(run, tmp_path: Path) -> None:
    stdout = run(TEST, "--snapshot", tmp_path / "s", "--snapshot-limit", 1, "--when", "always", "--every", 0).stdout
    assert re.search(r"^snapshots +1 sent, \d+ failed.*holds 1 pictures, the limit", stdout, re.MULTILINE)


def test_threshold_is_in_every_output_and_in_the_summary(run) -> None:
    *frames, last = run(TEST, "--json", "--threshold", 1).lines
    assert {frame["label"] for frame in frames} == {"unknown"}
    assert all(frame["top_k"][0]["label"] in CLASSES for frame in frames)
    assert last["summary"]["labels"] == {"unknown": 12}
    stdout = run(TEST, "--threshold", 1).stdout
    assert re.search(rf"unknown \(likeliest: ({'|'.join(CLASSES)}) \d+\.\d %\)", stdout)


def test_smoothed_json_has_both(run) -> None:
    plain = run(TEST, "--json").lines[:-1]
    smooth = run(TEST, "--json", "--smooth", "ema:5", "--top-k", 2).lines[:-1]
    assert [frame["raw"] for frame in smooth] == [frame["top_k"][:2] for frame in plain]
    assert smooth[-1]["top_k"] != smooth[-1]["raw"]
    assert "raw" not in plain[0]


def test_images_of_a_folder_are_not_smoothed_together(run, image_folder: Path) -> None:
    frames = run(image_folder, "--json", "--smooth", "majority:9", "--limit", 40).lines[:-1]
    assert all(frame["label"] == frame["raw"][0]["label"] for frame in frames)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--smooth", "ema"], "is no smoothing: write ema:N"),
        (["--threshold", "2"], "2 is no confidence"),
        (["--when", "label=disc"], "--when needs something to do at the event"),
        (["--on-label", "true", "--when", "label=dics"], "no label of this model is 'dics'. Did you mean 'disc'?"),
        (["--on-label", "true", "--when", "often"], "'often' is no condition"),
        (["--on-label", "true", "--when", "margin<0.1", "--top-k", "1"], "not with --top-k 1"),
        (["--on-label", "no-such-program"], "no program 'no-such-program'"),
        (["--webhook", "example.com"], "is no address: write http://"),
        (["--mqtt", "example.com"], "is no broker and topic"),
        (["--serve", "nowhere"], "is no address: write HOST:PORT"),
        (["--serve", "0", "--serve-token", "abc"], "at least 8 letters"),
        (["--serve-token", "abcdefgh"], "goes with --serve"),
        (["--every", "-1"], "0 or more"),
        (["--attention", "last"], "it goes with --serve HOST:PORT"),
        (["--attention", "99", "--serve", "0"], "no such map. Known: rollout, last"),
    ],
)
def test_wrong_options_are_one_line(run, options: list[str], words: str) -> None:
    outcome = run(TEST, *options)
    assert outcome.code == 2
    assert words in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert outcome.stdout == ""


@pytest.mark.parametrize("option", ["--jsonl", "--csv"])
def test_file_in_a_missing_folder_is_one_line(run, tmp_path: Path, option: str) -> None:
    outcome = run(TEST, option, tmp_path / "gone" / "file")
    assert outcome.code == 9
    assert len(outcome.stderr.splitlines()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_disk_that_is_full_from_the_start_ends_the_run(run) -> None:
    outcome = run(TEST, "--jsonl", "/dev/full")
    assert outcome.code == 9
    assert outcome.stderr == "edgevit: /dev/full: cannot write: No space left on device. Free space, or choose another place\n"


def test_disk_that_gets_full_does_not_end_the_run(bundle_path: Path, tmp_path: Path) -> None:
    """The system refuses files above 2 KiB: a line or so is written, all frames are classified, and the exit code tells."""
    limited = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))\n"
    path = tmp_path / "a.jsonl"
    with python(limited + COMMAND, "run", bundle_path, "test://64x64?frames=30", "--headless", "--jsonl", path) as process:
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 9
    assert "30 frames in" in stdout
    assert "The run goes on without it" in stderr
    assert re.search(rf"^edgevit: {path}: \d+ of the run's results are missing from it: .*File too large", stderr, re.MULTILINE)
    lines = path.read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == list(range(len(lines)))
    assert 2 <= len(lines) < 30


def test_pipe_that_nobody_reads_does_not_stall_the_run(run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    start = time.monotonic()
    outcome = run("test://64x64?frames=400", "--jsonl", tmp_path / "pipe")
    assert time.monotonic() - start < 20
    assert outcome.code == 9
    assert "400 frames in" in outcome.stdout
    assert re.search(r"pipe +\d+ sent, .*Resource temporarily unavailable", outcome.stdout)


HANGS = """
import os, time
write = os.write
os.write = lambda fd, data: time.sleep(3600) if bytes(data[:9]) == b'{{"seconds' else write(fd, data)
import edgevit.runtime.sinks.behind as behind
behind.CLOSE_SECONDS = {seconds}
"""


def test_disk_that_hangs_does_not_stall_a_camera(bundle_path: Path, tmp_path: Path) -> None:
    options = ["--headless", "--threads", 1, "--jsonl", tmp_path / "a.jsonl", "--limit", 400, "--json"]
    with python(HANGS.format(seconds=0.5) + COMMAND, "run", bundle_path, "test://64x48@200", *options) as process:
        stdout, stderr = process.communicate(timeout=40)
    assert process.returncode == 9, stderr
    assert "does not keep up, results are left out" in stderr
    summary = json.loads(stdout.splitlines()[-1])
    assert summary["summary"]["frames"] == 400
    # The first result was waited for, a second.
    assert summary["summary"]["seconds"] < 10
    (output,) = summary["outputs"]
    assert (output["sent"], output["dropped"]) == (0, 400)
    assert "it hangs" in output["error"]


def test_second_signal_ends_a_run_whose_disk_hangs(bundle_path: Path, tmp_path: Path) -> None:
    options = ["--headless", "--threads", 1, "--jsonl", tmp_path / "a.jsonl", "--json"]
    with python(HANGS.format(seconds=3600) + COMMAND, "run", bundle_path, "test://64x48@30", *options) as process:
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None, "the first waits for the disk"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert process.returncode == 130


def test_broken_network_outputs_do_not_fail_the_run(run) -> None:
    pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt: pip install 'edgevit[mqtt]'")
    outcome = run(TEST, "--webhook", "http://127.0.0.1:9/x", "--mqtt", "mqtt://127.0.0.1:9/t")
    assert outcome.code == 0
    assert re.search(r"^webhook 127\.0\.0\.1:9 0 sent, \d+ (failed|dropped)", outcome.stdout, re.MULTILINE)
    assert re.search(r"^mqtt 127\.0\.0\.1:9 +0 sent, \d+ dropped", outcome.stdout, re.MULTILINE)


def test_secrets_are_not_printed(run) -> None:
    outcome = run(TEST, "--webhook", "http://me:secret@127.0.0.1:9/x", "--json")
    assert "secret" not in outcome.stdout + outcome.stderr
    assert "secret" not in run(TEST, "--webhook", "me:secret@host").stderr


def test_addresses_come_from_the_environment_too(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEVIT_WEBHOOK", "http://127.0.0.1:9/x")
    assert "webhook 127.0.0.1:9" in run(TEST).stdout


def test_preview_runs_beside_and_ends_with_the_run(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("uvicorn", reason="needs the extra: pip install 'edgevit[preview]'")
    arguments = ["run", bundle_path, "test://64x48@30", "--headless", "--threads", 1, "--serve", "127.0.0.1:0"]
    monkeypatch.setenv("EDGEVIT_SERVE_TOKEN", "token-of-mine")
    with python(COMMAND, *arguments) as process:
        assert process.stderr is not None
        url = process.stderr.readline().removeprefix("note: preview: ").strip()
        assert url.endswith("/?token=token-of-mine")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor())
        assert b"<title>edgevit</title>" in opener.open(url, timeout=10).read()
        base = url.partition("?")[0]
        state = eventually(lambda: (found := json.load(opener.open(f"{base}state", timeout=10)))["frames"] > 2 and found)
        assert state["model"] == "tiny"
        assert state["label"] in CLASSES
        assert state["source"] == "test pattern 64x48 at 30 fps"
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
        assert time.monotonic() - start < 5
    assert process.returncode == 0, stderr
    assert "frames in" in stdout


def test_preview_shows_where_the_model_looks(bundle_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="needs the extra: pip install 'edgevit[preview]'")
    options = ["--headless", "--threads", 1, "--serve", "127.0.0.1:0", "--attention", "last"]
    with python(COMMAND, "run", bundle_path, "test://64x48@30", *options) as process:
        assert process.stderr is not None
        url = process.stderr.readline().removeprefix("note: preview: ").strip()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        state = eventually(lambda: (found := json.load(opener.open(f"{url}state", timeout=10)))["attention"] and found)
        assert state["attention"]["number"] >= 1, state
        assert "mean of heads" in state["attention_map"]
        assert opener.open(f"{url}attention.jpg", timeout=10).read().startswith(b"\xff\xd8")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr


def test_taken_port_is_one_line(run) -> None:
    pytest.importorskip("uvicorn", reason="needs the extra: pip install 'edgevit[preview]'")
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome = run(TEST, "--serve", f"127.0.0.1:{taken.getsockname()[1]}")
    assert outcome.code == 2
    assert "another program listens there. Choose another port" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


def test_missing_extras_are_one_line(edgevit_process, bundle_path: Path) -> None:
    for options, package in ((["--serve", "0"], "preview"), (["--mqtt", "mqtt://localhost/t"], "mqtt")):
        outcome = edgevit_process("run", bundle_path, TEST, "--headless", *options, without=("uvicorn", "starlette", "paho"))
        assert outcome.code == 8
        assert f"pip install 'edgevit[{package}]'" in outcome.stderr


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_missing_package_of_the_attention_is_one_line(edgevit_process, fp32_bundle_path: Path, package: str) -> None:
    options = ("--serve", "0", "--attention", "last", "--engine", "openvino")
    outcome = edgevit_process("run", fp32_bundle_path, TEST, "--headless", *options, without=(package,))
    assert outcome.code == 8
    assert outcome.stderr.count("\n") == 1
    assert f"This needs the package '{package}'" in outcome.stderr
    assert "pip install 'edgevit[attention]'" in outcome.stderr


def test_runs_without_any_extra_of_these(edgevit_process, bundle_path: Path) -> None:
    assert edgevit_process("run", bundle_path, TEST, "--headless", without=("uvicorn", "starlette", "paho", "anyio")).code == 0


def test_help_has_no_option_twice(edgevit) -> None:
    options = re.findall(r"^  (--[a-z-]+)", edgevit("run", "--help").stdout, re.MULTILINE)
    assert len(options) == len(set(options)) > 20


def test_every_output_option_is_documented() -> None:
    docs = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("outputs.md", "preview.md"))
    for option in OPTIONS:
        (name,) = (each for each in option(lambda: None).__click_params__[0].opts if each.startswith("--"))
        assert f"{name} " in docs or f"`{name}`" in docs, name


def test_every_term_and_variable_is_documented() -> None:
    docs = (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8")
    for word in (*FIGURES, *COMPARISONS, CHANGED, ALWAYS, *environment(record(decision()))):
        assert word in docs, word
    for key in record(decision()):
        assert f"`{key}`" in docs, key
