"""The load that a comparison states is the machine's, not that of the work that led to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgevit.cache import Cache
from edgevit.commands.build import run_build
from edgevit.commands.build_request import BuildRequest
from edgevit.commands.compare_field import find_field
from edgevit.commands.compare_request import Request
from edgevit.commands.prune import prune_checkpoint
from edgevit.commands.steps import Prune
from edgevit.measure import machine
from edgevit.progress import Progress, Stage
from edgevit.pruning.settings import PruneSettings
from edgevit.recipe import load_recipe
from edgevit.target import load_target
from edgevit.workbench import Workbench

QUIET, BUSY = 0.25, 2.0


class Working(Progress):
    """From its first stage on, the machine is busy: with this."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.busy = False
        monkeypatch.setattr(machine, "load", lambda: BUSY if self.busy else QUIET)

    def begin(self, stage: Stage) -> None:
        self.busy = True


@pytest.fixture
def request_to(checkpoint_path: Path, image_folder: Path, tmp_path: Path) -> Callable[..., BuildRequest]:
    def make(name: str, **changes: object) -> BuildRequest:
        return BuildRequest(model=checkpoint_path, target=load_target("cpu"), recipe=load_recipe("fast"), data=image_folder,
                            out=tmp_path / name, threads=1, **changes)  # type: ignore[arg-type]  # fmt: skip

    return make


def test_of_a_build(request_to: Callable[..., BuildRequest], monkeypatch: pytest.MonkeyPatch) -> None:
    working = Working(monkeypatch)
    result = run_build(request_to("out.edgevit"), Cache(), working)
    assert working.busy
    assert result.comparison.conditions["load"] == QUIET
    assert result.bundle.manifest.latency["conditions"]["load"] == QUIET


def test_of_pruning(request_to: Callable[..., BuildRequest], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = PruneSettings(share=0.2, multiple=8)
    done = prune_checkpoint(
        request_to("out.safetensors", smaller=(Prune(asked),), precision="fp32"), Cache(), Working(monkeypatch)
    )
    assert done.comparison.conditions["load"] == QUIET


def test_of_a_comparison(checkpoint_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are quantized before it."""
    working, cache = Working(monkeypatch), Cache()
    bench = Workbench(cache=cache, progress=working, threads=1)
    field = find_field(Request(models=(checkpoint_path,), data=image_folder, recipe=load_recipe("fast")), bench)
    assert working.busy
    checked = field.checked(engines=("onnxruntime",), bench=bench)
    found = checked.compare(runs=5, bench=bench)
    assert found.conditions["load"] == QUIET
