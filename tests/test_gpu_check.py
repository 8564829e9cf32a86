"""The GPU check: what is packed comes whole, steps are held to their limits and told apart, and without a GPU all is skipped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.on_gpu import packing
from benchmarks.on_gpu.running import Figure, Report, Row, SkippedError, Step, do, document, run_step, run_steps, table
from benchmarks.on_gpu.tests import gpu_test_files
from tests.support import ROOT

SCRIPT = ROOT / "benchmarks" / "gpu_check.py"


def python(code: str) -> Callable[[Path], list[str]]:
    """A step's command: Python, with the path of its report as argument."""
    return lambda path: [sys.executable, "-c", code, str(path)]


def packed(folder: Path, *, part: int = 1000) -> dict[str, bytes]:
    """A packed folder of three files, one of them of several parts."""
    files = {"small.whl": b"small", "exact.whl": bytes(1000), "large.whl": os.urandom(2500)}
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    packing.write_contents(folder, part)
    return files


def test_what_is_packed_comes_whole(tmp_path: Path) -> None:
    files = packed(tmp_path / "pack")
    assert {path.name for path in (tmp_path / "pack").iterdir()} == {
        "small.whl", "exact.whl", "large.whl.part00", "large.whl.part01", "large.whl.part02", "pack.json",
    }  # fmt: skip
    assert max(path.stat().st_size for path in (tmp_path / "pack").glob("*.whl*")) == 1000
    joined = packing.join(tmp_path / "pack", tmp_path / "out")
    assert {path.name: path.read_bytes() for path in joined} == files


def test_a_folder_may_be_read_only(tmp_path: Path) -> None:
    packed(tmp_path / "pack")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "pack").iterdir()}
    packing.join(tmp_path / "pack", tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "pack").iterdir()} == before


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "large.whl.part01").unlink(), r"large\.whl lacks large\.whl\.part01"),
        (lambda folder: (folder / "large.whl.part01").write_bytes(b"x"), r"large\.whl is not what was packed"),
        (lambda folder: (folder / "pack.json").write_text("{"), r"pack\.json: cannot be read"),
        (lambda folder: (folder / "pack.json").unlink(), r"pack\.json: cannot be read .*gpu_check\.py pack"),
    ],
    ids=["a part is missing", "a part is damaged", "the list is cut off", "there is no list"],
)
def test_what_is_not_whole_is_refused(tmp_path: Path, harm: Callable[[Path], object], said: str) -> None:
    packed(tmp_path / "pack")
    harm(tmp_path / "pack")
    with pytest.raises(ValueError, match=said):
        packing.join(tmp_path / "pack", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("opencv_python_headless-5.0.0.93-cp37-abi3-manylinux_2_28_x86_64.whl", "opencv_python_headless"),
        ("pycuda-2026.1.tar.gz", "pycuda"),
        ("opencv-python-headless>=4.8", "opencv_python_headless"),
        ("ml.dtypes", "ml_dtypes"),
        ("Mako", "mako"),
    ],
)
def test_names_of_distributions(name: str, found: str) -> None:
    assert packing.distribution(name) == found


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit, match="is not empty"):
        packing.pack(tmp_path, python="3.12")


@pytest.mark.slow
def test_pack(tmp_path: Path) -> None:
    """The real thing, without what is large: wheels for the other machine, pycuda as source, and what was left out."""
    without = ["numpy", "onnx", "onnxruntime", "opencv-python-headless"]
    try:
        packing.pack(tmp_path / "pack", python="3.12", leave_out=without)
    except SystemExit as error:
        pytest.skip(f"no package index: {error}")
    names = list(json.loads((tmp_path / "pack" / "pack.json").read_text()))
    assert [name for name in names if name.endswith(".tar.gz")] == [name for name in names if name.startswith("pycuda-")] != []
    assert {"msgspec", "pytest", "pip", "mako"} <= {packing.distribution(name) for name in names}
    assert not {"numpy", "onnx", "onnxruntime", "opencv_python_headless"} & {packing.distribution(name) for name in names}
    assert all("cp312" in name or "abi3" in name or "-none-any" in name for name in names if name.endswith(".whl")), names


def test_a_step_that_is_done(tmp_path: Path) -> None:
    def fine(report: Report) -> None:
        report.figure("frames per second", 123.456)

    report = Report(path=tmp_path / "r.json", work=tmp_path)
    assert do(Step(name="fine", does=fine, limit_s=9), report) == 0
    told = json.loads(report.path.read_text())
    assert (told["result"], told["figures"]) == ("ok", [{"name": "frames per second", "value": 123.456, "unit": ""}])


def test_a_step_that_cannot_be_done_or_fails(tmp_path: Path) -> None:
    def cannot(_report: Report) -> None:
        msg = "no such thing here"
        raise SkippedError(msg)

    def fails(_report: Report) -> None:
        msg = "two\nlines"
        raise ValueError(msg)

    report = Report(path=tmp_path / "r.json", work=tmp_path)
    assert do(Step(name="cannot", does=cannot, limit_s=9), report) == 0
    assert (report.result, report.reason) == ("skipped", "no such thing here")
    with pytest.raises(ValueError, match="two"):
        do(Step(name="fails", does=fails, limit_s=9), report)
    assert json.loads(report.path.read_text())["reason"] == "ValueError: two lines"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.abort()", "it ended with SIGABRT: nothing was said"),
        ("import os, signal; print('so far', flush=True); os.kill(os.getpid(), signal.SIGSEGV)", "it ended with SIGSEGV: so far"),
        ("import sys; sys.exit('no module of that name')", "it ended with exit code 1: no module of that name"),
        ("pass", "it ended with exit code 0: nothing was said"),
        ("import sys; open(sys.argv[1], 'w').write('{')", "it ended with exit code 0: nothing was said"),
    ],
    ids=["abort", "crash", "exit", "no report", "half a report"],
)
def test_a_step_that_crashes_is_one_row(tmp_path: Path, code: str, reason: str) -> None:
    row = run_step("bad", python(code), tmp_path, 30)
    assert (row.result, row.reason) == ("failed", reason)


