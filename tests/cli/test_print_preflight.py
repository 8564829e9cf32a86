"""What `edgevit build` prints of a compiled plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgevit.bundle import ENGINE
from edgevit.cli.preflight import print_preflight
from edgevit.commands.target_graph import Compiled
from edgevit.engine.tensorrt import BuiltEngine
from edgevit.export.variants import Variant
from edgevit.plan.preflight import read_plan
from edgevit.plan.roofline import best_estimates, estimates
from edgevit.target import Target, load_target
from tests.plan.plans import recorded

ORIN = load_target("jetson-orin-nano-8gb")


def printed(capsys: pytest.CaptureFixture[str], target: Target, **files: bytes) -> str:
    built = BuiltEngine(
        engine=b"engine", timing_cache=b"", layers=recorded("int8"), inspector=None, warnings=(), version="tensorrt 10.3",
        seconds=1.0, peak_mib=1.0,
    )  # fmt: skip
    found = read_plan(built, blocks=2)
    boards = [load_target(name) for name in target.boards]
    estimated = best_estimates(found.plan, boards) if boards else estimates(found.plan, target)
    variant = Variant(precision="int8", model=b"", blocks=(), report={})
    print_preflight(Compiled(variant=variant, files=files, preflight=found, estimates=estimated), target)
    return capsys.readouterr().out


def test_only_a_stand_in_is_called_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Plan of tensorrt 10.3, compiled in 1.0 s: a stand-in for the device's own" in " ".join(printed(capsys, ORIN).split())
    assert "stand-in" not in printed(capsys, ORIN, **{ENGINE: b"engine"})


def test_modes_of_super_are_told_apart_and_assumptions_fit_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, ORIN)
    assert "MAXN_SUPER (super)" in out
    said = out[out.index("Estimated, not measured.") :].splitlines()
    assert len(said) > 1
    assert all(len(line) <= 80 for line in said)
    assert "not validated" not in out
    assert "no estimate" not in out


def test_a_gpu_that_is_no_orin_is_not_validated(capsys: pytest.CaptureFixture[str]) -> None:
    out = " ".join(printed(capsys, load_target("rtx-ada")).split())
    assert out.endswith("not validated on this kind of GPU.")


def test_a_target_without_clocks_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, replace(ORIN, modes=()))
    assert out.splitlines()[-1] == "no estimate: no clocks or bandwidth known for jetson-orin-nano-8gb"
    assert "Estimated" not in out
