"""Cameras, who may open them, and NVIDIA's service for those on a CSI connector."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from edgevit.device.cameras import camera_kind
from edgevit.device.doctor.finding import Finding, Patient
from edgevit.device.files import text
from edgevit.device.service import argus_deadlocks


def cameras(patient: Patient) -> Iterator[Finding]:
    """Each camera, and whether this user may open it; CSI sensors; NVIDIA's service."""
    nodes = sorted(patient.root.glob("dev/video[0-9]*"), key=lambda path: int(re.sub(r"\D", "", path.name) or 0))
    if not nodes:
        yield Finding(
            topic="camera", level="note", text="no /dev/video*", fix="for a USB camera see lsusb and dmesg; run takes files, too"
        )
    sensors = False
    for node in nodes:
        name = text(patient.root / f"sys/class/video4linux/{node.name}/name").strip() or "unnamed"
        kind = camera_kind(f"/dev/{node.name}", patient.root)
        if kind == "part":  # a board's own codec or image processor
            continue
        if kind == "sensor":
            sensors = True
            fix = "use csi://0: what comes here are raw pictures, unless the sensor converts them itself"
            yield Finding(topic="camera", level="note", text=f"/dev/{node.name}: {name}, a CSI sensor", fix=fix)
        elif os.access(node, os.R_OK | os.W_OK):
            yield Finding(topic="camera", level="ok", text=f"/dev/{node.name}: {name}")
        else:
            fix = "sudo usermod -aG video $USER, then log in again"
            yield Finding(
                topic="camera", level="problem", text=f"/dev/{node.name}: {name}, which this user may not open", fix=fix
            )
    if sensors and argus_deadlocks(patient.board):
        words = "the camera service of this JetPack can deadlock when a program dies while it captures"
        fix = "restart it: sudo systemctl restart nvargus-daemon; edgevit service does so at each start. JetPack 6.2.2 mends it"
        yield Finding(topic="camera", level="warning", text=words, fix=fix)
    if patient.board and not (patient.root / "tmp/argus_socket").exists():
        fix = "for a CSI camera: sudo systemctl restart nvargus-daemon"
        yield Finding(topic="camera", level="note", text="NVIDIA's camera service does not run", fix=fix)
