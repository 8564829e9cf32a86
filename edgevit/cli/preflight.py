"""The compiled plan and its estimates as tables."""

from __future__ import annotations

import textwrap

from edgevit.cli.console import table
from edgevit.cli.say import say
from edgevit.commands.target_graph import Compiled
from edgevit.plan.preflight import BlockRow
from edgevit.plan.roofline import Estimate, assumptions
from edgevit.report.sheet import percent
from edgevit.target import Target, load_target

WIDTH = 80  # columns of a terminal


def print_preflight(compiled: Compiled, target: Target) -> None:
    """What the compiler of ``target`` made of the graph, and how long that might take; on stdout."""
    assert compiled.preflight is not None
    plan = compiled.preflight.plan
    rows = [_row(row) for row in compiled.preflight.rows]
    total = ("all", len(plan.kernels), plan.fused_attention, f"{sum(kernel.macs for kernel in plan.kernels) / 1e9:.2f}",
             percent(plan.int8_share), f"{plan.megabytes:.1f}")  # fmt: skip
    columns = ("", "kernels", "fused attention", "GMACs", "in INT8", "MB moved")
    whose = "" if compiled.files else ": a stand-in for the device's own"
    table(f"Plan of {plan.builder}, compiled in {plan.seconds:.1f} s{whose}", columns, [*rows, total])
    if plan.kernels:
        _print_estimates(compiled.estimates, [load_target(name) for name in target.boards] or [target])


def _print_estimates(estimates: tuple[Estimate, ...], boards: list[Target]) -> None:
    known = {item.target for item in estimates}
    if estimates:
        rows = [
            (item.target, _mode(item), f"{item.milliseconds:.2f}", percent(item.compute_bound), percent(item.memory_bound),
             percent(item.launches))
            for item in estimates
        ]  # fmt: skip
        table("Estimates, batch 1", ("board", "power mode", "ms", "arithmetic", "memory", "launches"), rows, left=2)
        assumed = "; ".join(assumptions([board for board in boards if board.name in known]))
        say(*textwrap.wrap(f"Estimated, not measured. {assumed}.", WIDTH))
    if unknown := [board.name for board in boards if board.name not in known]:
        say(f"no estimate: no clocks or bandwidth known for {', '.join(unknown)}")


def _mode(item: Estimate) -> str:
    return item.mode if item.conf == "standard" else f"{item.mode} ({item.conf})"


def _row(row: BlockRow) -> tuple[object, ...]:
    return (row.block, row.kernels, row.fused_attention, f"{row.gmacs:.2f}", percent(row.int8_share), f"{row.megabytes:.1f}")
