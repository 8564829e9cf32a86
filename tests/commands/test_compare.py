"""What models are called in a comparison."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.commands.compare_field import _names
from edgevit.errors import ConfigError


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/cells.edgevit"], ["cells"]),
        (["a/cells.edgevit", "a/pruned.safetensors"], ["cells", "pruned"]),
        (["a/cells.edgevit", "a/cells.safetensors"], ["cells.edgevit", "cells.safetensors"]),
        (["/a/cells.edgevit", "/b/cells.edgevit", "/b/x"], ["/a/cells.edgevit", "/b/cells.edgevit", "/b/x"]),
    ],
)
def test_the_shortest_names_that_differ(paths: list[str], names: list[str]) -> None:
    assert _names([Path(path) for path in paths]) == names


def test_one_model_under_two_paths() -> None:
    with pytest.raises(ConfigError, match=r"b/../a: given twice"):
        _names([Path("a"), Path("b/../a")])
