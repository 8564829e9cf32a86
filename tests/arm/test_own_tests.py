"""The project's own tests of what only a board does, run on Arm by its own Python: files, sensors, arithmetic without torch."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.arm.machine import Arm
from tests.support import ROOT

pytestmark = pytest.mark.slow
FILES = (
    "tests/device/test_cameras.py", "tests/device/test_jetson.py", "tests/device/test_memory.py",
    "tests/device/test_processor.py", "tests/device/test_tegrastats.py", "tests/device/test_telemetry.py",
    "tests/runtime/test_smoothing.py",
    "tests/runtime/test_summary.py", "tests/test_cache.py", "tests/test_part.py", "tests/test_recipe_target.py",
)  # fmt: skip
CHECKOUT = ("edgevit", "tests", "calibration", "targets", "pyproject.toml")


def test_on_arm(arm: Arm, tmp_path: Path) -> None:
    for name in CHECKOUT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path)
    pytest_there = ("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *FILES)
    done = arm.run(
        "sh", "-c", 'cd "$0" && exec "$@"', tmp_path, *pytest_there,
        seconds=1200, environment={"LANG": "C.UTF-8", "PYTHONPATH": arm.there(tmp_path)},
    )  # fmt: skip
    assert done.code == 0, done.stdout[-4000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 200
