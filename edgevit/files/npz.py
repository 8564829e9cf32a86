"""NumPy archives: nothing is unpickled, and what a member claims is held against the file before memory is taken."""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What a damaged or foreign file can raise, in zipfile, in zlib or where numpy reads a header as Python.
FAULTS = (
    OSError, ValueError, TypeError, EOFError, KeyError, NotImplementedError, RuntimeError, SyntaxError, tokenize.TokenError,
    OverflowError, MemoryError, zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip


def read_arrays(content: bytes, limit: int) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` by name. Raises one of `FAULTS`, ValueError for one whose arrays claim over ``limit`` bytes."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if (claimed := sum(member.file_size for member in members)) > limit:
            msg = f"its arrays claim {claimed} bytes"
            raise ValueError(msg)
        return {member.filename.removesuffix(".npy"): read_member(archive, member) for member in members}


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    """One array. numpy takes memory for what its header claims before it reads on, so that is looked at first.

    Raises one of `FAULTS`.
    """
    import numpy as np
    from numpy.lib import format as npy

    with archive.open(info) as member:
        version = npy.read_magic(member)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(member)
        if dtype.hasobject or math.prod(shape) * dtype.itemsize > info.file_size:
            msg = (
                f"{info.filename} holds Python objects"
                if dtype.hasobject
                else f"{info.filename} is shorter than its shape {shape}"
            )
            raise ValueError(msg)
    with archive.open(info) as member:
        return np.asarray(npy.read_array(member, allow_pickle=False))