def test_a_crash_after_all_was_said_is_a_failure(tmp_path: Path) -> None:
    """An abort() at the interpreter's end is what pycuda does, after correct output."""
    said = {"result": "ok", "reason": "", "figures": []}
    code = f"import os, sys; open(sys.argv[1], 'w').write({json.dumps(said)!r}); os.abort()"
    assert run_step("bad", python(code), tmp_path, 30).reason == "it ended with SIGABRT: nothing was said"


def test_a_step_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """And what it had found is kept."""
    said = {"result": "running", "reason": "", "figures": [{"name": "so far", "value": 1, "unit": "s"}]}
    code = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open({str(tmp_path / "child")!r}, "w").write(str(child.pid))
open(sys.argv[1], "w").write({json.dumps(said)!r})
time.sleep(60)
"""
    start = time.monotonic()
    row = run_step("hangs", python(code), tmp_path, 2)
    assert time.monotonic() - start < 10
    assert (row.result, row.reason, row.figures) == ("failed", "it took longer than 2 s", (Figure("so far", 1, "s"),))
    state = Path(f"/proc/{(tmp_path / 'child').read_text()}/stat")
    for _ in range(50):
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("what it started is still running")


def steps(*names: str, **needs: tuple[str, ...]) -> list[Step]:
    def nothing(_report: Report) -> None:
        pytest.fail("a step runs in its own process")

    return [Step(name=name, does=nothing, limit_s=30, needs=needs.get(name, ())) for name in names]


def test_steps_go_on_after_one_that_failed(tmp_path: Path) -> None:
    codes = {"first": "import os; os.abort()"}
    ok = 'import sys; open(sys.argv[1], \'w\').write(\'{"result": "ok", "reason": "", "figures": []}\')'
    rows = list(
        run_steps(
            steps("first", "second", "third", "last", third=("second", "first")),
            lambda step, path: python(codes.get(step.name, ok))(path),
            tmp_path,
            60,
        )
    )
    assert [(row.step, row.result) for row in rows] == [
        ("first", "failed"),
        ("second", "ok"),
        ("third", "skipped"),
        ("last", "ok"),
    ]
    assert rows[2].reason == "needs first, which was failed"


def test_all_steps_together_keep_to_the_limit(tmp_path: Path) -> None:
    start = time.monotonic()
    sleeping = python("import time; time.sleep(60)")
    rows = list(run_steps(steps("first", "second"), lambda _step, path: sleeping(path), tmp_path, 4))
    assert time.monotonic() - start < 12
    assert [(row.result, row.reason) for row in rows] == [
        ("failed", "it took longer than 4 s"), ("skipped", "no time was left of 4 s"),
    ]  # fmt: skip


def test_the_table() -> None:
    rows = [
        Row(step="speed", result="ok", seconds=12.34, figures=(Figure("frame", 0.12345, "ms"), Figure("graph", "used"))),
        Row(step="rtx", result="skipped", reason="no Python module tensorrt_rtx"),
    ]
    assert table(rows).splitlines() == [
        "step   result   seconds",
        "speed  ok          12.3",
        "       frame 0.1235 ms",
        "       graph used",
        "rtx    skipped      0.0",
        "       no Python module tensorrt_rtx",
    ]
    assert json.loads(json.dumps(document(rows, 480)))["steps"][0]["figures"][0] == {
        "name": "frame",
        "value": 0.12345,
        "unit": "ms",
    }


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has a GPU")
def test_without_a_gpu_all_is_skipped_and_said(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "run", "--out", str(tmp_path / "found.json"), "--work", str(tmp_path / "work")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "no NVIDIA GPU, or no driver for it" in done.stdout
    assert "not checked here: machine, environment, pycuda, tests, speed, memory, prune, finetune, rtx" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert {row["result"] for row in found["steps"]} == {"skipped"}
    assert len(found["steps"]) == 9


def test_it_begins_with_pythons_own_modules(tmp_path: Path) -> None:
    """The machine lacks what it brings; -S and -I leave out every package that is installed here."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import runpy; runpy.run_path({str(SCRIPT)!r})"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


def test_it_runs_every_file_with_tests_for_a_gpu() -> None:
    """As pytest itself finds them, by their mark."""
    found = {str(path) for path in gpu_test_files()}
    assert {"tests/engine/test_on_gpu.py", "tests/engine/test_tensorrt_session.py", "tests/quantize/test_devices.py"} <= found
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "gpu", "-p", "no:cacheprovider", *sorted(found)]
    own = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}  # -v would print another list
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False, env=own)
    assert {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line} == found, done.stdout[-2000:]


@pytest.mark.skipif(shutil.which("ptxas") is None, reason="no ptxas, which CUDA's compiler comes with")
@pytest.mark.parametrize("architecture", ["sm_75", "sm_87", "sm_90", "sm_110", "sm_120"])
def test_the_kernels_assemble(architecture: str) -> None:
    """For a Jetson Orin and Thor, and for every generation of cards that is named: the driver's compiler is the same."""
    kernels = ROOT / "tests" / "engine" / "cuda_kernels.ptx"
    done = subprocess.run(
        ["ptxas", "-arch", architecture, "-o", os.devnull, kernels], capture_output=True, text=True, check=False
    )
    if "is not defined" in done.stderr or "not supported" in done.stderr:
        pytest.skip(f"this ptxas knows no {architecture}")
    assert done.returncode == 0, done.stderr
