"""`edgevit deploy` onto the Arm computer, over its own sshd on the loopback address."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from edgevit.bundle import open_bundle, write_bundle
from edgevit.deploy.destination import Destination
from edgevit.deploy.plan import Plan, make_plan
from edgevit.deploy.several import deploy as deploy_to
from edgevit.deploy.watcher import Watcher
from tests.arm.conftest import ssh
from tests.arm.machine import Arm
from tests.deploy.conftest import Proxy
from tests.support import Outcome

pytestmark = pytest.mark.slow
try:
    distribution("edgevit")
except PackageNotFoundError:
    pytest.skip("edgevit is not installed here, so there is nothing to send: pip install -e .", allow_module_level=True)

HOST = Destination(address="board")


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
