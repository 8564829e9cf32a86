"""Whether a model holds in FP16: measured on calibration images before quantization, simulated on what came out of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgevit.cache import Kind
from edgevit.errors import ConfigError
from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.digest import model_digest
from edgevit.model.folded import FoldedVit
from edgevit.model.planfile import dump_plan
from edgevit.model.quantplan import QuantPlan
from edgevit.model.rewrites.folding import fold
from edgevit.numberformat import FP16
from edgevit.quantize.fp16 import fit, half_logits, peaks, without_key_biases
from edgevit.quantize.linears import decibel
from edgevit.quantize.quantize import BATCH, counted, quantize_key
from edgevit.recipe import Recipe
from edgevit.workbench import Workbench

PEAKS, SIMULATED = Kind("half", __name__), Kind("half-simulated", __name__)
IMAGES = 16  # calibration images that the effect of FP16 is simulated on
ENOUGH = 30.0  # dB of logit SQNR, below which FP16 is warned of


@dataclass(frozen=True, kw_only=True)
class HalfModel:
    """A model that FP16 holds, and what says so."""

    model: FoldedVit
    changed: bool
    """Whether it is not the folded checkpoint any more (it computes the same)."""
    peaks: dict[str, float]
    """Largest magnitudes by place, as `edgevit.quantize.fp16.peaks` finds them."""
    notes: tuple[str, ...]


def half_model(
    checkpoint: Checkpoint, images: ImageSet, precision: str, bench: Workbench, found: dict[str, float] | None = None
) -> HalfModel:  # fmt: skip
    """The folded model made to fit FP16, as measured on ``images``. Raises ConfigError if it cannot be.

    ``found`` are its peaks on these images, if they have passed already.
    """
    folded, contract = fold(checkpoint.model, checkpoint.preprocessing), checkpoint.preprocessing
    key = {name: value for name, value in quantize_key(checkpoint, images, Recipe()).items() if name != "recipe"}
    if found is None:
        with bench.stage("check fp16 range", total=len(images)) as stage:
            stored = bench.cache.find(PEAKS, **key)
            stage.cached = stored is not None
            found = json.loads(stored) if stored else peaks(folded, counted(images.prepared(contract, BATCH), stage.advance))
    fitted = fit(folded, found)
    bench.cache.store(PEAKS, json.dumps(found).encode(), **key)
    model = without_key_biases(fitted.model, found) if precision == FP16.name else fitted.model
    return HalfModel(model=model, changed=precision == FP16.name or fitted.shift > 0, peaks=found, notes=fitted.notes)


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What FP16 makes of a plan on a few images."""

    report: dict[str, Any]
    """``sqnr_db`` of the logits against FP32, on so many ``images``."""
    note: str


def simulated(checkpoint: Checkpoint, plan: QuantPlan, images: ImageSet, bench: Workbench) -> Simulated:
    """``plan`` with all that is not INT8 in FP16, on a few of ``images``. Raises ConfigError if logits are not finite."""
    some = images.subset(range(min(len(images), IMAGES)))
    key = {"model": model_digest(checkpoint.model), "contract": checkpoint.preprocessing.to_dict(), "images": some.digest(),
           "plan": hashlib.sha256(dump_plan(plan)).hexdigest()}  # fmt: skip
    stored = bench.cache.find(SIMULATED, **key)
    if stored is None:
        stored = json.dumps(_sqnr_db(checkpoint, plan, some)).encode()
        bench.cache.store(SIMULATED, stored, **key)
    sqnr = json.loads(stored)
    if sqnr is None:
        msg = "FP16 cannot hold this model: its logits are not finite on the calibration images. Build with --precision fp32."
        raise ConfigError(msg)
    what = "INT8 with FP16 around it" if plan.linears else "FP16"
    note = f"fp16: in {what}, simulated, the logits keep {sqnr:.0f} dB against FP32 on {len(some)} calibration images"
    if sqnr < ENOUGH:
        note += "; that is little: compare with --precision fp32"
    return Simulated(report={"sqnr_db": sqnr, "images": len(some)}, note=note)


def _sqnr_db(checkpoint: Checkpoint, plan: QuantPlan, images: ImageSet) -> float | None:
    """Of the logits; None if they are not finite."""
    contract = checkpoint.preprocessing
    frames = np.concatenate(list(images.prepared(contract, BATCH)))
    wanted, found = half_logits(plan, fold(checkpoint.model, contract), frames)
    if not np.isfinite(found).all():
        return None
    return decibel(float(np.square(wanted).sum()), float(np.square(found - wanted).sum()))
