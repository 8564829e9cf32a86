"""Debian packages that are installed, read from dpkg's own file; no command is run."""

from __future__ import annotations

import re
from pathlib import Path

from edgevit.device.files import text

STATUS = "var/lib/dpkg/status"
FIELD = re.compile(r"^(Package|Status|Version): (.*)$", re.MULTILINE)


def installed_packages(root: Path) -> dict[str, str]:
    """Version by package of those that are wholly installed; empty where there is no dpkg."""
    entries = (dict(FIELD.findall(entry)) for entry in text(root / STATUS).split("\n\n"))
    whole = (entry for entry in entries if entry.get("Status", "").endswith(" installed"))
    return {entry["Package"]: entry["Version"] for entry in whole if {"Package", "Version"} <= entry.keys()}
