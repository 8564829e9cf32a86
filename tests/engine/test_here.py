"""Whether this machine is the target, from files as the machines themselves have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevit.bundle import open_bundle
from edgevit.engine import here
from edgevit.engine.here import elsewhere, is_here, is_home, proxy_engine_of
from edgevit.errors import MissingPackageError
from edgevit.model.checkpoint import load_checkpoint
from edgevit.pruning.layer_times import costs_on
from edgevit.target import load_target
from edgevit.workbench import Workbench
from tests.support import Outcome

PI = "processor\t: 3\nBogoMIPS\t: 108.00\nCPU part\t: 0xd0b\n\nRevision\t: d04170\nSerial\t\t: 1\nModel\t\t: {}\n"
X86 = "processor\t: 0\nmodel\t\t: 190\nmodel name\t: {}\ncpu MHz\t\t: 800\n"
TARGETS = ("raspberry-pi-5", "intel-n100")


def machine(root: Path, *, tree: str = "", cpuinfo: str = "") -> Path:
    """A file system with what the kernel says of a machine."""
    (root / "proc/device-tree").mkdir(parents=True)
    (root / "proc/cpuinfo").write_text(cpuinfo)
    if tree:
        (root / "proc/device-tree/model").write_text(f"{tree}\0")
    return root


@pytest.mark.parametrize(
    ("arch", "tree", "cpuinfo", "target"),
    [
        ("aarch64", "Raspberry Pi 5 Model B Rev 1.0", PI.format("Raspberry Pi 5 Model B Rev 1.0"), "raspberry-pi-5"),
        ("aarch64", "Raspberry Pi Compute Module 5 Rev 1.0", "", "raspberry-pi-5"),
        ("aarch64", "Raspberry Pi 500 Rev 1.0", "", "raspberry-pi-5"),
        # A container sees no device tree.
        ("aarch64", "", PI.format("Raspberry Pi 5 Model B Rev 1.1"), "raspberry-pi-5"),
        ("aarch64", "Raspberry Pi 4 Model B Rev 1.4", PI.format("Raspberry Pi 4 Model B Rev 1.4"), None),
        ("aarch64", "Radxa ROCK 5B", "", None),
        ("armv7l", "Raspberry Pi 5 Model B Rev 1.0", "", None),
        ("x86_64", "", X86.format("Intel(R) N100"), "intel-n100"),
        ("x86_64", "", X86.format("Intel(R) N1000"), None),
        ("x86_64", "", X86.format("AMD EPYC 7763 64-Core Processor"), None),
        ("x86_64", "", "", None),
    ],
)
def test_which_machine_this_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arch: str, tree: str, cpuinfo: str, target: str | None
) -> None:
    monkeypatch.setattr("platform.machine", lambda: arch)
    root = machine(tmp_path, tree=tree, cpuinfo=cpuinfo)
    assert [name for name in TARGETS if is_here(load_target(name), root)] == ([target] if target else [])
    assert is_here(load_target("cpu"), root)
    for name in TARGETS:
        document = load_target(name).to_dict()
        engine = load_target(name).engine()
        assert is_home(engine, json.loads(json.dumps(document)), root) == (name == target)
        # As bundles were written before targets had a machine.
        assert is_home(engine, {key: value for key, value in document.items() if key != "machine"}, root) == (name == target)


def test_a_target_of_ones_own_is_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('description = "mine"\nprecisions = ["fp32"]\n[engine]\ndefault = "onnxruntime"\n')
    target = load_target(str(path))
    assert is_here(target)
    assert elsewhere(target) is None
    assert is_home("onnxruntime", target.to_dict())


def test_the_engine_is_looked_up_by_the_targets_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'description = "mine"\nprecisions = ["fp32"]\n[engine]\ndefault = "openvino"\naarch64 = "onnxruntime"\n'
        '[machine]\narch = "aarch64"\n'
    )
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert load_target(str(path)).engine() == "onnxruntime"
    assert load_target(str(path)).engine("x86_64") == "openvino"


def test_what_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target's own engine where it is installed, else what this machine's CPU has."""
    monkeypatch.setattr(here, "is_here", lambda *_: False)
    assert proxy_engine_of(load_target("raspberry-pi-5")) == "onnxruntime"
    assert proxy_engine_of(load_target("jetson")) == load_target("cpu").engine()

    def missing(_name: str) -> Any:
        msg = "not installed"
        raise MissingPackageError(msg)

    monkeypatch.setattr(here, "backend", missing)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert proxy_engine_of(load_target("intel-n100")) == "onnxruntime"


