"""A CUDA graph: what a stream is given once, captured, and launched again with one call.

Through libcuda itself, as pycuda has no call to capture one (CUDA driver API, "Stream Management" and "Graph Management"; the
names are exported since 11.4, also in 13). A ViT is a hundred launches a frame; a graph is one, which spares a slow CPU most.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from functools import cache
from typing import Any

_POINTER, _INT = ctypes.c_void_p, ctypes.c_int
# Without argument types ctypes would cut a handle to 32 bits.
_SIGNATURES = {
    "cuStreamBeginCapture_v2": (_POINTER, _INT),
    "cuStreamEndCapture": (_POINTER, ctypes.POINTER(_POINTER)),
    "cuGraphInstantiateWithFlags": (ctypes.POINTER(_POINTER), _POINTER, ctypes.c_ulonglong),
    "cuGraphLaunch": (_POINTER, _POINTER),
    "cuGraphExecDestroy": (_POINTER,),
    "cuGraphDestroy": (_POINTER,),
    "cuGetErrorString": (_INT, ctypes.POINTER(ctypes.c_char_p)),
}
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what other threads do with CUDA meanwhile does not end the capture


class CudaGraphError(Exception):
    """There is no graph, or it cannot be launched; says why."""


@cache
def libcuda() -> Any:
    """The driver's library, with the types of what is called here. Raises CudaGraphError without one, or for an old one."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
        for name, arguments in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, _INT
    except OSError as error:
        msg = f"no CUDA driver: {error}"
        raise CudaGraphError(msg) from error
    except AttributeError as error:
        msg = f"this CUDA driver is older than 11.4: {error}"
        raise CudaGraphError(msg) from error
    return library


class CudaGraph:
    """What was captured, ready to be launched. Close it before what its work uses."""

    def __init__(self, cuda: Any, executable: Any) -> None:
        self._cuda, self._executable = cuda, executable

    def launch(self, stream: int) -> None:
        """Queue all of it on ``stream``, a CUstream handle. Raises CudaGraphError."""
        _check(self._cuda, self._cuda.cuGraphLaunch(self._executable, stream), "cuGraphLaunch")

    def close(self) -> None:
        """Free it; once."""
        self._cuda.cuGraphExecDestroy(self._executable)


def capture(stream: int, enqueue: Callable[[], None]) -> CudaGraph:
    """What ``enqueue`` queues on ``stream``, a CUstream handle and not the default stream, as a graph. Nothing of it runs.

    It must have run once before, as libraries allocate at their first run, which no capture allows. The calling thread's
    context must be current. Raises CudaGraphError, and what ``enqueue`` raises; the stream is as before in any case.
    """
    cuda = libcuda()
    graph, executable = _POINTER(), _POINTER()
    _check(cuda, cuda.cuStreamBeginCapture_v2(stream, _THREAD_LOCAL), "cuStreamBeginCapture")
    collecting = gc.isenabled()
    gc.disable()  # another session's memory, collected here, would be freed while this thread captures: not allowed
    try:
        enqueue()
    except BaseException:
        cuda.cuStreamEndCapture(stream, ctypes.byref(graph))  # or the stream would capture for ever
        if graph.value:
            cuda.cuGraphDestroy(graph)
        raise
    else:
        _check(cuda, cuda.cuStreamEndCapture(stream, ctypes.byref(graph)), "cuStreamEndCapture")
    finally:
        if collecting:
            gc.enable()
    try:
        _check(cuda, cuda.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, 0), "cuGraphInstantiate")
    finally:
        cuda.cuGraphDestroy(graph)
    return CudaGraph(cuda, executable)


def _check(cuda: Any, code: int, call: str) -> None:
    if code:
        text = ctypes.c_char_p()
        cuda.cuGetErrorString(code, ctypes.byref(text))
        said = (text.value or b"unknown error").decode(errors="replace")
        msg = f"{call} failed with {code}: {said}"
        raise CudaGraphError(msg)
