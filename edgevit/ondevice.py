"""``edgevit compile``: a bundle's engine, compiled on the device that runs it and kept in the bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgevit.bundle import ENGINE, MODEL, TIMING_CACHE, Bundle, Manifest, check_writable, open_bundle, write_bundle
from edgevit.engine import backend, runs_here
from edgevit.engine.of_bundle import lacking
from edgevit.engine.tensorrt import Advance, BuildOptions, BuiltEngine, build_engine, stamp_here
from edgevit.errors import ConfigError, EngineError
from edgevit.report.preflight import examine


def compile_bundle(path: Path, options: BuildOptions, advance: Advance | None = None) -> tuple[Bundle, BuiltEngine]:
    """Compile the bundle at ``path`` for this machine and put the engine into it, whole or not at all.

    Raises ConfigError if there is nothing to compile, EngineError if this machine cannot run the result, StorageError,
    before it compiles, if the bundle cannot be written.
    """
    bundle = open_bundle(path)
    manifest, name = bundle.manifest, bundle.manifest.engine
    if backend(name).just_in_time:
        msg = f"{path}: {name} compiles in a second at every start; there is nothing to keep. Run it: edgevit run {path} SOURCE"
        raise ConfigError(msg)
    if not runs_here(name):
        msg = f"{path}: an engine of {name} is compiled on the machine that runs it, and this one cannot: {lacking(name)}"
        raise EngineError(msg)
    check_writable(path)
    files = {file: bundle.read(file) for file in manifest.files}
    built = build_engine(files[MODEL], options, advance, engine=name, timing_cache=files.get(TIMING_CACHE, b""))
    fresh = files | {ENGINE: built.engine, TIMING_CACHE: built.timing_cache}
    return write_bundle(path, _with_engine(manifest, built, stamp_here(name)), fresh), built


def _with_engine(manifest: Manifest, built: BuiltEngine, stamp: dict[str, str]) -> Manifest:
    """What the manifest says once the engine is the device's own: its plan takes the place of the stand-in's."""
    found = examine(built, blocks=len(manifest.blocks))
    compiled = (manifest.compiled or {}) | {"plan": found.summary() | {"stand_in": False}, "engine": stamp}
    notes = [text for text in manifest.notes if not text.startswith(("plan: ", "preflight: "))]
    return replace(manifest, compiled=compiled, notes=(*notes, *(f"plan: {warning}" for warning in found.warnings)))
