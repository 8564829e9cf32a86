"""The acceptance of a machine: each step on this one, NVIDIA's program and boards as files, and the report."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgevit.bundle import Bundle, open_bundle
from edgevit.commands.acceptance import steps, trtexec
from edgevit.commands.acceptance.outcome import Outcome, run
from edgevit.commands.acceptance.report import markdown
from edgevit.commands.acceptance.trtexec import COMPUTE, median_ms
from edgevit.commands.acceptance.visit import Visit, last_json
from edgevit.device.jetson import detect
from edgevit.files.own_kinds import ACCEPTANCE_MARK
from tests.device.boards import NANO, R36, board_of, modules, video_node, write
from tests.runtime.fakes import eventually

TIMES = """[I] === Performance summary ===
[I] Throughput: 201.7 qps
[I] Latency: min = 4.8 ms, max = 5.9 ms, mean = 4.95 ms, median = 4.93 ms, percentile(90%) = 5.0 ms
[I] Enqueue Time: min = 1.2 ms, max = 2.9 ms, mean = 1.4 ms, median = 1.375 ms, percentile(90%) = 1.6 ms
[I] GPU Compute Time: min = 4.7 ms, max = 5.8 ms, mean = 4.9 ms, median = 4.875 ms, percentile(90%) = 5.0 ms
&&&& PASSED TensorRT.trtexec [TensorRT v100300]
"""


@pytest.fixture
def visit(bundle_path: Path, tmp_path: Path) -> Visit:
    (tmp_path / "work").mkdir()
    return Visit(bundle=open_bundle(bundle_path), folder=tmp_path / "work", board=None, root=tmp_path / "root")


def only(outcomes) -> Outcome:
    (outcome,) = outcomes
    return outcome


def for_tensorrt(visit: Visit) -> Visit:
    return replace(visit, bundle=Bundle(visit.bundle.path, replace(visit.bundle.manifest, engine="tensorrt")))


# --- processes -------------------------------------------------------------------------------------------------------


def test_a_program_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    began = time.monotonic()
    done = run(["sh", "-c", f"echo begun; sleep 60 & echo $! > {tmp_path}/child; wait"], 0.5, folder=tmp_path)
    assert time.monotonic() - began < 10
    assert (done.code, done.output, done.ending.startswith("not done after ")) == (None, "begun\n", True)
    status = Path("/proc") / (tmp_path / "child").read_text().strip() / "status"
    eventually(lambda: not status.exists() or "State:\tZ" in status.read_text())


def test_a_program_that_fails(tmp_path: Path) -> None:
    done = run(["sh", "-c", "echo out; echo err >&2; exit 3"], 10, folder=tmp_path)
    assert (done.code, sorted(done.output.split()), done.ending) == (3, ["err", "out"], "exit code 3")
    assert done.last in ("err", "out")
    assert run(["sh", "-c", "echo; exit 4"], 10, folder=tmp_path).last == "exit code 4"


@pytest.mark.parametrize(
    ("output", "found"), [('{"a": 1}\nnote\n{"b": 2}\n[3]\n', {"b": 2}), ("nothing\n", {}), ("", {}), ("{broken", {})]
)
def test_last_json(output: str, found: dict) -> None:
    assert last_json(output) == found


# --- steps that this machine can take --------------------------------------------------------------------------------


def test_bundle_of_this_processor(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs a GPU is skipped and says why; the rest is done for real, and the bundle stays as it was."""
    monkeypatch.setattr(steps, "FRAMES", 20)
    before = {path: path.read_bytes() for path in visit.bundle.path.rglob("*") if path.is_file()}
    found = [
        outcome for step in (steps.trtexec, steps.pycuda, steps.compiling, steps.session, steps.loop) for outcome in step(visit)
    ]
    assert [(outcome.step, outcome.status) for outcome in found] == [
        ("trtexec", "skipped"), ("pycuda", "skipped"), ("compile", "skipped"), ("inspect", "passed"), ("session", "passed"),
        ("loop", "passed"),
    ]  # fmt: skip
    assert "compiles at every start" in found[2].text
    assert found[-1].text.startswith("20 frames at ")
    assert {path: path.read_bytes() for path in before} == before


