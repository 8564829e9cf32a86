"""The project's own tests that need a GPU."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.on_gpu.running import Report, SkippedError

ROOT = Path(__file__).parents[2]
MARK = re.compile(r"\bpytest\.mark\.gpu\b")


def gpu_test_files() -> list[Path]:
    """Files that hold tests marked ``gpu``: others may import what a bare machine lacks."""
    own = Path("tests/test_gpu_check.py")
    files = (path for path in sorted((ROOT / "tests").rglob("test_*.py")) if MARK.search(path.read_text(encoding="utf-8")))
    return [path.relative_to(ROOT) for path in files if path.relative_to(ROOT) != own]


def tests(report: Report) -> None:
    """``pytest -m gpu``."""
    results = report.work / "tests.xml"
    results.unlink(missing_ok=True)
    # What a newer torch or NumPy warns of is no fault of what is tested here.
    options = ["-m", "gpu", "-q", "-rfEs", "-p", "no:cacheprovider", "-W", "default", f"--junitxml={results}", "--durations=5"]
    code = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *map(str, gpu_test_files())], cwd=ROOT, check=False
    ).returncode
    if not results.is_file():
        msg = f"pytest ended with exit code {code} and no results"
        raise RuntimeError(msg)
    cases = list(ElementTree.parse(results).iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    report.figure("passed", len(cases) - len(failed) - len(skipped))
    report.figure("failed", len(failed))
    report.figure("skipped", len(skipped))
    for reason in sorted({str(case.find("skipped").get("message")) for case in skipped}):  # type: ignore[union-attr]
        report.figure("skipped for", reason)
    if failed or code not in (0, 5):
        names = ", ".join(f"{case.get('name')}" for case in failed[:8])
        msg = f"{len(failed)} failed: {names}" if failed else f"pytest ended with exit code {code}"
        raise RuntimeError(msg)
    if len(cases) == len(skipped):
        msg = "every one of them was skipped"
        raise SkippedError(msg)
