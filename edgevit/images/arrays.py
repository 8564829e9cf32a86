"""Arrays of an ``.npz`` of images, of which there may be gigabytes."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.errors import DataError
from edgevit.files.bounded import open_regular
from edgevit.files.npz import FAULTS, read_member

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_BYTES = 8 * 2**30
"""Of all arrays together, unpacked."""
DENSE = 64 * 2**20  # bytes from which on a member must not shrink
RATIO = 100  # times; photographs shrink by less than 3


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """The arrays called ``names`` that ``path`` holds. Raises DataError for what is no such file, or claims too much."""
    try:
        with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = {name: members[name] for name in names if name in members}
            _check_claims(wanted.values())
            return {name: read_member(archive, info) for name, info in wanted.items()}
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
