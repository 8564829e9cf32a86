"""Arrays of an ``.npz``: nothing is unpickled, and what a member claims is held against the file before memory is taken."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.errors import DataError
from edgevit.files.bounded import open_regular

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_BYTES = 8 * 2**30
"""Of all arrays together, unpacked."""
DENSE = 64 * 2**20  # bytes from which on a member must not shrink
RATIO = 100  # times; photographs shrink by less than 3
# What a damaged or foreign file can raise, in zipfile, in zlib or where numpy reads a header as Python.
FAULTS = (
    OSError, ValueError, TypeError, EOFError, KeyError, NotImplementedError, RuntimeError, SyntaxError, tokenize.TokenError,
    OverflowError, MemoryError, zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """The arrays called ``names`` that ``path`` holds. Raises DataError for what is no such file, or claims too much."""
    try:
        with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = {name: members[name] for name in names if name in members}
            _check_claims(wanted.values())
            return {name: _array(archive, info) for name, info in wanted.items()}
    except FAULTS as error:
        msg = f"{path}: not a readable .npz: {str(error) or type(error).__name__}"
        raise DataError(msg) from error


def _check_claims(members: Any) -> None:
    total = sum(info.file_size for info in members)
    if total > MOST_BYTES:
        msg = f"its arrays take {total:,} bytes, more than {MOST_BYTES:,}. Give a folder of images"
        raise ValueError(msg)
    for info in members:
        if info.file_size > max(DENSE, RATIO * info.compress_size):
            msg = f"{info.filename} unpacks {info.compress_size:,} bytes to {info.file_size:,}: no images shrink so far"
            raise ValueError(msg)


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[np.generic]:
    """One member. numpy takes memory for what its header claims before it reads on."""
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
