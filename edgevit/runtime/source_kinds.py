"""Which kinds of source GStreamer can read here, and what lacks for the others: for the doctor."""

from __future__ import annotations

from collections.abc import Iterator

from edgevit.device.doctor import Finding
from edgevit.device.gstreamer import OF_BOARDS, PACKAGES, packages_of, registry
from edgevit.runtime.candidates import DecoderCandidate
from edgevit.runtime.gstreamer import Installed, Mode, csi_pipelines, elements, rtsp_pipelines, usb_pipelines

HARDWARE = ("nvv4l2decoder", "nvjpegdec", "nvarguscamerasrc")


def gstreamer_findings(*, jetson: bool) -> Iterator[Finding]:
    """By kind of source: whether it can be read, whether a Jetson's hardware would do it, and the packages to install.

    What is a warning on a Jetson is a note elsewhere, where USB and network cameras are read without GStreamer, too.
    """
    if registry().elements is None:
        fix = "install it, and what lacks can be said: sudo apt install gstreamer1.0-tools"
        yield Finding(topic="GStreamer", level="note", text="gst-inspect-1.0 does not tell what is installed", fix=fix)
        return
    mode, has = Mode(), Installed(decodebin=not jetson)
    kinds = {
        "usb://": usb_pipelines("/dev/video0", mode, has),
        "csi://": csi_pipelines(0, mode, has),
        "rtsp://": rtsp_pipelines("rtsp://camera", mode, has),
    }
    for kind, candidates in kinds.items():
        yield from _of_kind(kind, candidates, jetson=jetson)


def _of_kind(kind: str, candidates: list[DecoderCandidate], *, jetson: bool) -> Iterator[Finding]:
    # What only a Jetson has is no reason elsewhere, nor the other way round: each has its own ways.
    mine = [each for each in candidates if jetson or not _is_hardware(each)]
    mine = [each for each in mine if not jetson or "libcamerasrc" not in elements(each.pipeline)]
    ready = [each.decoder for each in mine if not each.missing]
    lacking = list(dict.fromkeys(element for each in mine for element in each.missing))
    level = "warning" if jetson else "note"
    if not ready and kind == "csi://" and not jetson:
        return  # few machines have such a connector
    words = f"{kind} can be read: {'; '.join(ready)}" if ready else f"{kind} cannot be read"
    hardware = [each for each in mine if _is_hardware(each)]
    if ready and (not hardware or any(not each.missing for each in hardware)) and not _installable(lacking):
        yield Finding(topic="GStreamer", level="ok", text=words)
        return
    packages = [name for name in packages_of(lacking) if name not in OF_BOARDS]
    fix = f"sudo apt install {' '.join(packages)}" if packages else "NVIDIA's elements come with JetPack: nvidia-l4t-gstreamer"
    yield Finding(topic="GStreamer", level=level, text=f"{words}; it lacks {', '.join(lacking)}", fix=fix)


def _is_hardware(candidate: DecoderCandidate) -> bool:
    return any(element in HARDWARE for element in elements(candidate.pipeline))


def _installable(lacking: list[str]) -> list[str]:
    return [element for element in lacking if PACKAGES.get(element) not in OF_BOARDS]