@pytest.fixture
def not_a_pi(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests may run on one."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


def test_a_bundle_for_a_pi_has_no_other_machines_milliseconds(
    not_a_pi: None, edgevit: Callable[..., Outcome], checkpoint_path: Path, image_folder: Path, tmp_path: Path
) -> None:
    """Accuracy is measured and says by what; no latency is written, and `compare` of the bundle prints none."""
    out = tmp_path / "pi.edgevit"
    done = edgevit("build", checkpoint_path, "--data", image_folder, "--recipe", "fast", "--target", "raspberry-pi-5", "-o", out)
    assert done.code == 0, done.stderr
    manifest = open_bundle(out).manifest
    assert manifest.latency is None
    assert manifest.accuracy is not None
    assert manifest.accuracy["int8"]["agreement"] > 0.8
    assert manifest.accuracy["conditions"]["engine"].startswith("onnxruntime")
    assert "raspberry-pi-5: this machine" in done.stderr
    assert "is another, so accuracy is measured on onnxruntime, and no speed" in done.stderr
    assert "faster" not in done.stdout
    planned = edgevit("build", checkpoint_path, "--data", image_folder, "--target", "raspberry-pi-5", "-o", out, "--dry-run")
    assert "measure latency" not in planned.stdout
    compared = edgevit("compare", out, "--data", image_folder, "--json")
    assert compared.code == 0, compared.stderr
    assert [row["latency"] for row in compared.json["rows"]] == [None, None]
    assert (
        "this machine is no raspberry-pi-5: compared on onnxruntime; not timed without --engines onnxruntime"
        in (compared.json["notes"])
    )
    timed = edgevit("compare", out, "--data", image_folder, "--engines", "onnxruntime", "--runs", 5, "--json").json
    assert all(row["latency"] for row in timed["rows"])


def test_a_checkpoint_compared_for_a_pi(
    not_a_pi: None, edgevit: Callable[..., Outcome], checkpoint_path: Path, image_folder: Path
) -> None:
    """The help promises no milliseconds of this machine."""
    done = edgevit("compare", checkpoint_path, "--data", image_folder, "--recipe", "fast", "--target", "raspberry-pi-5", "--json")
    assert done.code == 0, done.stderr
    assert [row["latency"] for row in done.json["rows"]] == [None, None]
    assert any("and no speed without --engines" in note for note in done.json["notes"])


def test_another_cpu_is_not_optimised_for(not_a_pi: None, checkpoint_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pruning for a Pi elsewhere goes by arithmetic; for this machine's CPU by what it measures."""
    monkeypatch.setattr("edgevit.pruning.layer_times.measured", lambda *_, **__: pytest.fail("timed on another machine"))
    bench = Workbench(target=load_target("raspberry-pi-5"), threads=1)
    costs = costs_on(bench, load_checkpoint(checkpoint_path).model.config, "int8")
    assert costs.source == "multiply-accumulates"


def test_an_engine_that_only_the_target_has(
    edgevit: Callable[..., Outcome], checkpoint_path: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an Arm machine without OpenVINO a bundle for an N100 is built, checked by ONNX Runtime, and says what was not tried."""
    import sys

    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setitem(sys.modules, "openvino", None)
    out = tmp_path / "n100.edgevit"
    done = edgevit("build", checkpoint_path, "--data", image_folder, "--recipe", "fast", "--target", "intel-n100", "-o", out)
    assert done.code == 0, done.stderr
    manifest = open_bundle(out).manifest
    assert (manifest.engine, manifest.latency) == ("openvino", None)
    assert any("whether the target's engine takes this graph is not checked" in note for note in manifest.notes)
