"""How long a compiled plan would take on a board: an estimate, with what it assumes.

Each kernel takes the longer of its arithmetic and its memory traffic, and a launch on top; kernels follow one
another. The plan is the one that this machine's builder compiled, which is not the board's own.

One number is fitted: tensor cores reach `EFFICIENCY` of their dense peak in ViT-sized products at batch 1, chosen so
that ViT-B/16 in FP16 takes the 5.68 ms published for an Orin Nano 8GB at MAXN_SUPER (TensorRT 10.3; onnxsim,
scripts/nvidia/README.md), for the graph that exporters write: every token through every block. The same model's other
published figures are the validation: FP32 13.06 ms, estimated 14.1 (+8 %); INT8 linears 4.92 ms, estimated 5.13 (+4 %) if
the builder dequantizes the qkv weights there as it does here, and 3.68 (-25 %) if it does not, which is not known: INT8 may well
be slower than estimated. ``benchmarks/roofline.py`` prints it. Three figures of one model on one board: take it as a way to
rank precisions and boards, and measure before promising.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgevit.plan.kernels import CompiledPlan, Kernel
from edgevit.target import Device, PowerMode, Target

EFFICIENCY = 0.43  # of the tensor cores' dense peak
DRAM = 0.91  # of the theoretical bandwidth: measured on Orin Nano, read 62.3 of 68.3 GB/s
LAUNCH = 3e-6  # seconds between kernels of one stream; assumed
PRECISION = {"int8": "int8", "half": "fp16", "bfloat16": "fp16", "float": "tf32"}

ASSUMPTIONS = (
    f"products reach {EFFICIENCY:.0%} of the dense peak, fitted to one published figure",
    f"memory delivers {DRAM:.0%} of its bandwidth, and nothing stays in a cache",
    f"{1e6 * LAUNCH:g} µs per kernel launch, without a CUDA graph",
    "the clocks are those of the power mode, not throttled",
)
VALIDATED = "8.7"  # compute capability of the Orins, which the published figures are of


@dataclass(frozen=True, kw_only=True)
class Roof:
    """What limits kernels: operations and bytes per second, seconds per launch."""

    int8: float
    fp16: float
    tf32: float
    """TensorRT multiplies float32 on tensor cores, too, in TF32: at half the rate of FP16."""
    memory: float
    launch: float = LAUNCH

    def seconds(self, kernel: Kernel) -> tuple[float, float]:
        """Of arithmetic and of memory traffic, for one kernel."""
        rate: float = getattr(self, PRECISION.get(kernel.dtype, "fp16"))
        return 2 * kernel.macs / rate, kernel.bytes / self.memory


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One board in one power mode, batch 1."""

    target: str
    mode: str
    milliseconds: float
    compute_bound: float
    """Share of the time in kernels that wait for arithmetic; the others wait for memory, or are launched."""
    memory_bound: float
    launches: float
    conf: str = "standard"
    """Which nvpmodel file has the mode: standard, or super."""


def assumptions(boards: Sequence[Target]) -> tuple[str, ...]:
    """What the estimates of ``boards`` assume, and which of them are on a GPU that no published figure was held against."""
    others = [board.name for board in boards if board.device is not None and board.device.compute_capability != VALIDATED]
    if not others:
        return ASSUMPTIONS
    which = "this kind of GPU" if len(others) == len(boards) else f"the kind of GPU of {', '.join(others)}"
    return (*ASSUMPTIONS, f"not validated on {which}")


def roof_of(device: Device, mode: PowerMode, *, efficiency: float = EFFICIENCY) -> Roof | None:
    """The roof of a board in a power mode; None where the mode's bandwidth is not known."""
    if mode.bandwidth_gbs is None:
        return None
    half = efficiency * device.peak(mode, "fp16")
    return Roof(int8=efficiency * device.peak(mode, "int8"), fp16=half, tf32=half / 2, memory=DRAM * mode.bandwidth_gbs * 1e9)


def estimate(plan: CompiledPlan, roof: Roof, *, target: str, mode: str, conf: str = "standard") -> Estimate:
    """The time of one inference under ``roof``."""
    compute = memory = 0.0
    for kernel in plan.kernels:
        arithmetic, traffic = roof.seconds(kernel)
        if arithmetic >= traffic:
            compute += arithmetic
        else:
            memory += traffic
    launches = roof.launch * len(plan.kernels)
    total = compute + memory + launches
    return Estimate(
        target=target, mode=mode, milliseconds=1e3 * total, compute_bound=compute / total, memory_bound=memory / total,
        launches=launches / total, conf=conf,
    )  # fmt: skip


def estimates(plan: CompiledPlan, board: Target) -> tuple[Estimate, ...]:
    """Every power mode of ``board`` whose clocks and bandwidth are known, once: its standard and super confs share some.

    None for a plan that could not be read.
    """
    return tuple(found for _, found in _by_mode(plan, board))


def best_estimates(plan: CompiledPlan, boards: Iterable[Target]) -> tuple[Estimate, ...]:
    """One per board, in its fastest power mode; of equally fast ones that with the higher clock."""
    found = [_by_mode(plan, board) for board in boards]
    return tuple(min(own, key=lambda item: (item[1].milliseconds, -item[0].gpu_mhz))[1] for own in found if own)


def _by_mode(plan: CompiledPlan, board: Target) -> list[tuple[PowerMode, Estimate]]:
    if board.device is None or not plan.kernels:
        return []
    different: dict[Any, PowerMode] = {}
    for mode in board.modes:
        different.setdefault((mode.name, mode.sms, mode.gpu_mhz, mode.bandwidth_gbs), mode)
    found = []
    for mode in different.values():
        if roof := roof_of(board.device, mode):
            found.append((mode, estimate(plan, roof, target=board.name, mode=mode.name, conf=mode.conf)))
    return found
