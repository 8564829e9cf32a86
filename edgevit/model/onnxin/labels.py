"""Labels in an ONNX file's own metadata, as exporters of classifiers write them."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

_KEYS = ("names", "id2label", "labels", "class_names", "classes")
_LONGEST = 4 << 20
"""Characters; 21,841 labels have a million."""


def labels_of(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Class names, in order: a dict by number or a list, as JSON, as Python writes it, or a line each; () if there are none.

    Nothing of it is executed.
    """
    for key in _KEYS:
        text = metadata.get(key, "")
        if text and len(text) <= _LONGEST and (names := _in_order(_value(text))):
            return names
    return ()


def _value(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    lines = [line.strip() for line in text.replace(",", "\n").splitlines()]
    return [line for line in lines if line]


def _in_order(names: Any) -> tuple[str, ...]:
    if isinstance(names, list | tuple):
        return tuple(map(str, names))
    if not isinstance(names, dict) or not all(str(key).isdecimal() for key in names):
        return ()
    return tuple(str(name) for _, name in sorted(names.items(), key=lambda item: int(item[0])))
