"""Time of every layer, from the engines' own profilers. Profiling slows an engine: shares count, not milliseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.engine import backend
from edgevit.engine.base import LayerTime, available_threads, cause
from edgevit.engines import ENGINES
from edgevit.errors import ConfigError, EdgevitError, EngineError

if TYPE_CHECKING:
    from edgevit.engine.base import Frames

__all__ = ["LayerTime", "layer_times"]


def layer_times(
    engine: str, model: bytes, frames: Frames, *, threads: int | None, runs: int, compiled: bytes | None = None,
    device: str | None = None,
) -> list[LayerTime]:  # fmt: skip
    """Layers of ONNX ``model`` in the order they run, over ``runs`` inferences of ``frames`` uint8 [N, H, W, 3], one at a time.

    ``compiled`` is what an engine that is compiled ahead of time made of it on this machine. Raises ConfigError where such a
    one has none, EngineError if the model is refused.
    """
    if compiled is None and (engine not in ENGINES or ENGINES[engine].ahead_of_time):
        msg = f"{engine}: layers are timed on its device, once the bundle is compiled there: edgevit compile BUNDLE"
        raise ConfigError(msg)
    own = backend(engine, device)
    try:
        return own.layer_times(model, frames, threads=threads or available_threads(), runs=runs, compiled=compiled)
    except EdgevitError:
        raise
    except Exception as error:  # the engines' exceptions share no base class but Exception
        msg = f"{own.version} cannot profile this model: {cause(error)}"
        raise EngineError(msg) from error
