"""What a build leaves: the bundle's manifest, its report, and its files."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import edgevit
from edgevit.bundle import KNOWN, MODEL, REFERENCE, REPORT, SAMPLES, Bundle, Manifest, write_bundle
from edgevit.commands.build_inputs import Inputs
from edgevit.commands.build_request import BuildRequest
from edgevit.commands.known_images import KnownImages
from edgevit.commands.steps import Work
from edgevit.commands.target_graph import Compiled
from edgevit.engine.check import Verdict
from edgevit.engines import ENGINES
from edgevit.export.variants import Variant
from edgevit.measure.comparison import Comparison, Row
from edgevit.target import Target

PACKAGES = ("torch", "onnx", *(package for traits in ENGINES.values() for package in traits.versioned))
"""Whose versions a manifest keeps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """All that a build made and measured."""

    inputs: Inputs
    work: Work
    target: Target
    """The request's, on the engine that can be trusted."""
    reference: Variant
    """The model as it came, in FP32."""
    compiled: Compiled
    comparison: Comparison | None
    verdicts: tuple[Verdict, ...]
    samples: bytes
    """Frames and what the graphs give for them: `edgevit.engine.samples`."""
    known: KnownImages | None
    """What tells unknown objects, if that was asked for."""
    notes: tuple[str, ...]
    seconds: dict[str, float]
    """Wall time by stage."""


def write(request: BuildRequest, made: Made) -> Bundle:
    """Write the bundle to ``request.out``. Raises StorageError where the disk does not take it."""
    checkpoint, comparison, compiled, variant = made.work.checkpoint, made.comparison, made.compiled, made.compiled.variant
    rows = {row.precision: row for row in comparison.rows} if comparison else {}
    conditions = comparison.conditions if comparison else {}
    manifest = Manifest(
        name=request.out.stem,
        family=checkpoint.family,
        model=checkpoint.model.config.to_dict(),
        preprocessing=checkpoint.preprocessing,
        labels=checkpoint.labels,
        problem_type=checkpoint.problem_type,
        text=checkpoint.text,
        precision=variant.precision,
        reasons=_reasons(variant),
        blocks=variant.blocks,
        recipe=request.recipe.to_dict(),
        target=made.target.to_dict(),
        engine=made.target.engine(),
        accuracy={**{name: asdict(row.accuracy) for name, row in rows.items()}, "conditions": conditions} if rows else None,
        latency=_latency(rows, conditions),
        known=None if made.known is None else made.known.summary(),
        compiled=compiled.summary(),
        checks=tuple(item.to_dict() for item in made.verdicts),
        provenance=_provenance(request, made),
        notes=(*(comparison.warnings if comparison else ()), *made.notes),
        edgevit=edgevit.__version__,
    )
    report = {**variant.report, **compiled.report(), **made.work.report, "seconds": made.seconds, "notes": made.notes,
              "comparison": comparison.to_dict() if comparison else None}  # fmt: skip
    files = {
        MODEL: variant.model,
        REPORT: (json.dumps(report, indent=2) + "\n").encode(),
        SAMPLES: made.samples,
        **compiled.files,
    }
    if made.known is not None:
        files[KNOWN] = made.known.known.to_bytes()
    if request.reference and request.compared and variant.precision != "fp32":
        files[REFERENCE] = made.reference.model
    return write_bundle(request.out, manifest, files)


def _latency(rows: Mapping[str, Row], conditions: dict[str, Any]) -> dict[str, Any] | None:
    times = {name: asdict(row.latency) for name, row in rows.items() if row.latency is not None}
    return {**times, "conditions": conditions} if times else None


def _reasons(variant: Variant) -> dict[str, str]:
    """Why parts of an INT8 model are in floating point."""
    noise = "INT8 would add {:.1f} times the noise of the block's own proj (full), {:.1f} times (scores alone)"
    refused = {item["name"]: item.get("reason") or noise.format(item["noise"]["full"], item["noise"]["scores"])
               for item in variant.report.get("attention", ()) if item["products"] == "off"}  # fmt: skip
    return refused | variant.report.get("reverted", {})


def _provenance(request: BuildRequest, made: Made) -> dict[str, Any]:
    checkpoint, inputs = made.work.checkpoint, made.inputs
    return {
        "weights": {"file": request.model.name, "sha256": checkpoint.digest}
        | ({"hub": checkpoint.hub} if checkpoint.hub else {}),
        "input": {"size": list(checkpoint.model.config.image_size), "from": checkpoint.sized_by},
        **made.work.provenance,
        # One per image, so that a later comparison can leave them out.
        "calibration_images": sorted(inputs.seen),
        "versions": {"edgevit": edgevit.__version__, "python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
