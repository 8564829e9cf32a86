"""``edgevit inspect`` as a library call: what is in a bundle, every file of it checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.bundle import open_bundle
from edgevit.commands.arguments import number_or_none, path_of, path_or_none
from edgevit.commands.inspect_diff import differences
from edgevit.commands.inspect_parts import parts_of
from edgevit.commands.inspect_result import InspectResult
from edgevit.engine import backend
from edgevit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def inspect(
    bundle: str | Path,
    *,
    layers: bool = False,
    engine: str | None = None,
    diff: str | Path | None = None,
    require_signature: str | Path | Sequence[str | Path] = (),
    threads: int | None = None,
) -> InspectResult:
    """Check every file of a bundle against its hash, and tell what it holds.

    >>> edgevit.inspect("out.edgevit").bundle.manifest.precision
    >>> edgevit.inspect("out.edgevit", layers=True).rows

    Args:
        bundle: a folder or a .zip.
        layers: whether to list every part of every block: precision, scales, MACs, bytes, milliseconds.
        engine: for ``layers``: what times them; the bundle's own by default.
        diff: another bundle, to tell what differs in it.
        require_signature: the public key that must confirm the signature, or several, of which one must.
        threads: for ``layers``: CPU threads of the engine; all by default.

    Raises:
        TypeError: an argument is of a type that it cannot be.
        BundleError: a bundle is missing, damaged or tampered with, or the signature is not confirmed.
        ConfigError: ``engine`` is unknown, or given without ``layers``, as ``threads`` may not be, either.
        MissingPackageError: ``layers`` needs a package that is not installed.
    """
    number = number_or_none(threads, "threads", 1)
    if (engine or number) and not layers:
        msg = "--engine and --threads are for --layers, which times them. Add it, or leave them out."
        raise ConfigError(msg)
    if engine:
        _ = backend(engine).version
    several = isinstance(require_signature, list | tuple)
    keys = tuple(path_of(key, "require_signature") for key in (require_signature if several else (require_signature,)))  # type: ignore[union-attr]
    opened = open_bundle(path_of(bundle, "bundle"), keys)
    opened.verify()
    parts = parts_of(opened, engine, threads=number) if layers else None
    place, other = path_or_none(diff, "diff"), None
    if place is not None:
        other = open_bundle(place)
        other.verify()
    changes = tuple(differences(opened.manifest, other.manifest)) if other is not None else None
    return InspectResult(
        bundle=opened, keys=keys, parts=None if parts is None else tuple(parts), other=other, differences=changes
    )
