"""Which TensorRT NVIDIA supports on which Jetson, as far as it says so in public.

Since JetPack 7 a Jetson takes the packages of Arm servers (SBSA), which CUDA's own repository has in every version, and so one
that is not for the board can be installed. Sources: TensorRT's release notes 10.16.1 (Orin by the SBSA build);
NVIDIA-ISAAC-ROS/isaac-ros-cli issue 22 (10.13.3 on Orin with JetPack 7.2: "SM 87 is not supported"); TensorRT 11.4.1, "Migrating
TensorRT from 10.x to 11.x on Jetson" (JetPack 7.2.2 or later, AGX Orin and Thor).
"""

from __future__ import annotations

import re

from edgevit.device.jetson import Board
from edgevit.target import version_of

SERVER_PACKAGES = (38, 0, 0)
"""L4T of JetPack 7."""
ORIN = "8.7"
FIRST_FOR_ORIN = "10.16"
"""Of the server packages."""
ELEVEN = "11.0"
BOARDS_OF_ELEVEN = ("jetson-agx-orin", "jetson-thor")


def not_for(board: Board, version: str | None) -> tuple[str, str, str] | None:
    """Level, what is wrong with TensorRT ``version`` on ``board``, and what to do; None where nothing is known against it."""
    if board.l4t is None or (found := re.match(r"\d+(\.\d+)*", version or "")) is None:
        return None
    number, servers = version_of(found[0]), board.l4t >= SERVER_PACKAGES
    own = f"JetPack {board.jetpack.version}'s own is {board.jetpack.tensorrt}" if board.jetpack else "JetPack brings its own"
    back = f"{own}: see apt policy python3-libnvinfer for what holds or brought another (a pin in /etc/apt/preferences.d)"
    if servers and board.compute_capability == ORIN and number < version_of(FIRST_FOR_ORIN):
        return "problem", f"before {FIRST_FOR_ORIN} the packages of Arm servers have no kernels for Orin (SM 87)", back
    if number < version_of(ELEVEN):
        return None
    if board.jetpack is not None:  # the last that is known is 7.2.1
        return "warning", "NVIDIA supports TensorRT 11 from JetPack 7.2.2 on", back
    if board.target and not board.target.startswith(BOARDS_OF_ELEVEN):
        return "warning", "NVIDIA supports TensorRT 11 on AGX Orin and Thor alone", back
    return None
