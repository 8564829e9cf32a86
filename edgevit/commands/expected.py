"""What a build takes on this machine, before it begins: memory by the size of the model, time by its products and how fast this
machine multiplies. Fitted to `benchmarks/build_cost.py`, from DINOv2-S to ViT-H; what is cached takes less.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

from edgevit.commands.build_inputs import Inputs
from edgevit.commands.build_request import BuildRequest
from edgevit.device.memory import free_memory
from edgevit.engine.here import is_here
from edgevit.errors import ConfigError
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.macs import macs
from edgevit.numberformat import FORMATS
from edgevit.quantize.linears import KEPT_TOKENS
from edgevit.quantize.smoothing_search import PROJECTED
from edgevit.recipe import Recipe

GIB = 2**30
FLOAT = 4
"""Bytes of a weight."""
BASE = 0.75 * GIB
"""Python, torch and an engine, before any model."""
LEAST, MOST = 2.5, 5.0
"""Times the FP32 weights: what no build does without, and what one takes, weights that are mapped from files included."""
CHECKED = 48
"""Passes of one frame through the model that checking the engines takes, in torch and on an engine."""
TIMED_SECONDS = 60.0
"""About how long a build times its graphs; a ViT-L on two cores gets fewer inferences."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Of a build without pruning and merging, in bytes."""

    peak: float
    """At most, as far as can be told."""
    least: float
    """What it certainly takes."""
    free: int | None
    """What there is; None if the system does not tell."""


def expected_memory(inputs: Inputs) -> Memory:
    """What building a model from ``inputs`` takes."""
    weights = FLOAT * sum(value.numel() for value in inputs.checkpoint.model.state_dict().values())
    config = inputs.checkpoint.model.config
    # Passes in network order have all their tokens at once: ten widths of activations, and the scores.
    tokens = min(KEPT_TOKENS, config.tokens * len(inputs.calibration or ()))
    activations = FLOAT * tokens * (10 * config.width + 2 * config.tokens * max(block.heads for block in config.blocks))
    return Memory(peak=BASE + MOST * weights + activations, least=BASE + LEAST * weights, free=free_memory())


def require_memory(request: BuildRequest, inputs: Inputs) -> None:
    """Raise ConfigError if a build, or pruning alone, cannot fit into the memory there is: before minutes of work, not behind."""
    found = expected_memory(inputs)
    if found.free is not None and found.least > found.free:
        msg = (
            f"{request.model}: this takes at least {found.least / GIB:.1f} GiB of memory, and {found.free / GIB:.1f} GiB "
            "are free here. Close other programs, add swap, raise this container's limit, or build on a larger machine"
        )
        raise ConfigError(msg)


def expectation(request: BuildRequest, inputs: Inputs) -> str:
    """What building takes, in one line for people; a product is timed for it, once, which takes a tenth of a second."""
    memory, seconds = expected_memory(inputs), expected_seconds(request, inputs)
    room = "" if memory.free is None else f"; {memory.free / GIB:.1f} GiB are free"
    return f"about {duration(seconds)} and up to {memory.peak / GIB:.1f} GiB of memory{room}"


def expected_seconds(request: BuildRequest, inputs: Inputs) -> float:
    """Of a build without pruning and merging, with nothing kept of it, on this machine."""
    one, rate = 2.0 * macs(inputs.checkpoint.model.config), _rate()
    graphs = 1 + (request.precision != "fp32")
    work = CHECKED * one * graphs
    if FORMATS[request.precision].scaled and inputs.calibration:
        work += _quantizing(inputs.checkpoint, len(inputs.calibration), request.recipe)
    if not request.compared:
        return work / rate
    work += graphs * one * len(inputs.held_out or ())
    timed = min(TIMED_SECONDS, 66 * graphs * one / rate) if inputs.held_out and is_here(request.target) else 0.0
    return work / rate + timed


def _quantizing(checkpoint: Checkpoint, images: int, recipe: Recipe) -> float:
    """Floating-point operations."""
    config, settings = checkpoint.model.config, recipe.quantize
    passes, work = 1.5 * images, 0.0
    kept = min(images, KEPT_TOKENS // config.tokens)
    passes += 1.5 * kept * (settings.bias == "network") + 40 * (settings.attention != "off")
    candidates = len(settings.migration) + len(settings.tails) + settings.centring
    for block in checkpoint.model.config.blocks:
        inner, width, rows = block.heads * config.head_dim, config.width, block.hidden * (1 + config.gated)
        for inputs, outputs in ((width, 3 * inner), (inner, width), (width, rows), (block.hidden, width)):
            # Elementwise work counts as so many products: it waits for memory.
            work += recipe.calibrate.tokens * inputs * (candidates * (2 * min(outputs, PROJECTED) + 600) + outputs)
            if settings.rounding == "gptq":
                work += 1.25 * images * config.tokens * inputs**2 + 3 * inputs**2 * (outputs + inputs)
    return passes * 2.0 * macs(config) + work


def expected_evaluation(inputs: Inputs) -> float:
    """Seconds of evaluating one graph in FP32 on the images that are held out, with all of this machine's threads."""
    return 2.0 * macs(inputs.checkpoint.model.config) * len(inputs.held_out or ()) / _rate()


@cache
def _rate() -> float:
    """Floating-point operations a second of a product as a ViT has them, the best of three."""
    import torch

    a, b = torch.ones(788, 768), torch.ones(768, 768)
    best = float("inf")
    for _ in range(3):
        begin = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - begin)
    return 2.0 * a.shape[0] * b.numel() / best


def duration(seconds: float) -> str:
    """Of about so long, for people."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
