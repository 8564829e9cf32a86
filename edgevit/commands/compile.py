"""``edgevit compile``: a bundle's engine, compiled on the device that runs it and kept in the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgevit.bundle import ENGINE, MODEL, SAMPLES, TIMING_CACHE, Bundle, Manifest, open_bundle, write_bundle
from edgevit.commands.compile_choice import FormChoice, Question, Tried, choose_form
from edgevit.device.jetson import detect
from edgevit.device.processor import processor
from edgevit.engine import backend, runs_here
from edgevit.engine.builder import Advance, BuildOptions, BuiltEngine
from edgevit.engine.rewrite import quantized
from edgevit.engines import traits_of
from edgevit.errors import ConfigError, EngineError
from edgevit.files.writing import require_writable

APART = 0.2  # share by which a device's kernels may differ in number from the stand-in's before that is said
_OPERANDS = {"scores": "attention/q", "values": "attention/v"}


def compile_bundle(
    path: Path, options: BuildOptions, advance: Advance | None = None, *, keys: Sequence[Path] = ()
) -> tuple[Bundle, BuiltEngine]:
    """Compile the bundle at ``path`` for this machine and put the engine into it, whole or not at all.

    Of several forms of its graph the fastest right one is kept, see `edgevit.commands.compile_choice.choose_form`.

    ``keys`` as in `open_bundle`. What is written has no signature: it is other content than was signed.

    Raises ConfigError if there is nothing to compile, EngineError if this machine cannot run the result or the result
    computes something else, StorageError, before it compiles, if the bundle cannot be written.
    """
    bundle = open_bundle(path, keys)
    manifest, name = bundle.manifest, bundle.manifest.engine
    if not traits_of(name).ahead_of_time:
        msg = f"{path}: {name} compiles in a second at every start; there is nothing to keep. Run it: edgevit run {path} SOURCE"
        raise ConfigError(msg)
    if not runs_here(name):
        msg = (
            f"{path}: an engine of {name} is compiled on the machine that runs it, and this one cannot: {backend(name).lacking()}"
        )
        raise EngineError(msg)
    require_writable(path)
    files = {file: bundle.read(file) for file in manifest.files}
    asked = Question(
        engine=name, model=files[MODEL], samples=files.get(SAMPLES), size=manifest.preprocessing.size,
        precision=manifest.precision, problem_type=manifest.problem_type, blocks=len(manifest.blocks),
        bare=tuple(i for i, block in enumerate(manifest.blocks) if "qkv" not in block), options=options,
        timing_cache=files.get(TIMING_CACHE, b""),
    )  # fmt: skip
    choice = choose_form(asked, advance)
    built = choice.kept.built
    assert built is not None
    manifest = _with_choice(manifest, choice, built, backend(name).stamp())
    return write_bundle(path, manifest, files | {ENGINE: built.engine, TIMING_CACHE: built.timing_cache}), built


def _with_choice(manifest: Manifest, choice: FormChoice, built: BuiltEngine, stamp: dict[str, str]) -> Manifest:
    """What the manifest says once the engine is the device's own: its plan takes the place of the stand-in's."""
    kept, before = choice.kept, manifest.compiled or {}
    stand_in = before.get("stand_in") or _stand_in(before.get("plan") or {})
    compiled = before | {
        "plan": kept.plan.summary() | {"stand_in": False} if kept.plan else None,
        "stand_in": stand_in,
        "engine": stamp,
        "check": asdict(kept.check) if kept.check else None,
        "graph": asdict(kept.graph) if kept.graph else None,
        "form": kept.form.name,
        "tried": [item.to_dict() for item in choice.tried],
    }
    notes = [text for text in manifest.notes if not text.startswith(("plan: ", "preflight: ", "compile: "))]
    warnings = kept.plan.warnings if kept.plan else ()
    notes += [f"plan: {text}" for text in (*warnings, *_apart(choice.tried[0], stand_in))]
    notes += [f"compile: {item.form.name} is not kept: {item.failure}" for item in choice.tried if item.failure]
    if choice.clock is not None and not choice.clock.locked:
        notes.append(f"compile: {choice.clock}")
    return replace(
        manifest, compiled=compiled, notes=tuple(notes), latency=_measured(manifest, built, choice),
        blocks=_in_form(manifest.blocks, kept.form.model),
    )  # fmt: skip


def _stand_in(plan: dict[str, Any]) -> dict[str, Any] | None:
    """What is kept of the plan that the bundle was built with, by another machine's builder."""
    return {key: plan.get(key) for key in ("builder", "kernels")} if plan.get("stand_in") and plan.get("kernels") else None


def _apart(first: Tried, stand_in: dict[str, Any] | None) -> list[str]:
    """What to say if the graph as it was built has far more or fewer kernels here than where it was built."""
    expected, found = (stand_in or {}).get("kernels"), len(first.plan.plan.kernels) if first.plan else 0
    if not expected or not found or abs(found - expected) <= APART * expected:
        return []
    builder = (stand_in or {}).get("builder")
    return [f"{found} kernels by this machine's builder, and {expected} were expected from {builder}'s plan: they fuse "
            "differently, and the estimates of the build do not hold here"]  # fmt: skip


def _in_form(blocks: tuple[dict[str, str], ...], model: bytes) -> tuple[dict[str, str], ...]:
    """``blocks`` as the form ``model`` computes them: what it rounds to INT8 is, and what was so and is no more is FP16."""
    rounded = set(quantized(model))

    def kind(block: int, part: str, before: str) -> str:
        int8 = f"blocks.{block}/{_OPERANDS.get(part, part)}" in rounded
        return "int8" if int8 else "fp16" if before == "int8" else before

    return tuple({part: kind(i, part, before) for part, before in block.items()} for i, block in enumerate(blocks))


def _measured(manifest: Manifest, built: BuiltEngine, choice: FormChoice) -> dict[str, Any]:
    """As a build on its own device keeps it, with what the figures depend on."""
    board, latency, clock = detect(), choice.kept.latency, choice.clock
    assert latency is not None
    conditions = {"engine": built.version, "device": board.model if board else processor(), "batch": 1, "runs": latency.runs,
                  "mode": board.mode if board else None, "gpu_mhz": board.gpu_mhz if board else None,
                  "clock": asdict(clock) | {"locked": clock.locked} if clock else None}  # fmt: skip
    return {manifest.precision: asdict(latency), "conditions": conditions}
