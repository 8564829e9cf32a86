"""What GStreamer has, against the real one where it is installed, and the packages that ship what our pipelines use."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgevit.device import gstreamer
from edgevit.device.gstreamer import CORE, NVIDIA, OF_BOARDS, PACKAGES, Registry, has_property, packages_of, registry
from edgevit.runtime.gstreamer import Installed, Mode, csi_pipelines, elements, own_pipeline, rtsp_pipelines, usb_pipelines
from tests.support import ROOT

needs_gstreamer = pytest.mark.skipif(shutil.which(gstreamer.TOOL) is None, reason=f"{gstreamer.TOOL} is not installed")
needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="this system has no dpkg")
DOCKERFILES = sorted((ROOT / "deploy").glob("Dockerfile.*"))


def every_element() -> set[str]:
    """Of every pipeline that edgevit makes, for every machine, size and rotation."""
    pipelines = [own_pipeline("", every=every) for every in (True, False)]
    for rotate in (0, 90):
        for has in (Installed(bgrx=False, decodebin=True), Installed()):
            mode = Mode(rotate=rotate)
            made = [
                *csi_pipelines(0, mode, has),
                *usb_pipelines("/dev/video0", mode, has),
                *rtsp_pipelines("rtsp://x", mode, has),
            ]
            pipelines += [each.pipeline for each in made]
    return {element for pipeline in pipelines for element in elements(pipeline)}


@pytest.fixture(autouse=True)
def asked_anew():
    for function in (registry, has_property):
        function.cache_clear()
    yield
    for function in (registry, has_property):
        function.cache_clear()


def test_every_element_has_a_package() -> None:
    """And no package is named for an element that nothing uses."""
    assert every_element() == PACKAGES.keys()


@needs_gstreamer
@needs_dpkg
@pytest.mark.parametrize("element", sorted(name for name, package in PACKAGES.items() if package not in OF_BOARDS))
def test_package_of_an_element(element: str) -> None:
    """As Debian has it: the plugin's own file is asked for its package."""
    described = subprocess.run([gstreamer.TOOL, element], capture_output=True, text=True, check=False, timeout=60).stdout
    found = re.search(r"^\s*Filename\s+(\S+)$", described, re.MULTILINE)
    if found is None:
        pytest.skip(f"{element} is not installed: apt-get install {PACKAGES[element]}")
    owner = subprocess.run(["dpkg-query", "-S", os.path.realpath(found[1])], capture_output=True, text=True, check=False)
    assert owner.stdout.partition(":")[0] == PACKAGES[element], owner.stderr


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_image_that_has_gstreamer_has_all_of_it(path: Path) -> None:
    """What is not the host's own: a missing parser fails every RTSP stream."""
    text = path.read_text(encoding="utf-8")
    if "gstreamer" not in text:
        assert "opencv-python-headless" in text  # a wheel, which has none: its sources are those that do without
        return
    here = {package for package in PACKAGES.values() if package not in (*OF_BOARDS, CORE)}  # the core is what they all need
    assert {package for package in here if not re.search(rf"\s{re.escape(package)}\s", text)} == set()
    assert "gstreamer1.0-tools" in text  # gst-inspect-1.0, by which elements are looked up


@needs_gstreamer
def test_registry_is_the_tools_own() -> None:
    found = registry()
    assert found.elements is not None
    assert {"queue", "videoconvert"} <= found.elements
    for name in ("videoconvert", "videotestsrc", "fakesink", "nvv4l2decoder-of-nobody"):
        exists = subprocess.run([gstreamer.TOOL, "--exists", name], check=False, timeout=60).returncode == 0
        assert found.has(name) == exists, name
    assert found.lacking(["queue", "nonsense", "queue", "nonsense"]) == ["nonsense"]
    assert has_property("queue", "leaky")
    assert not has_property("queue", "leak")


def fake_tool(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    tool = folder / gstreamer.TOOL
    tool.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n{text}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder / "asked"


def test_registry_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process for all elements of all pipelines."""
    asked = fake_tool(tmp_path, monkeypatch, "echo 'nvvideo4linux2:  nvv4l2decoder: NVIDIA v4l2 video decoder'")
    assert registry().lacking(sorted(every_element()))
    assert registry().has("nvv4l2decoder")
    assert asked.read_text() == "\n"


@pytest.mark.parametrize("text", ["exit 1", "exec sleep 30", "echo nothing of the kind"])
def test_registry_that_cannot_be_asked(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then pipelines are tried, whatever they have in them."""
    monkeypatch.setattr(gstreamer, "SECONDS", 0.3)
    fake_tool(tmp_path, monkeypatch, text)
    assert registry() == Registry(elements=None)
    assert registry().lacking(["whatever"]) == []
    assert not has_property("nvv4l2decoder", "disable-dpb")


def test_no_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert registry().has("whatever")


def test_packages_of() -> None:
    assert packages_of(["h264parse", "nonsense", "h265parse", "nvvidconv"]) == ["gstreamer1.0-plugins-bad", NVIDIA]
