"""Memory and disk for a bundle and for compiling it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from edgevit.bundle import ENGINE, MODEL, Bundle
from edgevit.device.doctor.finding import Finding, Patient
from edgevit.device.memory import meminfo, swaps

MIB = 2**20
BUILDER_MIB = 256  # measured: 240 for a model of half a MiB, TensorRT 11.4's builder in a process of its own, without a GPU
COPIES = 7  # measured there: the peak grows by 4.3 (FP16) to 6.7 (INT8) times the model's file
GPU_MIB = 512 + 256  # assumed: a CUDA context, which shares the system's memory; and the least that `compile` gives to kernels
SMALL_MIB = 8192
ZRAM_FIX = "sudo systemctl disable nvzramconfig, so that swap is no memory after the next start"


def memory(patient: Patient) -> Iterator[Finding]:
    """Whether what is free, and swap that is no memory itself, will do for compiling."""
    found = {name: size / MIB for name, size in meminfo(patient.root).items()}
    if not {"MemTotal", "MemAvailable"} <= found.keys():
        return
    places = swaps(patient.root)
    zram = sum(place.free for place in places if place.is_memory) / MIB
    free, swap = found["MemAvailable"], max(0.0, found.get("SwapFree", 0.0) - zram)
    words = f"{free:.0f} of {found['MemTotal']:.0f} MiB free, {swap:.0f} MiB of swap"
    words += f" (and {zram:.0f} of zram, which is the same memory)" if zram else ""
    add_swap = _swap_fix if not zram else lambda mib: f"{ZRAM_FIX}; {_swap_fix(mib)}"
    if patient.bundle and patient.needs_tensorrt:
        need, how = _builder_need(patient.bundle)
        words += f"; compiling this bundle takes about {need:.0f} MiB ({how})"
        if free + swap < need:
            fix = "close other programs, log out of the desktop (sudo systemctl isolate multi-user.target), or add swap: "
            yield Finding(topic="memory", level="warning", text=words, fix=fix + add_swap(need - free))
            return
    elif patient.board and not swap and found["MemTotal"] < SMALL_MIB:
        fix = f"compiling may be killed for memory: {add_swap(SMALL_MIB / 2)}"
        yield Finding(topic="memory", level="warning", text=words, fix=fix)
        return
    yield Finding(topic="memory", level="ok", text=words)


def _builder_need(bundle: Bundle) -> tuple[float, str]:
    """MiB that compiling takes, and where the figure comes from."""
    compiled = bundle.manifest.compiled or {}
    measured = (compiled.get("plan") or {}).get("builder_mib")
    if measured:
        where = "here or on a board like it" if ENGINE in bundle.manifest.files else "by a stand-in for the board's builder"
        return measured + GPU_MIB, f"measured {where}, and {GPU_MIB} for the GPU"
    model = bundle.manifest.files[MODEL].bytes / MIB if MODEL in bundle.manifest.files else 0.0
    return BUILDER_MIB + COPIES * model + GPU_MIB, "estimated from the size of its weights"


def _swap_fix(mib: float) -> str:
    gib = max(2, round(mib / 1024 + 0.5))
    made = f"sudo fallocate -l {gib}G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile"
    return f"{made} && echo '/swapfile none swap sw 0 0' | sudo tee -a /etc/fstab (on an NVMe drive where there is one)"


def storage(patient: Patient) -> Iterator[Finding]:
    """Whether a compiled bundle fits beside the one that is there."""
    if patient.bundle is None:
        return
    folder = patient.bundle.path.absolute().parent
    free, size = shutil.disk_usage(folder).free, patient.bundle.bytes
    words = f"{free / MIB:.0f} MiB free at {folder}, the bundle has {size / MIB:.0f}"
    if free < 3 * size:  # written beside the old one, with an engine
        yield Finding(
            topic="storage", level="warning", text=words, fix="compiling writes a second bundle first: free space there"
        )
    else:
        yield Finding(topic="storage", level="ok", text=words)
