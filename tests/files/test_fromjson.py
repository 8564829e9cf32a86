"""Data from files: what types say is what is checked, and the message says where."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from edgevit.bundle import Manifest, open_bundle
from edgevit.files.fromjson import conform, json_value
from edgevit.manifestjson import ManifestJson, schema
from edgevit.model.vit import ACTIVATIONS
from edgevit.vitconfig import ACTIVATION_NAMES, VitConfig
from tests.support import ROOT

MODEL: dict[str, Any] = {"image_size": [32, 32], "patch_size": 8, "width": 32, "head_dim": 16, "classes": 3,
                         "blocks": [{"heads": 2, "hidden": 64}, {"heads": 2, "hidden": 64}]}  # fmt: skip


@dataclass(frozen=True)
class Point:
    x: float
    y: int = 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"x": "1"}, "here.x: expected float, got str"),
        ({"x": True}, "here.x: expected float, got bool"),
        ({"x": 1, "y": 1.0}, "here.y: expected int, got float"),
        ({"x": 1, "z": 3}, "here: unexpected 'z'"),
        ({"y": 1}, "here: object missing required field x"),
        (None, "here: expected object, got null"),
        ({"x": 10**400}, "here.x: number out of range"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        conform(data, Point, "here")


def test_whole_numbers_are_numbers() -> None:
    assert conform({"x": 1}, Point, "") == Point(x=1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' * 100_000, "nested too deeply"),
        ("1" * 5000, "a number of 5000 digits"),
        (str(2**63), "beyond 64 bits"),
        (b"\xff", "codec can't decode"),
        ("", "Expecting value"),
    ],
)
def test_json_that_is_none_of_ours(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        json_value(text)


def test_numbers_up_to_64_bits_stay_whole() -> None:
    assert json_value(f"[{2**63 - 1}, {-(2**63) + 1}, 1e300]") == [2**63 - 1, -(2**63) + 1, 1e300]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "model.width: expected int >= 1"),
        ({"width": 10**9}, "model.width: expected int <= 65536"),
        ({"classes": -3}, "model.classes: expected int >= 1"),
        ({"image_size": [32]}, "model.image_size: expected array of length 2, got 1"),
        ({"image_size": [32, 3.2]}, "model.image_size[1]: expected int, got float"),
        ({"patch_size": [32, 32]}, "model.patch_size: expected int, got array"),
        ({"patch_size": 5}, "model: image size (32, 32) is not a multiple of the patch size 5"),
        ({"blocks": [{"heads": 2, "hidden": "64"}]}, "model.blocks[0].hidden: expected int, got str"),
        ({"blocks": [{"heads": 2, "hidden": 64}, {"heads": 2, "hidden": 64, "width": 3}]}, "model.blocks[1]: unexpected 'width'"),
        ({"norm_eps": float("nan")}, "model.norm_eps: expected"),
        ({"activation": "tanh"}, "unknown activation 'tanh'"),
        ({"pooling": []}, "needs tokens that this model lacks"),
        ({"depth": 12}, "model: unexpected 'depth'"),
    ],
)
def test_a_config_from_a_file(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        VitConfig.from_dict(MODEL | changes)


def test_a_config_is_read_as_it_was_written() -> None:
    config = VitConfig.from_dict(MODEL)
    assert VitConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_every_activation_has_a_function() -> None:
    assert tuple(ACTIVATIONS) == ACTIVATION_NAMES


def test_the_form_has_every_field_of_a_manifest() -> None:
    assert ManifestJson.__required_keys__ | ManifestJson.__optional_keys__ == {item.name for item in fields(Manifest)}


def test_the_published_schema_is_the_form() -> None:
    """Written anew with EDGEVIT_WRITE_SCHEMA=1 before this test."""
    path = ROOT / "docs" / "manifest.schema.json"
    if os.environ.get("EDGEVIT_WRITE_SCHEMA"):
        path.write_text(json.dumps(schema(), indent=2) + "\n")
    assert json.loads(path.read_text()) == json.loads(json.dumps(schema()))


def test_a_real_manifest_fits_the_form(bundle_path: Path) -> None:
    conform(json.loads((bundle_path / "manifest.json").read_text()), ManifestJson, "")
    assert open_bundle(bundle_path).manifest.checks
