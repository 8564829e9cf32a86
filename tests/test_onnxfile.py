"""A bundle's graph before an engine sees it: whole in itself, with the ends that the manifest says."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgevit.bundle import MODEL, Manifest, open_bundle, write_bundle
from edgevit.errors import BundleError
from edgevit.onnxfile import check_model
from tests.support import Outcome, small_graph

GRAPH = small_graph((32, 32), 3)


def changed(change: Callable[[onnx.ModelProto], object]) -> bytes:
    proto = onnx.load_from_string(GRAPH)
    change(proto)
    content: bytes = proto.SerializeToString()
    return content


def external(tensor: onnx.TensorProto) -> None:
    onnx.external_data_helper.set_external_data(tensor, "secret.bin")
    tensor.ClearField("raw_data")


def nested(proto: onnx.ModelProto) -> None:
    branch = helper.make_graph([], "branch", [], [])
    proto.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=branch, else_branch=branch))


def in_an_attribute(proto: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "t")
    external(tensor)
    proto.graph.node.append(helper.make_node("Constant", [], ["t"], value=tensor))


def sparse(proto: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64)), [5]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 graphs"),
        (b"no model", "not a protobuf message"),
        (GRAPH[:-3], "a number does not end"),
        (GRAPH[:-300], "ends within a field"),
        (GRAPH + GRAPH, "2 graphs"),
        (changed(lambda proto: external(proto.graph.initializer[0])), "takes weights from another file"),
        (changed(in_an_attribute), "takes weights from another file"),
        (changed(nested), "graphs within its graph"),
        (changed(sparse), "sparse tensors"),
        (changed(lambda proto: proto.functions.add(name="f")), "holds functions"),
        (changed(lambda proto: proto.graph.ClearField("input")), "its input is none"),
        (changed(lambda proto: proto.graph.output.append(proto.graph.output[0])), "its output is logits [3] of type 1, logits"),
        (small_graph((32, 32), 4), "its output is logits [4] of type 1, where the manifest says logits [3] of type 1"),
        (small_graph((32, 40), 3), "its input is frames [32, 40, 3] of type 2, where the manifest says frames [32, 32, 3]"),
        (changed(lambda proto: setattr(proto.graph.input[0].type.tensor_type, "elem_type", TensorProto.FLOAT)), "of type 1"),
    ],
)
def test_what_is_no_model_of_a_bundle(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check_model(content, (32, 32), 3)


def test_what_is_one() -> None:
    check_model(GRAPH, (32, 32), 3)


def test_every_graph_of_a_real_bundle(bundle_path: Path) -> None:
    bundle = open_bundle(bundle_path)
    for name in ("model.onnx", "reference.onnx"):
        check_model(bundle.read(name), bundle.manifest.preprocessing.size, len(bundle.manifest.labels))


def rewritten(bundle_path: Path, out: Path, content: bytes, change: Callable[[Manifest], Manifest] | None = None) -> Path:
    """A bundle with another graph, and perhaps another manifest, in which all hashes are right."""
    bundle = open_bundle(bundle_path)
    files = {name: bundle.read(name) for name in bundle.manifest.files} | {MODEL: content}
    write_bundle(out, change(bundle.manifest) if change else bundle.manifest, files)
    return out


def test_no_engine_reads_the_current_folder(bundle_path: Path, edgevit: Callable[..., Outcome], tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Weights in another file, with every hash right: refused by each command before an engine opens it."""
    proto = onnx.load_from_string(open_bundle(bundle_path).read(MODEL))
    tensor = max(proto.graph.initializer, key=lambda item: len(item.raw_data))
    (tmp_path / "secret.bin").write_bytes(tensor.raw_data)
    external(tensor)
    bundle = rewritten(bundle_path, tmp_path / "b.edgevit", proto.SerializeToString())
    monkeypatch.chdir(tmp_path)
    for command in (
        ["inspect", bundle],
        ["run", bundle, "test://32x32?frames=1", "--headless"],
        ["profile", bundle, "test://32x32"],
    ):
        outcome = edgevit(*command)
        assert outcome.code == 5, command
        assert "takes weights from another file" in outcome.stderr


def test_labels_that_the_graph_has_not(bundle_path: Path, edgevit: Callable[..., Outcome], tmp_path: Path) -> None:
    """Two labels and two classes in the manifest, three in the graph: each right for itself."""

    def fewer(manifest: Manifest) -> Manifest:
        return replace(manifest, labels=manifest.labels[:2], model=manifest.model | {"classes": 2})

    content = open_bundle(bundle_path).read(MODEL)
    bundle = rewritten(bundle_path, tmp_path / "b.edgevit", content, fewer)
    outcome = edgevit("inspect", bundle)
    assert outcome.code == 5
    assert "its output is logits [3]" in outcome.stderr
    with pytest.raises(BundleError):
        open_bundle(bundle).read(MODEL)


def test_a_graph_that_only_looks_like_ours(bundle_path: Path, edgevit: Callable[..., Outcome], tmp_path: Path) -> None:
    """Valid, and walked by code that knows ours: a product whose input nothing makes."""
    proto = onnx.load_from_string(open_bundle(bundle_path).read(MODEL))
    for node in proto.graph.node:
        if node.op_type == "DequantizeLinear":
            node.input[1] = "gone"
    bundle = rewritten(bundle_path, tmp_path / "b.edgevit", proto.SerializeToString())
    for command in (["inspect", bundle, "--layers"], ["run", bundle, "test://32x32?frames=1", "--headless"]):
        outcome = edgevit(*command)
        assert outcome.code == 6, outcome.stderr
        assert len(outcome.stderr.splitlines()) == 1
