"""What a variant is on the device it is for: its compiled plan and the roofline's estimates per board and power mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgevit.plan.roofline import Estimate


@dataclass(frozen=True, kw_only=True)
class DevicePlan:
    """Figures of one compiled plan at batch 1. Nothing of it was measured, unless the device itself compiled it."""

    builder: str
    stand_in: bool
    """Whether the builder is not the device's own."""
    kernels: int
    int8_share: float | None
    """Of the multiply-accumulates, 0..1."""
    megabytes: float
    """Moved per frame, as if nothing stayed in a cache."""
    fused_attention: int
    """Blocks whose attention is one kernel."""
    estimates: tuple[Estimate, ...] = ()
    """Every power mode of a board, or the fastest of each board of a family."""
    assumptions: tuple[str, ...] = ()
    """What the estimates rest on."""

    @property
    def best(self) -> Estimate | None:
        """The first board in its fastest mode; None without an estimate."""
        own = [item for item in self.estimates if item.target == self.estimates[0].target]
        return min(own, key=lambda item: item.milliseconds, default=None)


def device_plan(compiled: Mapping[str, Any] | None) -> DevicePlan | None:
    """From ``compiled`` of a manifest, or of `target_graph.Compiled.summary`; None if no plan that can be read is in it.

    A manifest may be of another edgevit, or of somebody else: what has not its type is left out.
    """
    known = compiled or {}
    try:
        plan, share = known["plan"], known["plan"].get("int8_share")
        return DevicePlan(
            builder=str(plan.get("builder", "an unknown builder")),
            stand_in=bool(plan.get("stand_in", True)),
            kernels=int(plan["kernels"]),
            int8_share=None if share is None else float(share),
            megabytes=float(plan["megabytes"]),
            fused_attention=int(plan.get("fused_attention", 0)),
            estimates=tuple(found for item in known.get("estimates", ()) if (found := _estimate(item))),
            assumptions=tuple(map(str, known.get("assumptions", ()))),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _estimate(item: Any) -> Estimate | None:
    try:
        figures = {name: float(item.get(name, 0)) for name in ("compute_bound", "memory_bound", "launches")}
        time = float(item["milliseconds"])
        if not 0 < time < float("inf"):
            return None
        return Estimate(
            target=str(item["target"]),
            mode=str(item["mode"]),
            milliseconds=time,
            conf=str(item.get("conf", "standard")),
            **figures,
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def device_table(plans: Sequence[tuple[str, DevicePlan]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and cells, a row for each named plan: its figures, then milliseconds by board and mode."""
    places = list(dict.fromkeys(_place(item) for _, plan in plans for item in plan.estimates))
    boards = {board for board, _ in places}
    heads = [(f"{board} {mode}" if len(boards) > 1 else mode) for board, mode in places]
    columns = ("", "kernels", "in INT8", "fused", "MB moved", *(f"{head} ms" for head in heads))
    cells = []
    for name, plan in plans:
        times = {_place(item): f"{item.milliseconds:.2f}" for item in plan.estimates}
        share = "-" if plan.int8_share is None else f"{100 * plan.int8_share:.0f} %"
        cells.append((name, str(plan.kernels), share, str(plan.fused_attention), f"{plan.megabytes:.1f}",
                      *(times.get(place, "-") for place in places)))  # fmt: skip
    return columns, cells


def device_lines(plans: Sequence[tuple[str, DevicePlan]]) -> list[str]:
    """Whose plans they are, of which boards the estimates are, and what these assume: one sentence each."""
    lines = []
    for builder in dict.fromkeys((plan.builder, plan.stand_in) for _, plan in plans):
        lines.append(f"Plans of {builder[0]}{', a stand-in for the device' + chr(39) + 's own' if builder[1] else ''}.")
    estimated = [plan for _, plan in plans if plan.estimates]
    if estimated:
        boards = ", ".join(dict.fromkeys(item.target for plan in estimated for item in plan.estimates))
        assumed = "; ".join(dict.fromkeys(text for plan in estimated for text in plan.assumptions))
        lines.append(f"Milliseconds on {boards} are estimated, not measured: {assumed}.")
    return lines


def _place(item: Estimate) -> tuple[str, str]:
    return item.target, item.mode if item.conf == "standard" else f"{item.mode} ({item.conf})"
