"""A bundle's session: on the engine that was compiled into it, or on one that compiles at every start."""

from __future__ import annotations

from importlib.util import find_spec

from edgevit.bundle import ENGINE, MODEL, Bundle
from edgevit.engine import backend, open_session, runs_here
from edgevit.engine.base import Session
from edgevit.engine.tensorrt import MODULES, check_stamp, gpu
from edgevit.errors import ConfigError, EngineError
from edgevit.shipped import shipped_names
from edgevit.target import load_target


def session_of(bundle: Bundle, engine: str | None = None, *, threads: int | None = None) -> Session:
    """A session for ``bundle`` on its own engine, or on the one called ``engine``.

    Raises ConfigError for an engine that the bundle cannot have, EngineError if its own cannot run here or was not
    compiled here; both say what to do.
    """
    own = bundle.manifest.engine
    name = engine or own
    if backend(name).just_in_time:
        return open_session(name, bundle.read(MODEL), threads=threads)
    if name != own:
        msg = f"{bundle.path}: built for {own}. For {name} build the model with --target {_targets_of(name)}"
        raise ConfigError(msg)
    if not runs_here(name):
        msg = (
            f"{bundle.path}: {name} cannot run here: {lacking(name)}. Run it on its device; or here, on the processor, with "
            f"--engine {load_target('cpu').engine()}"
        )
        raise EngineError(msg)
    if ENGINE not in bundle.manifest.files:
        msg = f"{bundle.path}: not compiled yet. On the device that runs it: edgevit compile {bundle.path}"
        raise EngineError(msg)
    check_stamp((bundle.manifest.compiled or {}).get("engine") or {}, name)
    return backend(name).load(bundle.read(ENGINE), threads=threads)


def compiled_here(bundle: Bundle) -> bytes | None:
    """The bundle's compiled engine, if there is one that runs on this machine."""
    name = bundle.manifest.engine
    if ENGINE not in bundle.manifest.files or not runs_here(name):
        return None
    try:
        check_stamp((bundle.manifest.compiled or {}).get("engine") or {}, name)
    except EngineError:
        return None
    return bundle.read(ENGINE)


def lacking(engine: str) -> str:
    """What this machine would need to run ``engine`` and has not, with how to get it; empty if it has all."""
    module = MODULES[engine][0]
    found = []
    if gpu() is None:
        found.append("no NVIDIA GPU, or no driver for it")
    if find_spec(module) is None:
        source = "on a Jetson: apt install python3-libnvinfer, and a virtual environment made with --system-site-packages"
        found.append(f"no Python module {module} ({source if module == 'tensorrt' else f'pip install {module}'})")
    if find_spec("pycuda") is None:
        found.append("no pycuda (pip install 'edgevit[jetson]')")
    return "; ".join(found)


def _targets_of(engine: str) -> str:
    """Shipped targets whose bundles run on ``engine``, families before boards."""
    targets = [load_target(name) for name in shipped_names("targets")]
    fitting = [target for target in targets if engine in target.engines.values()]
    covered = {board for target in fitting for board in target.boards}
    return " or ".join(target.name for target in fitting if target.name not in covered)
