"""Fixtures: NVIDIA's builder on a machine without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tensorrt import testbed


@pytest.fixture(scope="session")
def testbed_folder() -> Path:
    """What goes on PYTHONPATH. Skips where the machine cannot have it; a failure to install is a failure."""
    if reason := testbed.unsupported():
        pytest.skip(f"no TensorRT test bed: {reason}")
    try:
        return testbed.make(testbed.default_folder())
    except subprocess.CalledProcessError as error:
        pytest.fail(f"the TensorRT test bed cannot be made: {error.stderr[-1000:]}")


@pytest.fixture
def builder(testbed_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """TensorRT's builder, here and in child processes."""
    monkeypatch.syspath_prepend(str(testbed_folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(testbed_folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
    yield testbed_folder
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tensorrt", "tensorrt_bindings")]:
        del sys.modules[name]
