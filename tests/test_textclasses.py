"""Classes given as text: their embeddings in files, and what no classes can be made of."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.errors import ConfigError
from edgevit.files.own_kinds import EMBEDDINGS
from edgevit.problem import MULTI_LABEL, SINGLE_LABEL
from edgevit.textclasses import TextHead, embeddings_bytes, read_embeddings, text_classes

VECTORS = np.array([[3.0, 4.0], [0.0, -2.0]])
UNIT = np.array([[0.6, 0.8], [0.0, -1.0]], np.float32)


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    classes = text_classes(("Öl", "rust"), VECTORS, "here", scale=7.5, bias=-2.0, prompts=("a {}", "the {}"))
    content = embeddings_bytes(classes)
    assert EMBEDDINGS.begins(".npz", content)
    (tmp_path / "e.npz").write_bytes(content)
    found = read_embeddings(tmp_path / "e.npz")
    assert (found.labels, found.scale, found.bias, found.prompts) == (("Öl", "rust"), 7.5, -2.0, ("a {}", "the {}"))
    np.testing.assert_array_equal(found.embeddings, UNIT)
    assert read_embeddings(tmp_path / "e.npz", ["oil", "Rost"]).labels == ("oil", "Rost")


@pytest.mark.parametrize("document", [
    {"labels": ["oil", "rust"], "embeddings": VECTORS.tolist()}, {"oil": [3, 4], "rust": [0, -2]},
])  # fmt: skip
def test_json(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text(json.dumps(document))
    found = read_embeddings(tmp_path / "e.json")
    assert found.labels == ("oil", "rust")
    np.testing.assert_array_equal(found.embeddings, UNIT)


def test_an_array_needs_names(tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", VECTORS)
    with pytest.raises(ConfigError, match="--labels FILE"):
        read_embeddings(tmp_path / "e.npy")
    assert read_embeddings(tmp_path / "e.npy", ["oil", "rust"]).labels == ("oil", "rust")
    with pytest.raises(ConfigError, match="3 labels for 2 embeddings"):
        read_embeddings(tmp_path / "e.npy", ["a", "b", "c"])


def _npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


BAD: dict[str, tuple[str, bytes, str]] = {
    "empty": ("e.npz", b"", "cannot be read as embeddings"),
    "text": ("e.npz", b"crack, scratch", "cannot be read as embeddings"),
    "cut": ("e.npz", _npz(embeddings=VECTORS, labels=["a", "b"])[:-30], "cannot be read as embeddings"),
    "no embeddings": ("e.npz", _npz(labels=["a", "b"]), "misses 'embeddings'"),
    "a pickle": ("e.npz", _npz(embeddings=np.array([{}, {}], object), labels=["a", "b"]), "cannot be read"),
    "another suffix": ("e.txt", b"a\nb\n", "embeddings come as .npz, .npy, .json"),
    "a list": ("e.json", b"[1, 2]", "expected an object"),
    "deep": ("e.json", b"[" * 10_000, "nested too deeply"),
    "texts for numbers": ("e.json", b'{"a": ["x"], "b": ["y"]}', "expected numbers"),
    "ragged": ("e.json", b'{"a": [1, 2], "b": [1]}', "cannot be read"),
    "one name twice": ("e.json", b'{"labels": ["a", "a "], "embeddings": [[1, 2], [2, 1]]}', "two classes are called 'a'"),
    "no name": ("e.json", b'{"labels": ["a", " "], "embeddings": [[1, 2], [2, 1]]}', "a class without a name"),
    "no length": ("e.json", b'{"a": [1, 2], "b": [0, 0]}', "embedding of 'b' is zero"),
    "not a number": ("e.npz", _npz(embeddings=np.array([[1.0, np.nan], [1, 2]]), labels=["a", "b"]), "'a' is zero, or not"),
    "no class": ("e.npz", _npz(embeddings=np.zeros((0, 4)), labels=np.array([], str)), "expected numbers [classes, features]"),
    "a scale of nothing": ("e.json", b'{"labels": ["a", "b"], "embeddings": [[1, 2], [2, 1]], "scale": 0}', "scale is 0"),
    "an endless bias": ("e.json", b'{"labels": ["a"], "embeddings": [[1, 2]], "bias": Infinity}', "bias is inf"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_none(name: str, tmp_path: Path) -> None:
    file, content, why = BAD[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_embeddings(tmp_path / file)
    assert why in str(caught.value)
    assert file in str(caught.value)


@given(st.binary(max_size=300), st.sampled_from(["e.npz", "e.npy", "e.json"]))
def test_any_bytes_are_classes_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str) -> None:
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        read_embeddings(path)


def test_the_head_is_the_embeddings_times_the_scale() -> None:
    classes = text_classes(("a", "b"), VECTORS, "here")
    weight, bias = classes.head(TextHead(scale=50.0))
    np.testing.assert_allclose(weight, 50 * UNIT)
    np.testing.assert_array_equal(bias, [0, 0])
    np.testing.assert_array_equal(classes.head(TextHead(scale=1.0, bias=-3.0))[1], [-3, -3])


def test_a_bias_is_what_makes_scores_independent() -> None:
    assert TextHead(scale=1.0).problem_type == SINGLE_LABEL
    assert TextHead(scale=1.0, bias=0.0).problem_type == MULTI_LABEL
