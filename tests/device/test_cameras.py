"""What a /dev/video node is, by the drivers of boards that are laid out as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.device.cameras import camera_kind, driver_of, libcamera_names
from edgevit.runtime.camera import why_none
from tests.device.boards import video_node


@pytest.mark.parametrize(
    ("name", "driver", "kind"),
    [
        ("vi-output, imx219 9-0010", "tegra-camrtc-capture-vi", "sensor"),
        ("an unknown name", "tegra-camrtc-capture-vi", "sensor"),
        ("vi-output, ov5693 2-0036", "", "sensor"),
        ("rp1-cfe-csi2_ch0", "rp1-cfe", "sensor"),
        ("unicam-image", "unicam", "sensor"),
        ("pispbe-input", "pispbe", "part"),
        ("bcm2835-codec-decode", "bcm2835-codec", "part"),
        ("bcm2835-isp-capture0", "", "part"),
        ("rpi-hevc-dec", "", "part"),
        ("HD Webcam", "uvcvideo", "camera"),
        ("USB 2.0 Camera: tegra-like", "uvcvideo", "camera"),
        ("", "", "camera"),
    ],
)
def test_kind(name: str, driver: str, kind: str, tmp_path: Path) -> None:
    node = video_node(tmp_path, 0, name, driver)
    assert driver_of(node) == driver
    assert camera_kind("/dev/video0", tmp_path) == kind


def test_node_without_files(tmp_path: Path) -> None:
    """A driver that is not in sysfs, or a container without it: nothing is known."""
    assert camera_kind("/dev/video7", tmp_path) == "camera"


def test_link_to_a_node(tmp_path: Path) -> None:
    """/dev/v4l/by-path/... is looked up as what it points to."""
    video_node(tmp_path, 0, "vi-output, imx219 9-0010", "")
    link = tmp_path / "by-path"
    link.symlink_to(tmp_path / "dev/video0")
    assert camera_kind(link, tmp_path) == "sensor"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vi-output, imx219 9-0010", "a CSI sensor's own node, whose raw pictures OpenCV cannot read. Use csi://0"),
        ("pispbe-input", "no camera, but a part of the board's image processor or codec. Use csi://0 for a CSI camera"),
        ("HD Webcam", "another program holds it, or it is no capture device"),
    ],
)
def test_why_a_node_gives_no_picture(name: str, words: str, tmp_path: Path) -> None:
    video_node(tmp_path, 0, name, "")
    assert words in why_none("/dev/video0", tmp_path)


@pytest.mark.parametrize("tool", ["rpicam-hello", "libcamera-hello"])
def test_list_of_csi_cameras(tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In libcamera's order; modes are no cameras. One that fails or prints nothing finds none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert libcamera_names() is None
    program = tmp_path / tool
    program.write_text("#!/bin/sh\necho '0 : imx477 [4056x3040] (/base/soc/i2c0mux/i2c@1/imx477@1a)'\n"
                       "echo \"    Modes: 'SRGGB10_CSI2P' : 1332x990 [120.05 fps - (696, 528)/2664x1980 crop]\"\n")  # fmt: skip
    program.chmod(0o755)
    assert libcamera_names() == ["/base/soc/i2c0mux/i2c@1/imx477@1a"]
    program.write_text("#!/bin/sh\necho 'No cameras available!' >&2\nexit 1\n")
    assert libcamera_names() == []


def test_list_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevit.device.cameras.LIST_SECONDS", 0.2)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program = tmp_path / "rpicam-hello"
    program.write_text("#!/bin/sh\nexec sleep 30\n")
    program.chmod(0o755)
    assert libcamera_names() is None
