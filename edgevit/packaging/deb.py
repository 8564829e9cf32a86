"""A bundle and its service as a Debian package: files in ``/usr``, settings in ``/etc``, a unit, and a way back."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from email.utils import format_datetime
from pathlib import Path, PurePosixPath

import edgevit
from edgevit.packaging import dpkg
from edgevit.packaging.application import Application
from edgevit.packaging.deb_scripts import maintainer_scripts
from edgevit.packaging.launcher import launcher, settings_text, unit_text
from edgevit.packaging.tree import Member, bundle_members, epoch, text_member, write_tree

COPYRIGHT = """\
Copyright: of the bundle, its maker. Written by edgevit package.
The bundle's licence is that of its weights; see its manifest.json, provenance.
"""


def maintainer() -> str:
    """Whom a package names, from the variables that Debian's own tools read."""
    return f"{os.environ.get('DEBFULLNAME') or 'edgevit package'} <{os.environ.get('DEBEMAIL') or 'nobody@example.com'}>"


def changelog(package: str, version: str) -> Member:
    """What Debian asks of every package: here one entry, of the time that all files have."""
    date = format_datetime(datetime.fromtimestamp(epoch(), timezone.utc))
    text = f"{package} ({version}) unstable; urgency=medium\n\n  * Written by edgevit package.\n\n -- {maintainer()}  {date}\n"
    packed = gzip.compress(text.encode(), mtime=0)
    return Member(path=PurePosixPath(f"usr/share/doc/{package}/changelog.gz"), read=lambda: packed)


def write_deb(application: Application, folder: Path) -> Path:
    """Write ``NAME_VERSION_ARCH.deb`` into ``folder``. Raises as `edgevit.packaging.dpkg.build`."""
    architecture = dpkg.ARCHITECTURES[application.machine]
    path = folder / f"{application.title}_{application.version}_{architecture}.deb"
    settings = f"/etc/edgevit/{application.name}.conf"
    dpkg.build(
        path,
        _fields(application, architecture),
        lambda root: write_tree(root, _members(application, settings)),
        maintainer_scripts(application),
        conffiles=[settings],
        private=application.secret,
    )
    return path


def _fields(application: Application, architecture: str) -> dict[str, str]:
    manifest = application.bundle.manifest
    return {
        "Package": application.title,
        "Version": application.version,
        "Architecture": architecture,
        "Maintainer": maintainer(),
        "Depends": f"edgevit-runtime (>= {edgevit.__version__}), edgevit-runtime-{application.traits.extra}",
        "Section": "misc",
        "Priority": "optional",
        "Description": f"camera classifier {application.name}, a bundle of edgevit and its service\n"
        f" {len(manifest.labels)} labels, {manifest.precision} for {application.traits.title}.\n"
        f" Its manifest's SHA-256 begins with {application.bundle.sha256[:16]}.",
    }


def _members(application: Application, settings: str) -> Iterator[Member]:
    home = f"usr/lib/edgevit/{application.name}"
    state = f"/var/lib/edgevit/{application.name}"
    current = f"{state}/current"
    yield from bundle_members(application.bundle, f"{home}/{application.version}")
    yield text_member(f"{home}/service", launcher(application, current, f"{state}/former.conf", settings), 0o755)
    yield text_member(f"usr/lib/systemd/system/{application.title}.service", unit_text(application, f"/{home}/service", current))
    yield text_member(settings.lstrip("/"), settings_text(application), 0o640)
    yield text_member(f"usr/share/doc/{application.title}/copyright", COPYRIGHT)
    yield changelog(application.title, application.version)
