"""What ``manifest.json`` may hold, as types: what every manifest is held against, and its published JSON schema.

``docs/manifest.schema.json`` is `schema`. Tables that grow with edgevit (recipe, target, figures) say what is read of them, and
may hold more.
"""

from __future__ import annotations

from inspect import cleandoc
from typing import Annotated, Any, Literal, TypedDict

import msgspec
from msgspec import Meta

from edgevit.preprocess import Preprocessing
from edgevit.problem import PROBLEM_TYPES
from edgevit.textclasses import TextHead
from edgevit.vitconfig import VitConfig

SCHEMA = 1
FILE_LIMIT = 4 * 2**30
"""Bytes of a file of a bundle; an ONNX file ends at 2 GiB, where protobuf does."""

Number = float | None
Bytes = Annotated[int, Meta(ge=0, le=FILE_LIMIT)]
Count = Annotated[int, Meta(ge=0)]


class FileJson(TypedDict):
    """One file."""

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    bytes: Bytes


class Named(TypedDict):
    """A recipe: all of its settings are here."""

    name: str


class MachineJson(TypedDict, total=False):
    """As `edgevit.target.Machine`."""

    arch: str | None
    models: list[str]


class TargetJson(Named, total=False):
    """As `edgevit.target.Target`; older manifests have no machine."""

    machine: MachineJson | None


class MeasuredJson(TypedDict, total=False):
    """Figures of one precision, or their conditions."""

    top1: Number
    mean_average_precision: Number
    f1: Number
    agreement: Number
    p50_ms: Number
    p99_ms: Number


class CheckJson(TypedDict, total=False):
    """An engine held against torch."""

    engine: str
    precision: str
    frames: Count | None
    sqnr_db: Number
    bound_db: Number


class PlanJson(TypedDict, total=False):
    """What compiling for the target showed."""

    builder: str
    stand_in: bool
    kernels: Count | None
    int8_share: Number
    megabytes: Number
    builder_mib: Number
    fused_attention: Count | None
    warnings: list[str]


class TriedJson(TypedDict, total=False):
    """A form of the graph, and what became of it where it was timed."""

    form: str
    p50_ms: Number
    p99_ms: Number
    kernels: Count | None
    megabytes: Number
    fused_attention: Count | None
    sqnr_db: Number
    failure: str


class GraphJson(TypedDict, total=False):
    """What a CUDA graph was found to be worth."""

    used: bool
    with_ms: Number
    without_ms: Number
    reason: str


class CompiledJson(TypedDict, total=False):
    """The plan, and what an engine file is bound to."""

    engine: dict[str, str] | None
    plan: PlanJson | None
    stand_in: PlanJson | None
    form: str | None
    tried: list[TriedJson]
    graph: GraphJson | None


class KnownJson(TypedDict):
    """What tells unknown objects."""

    images: Count
    judged: Count
    by_class: bool


class WeightsJson(TypedDict):
    """The checkpoint."""

    sha256: str


class _Weights(TypedDict):
    weights: WeightsJson


class ProvenanceJson(_Weights, total=False):
    """What made the bundle."""

    versions: dict[str, str]
    input: dict[str, Any]
    calibration_images: list[str]


class _Required(TypedDict):
    schema: Literal[1]
    name: str
    family: str
    model: VitConfig
    preprocessing: Preprocessing
    labels: list[str]
    precision: str
    blocks: list[dict[str, str]]
    recipe: Named
    target: TargetJson
    engine: str
    provenance: ProvenanceJson
    files: dict[str, FileJson]


class ManifestJson(_Required, total=False):
    """See `edgevit.bundle.Manifest`, which has a sentence on each."""

    problem_type: str
    text: TextHead
    reasons: dict[str, str]
    accuracy: dict[str, MeasuredJson] | None
    latency: dict[str, MeasuredJson] | None
    known: KnownJson
    compiled: CompiledJson | None
    checks: list[CheckJson]
    notes: list[str]
    edgevit: str


def schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a manifest."""
    found = msgspec.json.schema(ManifestJson)
    found["$defs"]["ManifestJson"]["properties"]["problem_type"] |= {"enum": list(PROBLEM_TYPES)}
    for form in found["$defs"].values():  # msgspec before 0.23 keeps the indentation of docstrings
        if "description" in form:
            form["description"] = cleandoc(form["description"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "edgevit bundle manifest", **found}
