"""What a host is and has, and whether that is enough."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgevit.deploy.plan import Plan

OLDEST = (3, 10)
ROOM = 1.5  # times the size of the bundle that must be free: old and new lie side by side for a moment
INSTALLED_MIB = 600  # what engine, OpenCV and NumPy take in a fresh virtual environment
WHEELS_FOR = ("x86_64", "aarch64")
"""Processors that the engines' makers build for, as ``uname -m`` calls them."""
TOOLS = {"rsync": "rsync", "flock": "util-linux", "setsid": "util-linux"}
"""Programs and the Debian packages that have them."""
_FORMS = {"folder": r"/.*", "free_kb": r"\d{0,18}", "python": r"\d{1,3}(\.\d{1,3}){2}"}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What `edgevit.deploy.scripts.FACTS` printed; empty text is what it did not find."""

    folder: str
    """Absolute."""
    ours: bool
    """Whether it was empty, or deployed to before, and can be written."""
    quiet: bool
    """Its shell prints nothing of its own accord: rsync, too, stumbles over that."""
    machine: str
    free_mib: float | None
    """None where ``df`` and ``awk`` do not tell."""
    tools: frozenset[str]
    installed: bool
    """Whether edgevit's virtual environment is there."""
    python: str
    is_narrow: bool
    """Whether that Python is of 32 bits, as a 32-bit system's is, on a processor of 64, too."""
    makes_venvs: bool
    driver: bool
    """NVIDIA's."""
    cuda: bool
    """Whether pycuda is there, or a compiler to make it with."""
    compiles: bool
    """Whether pycuda is there, or a C++ compiler and Python's headers to make it with."""
    opencv: str
    """Version of the system's own."""


def read_facts(text: str) -> Facts:
    """From lines of ``key=value``; others are passed over. Raises ValueError for one whose value cannot be."""
    found = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    for key, form in _FORMS.items():
        if key in found and not re.fullmatch(form, found[key], re.ASCII):
            msg = f"{key}={found[key][:60]!r}"
            raise ValueError(msg)
    return Facts(
        folder=found.get("folder", ""),
        quiet=text.startswith("shell=quiet"),
        ours="ours" in found,
        machine=found.get("machine", ""),
        free_mib=int(found["free_kb"]) / 1024 if found.get("free_kb") else None,
        tools=frozenset(TOOLS) & found.keys(),
        installed="venv_there" in found,
        python=found.get("python", ""),
        is_narrow=found.get("bits") == "32",
        makes_venvs="venv" in found,
        driver="driver" in found,
        cuda="cuda" in found,
        compiles=found.get("cuda") == "pycuda" or {"cxx", "headers"} <= found.keys(),
        opencv=found.get("cv2", ""),
    )


def what_lacks(facts: Facts, plan: Plan, folder: str, *, there: bool) -> str:
    """The first thing that stands in the way, with what to do about it; empty if nothing does.

    ``folder`` is as the user named it; ``there`` says that the bundle is on the host already.
    """
    machine = plan.machine
    if machine not in ("", facts.machine) and facts.machine:
        return f"the bundle was built for {machine}, and it is {facts.machine}. See whether it is the right host"
    if facts.machine not in ("", *WHEELS_FOR) and plan.wheelhouse is None:
        return f"it is {facts.machine}, for which engines have no wheels. Use a board with a 64-bit system, or --wheelhouse"
    if not facts.quiet:
        return "its shell prints something unasked, which rsync takes for an answer. Let .bashrc there print to terminals only"
    if not facts.ours:
        return f"{folder} there has other things in it, or cannot be written. Choose another --dir, like {folder}/edgevit"
    missing = next((tool for tool in TOOLS if tool not in facts.tools), None)
    if missing:
        return f"it has no {missing}. There: sudo apt install {TOOLS[missing]}"
    if not facts.python:
        return f"it has no {plan.python}. There: sudo apt install python3; or name another with --python"
    if tuple(map(int, facts.python.split(".")))[:2] < OLDEST:
        return f"its Python is {facts.python}, and edgevit needs 3.10. Name a newer one with --python"
    if facts.is_narrow and plan.wheelhouse is None:
        return f"its Python is of 32 bits, for which engines have no wheels ({facts.machine}). Use a 64-bit system there"
    if not (facts.makes_venvs or facts.installed):
        return "its Python makes no virtual environments. There: sudo apt install python3-venv"
    if plan.traits.processor == "gpu" and not facts.driver:
        return f"it has no NVIDIA driver, which {plan.bundle.manifest.engine} needs. See whether it is the right host"
    if "pycuda" in plan.traits.modules and not facts.cuda:
        return "it has no pycuda, and no nvcc to make it with. On a Jetson: sudo apt install nvidia-jetpack"
    if "pycuda" in plan.traits.modules and not facts.compiles:
        return "it has no pycuda, and lacks what it is made with. There: sudo apt install build-essential python3-dev"
    wanted = ROOM * plan.bytes / 2**20 + (0 if facts.installed else INSTALLED_MIB)
    if facts.free_mib is not None and facts.free_mib < wanted and not there:
        return f"{facts.free_mib:.0f} MiB are free at {folder}, and about {wanted:.0f} are needed. Free some, or use --dir"
    return ""
