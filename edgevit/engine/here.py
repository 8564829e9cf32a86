"""Whether a target is the machine this runs on, and which engine stands in for it where it is not."""

from __future__ import annotations

from edgevit.device.jetson import detect
from edgevit.engine import runs_here
from edgevit.engine.tensorrt import gpu
from edgevit.target import Target, load_target


def is_here(target: Target) -> bool:
    """Whether bundles for ``target`` run on this machine, at the target's speed.

    For CPU engines always. For TensorRT the GPU must be the target's: on a Jetson by its module, else by compute capability.
    """
    if not target.engine().startswith("tensorrt"):
        return True
    found, board = gpu(), detect()
    if found is None or not runs_here(target.engine()):
        return False
    if board is not None and board.target is not None:
        return board.target == target.name or board.target in target.boards
    devices = [load_target(name).device for name in target.boards] or [target.device]
    capabilities = [device.compute_capability for device in devices if device is not None]
    return not capabilities or found.compute_capability in capabilities


def judge_of(target: Target) -> str:
    """The engine that accuracy is measured with: the target's own if this machine is the target, else its CPU's."""
    return target.engine() if is_here(target) else load_target("cpu").engine()
