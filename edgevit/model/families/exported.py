"""ViTs that were exported to ONNX, by whatever exporter: told by what the graph computes, not by names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgevit.errors import ConfigError
from edgevit.model.families.source import Imported, WeightSource, as_size
from edgevit.model.onnxin.file import walking
from edgevit.model.onnxin.pixels import Look
from edgevit.model.onnxin.read import Graph, read_graph
from edgevit.model.onnxin.recognise import Recognised
from edgevit.problem import MULTI_LABEL


def recognises(source: WeightSource) -> bool:
    """Whether it is a graph."""
    return source.graph is not None


def read(source: WeightSource) -> Imported:
    """Take the ViT out of the graph. Raises CheckpointError unless it gives what ONNX Runtime gives for that."""
    assert source.graph is not None
    stated = source.fed or as_size(source.config.get("image_size"), source.keys.origin)
    with walking(source.graph.path), np.errstate(all="ignore"):  # what is not finite is refused
        graph = read_graph(source.graph, size=source.image_size, stated=stated, headless=source.keys.headless)
    if source.heads or source.activation:
        source.notes.append("heads, activation: the graph itself tells them; the options have no effect")
    source.notes.extend(_notes(graph))
    found = graph.found
    if source.image_size not in (None, found.config.image_size):
        _require_any_size(source, found)
    return Imported(
        family="ONNX (ViT)",
        config=found.config,
        state=found.parts.state,
        look=graph.look,
        problem_type=MULTI_LABEL if found.ending == "sigmoid" else "",
    )


def _require_any_size(source: WeightSource, found: Recognised) -> None:
    """Raise ConfigError for another size than the graph's where nothing tells how positions go on."""
    native = "x".join(map(str, found.config.image_size))
    rotary = found.config.rotary
    if rotary is not None and rotary.coordinates == "index":
        msg = (
            f"--image-size: the graph is for {native}, and does not tell how its rotary positions go on at another size. Leave "
            "it out, export the model at that size, or give the checkpoint that it was exported from."
        )
        raise ConfigError(msg)
    if found.config.position_embedding:
        source.notes.append(f"image size: the graph is for {native}; its positions are interpolated as timm does it")


def with_labels(config: Mapping[str, Any], metadata: Mapping[str, str]) -> dict[str, Any]:
    """``config`` with the labels that are in an ONNX file's own metadata, where it has none."""
    from edgevit.model.onnxin.labels import labels_of

    names = labels_of(metadata)
    if not names or any(config.get(key) for key in ("id2label", "label_names", "labels")):
        return dict(config)
    return {**config, "labels": list(names)}


def _notes(graph: Graph) -> list[str]:
    found, proof = graph.found, graph.proof
    notes = [
        f"weights: taken out of the ONNX graph and proved: {found.gives} of {proof.images} test images are ONNX Runtime's, to "
        f"{proof.error:.1e} of the largest (at most 1e-4 is allowed)"
    ]
    if graph.half:
        notes.append("weights: of half precision in the graph, which was compared in float32")
    if graph.sized == "custom":
        notes.append("image size: the graph takes any; took the usual 224x224, pass --image-size to change")
    elif graph.sized not in ("", "--image-size"):
        size = "x".join(map(str, found.config.image_size))
        notes.append(f"image size: the graph takes any; took {size} by {graph.sized}, pass --image-size to change")
    if found.ending:
        means = "any number of labels an image" if found.ending == "sigmoid" else "one class an image"
        notes.append(f"problem type: the graph ends in a {found.ending}, which is left out: {means}")
    if found.gives == "tokens":
        pooled = "the class token" if "class" in found.config.pooling else "the mean of the patches"
        notes.append(f"pooling: the graph gives tokens ({found.output!r}); features are {pooled} of them")
    return notes + _look_notes(graph.look, found)


def _look_notes(look: Look, found: Recognised) -> list[str]:
    notes = []
    if look.mean is not None:
        what = "pixels of 0..255" if look.bytes else "pixels of 0..1"
        notes.append(f"preprocessing: mean and std are those in the graph, which takes {what}")
    if look.flips:
        takes, has = ("RGB", "BGR") if look.color == "bgr" else ("BGR", "RGB")
        told = "as their means say" if look.color else "as nearly all have it; else pass the colour order"
        notes.append(
            "preprocessing: the graph turns the order of channels around; its weights are taken for "
            f"{has} ({told}), its input for {takes}"
        )
    if look.resized is not None:
        at, size = ("x".join(map(str, pair)) for pair in (look.resized, found.config.image_size))
        notes.append(f"preprocessing: the graph resizes images of {at} to {size} itself; here frames are resized to that at once")
    return notes
