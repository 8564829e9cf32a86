"""What a build takes is said before it begins, and what cannot fit is refused then."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevit.commands import expected as module
from edgevit.commands.build_arguments import build_request
from edgevit.commands.build_inputs import read_inputs
from edgevit.commands.expected import GIB, expected_memory, expected_seconds
from edgevit.progress import Progress
from tests.support import Outcome


def seconds_of(model: Path, **arguments: object) -> float:
    request = build_request(model, **arguments)  # type: ignore[arg-type]
    return expected_seconds(request, read_inputs(request, Progress()))


def test_a_dry_run_says_it(
    edgevit: Callable[..., Outcome], checkpoint_path: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "free_memory", lambda: 20 * GIB)
    command = ("build", checkpoint_path, "--data", image_folder, "-o", tmp_path / "o.edgevit", "--dry-run")
    assert "of memory; 20.0 GiB are free" in " ".join(edgevit(*command).stdout.split())
    (row,) = [stage for stage in json.loads(edgevit(*command, "--json").stdout) if stage["name"] == "in all"]
    assert row["what"].startswith("about ")
    more = edgevit(*command, "--prune", 0.2).stdout
    assert "beside what makes it smaller" in " ".join(more.split())


def test_what_cannot_fit_is_refused_before_work(
    edgevit: Callable[..., Outcome], checkpoint_path: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "free_memory", lambda: GIB // 2)
    out = tmp_path / "o.edgevit"
    done = edgevit("build", checkpoint_path, "--data", image_folder, "-o", out)
    assert done.code == 2
    assert "takes at least 0.8 GiB of memory, and 0.5 GiB are free here. Close other programs" in done.stderr
    assert "quantize" not in done.stderr
    assert not out.exists()
    pruned = edgevit("prune", checkpoint_path, "--data", image_folder, "--share", 0.2, "-o", tmp_path / "o.safetensors")
    assert pruned.code == 2
    assert "takes at least" in pruned.stderr
    assert "score" not in pruned.stderr
    monkeypatch.setattr(module, "free_memory", lambda: None)  # a system that does not tell refuses nothing
    assert edgevit("build", checkpoint_path, "--data", image_folder, "-o", out, "--recipe", "fast").code == 0


def test_more_work_takes_longer(checkpoint_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_rate", lambda: 1e9)
    fast, default, best = (
        seconds_of(checkpoint_path, data=image_folder, recipe=recipe) for recipe in ("fast", "default", "best")
    )
    assert 0 < seconds_of(checkpoint_path, data=image_folder, precision="fp32") < fast < default < best
    request = build_request(checkpoint_path, data=image_folder)
    memory = expected_memory(read_inputs(request, Progress()))
    assert memory.least < memory.peak
