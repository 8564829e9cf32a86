"""The estimate: its arithmetic by hand, and the published figures that it is held against."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgevit.plan.kernels import CompiledPlan, Kernel, Tensor, parse_layers
from edgevit.plan.roofline import (
    ASSUMPTIONS,
    DRAM,
    EFFICIENCY,
    LAUNCH,
    Estimate,
    Roof,
    assumptions,
    best_estimates,
    estimate,
    estimates,
    roof_of,
)
from edgevit.shipped import shipped_names
from edgevit.target import PowerMode, load_target
from tests.plan.plans import recorded

BOARD = load_target("jetson-orin-nano-8gb")


def gemm(rows: int, depth: int, width: int, dtype: str = "half") -> Kernel:
    return Kernel(
        name="g", kind="gemm", nodes=(), inputs=(Tensor(shape=(1, rows, depth), dtype=dtype),),
        constants=(Tensor(shape=(depth, width), dtype=dtype),), outputs=(Tensor(shape=(1, rows, width), dtype="half"),),
    )  # fmt: skip


def of(*kernels: Kernel) -> CompiledPlan:
    return CompiledPlan(kernels=kernels, engine_bytes=1, builder="", seconds=0)


def at(roof: Roof, *kernels: Kernel) -> Estimate:
    return estimate(of(*kernels), roof, target="t", mode="m")


def test_each_kernel_takes_the_longer_of_arithmetic_and_traffic() -> None:
    big, thin = gemm(1000, 1000, 1000), gemm(1, 1000, 1000)  # 2 GFLOP and 6 MB; 2 MFLOP and 2.004 MB
    found = at(Roof(int8=4e12, fp16=2e12, tf32=1e12, memory=1e11, launch=5e-6), big, thin)
    assert found.milliseconds == pytest.approx(1.0 + 0.02004 + 0.01)
    assert found.compute_bound == pytest.approx(1.0 / found.milliseconds)
    assert found.memory_bound == pytest.approx(0.02004 / found.milliseconds)
    assert found.launches == pytest.approx(0.01 / found.milliseconds)


@pytest.mark.parametrize(("dtype", "milliseconds"), [("int8", 0.5), ("half", 1.0), ("bfloat16", 1.0), ("float", 2.0)])
def test_every_type_has_its_rate(dtype: str, milliseconds: float) -> None:
    roof = Roof(int8=4e12, fp16=2e12, tf32=1e12, memory=1e15, launch=0)
    assert at(roof, gemm(1000, 1000, 1000, dtype)).milliseconds == pytest.approx(milliseconds)


def test_roof_of_a_board() -> None:
    """8 SMs at 1020 MHz, 102.4 GB/s."""
    assert BOARD.device is not None
    roof = roof_of(BOARD.device, next(mode for mode in BOARD.modes if mode.name == "MAXN_SUPER"))
    half = EFFICIENCY * 8 * 1.02e9 * 2048
    assert roof is not None
    assert (roof.int8, roof.fp16, roof.tf32) == pytest.approx((2 * half, half, half / 2))
    assert (roof.memory, roof.launch) == pytest.approx((DRAM * 102.4e9, LAUNCH))


def test_modes_of_unknown_bandwidth_are_left_out() -> None:
    unknown = [mode for mode in BOARD.modes if mode.bandwidth_gbs is None]
    assert unknown
    assert BOARD.device is not None
    assert roof_of(BOARD.device, PowerMode(name="m", sms=4, gpu_mhz=408)) is None
    found = estimates(of(gemm(197, 384, 384)), BOARD)
    assert {item.mode for item in found} == {mode.name for mode in BOARD.modes if mode not in unknown}


def test_a_mode_of_two_confs_is_estimated_once() -> None:
    """What has the same name, multiprocessors, clock and bandwidth; one that differs in any of them stays."""
    modes = (
        PowerMode(name="10W", sms=4, gpu_mhz=612, bandwidth_gbs=68.3),
        PowerMode(name="15W", sms=4, gpu_mhz=612, bandwidth_gbs=102.4),
        PowerMode(name="10W", sms=4, gpu_mhz=612, bandwidth_gbs=68.3, conf="super", id=3),
        PowerMode(name="15W", sms=8, gpu_mhz=612, bandwidth_gbs=102.4, conf="super"),
        PowerMode(name="15W", sms=4, gpu_mhz=918, bandwidth_gbs=102.4, conf="super"),
        PowerMode(name="15W", sms=4, gpu_mhz=918, bandwidth_gbs=68.3, conf="super"),
        PowerMode(name="20W", sms=4, gpu_mhz=612, bandwidth_gbs=68.3, conf="super"),
    )
    found = estimates(of(gemm(197, 768, 3072), gemm(1, 768, 3072)), replace(BOARD, modes=modes))
    assert [item.mode for item in found] == ["10W", "15W", "15W", "15W", "15W", "20W"]
    assert len({item.milliseconds for item in found}) == 5  # 20W is 10W by another name


@pytest.mark.parametrize("name", [name for name in shipped_names("targets") if load_target(name).modes])
def test_shipped_modes_are_estimated_once(name: str) -> None:
    board = load_target(name)
    known = {(mode.name, mode.sms, mode.gpu_mhz, mode.bandwidth_gbs) for mode in board.modes if mode.bandwidth_gbs}
    found = estimates(of(gemm(197, 768, 3072)), board)
    assert len(found) == len(known)
    assert all(0 < item.milliseconds < 100 for item in found)


def test_no_estimate_without_a_gpu_or_a_plan() -> None:
    assert estimates(of(gemm(197, 384, 384)), load_target("cpu")) == ()
    assert estimates(of(), BOARD) == ()


def test_no_kernel_beats_its_roofs() -> None:
    """The bound of a whole plan: neither all arithmetic nor all traffic at once can take longer than the estimate."""
    plan = of(*parse_layers(recorded("int8")))
    roof = Roof(int8=4e12, fp16=2e12, tf32=1e12, memory=3e10)
    sums = [sum(seconds) for seconds in zip(*map(roof.seconds, plan.kernels), strict=True)]
    found = estimate(plan, roof, target="t", mode="m")
    assert 1e3 * (max(sums) + LAUNCH * len(plan.kernels)) < found.milliseconds < 1e3 * (sum(sums) + LAUNCH * len(plan.kernels))
    assert found.compute_bound + found.memory_bound + found.launches == pytest.approx(1)


def test_best_of_each_board() -> None:
    boards = [BOARD, load_target("jetson-agx-orin-64gb"), load_target("cpu")]
    nano, agx = best_estimates(of(*[gemm(197, 768, 3072)] * 24), boards)
    assert (nano.target, nano.mode) == ("jetson-orin-nano-8gb", "MAXN_SUPER")
    assert agx.milliseconds < nano.milliseconds


@pytest.mark.parametrize(("name", "published", "error"), [("fp16", 5.68, 0.02), ("int8", 4.92, 0.06), ("fp32", 13.06, 0.10)])
def test_published_latency_of_vit_b(name: str, published: float, error: float) -> None:
    """Orin Nano 8GB at MAXN_SUPER: FP16 is what the efficiency is fitted to, the others validate it."""
    layers = recorded(f"vit_b_{name}")
    found = estimates(of(*parse_layers(layers)), BOARD)
    best = min(found, key=lambda item: item.milliseconds)
    assert best.mode == "MAXN_SUPER"
    assert best.milliseconds == pytest.approx(published, rel=error)


def test_an_estimate_tells_its_conf() -> None:
    modes = (PowerMode(name="25W", sms=4, gpu_mhz=612, bandwidth_gbs=68.3), PowerMode(name="25W", sms=4, gpu_mhz=918,
             bandwidth_gbs=102.4, conf="super"))  # fmt: skip
    found = estimates(of(gemm(197, 768, 3072)), replace(BOARD, modes=modes))
    assert [(item.mode, item.conf) for item in found] == [("25W", "standard"), ("25W", "super")]


@pytest.mark.parametrize("order", [1, -1])
def test_of_equally_fast_modes_the_higher_clock(order: int) -> None:
    """A plan that only waits for memory is as fast at any clock."""
    modes = (PowerMode(name="slow", sms=8, gpu_mhz=612, bandwidth_gbs=68.3), PowerMode(name="fast", sms=8, gpu_mhz=918,
             bandwidth_gbs=68.3))[::order]  # fmt: skip
    (best,) = best_estimates(of(gemm(1, 768, 3072)), [replace(BOARD, modes=modes)])
    assert (best.mode, best.compute_bound) == ("fast", 0)


def test_what_is_not_validated_is_said() -> None:
    """The published figures are of Orins."""
    agx, thor = load_target("jetson-agx-orin-64gb"), load_target("jetson-thor-t5000")
    assert assumptions([BOARD, agx]) == ASSUMPTIONS
    assert assumptions([thor])[len(ASSUMPTIONS) :] == ("not validated on this kind of GPU",)
    assert assumptions([BOARD, thor])[len(ASSUMPTIONS) :] == ("not validated on the kind of GPU of jetson-thor-t5000",)
