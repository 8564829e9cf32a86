"""A bundle's engine: compiled on the device that runs it, kept in the bundle, opened from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgevit.bundle import ENGINE, MODEL, TIMING_CACHE, Bundle, open_bundle, write_bundle
from edgevit.engine import backend, open_session, runs_here
from edgevit.engine.base import Session
from edgevit.engine.tensorrt import Advance, BuildOptions, BuiltEngine, build_engine, check_stamp, stamp_here
from edgevit.errors import ConfigError, EngineError


def session_of(bundle: Bundle, engine: str | None = None, *, threads: int | None = None) -> Session:
    """A session for ``bundle`` on its own engine, or on the one called ``engine``.

    Raises EngineError if the bundle's engine was not compiled here, saying how to.
    """
    name = engine or bundle.manifest.engine
    if backend(name).just_in_time:
        return open_session(name, bundle.read(MODEL), threads=threads)
    if ENGINE not in bundle.manifest.files:
        msg = f"{bundle.path}: not compiled yet. On the device that runs it: edgevit compile {bundle.path}"
        raise EngineError(msg)
    check_stamp((bundle.manifest.compiled or {}).get("engine") or {}, name)
    return backend(name).load(bundle.read(ENGINE), threads=threads)


def compile_bundle(path: Path, options: BuildOptions, advance: Advance | None = None) -> tuple[Bundle, BuiltEngine]:
    """Compile the bundle at ``path`` for this machine and put the engine into it, whole or not at all.

    Raises ConfigError if there is nothing to compile, EngineError if this machine cannot run the result.
    """
    bundle = open_bundle(path)
    manifest, name = bundle.manifest, bundle.manifest.engine
    if backend(name).just_in_time:
        msg = f"{path}: {name} compiles in a second at every start; there is nothing to keep. Run it: edgevit run {path} SOURCE"
        raise ConfigError(msg)
    if not runs_here(name):
        msg = (
            f"{path}: an engine of {name} is compiled on the machine that runs it, and this one lacks a GPU, {name}'s Python "
            "module, or pycuda. On a Jetson: apt install python3-libnvinfer, pip install 'edgevit[jetson]', in a virtual "
            "environment made with --system-site-packages."
        )
        raise EngineError(msg)
    files = {file: bundle.read(file) for file in manifest.files}
    known = files.get(TIMING_CACHE, b"")
    built = build_engine(files[MODEL], options, advance, engine=name, timing_cache=known)
    compiled = (manifest.compiled or {}) | {"engine": stamp_here(name)}
    fresh = files | {ENGINE: built.engine, TIMING_CACHE: built.timing_cache}
    return write_bundle(path, replace(manifest, compiled=compiled), fresh), built