def test_loop_is_held_against_trtexec(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slower than it is here by a factor that no noise explains."""
    monkeypatch.setattr(steps, "FRAMES", 20)
    visit.copy_bundle()
    visit.found[COMPUTE] = 1e-4
    outcome = only(steps.loop(visit))
    assert (outcome.status, outcome.text.endswith("times trtexec's median of 0.0001 ms")) == ("failed", True)
    visit.found[COMPUTE] = 1e4
    assert only(steps.loop(visit)).status == "passed"


def test_cameras_that_are_named(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "CAMERA_FRAMES", 20)
    visit.copy_bundle()
    assert only(steps.cameras(visit)).status == "skipped"
    good, bad = steps.cameras(replace(visit, sources=("test://64x48@200", "rtsp://me:secret@127.0.0.1:9/x")))
    assert "secret" not in repr(bad)
    assert (good.step, good.status, good.text.startswith("20 frames at ")) == ("camera test://64x48@200", "passed", True)
    assert bad.status == "failed"
    text = markdown([good, bad], version="1", bundle="b")
    assert "secret" not in text
    assert "rtsp://127.0.0.1:9/x" in text


@pytest.mark.skipif(not os.access("/usr/bin/systemd-analyze", os.X_OK), reason="systemd-analyze is not installed")
def test_service_is_verified(visit: Visit, bundle_path: Path) -> None:
    """A real unit, by systemd itself; a bundle in /tmp is refused before that."""
    assert only(steps.service(visit)).status == "skipped"
    with tempfile.TemporaryDirectory(dir=Path.home(), prefix=".edgevit-test-") as folder:
        place = Path(folder) / "b.edgevit"
        place.symlink_to(bundle_path)
        unit, verify, begin = steps.service(replace(visit, bundle=Bundle(place, visit.bundle.manifest)))
    # An environment in /tmp is one that the unit would not see, and says so.
    assert unit.status == "passed" or "does not outlive a restart" in unit.output
    assert verify.status == "passed" or unit.status == "failed", verify.text
    assert (begin.status, "takes root" in begin.text) == ("skipped", True)


# --- boards as files -------------------------------------------------------------------------------------------------


def orin_nano(root: Path) -> Path:
    board_of(root, model=NANO, compatible=modules("p3768-0000+p3767-0005-super", "p3767-0005"), release=R36, mib=7486)
    write(root / "etc/nvpmodel.conf", "".join(f"< POWER_MODEL ID={at} NAME={name} >\nCPU_ONLINE CORE_0 1\n"
                                              for at, name in enumerate(("15W", "25W", "MAXN_SUPER", "7W"))))  # fmt: skip
    write(root / "var/lib/nvpmodel/status", "pmode:0001 fmode:quiet\n")
    write(root / "proc/swaps", "Filename\tType\n/dev/zram0\tpartition\t1\t0\t5\n")
    return root


def test_facts_of_a_board(visit: Visit) -> None:
    root = orin_nano(visit.root)
    outcome = only(steps.facts(replace(visit, board=detect(root))))
    assert outcome.text == f"{NANO}, jetson-orin-nano-8gb, L4T (36, 4, 4), mode 25W"
    for words in ("REVISION: 4.4", "p3767-0005-super", "/dev/zram0", "ID=3 NAME=7W", "pmode:0001"):
        assert words in outcome.output
    assert "CPU_ONLINE" not in outcome.output


def test_modes_of_a_board(visit: Visit) -> None:
    """Those that switch multiprocessors off are named with what to type."""
    root = orin_nano(visit.root)
    outcome = only(steps.modes(replace(visit, board=detect(root))))
    assert outcome.status == "skipped"
    assert "sudo nvpmodel -m 3 (7W, 4 multiprocessors)" in outcome.text
    assert "multiprocessors was 8" in outcome.text
    assert only(steps.modes(visit)).text == "this machine has none that edgevit knows"


def test_cameras_of_a_board(visit: Visit) -> None:
    """A CSI sensor once, each USB camera by its first node, no codec."""
    for number, name in enumerate(("vi-output, imx219 9-0010", "vi-output, imx219 10-0010", "HD Webcam", "HD Webcam")):
        video_node(visit.root, number, name, "")
    write(visit.root / "sys/class/video4linux/video2/index", "0\n")
    write(visit.root / "sys/class/video4linux/video3/index", "1\n")
    video_node(visit.root, 10, "bcm2835-codec-decode", "")
    assert steps._cameras_here(visit) == ["csi://0", "2"]


def fake_trtexec(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    program = folder / "trtexec"
    program.write_text(
        f'#!/bin/sh\nfor word in "$@"; do case "$word" in --onnx=*) [ -s "${{word#--onnx=}}" ] || exit 9;; esac; done\n{text}'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(trtexec, "PLACE", str(folder / "nowhere"))


def test_trtexec(visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its lines say: medians, fused attention, and whether it passed; the loop is held against the first."""
    layers = "echo 'Name: /blocks.0/attn_gemm_mha_v2, LayerType: kgen'\n" * 2
    fake_trtexec(tmp_path, monkeypatch, f"{layers}cat <<'END'\n{TIMES}END\n")
    here = for_tensorrt(visit)
    first, second = trtexec.trtexec(here)
    blocks = len(visit.bundle.manifest.blocks)
    assert first.text == f"exit code 0; compute 4.875 ms, enqueue 1.375 ms, 2 layers of fused attention for {blocks} blocks"
    assert (first.status, second.status, here.found) == ("passed", "passed", {COMPUTE: 4.875})
    assert "--stronglyTyped" in first.command
    assert "--useCudaGraph" in second.command


def test_trtexec_that_fails(visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_trtexec(tmp_path, monkeypatch, "echo '&&&& FAILED TensorRT.trtexec'; exit 1\n")
    first, second = trtexec.trtexec(for_tensorrt(visit))
    assert (first.status, second.status) == ("failed", "failed")
    assert "FAILED" in first.output


def test_trtexec_that_is_not_there(visit: Visit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = only(trtexec.trtexec(for_tensorrt(visit)))
    assert (outcome.status, "sudo apt install libnvinfer-bin" in outcome.text) == ("skipped", True)


def test_medians() -> None:
    assert (median_ms(TIMES, "GPU Compute Time"), median_ms(TIMES, "Enqueue Time")) == (4.875, 1.375)
    assert median_ms("nothing", "Enqueue Time") is None


def test_pycuda_that_does_not_load(visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "broken/pycuda/__init__.py", "raise ImportError('libcuda.so.1: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'broken'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    outcome = only(steps.pycuda(for_tensorrt(visit)))
    assert (outcome.status, "libcuda.so.1" in outcome.text) == ("failed", True)


# --- the report and the command --------------------------------------------------------------------------------------


def test_report(tmp_path: Path) -> None:
    """A table, each step with its command and output; no home folder, no escape sequence, no password."""
    done = run(["sh", "-c", f"printf 'at {Path.home()}/x \\033[31m|\\n'"], 10, folder=tmp_path)
    text = markdown([done.outcome("a|b", "one\ntwo", good=False, expected="nothing"),
                     Outcome(step="c", status="skipped", text="absent")], version="9", bundle="b")  # fmt: skip
    assert text.startswith(ACCEPTANCE_MARK + "\n")
    assert "0 passed, 1 failed, 1 skipped" in text
    assert "| a\\|b | failed | one two |" in text
    assert "at ~/x \\x1b[31m|" in text
    assert f"{Path.home()}/" not in text


def test_command(edgevit, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is said, all are in the report, and one that fails is exit code 1; nothing is left in the temporary folder."""
    monkeypatch.setattr(steps, "STEPS", (steps.facts, steps.trtexec, steps.cameras))
    monkeypatch.setattr(steps, "CAMERA_FRAMES", 5)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    report = tmp_path / "report.md"
    outcome = edgevit("doctor", bundle_path, "--acceptance", "--source", "test://64x48@200", "-o", report)
    assert outcome.code in (0, 1), outcome.stderr
    assert "passed   facts: " in outcome.stdout
    assert outcome.stdout.splitlines()[-1].endswith(f"{report} has all of it, to be read and sent")
    assert report.read_text().startswith(ACCEPTANCE_MARK)
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]
    monkeypatch.setattr(steps, "STEPS", (lambda _: iter([Outcome(step="x", status="failed", text="no")]),))
    outcome = edgevit("doctor", bundle_path, "--acceptance", "-o", report, "--json")
    assert (outcome.code, outcome.json["outcomes"][0]["status"]) == (1, "failed")
    assert "failed   x: no" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--acceptance"], "--acceptance: tries a bundle. Name it: edgevit doctor BUNDLE --acceptance"),
        (["--source", "0"], "--source: belongs to --acceptance"),
        (["-o", "x.md"], "-o: belongs to --acceptance"),
    ],
)
def test_wrong_options(edgevit, arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = edgevit("doctor", *arguments)
    assert outcome.code == 2
    assert words in outcome.stderr
    assert list(tmp_path.iterdir()) == []
