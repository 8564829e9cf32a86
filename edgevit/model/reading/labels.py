"""Class names: the user's, the checkpoint's, or numbers."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgevit.errors import ConfigError
from edgevit.files.bounded import read_bounded
from edgevit.files.fromjson import json_value

MOST_BYTES = 16 * 2**20
"""Of a file of labels: 21,841 of them take 1 MiB."""


def user_labels(labels: Path | Sequence[str], classes: int) -> tuple[str, ...]:
    """Labels as given, or those in a file: one a line, or JSON (a list, or a dict by class number).

    Raises ConfigError if the file is unreadable or there are not ``classes`` of them.
    """
    names = given_labels(labels)
    if len(names) != classes:
        msg = f"labels: got {len(names)}, but the model has {classes} classes. Give one label a class, in the order of training."
        raise ConfigError(msg)
    return names


def given_labels(labels: Path | Sequence[str]) -> tuple[str, ...]:
    """Labels as given, or those in a file, however many. Raises ConfigError if it is unreadable."""
    return _read(labels) if isinstance(labels, Path) else tuple(labels)


def config_labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Labels of a ``config.json`` of transformers (``id2label``) or timm (``label_names``, ``labels``), in order; () if none."""
    pretrained = config.get("pretrained_cfg")
    places = (config, pretrained if isinstance(pretrained, dict) else {})
    keys = ("id2label", "label_names", "labels")
    names = _in_order(next((place[key] for place in places for key in keys if place.get(key)), None))
    described = next((place["label_descriptions"] for place in places if place.get("label_descriptions")), None)
    return tuple(str(described.get(name, name)) for name in names) if isinstance(described, dict) else names


def _in_order(names: Any) -> tuple[str, ...]:
    if isinstance(names, list):
        return tuple(map(str, names))
    if not isinstance(names, dict) or not all(str(key).isdecimal() for key in names):
        return ()
    return tuple(str(name) for _, name in sorted(names.items(), key=lambda item: int(item[0])))


def _read(path: Path) -> tuple[str, ...]:
    try:
        data = read_bounded(path, MOST_BYTES)
        # Windows' Notepad calls UTF-16 "Unicode", and marks UTF-8, too.
        text = data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
        if path.suffix.lower() == ".json":
            return _in_order(json_value(text))
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read as labels ({error}). Give a UTF-8 text file with one label a line, or JSON."
        raise ConfigError(msg) from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())
