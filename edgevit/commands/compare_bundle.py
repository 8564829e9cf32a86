"""A bundle as a subject of a comparison: what it was built with, and the FP32 graph that it carries along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgevit.bundle import MODEL, REFERENCE, REPORT, SAMPLES, Bundle, Manifest, open_bundle
from edgevit.commands.compare_request import Request, Subject
from edgevit.engine import runs_here
from edgevit.engine.check import floor_of
from edgevit.engine.here import is_home, stand_in
from edgevit.engine.of_bundle import UNCHECKED, compiled_here
from edgevit.engine.samples import has_reference, load_samples
from edgevit.engine.trusted import CheckedGraph
from edgevit.errors import ConfigError
from edgevit.measure.details import Layer, layers_of
from edgevit.plan.device_plan import device_plan
from edgevit.progress import Progress


def subject_of_bundle(path: Path, name: str, request: Request, progress: Progress) -> Subject:
    """What ``request`` wants of the bundle at ``path``. Raises ConfigError if it holds nothing of it, else BundleError."""
    bundle = open_bundle(path)
    manifest = bundle.manifest
    given = [key for key, value in request.options.items() if value] + (["target"] if request.target else [])
    if given:
        msg = f"{path}: a bundle brings its own settings; {', '.join(sorted(given))} can only be given for a checkpoint."
        raise ConfigError(msg)
    files = {"fp32": REFERENCE, manifest.precision: MODEL}
    held = [precision for precision, file in files.items() if file in manifest.files]
    asked = [precision.name for precision in request.precisions]
    wanted = [precision for precision in asked or held if precision in held]
    if not wanted:
        msg = f"{path}: this bundle holds {', '.join(held)}, not {', '.join(asked)}. Give the checkpoint for other precisions."
        raise ConfigError(msg)
    with progress.stage("verify bundle"):
        models = {precision: bundle.read(files[precision]) for precision in wanted}
    notes, engine = [], manifest.engine
    at_home, built_for = is_home(engine, manifest.target), engine
    if not at_home or not runs_here(engine):
        engine = stand_in(engine)
        why = f"this machine is no {manifest.target['name']}" if runs_here(built_for) else f"{built_for} does not run here"
        notes.append(f"{why}: compared on {engine}" + ("" if at_home else f"; not timed without --engines {engine}"))
    lacking = [precision for precision in asked if precision not in held]
    if lacking:
        notes.append(f"{path} holds no {', '.join(lacking)}: left out for it")
    if "fp32" not in held and path == request.models[0]:
        notes.append(f"{path} was built with --no-reference: there is no FP32 in it to compare with")
    if SAMPLES not in manifest.files:
        notes.append(f"{path}: {UNCHECKED}")
    plan = device_plan(manifest.compiled)
    own, engine_here = manifest.precision in wanted, compiled_here(bundle)
    return Subject(
        name=name,
        models=models,
        contract=manifest.preprocessing,
        labels=manifest.labels,
        problem_type=manifest.problem_type,
        engine=engine,
        kind="bundle",
        sha256=bundle.sha256,
        calibrated=frozenset(manifest.provenance.get("calibration_images", ())),
        notes=tuple(notes),
        layers={manifest.precision: _layers(bundle)} if own else {},
        plans={manifest.precision: plan} if plan is not None and own else {},
        timed=at_home,
        earlier=_earlier(manifest, wanted),
        compiled={manifest.precision: engine_here} if engine_here is not None and own else {},
        checks=_checks(bundle, models),
    )


def _earlier(manifest: Manifest, wanted: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """What each precision had when the bundle was built; its own model's row is the last, whatever came before is FP32."""
    rows = {name: row for name, row in (manifest.accuracy or {}).items() if name != "conditions" and row}
    own = list(rows.values())[-1:]
    found = {precision: rows[precision] for precision in wanted if precision in rows}
    return found | ({manifest.precision: own[0]} if own and manifest.precision in wanted else {})


def _checks(bundle: Bundle, models: Mapping[str, bytes]) -> dict[str, CheckedGraph]:
    """Each graph beside what the bundle's samples say that it gives."""
    manifest = bundle.manifest
    if SAMPLES not in manifest.files:
        return {}
    content, found = bundle.read(SAMPLES), dict[str, CheckedGraph]()
    for precision, model in models.items():
        reference = precision != manifest.precision
        if reference and not has_reference(content):  # a bundle of before
            continue
        samples, floor = load_samples(content, reference=reference), None if reference else floor_of(manifest.engine)
        found[precision] = CheckedGraph(precision=precision, model=model, samples=samples, floor_db=floor)
    return found


def _layers(bundle: Bundle) -> tuple[Layer, ...]:
    return layers_of(bundle.read(REPORT)) if REPORT in bundle.manifest.files else ()
