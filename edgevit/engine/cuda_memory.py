"""The GPU's context and its memory, through pycuda."""

from __future__ import annotations

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
    return device, device.retain_primary_context()


@contextmanager
def current(context: Any) -> Iterator[None]:
    """``context`` is the calling thread's meanwhile, and not afterwards; a microsecond.

    A context that is left on pycuda's stack ends the process with abort(), whenever its thread ends, after correct output.
    """
    context.push()
    try:
        yield
    finally:
        context.pop()


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
