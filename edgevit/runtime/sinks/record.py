"""A decision as plain values, the same in every output."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from edgevit.runtime.classify import Prediction
from edgevit.runtime.decide import Decision


def record(decision: Decision) -> dict[str, Any]:
    """JSON-ready: time of capture, frame, label, confidence, predictions, milliseconds per stage.

    ``camera`` is there where sources have names. ``typicality`` and ``distance`` are there of a bundle that tells unknown
    objects; ``raw`` if the predictions are smoothed: the frame's own. Of a multi-label model, ``labels`` are all that are
    above their thresholds, and an event says in ``event`` whether its label came or went.
    """
    frame, best = decision.frame, decision.best
    raw = {"raw": _predictions(decision.raw)} if decision.smoothed else {}
    event = {"event": decision.event} if decision.event else {}
    labels = {"labels": _predictions(decision.labels)} if decision.multi_label else {}
    rare = decision.rarity
    rarity = {} if rare is None else {"typicality": round(rare.typicality, 6), "distance": float(f"{rare.distance:.6g}")}
    return {
        "time": captured_at(decision).isoformat(timespec="milliseconds"),
        **({"camera": decision.camera} if decision.camera is not None else {}),
        "frame": frame.index,
        "name": frame.name,
        **event,
        "label": best.label,
        "confidence": round(best.confidence, 6),
        **rarity,
        **labels,
        "top_k": _predictions(decision.predictions),
        **raw,
        "read_ms": round(decision.read_ms, 3),
        "prepare_ms": round(decision.prepare_ms, 3),
        "infer_ms": round(decision.infer_ms, 3),
        "latency_ms": round(decision.latency_ms, 3),
    }


def captured_at(decision: Decision) -> datetime:
    """The wall clock, in UTC, when the frame was captured."""
    return decision.frame.clock


def _predictions(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    return [{"label": each.label, "confidence": round(each.confidence, 6)} for each in predictions]
