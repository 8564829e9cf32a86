"""Whether a target is the machine this runs on, and which engine stands in for it where it is not."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevit.device.files import text
from edgevit.device.gpu import gpu
from edgevit.device.jetson import ROOT, detect
from edgevit.device.processor import processor
from edgevit.engine import backend, runs_here
from edgevit.engines import ENGINES, runs_on
from edgevit.errors import MissingPackageError
from edgevit.shipped import shipped_names
from edgevit.target import Machine, Target, load_target
from edgevit.workbench import Workbench

NAMES = re.compile(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", re.MULTILINE)
"""Where /proc/cpuinfo names the processor (x86) or the board (a Raspberry Pi, also in a container that sees no device tree)."""


def is_here(target: Target, root: Path = ROOT) -> bool:
    """Whether bundles for ``target`` run on this machine, at the target's speed; ``root`` is where its file system begins.

    A CPU target without a [machine] is this machine, whatever it is; else architecture and name must be the target's.
    An engine that is compiled ahead of time must run here, too. A GPU must be the target's: on a Jetson by its module, else
    by compute capability.
    """
    engine = target.engine()
    if not runs_on(engine, "gpu"):
        ahead = engine in ENGINES and ENGINES[engine].ahead_of_time
        return _is_machine(target.machine, root) and (not ahead or runs_here(engine))
    found, board = gpu(), detect(root)
    if found is None or not runs_here(engine):
        return False
    if board is not None and board.target is not None:
        return board.target == target.name or board.target in target.boards
    devices = [load_target(name).device for name in target.boards] or [target.device]
    capabilities = [device.compute_capability for device in devices if device is not None]
    return not capabilities or found.compute_capability in capabilities


def is_home(engine: str, target: Mapping[str, Any], root: Path = ROOT) -> bool:
    """Whether a bundle for ``engine`` and ``target``, both as its manifest has them, is timed as on its device.

    What the manifest does not tell, as it is older than [machine] or the engine a GPU's, the shipped target of that name does.
    """
    machine = target.get("machine")
    if machine is not None and not runs_on(engine, "gpu"):
        same = _is_machine(Machine(arch=machine.get("arch"), models=tuple(machine.get("models", ()))), root)
        return same and (runs_on(engine, "cpu") or runs_here(engine))
    if target.get("name") in shipped_names("targets"):
        return is_here(load_target(target["name"]), root)
    return runs_on(engine, "cpu") or runs_here(engine)


def proxy_engine_of(target: Target) -> str:
    """The engine that accuracy is measured with: the target's own if this machine is the target, else what stands in for it."""
    return target.engine() if is_here(target) else stand_in(target.engine())


def proxy_engine(bench: Workbench) -> str:
    """What accuracy is measured with: the engine that was found right for ``bench``, else `proxy_engine_of` its target."""
    return bench.measured_on or proxy_engine_of(bench.target)


def stand_in(engine: str) -> str:
    """What computes here in the place of ``engine`` on its device: the same if it is a CPU's and installed, else this CPU's."""
    try:
        return engine if runs_on(engine, "cpu") and backend(engine).version else load_target("cpu").engine()
    except MissingPackageError:
        return load_target("cpu").engine()


def elsewhere(target: Target) -> str | None:
    """A note for people about what stands in for ``target`` where it is another machine; None if it is this one."""
    if is_here(target):
        return None
    measured = f"accuracy is measured on {proxy_engine_of(target)}, and no speed"
    return f"{target.name}: this machine ({processor()}) is another, so {measured}"


def _is_machine(machine: Machine | None, root: Path) -> bool:
    if machine is None:
        return True
    if machine.arch not in (None, platform.machine()):
        return False
    names = [text(root / "proc/device-tree/model").strip("\0\n "), *NAMES.findall(text(root / "proc/cpuinfo"))]
    words = [re.compile(rf"(?<!\w){re.escape(model)}(?!\w)") for model in machine.models]
    return not words or any(word.search(name) for word in words for name in names)
