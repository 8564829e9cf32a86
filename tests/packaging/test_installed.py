"""Packages on a machine: installed by dpkg and by Mender's client under a booted systemd, updated, made to fail, gone again.

The machine is this one in an overlay (`tests.packaging.machine`). Its edgevit is the one under test.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from edgevit.bundle import MODEL, SAMPLES, open_bundle, write_bundle
from edgevit.packaging import dpkg
from edgevit.packaging.tree import text_member, write_tree
from tests.arm.wheels import needed
from tests.packaging.machine import Machine, booted, command_there, lacks
from tests.support import ROOT, Outcome, built

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(lacks()), reason=lacks() or "-")]

CAMERA = "test://64x48@10"
NOWHERE = "rtsp://127.0.0.1:9/none"
CLIENT = os.environ.get("EDGEVIT_MENDER_CLIENT", "")
"""A package of Mender's client, where it is not installed: apt-get download mender-client."""
STATE = "/run/edgevit/edgevit-cells/state.json"


@pytest.fixture(scope="module")
def wrong_bundle(fp32_bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole, every hash right, and its model computes something else than its samples say."""
    bundle = open_bundle(fp32_bundle_path)
    files = {name: bundle.raw(name) for name in bundle.manifest.files}
    model = onnx.load_from_string(files[MODEL])
    for weights in model.graph.initializer:
        values = numpy_helper.to_array(weights)
        if values.dtype == "float32" and values.ndim == 2:
            weights.CopyFrom(numpy_helper.from_array(-values, weights.name))
    path = tmp_path_factory.mktemp("wrong") / "tiny.edgevit"
    write_bundle(path, bundle.manifest, {**files, MODEL: model.SerializeToString()})
    assert SAMPLES in files
    return path


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A booted machine with edgevit's command; ``/shared`` there is ``tmp_path/shared``."""
    for name in ("scratch", "shared"):
        (tmp_path / name).mkdir()
    with booted(tmp_path / "scratch", tmp_path / "shared") as machine:
        command_there(machine, ROOT)
        machine.must("rm", "-f", "/usr/sbin/policy-rc.d")  # of containers: services may start here
        yield machine


@pytest.fixture
def package(edgevit: Callable[..., Outcome], tmp_path: Path) -> Callable[[str, str, Path, str], str]:
    """Writes a bundle's package of that version and source; returns its path on the machine."""

    def write(form: str, version: str, bundle: Path, source: str) -> str:
        options = ["--as", form, "--version", version, "--name", "cells", "--within", "10", "-o", tmp_path / "shared", "--json"]
        if form == "mender":
            options += ["--device-type", "test"]
        outcome = edgevit("package", *options, bundle, source, "--", "--engine", "onnxruntime")
        assert outcome.code == 0, outcome.stderr
        return f"/shared/{Path(outcome.json['written'][0]).name}"

    return write


def stand_in(machine: Machine) -> None:
    """The package of edgevit itself, without wheels: the command is there already."""
    fields = {"Package": "edgevit-runtime", "Version": "99", "Architecture": "all", "Maintainer": "a <a@b.c>",
              "Provides": "edgevit-runtime-cpu", "Depends": "adduser", "Description": "stand-in"}  # fmt: skip
    postinst = "#!/bin/sh\nset -e\nadduser --system --group --quiet --home /nonexistent --no-create-home edgevit\n"
    document = text_member("usr/share/doc/edgevit-runtime/copyright", "none\n")
    path = machine.shared / "edgevit-runtime.deb"
    dpkg.build(path, fields, lambda root: write_tree(root, [document]), {"postinst": postinst})
    machine.must("dpkg", "-i", "/shared/edgevit-runtime.deb")


def serves(machine: Machine, bundle: Path) -> bool:
    """Whether the service is up, and classifies by ``bundle``."""
    machine.must("/usr/lib/edgevit/cells/service", "health")
    digest = open_bundle(bundle).sha256
    active = machine.run("systemctl", "is-active", "edgevit-cells").stdout.strip()
    return active == "active" and f'"bundle": "{digest}"' in machine.must("cat", STATE)


def state(machine: Machine) -> str:
    """What dpkg thinks of the package: ``ii``, ``iF``."""
    return machine.run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}", "edgevit-cells").stdout.strip()


