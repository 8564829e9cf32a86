"""What a bundle is of, whatever was compiled into it since: how a host's bundle is told from another of the same name."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from edgevit.bundle import ENGINE, TIMING_CACHE, Manifest


def identity(manifest: Manifest) -> str:
    """SHA-256, hexadecimal, of what `edgevit compile` leaves as it is: model, labels, preprocessing, provenance."""
    files = {name: entry for name, entry in manifest.files.items() if name not in (ENGINE, TIMING_CACHE)}
    kept = replace(manifest, files=files, compiled=None, latency=None, notes=())
    return hashlib.sha256(kept.to_json().encode()).hexdigest()
