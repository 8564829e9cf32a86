"""What a variant is on its device: read from a manifest that anybody may have written, shown as a table."""

from __future__ import annotations

from typing import Any

import pytest

from edgevit.plan.device_plan import device_lines, device_plan, device_table


def estimate(target: str, mode: str, milliseconds: float, conf: str = "standard") -> dict[str, Any]:
    """As a manifest has it."""
    return {"target": target, "mode": mode, "milliseconds": milliseconds, "compute_bound": 0.5, "memory_bound": 0.4,
            "launches": 0.1, "conf": conf}  # fmt: skip


def compiled(*estimates: dict[str, Any], kernels: int = 112, stand_in: bool = True) -> dict[str, Any]:
    """As a manifest has it."""
    plan = {"builder": "tensorrt 11.4", "stand_in": stand_in, "kernels": kernels, "int8_share": 0.99, "megabytes": 84.3,
            "fused_attention": 12}  # fmt: skip
    return {"plan": plan, "estimates": list(estimates), "assumptions": ["nothing stays in a cache"]}


def test_the_best_is_of_the_first_board() -> None:
    """The fastest mode of one board: another board's would be another question."""
    plan = device_plan(compiled(estimate("nano", "15W", 2.7), estimate("nano", "25W", 2.0), estimate("agx", "50W", 0.9)))
    assert plan is not None
    assert plan.best is not None
    assert (plan.best.target, plan.best.mode) == ("nano", "25W")
    empty = device_plan(compiled())
    assert empty is not None
    assert empty.best is None


@pytest.mark.parametrize(
    "strange",
    [None, {}, {"plan": None}, {"plan": []}, {"plan": {"kernels": None}}, {"plan": {"kernels": "many", "megabytes": 1}},
     {"plan": {"kernels": 3, "megabytes": 1, "int8_share": {}}}, {"plan": {"kernels": 3, "megabytes": 1}, "estimates": 5}],
)  # fmt: skip
def test_a_plan_that_cannot_be_read(strange: Any) -> None:
    assert device_plan(strange) is None


@pytest.mark.parametrize(
    "strange", [None, 3, {}, {"target": "a", "mode": "b", "milliseconds": "x"}, {"target": "a", "mode": "b", "milliseconds": -1},
                {"target": "a", "mode": "b", "milliseconds": float("nan")}]
)  # fmt: skip
def test_an_estimate_that_cannot_be_read_is_left_out(strange: Any) -> None:
    document = compiled(estimate("nano", "15W", 2.7))
    document["estimates"].append(strange)
    plan = device_plan(document)
    assert plan is not None
    assert [item.mode for item in plan.estimates] == ["15W"]


def test_table() -> None:
    """A column per mode; what one variant lacks is a dash."""
    rich = device_plan(compiled(estimate("nano", "15W", 2.7), estimate("nano", "25W", 2.0, "super")))
    poor = device_plan(compiled(estimate("nano", "15W", 4.25), kernels=155))
    assert rich is not None
    assert poor is not None
    columns, cells = device_table([("int8", rich), ("fp16", poor)])
    assert columns == ("", "kernels", "in INT8", "fused", "MB moved", "15W ms", "25W (super) ms")
    assert cells == [("int8", "112", "99 %", "12", "84.3", "2.70", "2.00"), ("fp16", "155", "99 %", "12", "84.3", "4.25", "-")]
    boards = device_plan(compiled(estimate("nano", "15W", 2.7), estimate("agx", "15W", 1.0)))
    assert boards is not None
    assert device_table([("int8", boards)])[0][5:] == ("nano 15W ms", "agx 15W ms")


def test_lines_say_what_is_estimated_and_by_whom() -> None:
    own, other = device_plan(compiled(stand_in=False)), device_plan(compiled(estimate("nano", "15W", 2.7)))
    assert own is not None
    assert other is not None
    assert device_lines([("int8", own)]) == ["Plans of tensorrt 11.4."]
    assert device_lines([("int8", other)]) == [
        "Plans of tensorrt 11.4, a stand-in for the device's own.",
        "Milliseconds on nano are estimated, not measured: nothing stays in a cache.",
    ]
