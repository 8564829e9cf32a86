"""What stands between this machine and a running bundle, each finding with its fix. Reads, and changes nothing.

Sources of the fixes: NVIDIA's JetPack and TensorRT installation guides; the OpenCV wheels' own statement that they have no
GStreamer (opencv/opencv-python#524); pycuda's installation guide.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from edgevit.bundle import Bundle
from edgevit.device import apt
from edgevit.device.apt import SimulatedInstall
from edgevit.device.doctor.board import board_and_jetpack, groups, power
from edgevit.device.doctor.cameras import cameras
from edgevit.device.doctor.finding import LEVELS, Finding, Patient
from edgevit.device.doctor.room import memory, storage
from edgevit.device.doctor.software import engine, opencv, pycuda, python, tensorrt
from edgevit.device.dpkg import installed_packages
from edgevit.device.files import group_ids
from edgevit.device.jetson import ROOT, detect
from edgevit.device.modules import Python
from edgevit.target import load_target

__all__ = ["LEVELS", "Finding", "examine"]
CHECKS = (board_and_jetpack, python, tensorrt, pycuda, engine, opencv, power, memory, storage, groups, cameras)


def examine(
    interpreter: Python,
    root: Path = ROOT,
    bundle: Bundle | None = None,
    *,
    simulate: Callable[[str], SimulatedInstall | None] | None = None,
) -> tuple[Finding, ...]:
    """Everything worth saying about the machine whose file system ``root`` is, for ``bundle`` if one is given.

    Args:
        interpreter: the one that would run it; see `edgevit.device.modules.python_here`.
        root: the folder whose files are read.
        bundle: what is to run; it need not be compiled.
        simulate: what installing a package would do; this machine's apt by default, if ``root`` is this machine's.
    """
    board = detect(root)
    patient = Patient(
        root=root,
        python=interpreter,
        board=board,
        target=load_target(board.target) if board and board.target else None,
        packages=installed_packages(root),
        bundle=bundle,
        groups=_groups(root),
        simulate=simulate or (apt.simulate_install if root == ROOT else lambda _package: None),
    )
    return tuple(finding for check in CHECKS for finding in check(patient))


def _groups(root: Path) -> frozenset[str] | None:
    """Names of the groups that this process is in, by the machine's own list; None for root."""
    if os.geteuid() == 0:
        return None
    ids = {os.getegid(), *os.getgroups()}
    return frozenset(name for name, number in group_ids(root).items() if number in ids)
