"""`edgevit deploy` onto the Arm computer, over its own sshd on the loopback address."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from edgevit.bundle import open_bundle, write_bundle
from edgevit.deploy.destination import Destination
from edgevit.deploy.plan import Plan, make_plan
from edgevit.deploy.several import deploy as deploy_to
from edgevit.deploy.watcher import Watcher
from tests.arm.machine import BOARDS, PROCESSORS, Arm
from tests.deploy.conftest import Proxy, free_port, wait_for
from tests.support import Outcome

pytestmark = pytest.mark.slow
try:
    distribution("edgevit")
except PackageNotFoundError:
    pytest.skip("edgevit is not installed here, so there is nothing to send: pip install -e .", allow_module_level=True)

HOST = Destination(address="board")
UID = 1000  # of the account ``board`` in the root
SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey /shared/{folder}/host_key
PidFile none
PasswordAuthentication no
UsePAM no
MaxStartups 100
SetEnv QEMU_CPU={cpu} QEMU_LD_PREFIX={prefix}
"""
CLIENT = """
Host board
  HostName 127.0.0.1
  Port {port}
  User board
  IdentityFile {folder}/id
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile {folder}/known
"""


class Noted(Watcher):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.ends: dict[str, str] = {}
        self.broken = 0

    def end(self, host: Destination, step: str, text: str, seconds: float) -> None:
        self.ends[step] = text

    def again(self, host: Destination, error: Exception, pause: float) -> None:
        self.broken += 1


@pytest.fixture(scope="module")
def host(arm: Arm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A folder with keys, and the port of the Arm computer's sshd; its account's home folder is empty before and after."""
    if not all(map(shutil.which, ("ssh", "ssh-keygen", "rsync"))):
        pytest.skip("apt install openssh-client rsync")
    folder, home, port = tmp_path_factory.mktemp("sshd"), arm.root / "home/board", free_port()
    for name in ("host_key", "id"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    _empty(home)
    (home / ".ssh").mkdir()
    shutil.copy(folder / "id.pub", home / ".ssh/authorized_keys")
    for path in (home, home / ".ssh", home / ".ssh/authorized_keys"):
        shutil.chown(path, UID, UID)
    settings = {"port": port, "folder": folder.name, "cpu": PROCESSORS["pi5"], "prefix": f"/{BOARDS}/pi5"}
    (folder / "sshd_config").write_text(SERVER.format(**settings))
    with (folder / "log").open("w") as log:
        server = arm.start("/usr/sbin/sshd", "-D", "-e", "-f", folder / "sshd_config", stdout=log, stderr=log)
        try:
            wait_for(port)
            yield folder, port
        finally:
            server.kill()
            server.wait()
            _empty(home)


def _empty(home: Path) -> None:
    for path in home.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def ssh(folder: Path, port: int) -> str:
    path = folder / f"config-{port}"
    path.write_text(CLIENT.format(port=port, folder=folder))
    return f"ssh -F {path}"


@pytest.fixture(scope="module")
def wheelhouse(arm: Arm) -> Path:
    """Those wheels that the root was made with: the board has no package index."""
    return arm.root.parent / "wheels"


@pytest.fixture(scope="module")
def planned(
    host: tuple[Path, int], bundle_path: Path, wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Plan]:  # fmt: skip
    """What is to be deployed over a port: a bundle for PCs."""

    def make(port: int) -> Plan:
        work = tmp_path_factory.mktemp("work")
        return make_plan(bundle_path, work, work / "out", wheelhouse=wheelhouse, ssh=ssh(host[0], port), frames=10)

    return make


def test_onto_arm_over_a_link_that_breaks(arm: Arm, host: tuple[Path, int], planned: Callable[[int], Plan]) -> None:
    """The connection is cut after 60 of 100 MB of wheels; what was sent is kept, and the whole way is gone."""
    proxy, watcher = Proxy(host[1], 60_000_000), Noted()
    try:
        plan = planned(proxy.port)
        (done,) = deploy_to(plan, [HOST], watcher)
    finally:
        proxy.close()
    assert done.error is None
    assert watcher.broken == 1
    assert watcher.ends["reach"].startswith("aarch64, Python 3.11.")
    assert [*watcher.ends][-1] == "bring back"
    report = json.loads((plan.out / "board/report.json").read_text(encoding="utf-8"))
    assert report["machine"] == "aarch64"
    assert report["benchmark"]["summary"]["frames"] == 10
    assert re.fullmatch(r"onnxruntime \S+ on Cortex-A76, \d+ threads?", report["benchmark"]["engine"])
    assert "openvino" not in watcher.ends["install"]
    assert [item["topic"] for item in report["doctor"] if item["level"] == "warning"] == ["engine"]  # not the bundle's own
    site = arm.root / "home/board/edgevit/venv/lib/python3.11/site-packages"
    assert (site / "onnxruntime").is_dir()
    assert not (site / "openvino").exists()


def test_again_only_measures(planned: Callable[[int], Plan], host: tuple[Path, int]) -> None:
    watcher = Noted()
    (done,) = deploy_to(planned(host[1]), [HOST], watcher)
    assert done.error is None
    assert {step for step, text in watcher.ends.items() if text == "already done"} == {"push packages", "install", "push bundle"}


def test_a_unit_for_it(arm: Arm, host: tuple[Path, int]) -> None:
    """As its user writes one, over ssh: paths are the board's, and its options are checked there."""
    there = "edgevit/venv/bin/edgevit service edgevit/bundles/tiny.edgevit test://320x240@10 -- --json && cat edgevit.service"
    done = subprocess.run([*ssh(*host).split(), "board", there], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "/home/board/edgevit/venv/bin/" in done.stdout
    assert "Type=notify" in done.stdout


def test_a_bundle_for_another_processor(planned: Callable[[int], Plan], host: tuple[Path, int], tmp_path: Path) -> None:
    """Refused before anything is sent."""
    opened = planned(host[1]).bundle
    target = {**opened.manifest.target, "machine": {"arch": "x86_64", "models": []}}
    files = {name: opened.read(name) for name in opened.manifest.files}
    write_bundle(tmp_path / "n100.edgevit", replace(opened.manifest, target=target), files)
    plan = replace(planned(host[1]), bundle=open_bundle(tmp_path / "n100.edgevit"))
    watcher = Noted()
    (done,) = deploy_to(plan, [HOST], watcher)
    assert str(done.error).startswith("board: the bundle was built for x86_64, and it is aarch64.")
    assert watcher.ends == {}


def test_the_command(
    host: tuple[Path, int], bundle_path: Path, wheelhouse: Path, tmp_path: Path, edgevit_process: Callable[..., Outcome]
) -> None:  # fmt: skip
    """As it is typed."""
    done = edgevit_process(
        "deploy", bundle_path, "board", "--wheelhouse", wheelhouse, "--ssh", ssh(*host), "--frames", 5, "-o", tmp_path / "out"
    )
    assert done.code == 0, done.stderr
    assert "aarch64" in done.stdout
