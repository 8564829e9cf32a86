"""Tasks for tests, which every process can import."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from edgevit.errors import DataError
from edgevit.executor.task import Blob, Warm


def square(number: int, _warm: Warm) -> int:
    return number**2


def me(_argument: Any, _warm: Warm) -> int:
    return os.getpid()


def length(blob: Blob, _warm: Warm) -> tuple[int, str]:
    return len(blob.read()), blob.digest


def wrong(text: str, _warm: Warm) -> None:
    raise DataError(text)


def broken(text: str, _warm: Warm) -> None:
    raise ZeroDivisionError(text)


def unsendable(_argument: Any, _warm: Warm) -> Any:
    return lambda: None


def nap(seconds: float, _warm: Warm) -> float:
    time.sleep(seconds)
    return seconds


def counted(_argument: Any, warm: Warm) -> int:
    """How many tasks this worker has done with what it keeps."""
    kept: list[int] = warm.get("list", list)
    kept.append(0)
    return len(kept)


def threads(_argument: Any, _warm: Warm) -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def once_deadly(mark: Path, _warm: Warm) -> str:
    """Dies as by the system's want of memory, the first time."""
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def deadly(_argument: Any, _warm: Warm) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
