"""The compiled plan and its estimates as tables."""

from __future__ import annotations

import click

from edgevit.cli.console import percent, table
from edgevit.compiling import Compiled
from edgevit.report.preflight import BlockRow
from edgevit.report.roofline import ASSUMPTIONS


def print_preflight(compiled: Compiled) -> None:
    """What the target's compiler made of the graph, and how long that might take; on stdout."""
    assert compiled.preflight is not None
    plan = compiled.preflight.plan
    rows = [_row(row) for row in compiled.preflight.rows]
    total = ("all", len(plan.kernels), plan.fused_attention, f"{sum(kernel.macs for kernel in plan.kernels) / 1e9:.2f}",
             percent(plan.int8_share), f"{plan.megabytes:.1f}")  # fmt: skip
    columns = ("", "kernels", "fused attention", "GMACs", "in INT8", "MB moved")
    table(f"Plan of {plan.builder}, compiled in {plan.seconds:.1f} s: a stand-in for the device's own", columns, [*rows, total])
    if compiled.estimates:
        estimates = [
            (item.target, item.mode, f"{item.milliseconds:.2f}", percent(item.compute_bound), percent(item.memory_bound),
             percent(item.launches))
            for item in compiled.estimates
        ]  # fmt: skip
        table("Estimates, batch 1", ("board", "power mode", "ms", "arithmetic", "memory", "launches"), estimates, left=2)
        click.echo(f"Estimated, not measured. {'; '.join(ASSUMPTIONS)}.")


def _row(row: BlockRow) -> tuple[object, ...]:
    return (row.block, row.kernels, row.fused_attention, f"{row.gmacs:.2f}", percent(row.int8_share), f"{row.megabytes:.1f}")
