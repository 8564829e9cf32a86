"""The board itself: module, JetPack, power mode, clocks, and what its user may open."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgevit.bundle import ENGINE
from edgevit.device.doctor.finding import Finding, Patient
from edgevit.device.files import group_ids, text
from edgevit.device.gpu_clock import gpu_clock
from edgevit.device.jetson import check_jetpack, power_modes
from edgevit.errors import ConfigError

SUPER_FIX = "update the board's firmware and system with its -super configuration (JetPack 6.2 or newer)"
GROUPS = {"video": "cameras, decoder and GPU", "render": "the decoder's node, /dev/dri/renderD128"}
"""What a group's members may open on a Jetson."""


def board_and_jetpack(patient: Patient) -> Iterator[Finding]:
    """Which module it is, and whether its JetPack will do."""
    board = patient.board
    if board is None:
        yield Finding(
            topic="board", level="ok", text="no Jetson: bundles run on the processor, or on an RTX card through TensorRT"
        )
        return
    names = f"{board.model}, {board.target or 'a module that edgevit has no target for'}"
    level, fix = ("ok", "") if board.target else ("warning", "build with --target jetson; see: edgevit targets")
    yield Finding(topic="board", level=level, text=names, fix=fix)
    jetpack = board.jetpack.version if board.jetpack else "unknown"
    if package := patient.packages.get("nvidia-jetpack"):
        jetpack += f" (package {package})"
    if board.l4t is None:
        yield Finding(
            topic="JetPack", level="warning", text="no L4T release is written anywhere", fix="see: cat /etc/nv_tegra_release"
        )
        return
    words = f"JetPack {jetpack}, L4T {'.'.join(map(str, board.l4t))}"
    try:
        check_jetpack(board)
    except ConfigError as error:
        yield Finding(topic="JetPack", level="problem", text=words, fix=str(error))
    else:
        yield Finding(topic="JetPack", level="ok", text=words)


def power(patient: Patient) -> Iterator[Finding]:
    """The power mode, those that are missing, what the bundle was compiled in, and the GPU's clock."""
    board = patient.board
    if board is None:
        return
    modes = power_modes(patient.root)
    mode = board.mode or (f"id {board.mode_id}" if board.mode_id is not None else "unknown")
    clock = f", GPU up to {board.gpu_mhz:g} MHz" if board.gpu_mhz else ""
    others = ", ".join(f"{name} is {key}" for key, name in modes.items() if key != board.mode_id)
    yield Finding(
        topic="power mode",
        level="ok" if not others else "note",
        text=f"{mode}{clock}",
        fix=f"this install's other modes, for sudo nvpmodel -m ID: {others}" if others else "",
    )
    yield from _super(patient, modes)
    yield from _engine_of_another_mode(patient, modes)
    gpu = gpu_clock(patient.root)
    if gpu is not None and not gpu.locked:
        to_compile = patient.bundle is not None and patient.needs_tensorrt and ENGINE not in patient.bundle.manifest.files
        yield Finding(
            topic="clocks",
            level="warning" if to_compile else "note",
            text="the GPU's clock follows the load" + (", and kernels are chosen by timing them" if to_compile else ""),
            fix="before edgevit compile, and for benchmarks; until the next start or change of mode: sudo jetson_clocks",
        )


def _engine_of_another_mode(patient: Patient, modes: dict[int, str]) -> Iterator[Finding]:
    """Whether the bundle was compiled with more or fewer multiprocessors than the present mode leaves on."""
    stamp = (patient.bundle.manifest.compiled or {}).get("engine") or {} if patient.bundle else {}
    # A name that stands for several numbers tells nothing.
    every = {(mode.name, mode.sms) for mode in patient.target.modes} if patient.target else set()
    mine = {name: sms for name, sms in every if sum(name == other for other, _ in every) == 1}
    mode = patient.board.mode if patient.board else None
    built = stamp.get("multiprocessors", "")
    if mode not in mine or not built.isdecimal() or int(built) == mine[mode]:
        return
    same = [f"{name} (sudo nvpmodel -m {key})" for key, name in modes.items() if mine.get(name) == int(built)]
    yield Finding(
        topic="power mode",
        level="problem",
        text=f"the bundle's engine was compiled for {built} multiprocessors, and {mode} leaves {mine[mode]} on",
        fix="compile it in this mode" + (f", or go back to {' or '.join(same)}; the board may have to restart" if same else ""),
    )


def groups(patient: Patient) -> Iterator[Finding]:
    """Whether this user may open what the decoder and the GPU are opened through."""
    if patient.board is None or patient.groups is None:
        return
    lacking = [name for name in GROUPS if name in group_ids(patient.root) and name not in patient.groups]
    if lacking:
        what = "; ".join(f"{name}: {GROUPS[name]}" for name in lacking)
        fix = f"sudo usermod -aG {','.join(lacking)} $USER, then log in again"
        yield Finding(topic="groups", level="warning", text=f"this user is not in {', '.join(lacking)} ({what})", fix=fix)
    else:
        mine = [name for name in GROUPS if name in patient.groups]
        yield Finding(topic="groups", level="ok", text=", ".join(mine) or "none are needed")


def _super(patient: Patient, modes: dict[int, str]) -> Iterator[Finding]:
    """Whether the module has faster modes than this install offers."""
    target, board = patient.target, patient.board
    fast = {mode.name for mode in target.modes if mode.conf == "super"} if target else set()
    only_super = fast - {mode.name for mode in target.modes if mode.conf == "standard"} if target else set()
    if not modes or not only_super or only_super & set(modes.values()) or board is None or (board.l4t or (0,)) < (36, 4, 3):
        return
    spec = re.search(r"^TNSPEC (\S+)", text(patient.root / "etc/nv_boot_control.conf"), re.MULTILINE)
    why = f"; its firmware is configured as {spec[1].rstrip('-')}" if spec and "-super" not in spec[1] else ""
    yield Finding(
        topic="power mode",
        level="warning",
        text=f"this install lacks the module's faster modes ({', '.join(sorted(only_super))}){why}",
        fix=SUPER_FIX,
    )
