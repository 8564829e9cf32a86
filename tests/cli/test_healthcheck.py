"""``edgevit healthcheck``: a real bundle, a real run beside it."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgevit.bundle import open_bundle
from tests.support import COMMAND, Outcome, python

Edgevit = Callable[..., Outcome]


@contextmanager
def running(bundle: Path, source: str, state: Path) -> Iterator[subprocess.Popen[str]]:
    with python(COMMAND, "run", bundle, source, "--headless", "--state", state) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.communicate(timeout=60)


def test_samples(edgevit: Edgevit, bundle_path: Path, tmp_path: Path) -> None:
    outcome = edgevit("healthcheck", bundle_path)
    assert outcome.code == 0, outcome.stderr
    assert "computes the int8 graph as torch does" in outcome.stdout
    found = edgevit("healthcheck", bundle_path, "--json").json
    assert found["bundle"] == open_bundle(bundle_path).sha256
    assert found["run"] is None
    damaged = shutil.copytree(bundle_path, tmp_path / "b.edgevit")
    content = bytearray((damaged / "samples.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "samples.npz").write_bytes(content)
    assert edgevit("healthcheck", damaged).code == 5


def test_a_run(edgevit: Edgevit, bundle_path: Path, fp32_bundle_path: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with running(bundle_path, "test://64x48@20", state) as process:
        found = edgevit("healthcheck", bundle_path, "--state", state, "--no-samples", "--min-fps", 5, "--json")
        assert found.code == 0, found.stderr
        assert found.json["samples"] is None
        assert 5 <= found.json["run"]["fps"] <= 25
        other = edgevit("healthcheck", fp32_bundle_path, "--state", state, "--no-samples", "--within", 0)
        assert (other.code, "another bundle runs" in other.stderr) == (12, True)
        slow = edgevit("healthcheck", bundle_path, "--state", state, "--no-samples", "--within", 1, "--min-fps", 100)
        assert (slow.code, "and at least 100.0 are asked for" in slow.stderr) == (12, True)
        process.send_signal(signal.SIGSTOP)  # it hangs
        hanging = edgevit("healthcheck", bundle_path, "--state", state, "--no-samples", "--within", 2)
        assert (hanging.code, hanging.stderr.count("\n")) == (12, 1)
        assert "no frame since" in hanging.stderr
    ended = edgevit("healthcheck", bundle_path, "--no-samples", "--within", 0, "--state", state)
    assert (ended.code, "it ended with exit code 0" in ended.stderr) == (12, True)


@pytest.mark.parametrize("options", [["--no-samples"], ["--min-fps", 3]])
def test_options_that_check_nothing(edgevit: Edgevit, bundle_path: Path, options: list[object]) -> None:
    outcome = edgevit("healthcheck", bundle_path, *options)
    assert (outcome.code, outcome.stderr.count("\n")) == (2, 1)
    assert "--state" in outcome.stderr


def test_without_samples_in_the_bundle(edgevit: Edgevit, bundle_path: Path, tmp_path: Path) -> None:
    """An older one: that nothing was checked is said."""
    import json

    old = shutil.copytree(bundle_path, tmp_path / "old.edgevit")
    manifest = json.loads((old / "manifest.json").read_text())
    del manifest["files"]["samples.npz"]
    (old / "manifest.json").write_text(json.dumps(manifest))
    outcome = edgevit("healthcheck", old)
    assert outcome.code == 0, outcome.stderr
    assert "carries no samples" in outcome.stdout