def test_debian(
    machine: Machine, package: Callable[[str, str, Path, str], str], bundle_path: Path, fp32_bundle_path: Path, wrong_bundle: Path
) -> None:
    """Installed, updated, two bad updates undone by themselves, repaired, removed, purged."""
    stand_in(machine)
    machine.must("dpkg", "-i", package("deb", "1.0", bundle_path, CAMERA))
    assert serves(machine, bundle_path)
    assert machine.must("stat", "-c", "%a %U:%G", "/etc/edgevit/cells.conf") == "640 root:edgevit"
    assert machine.must("systemctl", "is-enabled", "edgevit-cells") == "enabled"

    machine.must("dpkg", "-i", package("deb", "1.1", fp32_bundle_path, CAMERA))
    assert serves(machine, fp32_bundle_path)
    assert machine.must("ls", "/usr/lib/edgevit/cells") == "1.1\nservice"

    # It computes wrongly: never in service.
    done = machine.run("dpkg", "-i", package("deb", "1.2", wrong_bundle, CAMERA))
    assert done.returncode != 0
    assert "edgevit-cells: the new bundle fails its check. The former bundle and its settings are in service again" in done.stdout
    assert serves(machine, fp32_bundle_path)
    assert state(machine) == "iF"

    # It is right, and its camera gives nothing: out of service again, settings included.
    done = machine.run("dpkg", "-i", package("deb", "1.3", bundle_path, NOWHERE))
    assert done.returncode != 0
    assert "are in service again" in done.stdout
    assert serves(machine, fp32_bundle_path)
    assert CAMERA in machine.must("cat", STATE)

    # A restart, as after a power cut, changes nothing of it.
    machine.must("systemctl", "restart", "edgevit-cells")
    assert serves(machine, fp32_bundle_path)

    machine.must("dpkg", "-i", package("deb", "1.4", bundle_path, CAMERA))
    assert serves(machine, bundle_path)
    assert state(machine) == "ii"

    # The site's own settings outlive an update.
    machine.shell(f"sed -i 's#{CAMERA}#test://32x32@20#' /etc/edgevit/cells.conf")
    machine.must("dpkg", "-i", "--force-confold", package("deb", "1.5", bundle_path, CAMERA))
    assert serves(machine, bundle_path)
    assert "test://32x32@20" in machine.must("cat", STATE)

    machine.must("dpkg", "--remove", "edgevit-cells")
    assert machine.run("systemctl", "is-active", "edgevit-cells").stdout.strip() == "inactive"
    assert machine.there("/etc/edgevit/cells.conf")
    machine.must("dpkg", "--purge", "edgevit-cells")
    left = machine.shell(
        "find /etc /usr/lib/edgevit /usr/lib/systemd /var/lib/edgevit /var/lib/systemd /var/cache /var/lib/dpkg/info "
        "-name '*edgevit-cells*' -o -name 'cells*' 2>/dev/null || true"
    )
    assert left == ""


def test_first_installation_that_fails(
    machine: Machine, package: Callable[[str, str, Path, str], str], wrong_bundle: Path
) -> None:
    """There is nothing to go back to: it is stopped, and dpkg is told; the next one that works needs nothing else."""
    stand_in(machine)
    done = machine.run("dpkg", "-i", package("deb", "1.0", wrong_bundle, CAMERA))
    assert done.returncode != 0
    assert "there is no former bundle: it is stopped" in done.stdout
    assert machine.run("systemctl", "is-active", "edgevit-cells").stdout.strip() != "active"


def test_signature_that_the_device_requires(
    machine: Machine, package: Callable[[str, str, Path, str], str], edgevit: Callable[..., Outcome], checkpoint_path: Path,
    bundle_path: Path, tmp_path: Path,
) -> None:  # fmt: skip
    """A key in the device's folder: what is signed by it is installed, what is not never comes into service."""
    stand_in(machine)
    signed = built(checkpoint_path, tmp_path, precision="fp32")
    assert edgevit("keygen", tmp_path / "maker").code == 0
    assert edgevit("sign", signed, "--key", tmp_path / "maker").code == 0
    shutil.copy(tmp_path / "maker.pub", tmp_path / "shared")
    machine.must("install", "-D", "-m", "644", "/shared/maker.pub", "/etc/edgevit/keys/maker.pub")
    machine.must("dpkg", "-i", package("deb", "1.0", signed, CAMERA))
    assert serves(machine, signed)
    done = machine.run("dpkg", "-i", package("deb", "1.1", bundle_path, CAMERA))
    assert done.returncode != 0
    assert "not signed" in done.stdout
    assert serves(machine, signed)


