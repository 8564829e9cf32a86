"""Which kinds of source can be read, by what GStreamer has."""

from __future__ import annotations

import pytest

from edgevit.device.doctor import Finding
from edgevit.device.gstreamer import BAD, LIBAV, NVIDIA, PACKAGES, Registry
from edgevit.runtime import gstreamer, source_kinds

EVERYTHING = frozenset(PACKAGES)
PC = frozenset(name for name, package in PACKAGES.items() if package not in (NVIDIA, "gstreamer1.0-libcamera"))
JETSON = PC | {name for name, package in PACKAGES.items() if package == NVIDIA}


def without(elements: frozenset[str], *packages: str) -> frozenset[str]:
    return frozenset(name for name in elements if PACKAGES[name] not in packages)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch):
    def ask(elements: frozenset[str] | None, *, jetson: bool) -> dict[str, Finding]:
        for module in (gstreamer, source_kinds):
            monkeypatch.setattr(module, "registry", lambda: Registry(elements=elements))
        return {finding.text.partition(" ")[0]: finding for finding in source_kinds.gstreamer_findings(jetson=jetson)}

    return ask


@pytest.mark.parametrize(("elements", "jetson"), [(JETSON, True), (PC, False), (EVERYTHING, False)])
def test_all_is_well(found, elements: frozenset[str], jetson: bool) -> None:
    findings = found(elements, jetson=jetson)
    assert {finding.level for finding in findings.values()} == {"ok"}
    assert set(findings) == {"usb://", "rtsp://"} | ({"csi://"} if elements != PC else set())


def test_container_without_parsers(found) -> None:
    """The hardware's decoder is there, and no H.264 reaches it; JPEG in software is all that is left."""
    findings = found(without(JETSON, BAD, LIBAV), jetson=True)
    rtsp = findings["rtsp://"]
    assert rtsp.level == "warning"
    assert rtsp.text == ("rtsp:// can be read: JPEG, jpegdec; it lacks h264parse, h265parse, avdec_h264, avdec_h265")
    assert rtsp.fix == f"sudo apt install {BAD} {LIBAV}"
    assert findings["csi://"].level == "ok"
    assert "jpegparse" in findings["usb://"].text


def test_container_without_nvidias_elements(found) -> None:
    findings = found(PC, jetson=True)
    assert {kind: finding.level for kind, finding in findings.items()} == dict.fromkeys(
        ("usb://", "csi://", "rtsp://"), "warning"
    )
    assert findings["csi://"].text == "csi:// cannot be read; it lacks nvarguscamerasrc, nvvidconv"
    assert findings["csi://"].fix == "NVIDIA's elements come with JetPack: nvidia-l4t-gstreamer"


def test_pc_without_a_package(found) -> None:
    """Worth a note: USB and network cameras are read without GStreamer, too."""
    rtsp = found(without(PC, LIBAV), jetson=False)["rtsp://"]
    assert (rtsp.level, rtsp.fix) == ("note", f"sudo apt install {LIBAV}")


def test_gstreamer_that_cannot_be_asked(found) -> None:
    (finding,) = found(None, jetson=True).values()
    assert (finding.level, finding.fix) == ("note", "install it, and what lacks can be said: sudo apt install gstreamer1.0-tools")
