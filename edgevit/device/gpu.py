"""The GPU of this machine, as its driver tells: found with libcuda alone, and without a CUDA context."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """The first CUDA device, and the driver's CUDA version."""

    compute_capability: str
    multiprocessors: int
    """Those that are on: a Jetson's lower power modes (nvpmodel) switch some off."""
    memory: int
    """Bytes in total; on a Jetson what the system has."""
    integrated: bool
    cuda: str


def gpu() -> Gpu | None:
    """The GPU of this machine; None without one, or without a driver. No CUDA context is made."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    count, driver, device, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return None
    cuda.cuDriverGetVersion(ctypes.byref(driver))
    cuda.cuDeviceGet(ctypes.byref(device), 0)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(value), number, device)
        return value.value

    capability = f"{attribute(75)}.{attribute(76)}"  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
    return Gpu(
        compute_capability=capability,
        multiprocessors=attribute(16),  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
        memory=memory.value,
        integrated=bool(attribute(18)),  # CU_DEVICE_ATTRIBUTE_INTEGRATED
        cuda=f"{driver.value // 1000}.{driver.value % 1000 // 10}",
    )
