"""Messages about packages that are missing: what they tell to do does help on this processor."""

from __future__ import annotations

import re

import pytest

from edgevit.engine.openvino import OpenVino
from edgevit.errors import X86_ALONE, MissingPackageError, needs_extra
from tests.arm.wheels import PROJECT


def refusal(module: str) -> str:
    with pytest.raises(MissingPackageError) as caught, needs_extra("cpu"):
        raise ModuleNotFoundError(name=module)
    return str(caught.value)


def test_packages_for_one_processor_alone() -> None:
    """Those whose line in pyproject.toml says so."""
    lines = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    assert {re.split(r"[^\w-]", line)[0] for line in lines if "platform_machine" in line} == set(X86_ALONE)


def test_openvino_on_a_pc() -> None:
    assert refusal("openvino").endswith("which is not installed. Install it with: pip install 'edgevit[cpu]'")


def test_openvino_on_an_arm_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its wheels come with no extra there: pip would be told to install what is installed."""
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("edgevit.engine.base.find_spec", lambda _: None)
    assert refusal("openvino").endswith("brings none for aarch64, where ONNX Runtime runs bundles: --engine onnxruntime")
    assert OpenVino().lacking() == "no Python module openvino"
    assert refusal("onnxruntime").endswith("pip install 'edgevit[cpu]'")
