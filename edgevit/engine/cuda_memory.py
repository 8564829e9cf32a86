"""The GPU's context and its memory, through pycuda."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


@cache
def first_gpu(cuda: Any) -> tuple[Any, Any]:
    """The first GPU and its primary context, the one that CUDA's runtime and other libraries share. Retained once, for good.

    Raises pycuda's Error without a GPU.
    """
    cuda.init()
    device = cuda.Device(0)
    context = device.retain_primary_context()
    # At exit pycuda 2026.1 would give it back with cuCtxDetach, which is for contexts of one's own (~context() in cuda.hpp).
    never_freed(context)
    return device, context


def never_freed(*objects: Any) -> None:
    """Keep ``objects`` beyond the interpreter's end: what pycuda frees where no context can be made current ends in abort()."""
    for each in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))


class GpuLostError(Exception):
    """An error has ended the context, for the whole process."""


_LOST: list[Any] = []


@contextmanager
def current(context: Any) -> Iterator[None]:
    """``context`` is the calling thread's meanwhile, and not afterwards; a microsecond.

    A context that is left on pycuda's stack ends the process with abort(), whenever its thread ends, after correct output.
    Raises pycuda's Error or GpuLostError if it cannot be made current: what a kernel did wrong is told by any later call.
    """
    if any(context is each for each in _LOST):
        msg = "an earlier error has ended its context"
        raise GpuLostError(msg)
    context.push()
    try:
        yield
    finally:
        try:
            context.pop()
        except Exception:  # pycuda's Error, whose module is the caller's; the next call tells it
            _LOST.append(context)
            context.detach()  # pycuda drops what is detached from its stack, whatever CUDA says


class Buffer:
    """One tensor's memory: pinned on the host, and where the GPU sees it."""

    def __init__(self, cuda: Any, shape: tuple[int, ...], dtype: Any, *, mapped: bool) -> None:
        self.mapped = mapped
        """Whether the GPU reads the host's memory itself, so that nothing is copied: an integrated one can."""
        flags = cuda.host_alloc_flags.DEVICEMAP if mapped else 0
        self.host: Any = cuda.pagelocked_empty(shape, dtype, mem_flags=flags)
        self.memory: Any = None if mapped else cuda.mem_alloc(self.host.nbytes)
        address: Any = self.host.base.get_device_pointer() if mapped else self.memory
        self.address = int(address)

    def free(self) -> None:
        """Give the memory back."""
        if self.memory is not None:
            self.memory.free()
        self.host = self.memory = None
