"""What this Python can import, asked in processes of their own: a library for another machine may crash the one that loads it."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from edgevit.engines import ENGINES
from edgevit.unreported import SILENCE

# A GPU's engine is its board's own software: TensorRT, with the part of pycuda that loads CUDA's driver.
_OF_ENGINES = [module for traits in ENGINES.values() if traits.processor != "gpu" for module in traits.modules]
MODULES = ("tensorrt", "pycuda.driver", "cv2", *dict.fromkeys(_OF_ENGINES))
SECONDS = 60.0
"""A module that takes longer to import hangs."""
# The current folder must not lend a module its name: `python -c` puts it first on the path.
CHILD = f"""{SILENCE}
import importlib, json
sys.path[:] = [*filter(None, sys.path)]
answer = {{}}
try:
    module = importlib.import_module(sys.argv[1])
except ModuleNotFoundError as error:
    answer["missing" if error.name in (sys.argv[1], sys.argv[1].partition(".")[0]) else "error"] = str(error)
except BaseException as error:
    answer["error"] = (str(error).strip().splitlines() or [type(error).__name__])[-1]
else:
    root = sys.modules[sys.argv[1].partition(".")[0]]
    version = getattr(root, "__version__", None) or getattr(root, "VERSION_TEXT", None)
    answer["version"], answer["file"] = version and str(version), getattr(root, "__file__", None)
    if hasattr(root, "getBuildInformation"):
        answer["build"] = root.getBuildInformation()
print("\\n" + json.dumps(answer))
"""


@dataclass(frozen=True, kw_only=True)
class Module:
    """One module of this Python."""

    missing: str | None = None
    """Why there is none; None if there is one."""
    error: str | None = None
    """Why it does not load; None if it does."""
    version: str | None = None
    file: str | None = None
    owner: str | None = None
    """The distribution that brought it, by pip's own record beside it; None if there is no record."""
    build: str = ""
    """OpenCV's own account of how it was built."""

    @property
    def loads(self) -> bool:
        """Whether it can be used."""
        return self.missing is None and self.error is None

    @property
    def of_system(self) -> bool:
        """Whether it came with the system's packages rather than with pip."""
        return (self.file or "").startswith("/usr/lib/python3")


@dataclass(frozen=True, kw_only=True)
class Python:
    """An interpreter, its environment and its modules."""

    version: str
    executable: str
    environment: str | None = None
    """The virtual environment; None outside of one."""
    sees_system: bool = True
    """Whether the system's packages can be imported."""
    modules: dict[str, Module] = field(default_factory=dict)
    """By name, of `MODULES`; without the part after the dot."""
    path: str = ""
    """The environment variable PATH."""
    include: str = ""
    """The folder for its C headers, which compiled packages need."""

    def owns(self, module: Module) -> bool:
        """Whether pip of this environment, or of this user, installed ``module``, so that it can take it off again."""
        homes = [f"{self.environment}/"] if self.environment else []
        return module.owner is not None and (
            "/.local/lib/" in (module.file or "") or any((module.file or "").startswith(home) for home in homes)
        )


def python_here() -> Python:
    """This interpreter. Takes seconds: every module is loaded once."""
    inside = sys.prefix != sys.base_prefix
    return Python(
        version=platform.python_version(),
        executable=sys.executable,
        environment=sys.prefix if inside else None,
        sees_system=not inside or _sees_system(Path(sys.prefix) / "pyvenv.cfg"),
        modules={name.partition(".")[0]: probe(name) for name in MODULES},
        path=os.environ.get("PATH", ""),
        include=sysconfig.get_path("include"),
    )


def probe(name: str) -> Module:
    """Import the module called ``name`` elsewhere and say how that went."""
    command = [sys.executable, "-c", CHILD, name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Module(error=f"loading it takes longer than {SECONDS:.0f} s")
    answer = done.stdout.splitlines()[-1:]  # what the module itself prints comes before
    if done.returncode or not answer:
        return Module(error=_death(done.returncode))
    found = json.loads(answer[0])
    return Module(**found, owner=owner_of(found["file"]) if found.get("file") else None)


def owner_of(file: str) -> str | None:
    """The distribution whose record beside the package has ``file``, an ``__init__.py``; None if none has."""
    package = Path(file).parent
    listed = f"{package.name}/{Path(file).name},"
    for record in sorted(package.parent.glob("*.dist-info/RECORD")):
        with suppress(OSError):
            if any(line.startswith(listed) for line in record.read_text(encoding="utf-8", errors="replace").splitlines()):
                return record.parent.name.partition("-")[0].replace("_", "-")
    return None


def _death(code: int) -> str:
    return f"loading it ends with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"


def _sees_system(config: Path) -> bool:
    try:
        lines = (line.partition("=") for line in config.read_text(encoding="utf-8").splitlines())
    except OSError:
        return False
    return any(key.strip() == "include-system-site-packages" and value.strip() == "true" for key, _, value in lines)