@pytest.mark.skipif(not CLIENT and shutil.which("mender") is None, reason="no mender, and EDGEVIT_MENDER_CLIENT names no package")
@pytest.mark.skipif(shutil.which("mender-artifact") is None, reason="mender-artifact is not installed")
def test_mender(
    machine: Machine, package: Callable[[str, str, Path, str], str], bundle_path: Path, fp32_bundle_path: Path, wrong_bundle: Path
) -> None:
    """Its own client on its own module: installed, committed, and put back where a state script says no."""
    if CLIENT:
        shutil.copy(CLIENT, machine.shared / "client.deb")
        machine.must("dpkg", "-i", "--force-depends", "/shared/client.deb")
    machine.shell("mkdir -p /data/mender; echo device_type=test >/data/mender/device_type; echo '{}' >/etc/mender/mender.conf")
    machine.shell("echo artifact_name=image-1 >/etc/mender/artifact_info")

    def mender(*arguments: str) -> subprocess.CompletedProcess[str]:
        return machine.run("mender", "--no-syslog", *arguments)

    def serving(bundle: Path) -> bool:
        machine.must("/data/edgevit/cells/service", "health")
        return f'"bundle": "{open_bundle(bundle).sha256}"' in machine.must("cat", STATE)

    first = package("mender", "1.0", bundle_path, CAMERA)
    said = mender("install", first).stdout  # the image lacks the user, and the artifact says so before it changes anything
    assert "ArtifactInstall_Enter script failed" in said
    assert not machine.there("/data/edgevit/cells/bundle")
    machine.must("useradd", "--system", "edgevit")
    assert "Use 'commit' to update" in mender("install", first).stdout
    assert mender("commit").returncode == 0
    assert serving(bundle_path)

    assert "Use 'commit' to update" in mender("install", package("mender", "1.1", fp32_bundle_path, CAMERA)).stdout
    assert mender("commit").returncode == 0
    assert serving(fp32_bundle_path)

    assert "ArtifactInstall_Leave script failed" in mender("install", package("mender", "1.2", wrong_bundle, CAMERA)).stdout
    assert serving(fp32_bundle_path)

    mender("install", package("mender", "1.3", bundle_path, NOWHERE))
    assert "ArtifactCommit_Enter script failed" in mender("commit").stdout
    mender("rollback")
    assert serving(fp32_bundle_path)
    assert machine.must("mender", "show-artifact").splitlines()[-1] == "edgevit-cells-1.1"


def test_edgevit_itself(
    machine: Machine, package: Callable[[str, str, Path, str], str], edgevit: Callable[..., Outcome], bundle_path: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Of a real wheelhouse for the system's own Python: the bundle's service runs on it, and purging both leaves no file."""
    python = machine.must("/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    wanted = [*needed(None, python), "onnxruntime", "opencv-python-headless"]
    for_python = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    for_machine = [f"--platform=manylinux_2_{minor}_{platform.machine()}" for minor in (28, 27, 17, 12)]
    command = [sys.executable, "-m", "pip", "download", "-q", "-d", str(tmp_path / "wheels"), *for_python, *for_machine, *wanted]
    if subprocess.run(command, capture_output=True, timeout=300, check=False).returncode:
        pytest.skip("no package index")
    (tmp_path / "shared/edgevit").unlink()
    machine.must("rm", "/usr/bin/edgevit")
    options = ["--as", "deb", "--version", "1.0", "--name", "cells", "-o", tmp_path / "shared", "--python", python]
    options += ["--wheelhouse", tmp_path / "wheels", "--machine", platform.machine(), "--json"]
    outcome = edgevit("package", *options, bundle_path, CAMERA, "--", "--engine", "onnxruntime")
    assert outcome.code == 0, outcome.stderr
    first, second = (f"/shared/{Path(path).name}" for path in outcome.json["written"])
    machine.must("dpkg", "-i", second, first, timeout=300)
    assert serves(machine, bundle_path)
    place = machine.must("/usr/lib/edgevit/venv/bin/python", "-I", "-c", "import edgevit; print(edgevit.__file__)")
    assert place.startswith("/usr/lib/edgevit/venv/lib/")
    machine.must("dpkg", "--purge", "edgevit-cells", "edgevit-runtime")
    assert not machine.there("/usr/lib/edgevit")
    assert not machine.there("/etc/edgevit")
