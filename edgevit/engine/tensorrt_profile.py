"""Time of every layer of a TensorRT engine, under the names of the graph's nodes."""

from __future__ import annotations

import json
import re
from statistics import median
from typing import TYPE_CHECKING, Any

from edgevit.engine.base import UNCOUNTED, LayerTime
from edgevit.engine.tensorrt_session import TensorRtSession

if TYPE_CHECKING:
    from edgevit.engine.base import Frames

_NODE = re.compile(r"\[ONNX Layer: (.*?)\]")
_PRODUCTS = ("MatMul", "Gemm", "Conv")


def tensorrt_layer_times(compiled: bytes, module: Any, frames: Frames, runs: int) -> list[LayerTime]:
    """Layers of the engine ``compiled`` by TensorRT's Python ``module``, over ``runs`` inferences of ``frames``."""
    with TensorRtSession(compiled, module) as session:
        times = session.profile(frames, UNCOUNTED + runs)
        nodes = node_names(session.inspect())
    return [
        LayerTime(name=nodes.get(name, name), kind="", milliseconds=median(values[UNCOUNTED:])) for name, values in times.items()
    ]


def node_names(inspected: str) -> dict[str, str]:
    """By the name of a TensorRT layer the graph's node that it is of: the product among those that were fused, else the first.

    ``inspected`` is the engine inspector's JSON; empty where it says nothing of the graph (built without detailed verbosity).
    """
    found = {}
    try:
        layers = json.loads(inspected)["Layers"]
        for layer in layers:
            nodes = _NODE.findall(layer.get("Metadata", ""))
            if nodes:
                found[layer["Name"]] = next((node for node in nodes if node.endswith(_PRODUCTS)), nodes[0])
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return found
