"""How two bundles differ, key by key of their manifests. A pure function."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgevit.bundle import Manifest

IGNORED = ("name", "schema", "provenance.calibration_images")
"""Its own name says nothing about a bundle; images are counted, not listed."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One key, and its value in each bundle; None where a bundle lacks it."""

    key: str
    """``blocks.3.fc2``, ``accuracy.int8.top1``, ..."""
    one: Any
    other: Any


def differences(one: Manifest, other: Manifest) -> list[Difference]:
    """Everything that differs, in the manifest's order."""
    flat, flat_other = _flat(asdict(one)), _flat(asdict(other))
    keys = dict.fromkeys([*flat, *flat_other])
    found = [
        Difference(key=key, one=flat.get(key), other=flat_other.get(key))
        for key in keys
        if key not in IGNORED and flat.get(key) != flat_other.get(key)
    ]
    images, images_other = (set(item.provenance.get("calibration_images", ())) for item in (one, other))
    if images != images_other:
        shared = f"images, {len(images & images_other)} of them in both"
        key = "provenance.calibration_images"
        found.append(Difference(key=key, one=f"{len(images)} {shared}", other=f"{len(images_other)} {shared}"))
    return found


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts, and lists of dicts, as one dict with dotted keys; other lists are values."""
    if isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
        value = {str(i): item for i, item in enumerate(value)}
    if not isinstance(value, dict) or not value:
        return {prefix: list(value) if isinstance(value, tuple) else value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return flat
