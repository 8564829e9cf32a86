"""What apt would do, asked by a simulated installation: nothing is changed, and nobody has to be root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

SECONDS = 60.0
_REMOVED = re.compile(r"^Remv (\S+)", re.MULTILINE)
_ERROR = re.compile(r"^E: (.+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class SimulatedInstall:
    """What installing a package would come to."""

    error: str | None = None
    """Why it cannot be installed; None if it can."""
    removes: tuple[str, ...] = ()
    """Installed packages that would go for it."""

    @property
    def harmless(self) -> bool:
        """Whether it can be installed beside all that is there."""
        return self.error is None and not self.removes


def simulate_install(package: str) -> SimulatedInstall | None:
    """What ``apt-get install PACKAGE`` would do here; None where there is no apt, or it does not answer."""
    tool = shutil.which("apt-get")
    if tool is None:
        return None
    command = [tool, "-s", "-o", "Debug::NoLocking=1", "install", "--", package]
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        said = _ERROR.findall(done.stderr)
        return SimulatedInstall(error=said[-1] if said else f"apt-get ends with exit code {done.returncode}")
    return SimulatedInstall(removes=tuple(_REMOVED.findall(done.stdout)))
