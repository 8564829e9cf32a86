"""`deploy --run` onto two boards at once, by one command: a PC with systemd, and the Arm computer, which has none."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest

from edgevit.bundle import open_bundle, write_bundle
from edgevit.deploy.wheel import requirements
from tests.arm.conftest import ssh
from tests.arm.wheels import needed
from tests.deploy.conftest import Board, boarded
from tests.deploy.managers import user_manager
from tests.support import Outcome

pytestmark = pytest.mark.slow
try:
    distribution("edgevit")
except PackageNotFoundError:
    pytest.skip("edgevit is not installed here, so there is nothing to send: pip install -e .", allow_module_level=True)

RUN = ("--run", "test://160x120@5", "--frames", 10, "--within", 400)


@dataclass
class Line:
    """``pc`` and ``arm`` of one ssh configuration."""

    config: Path
    pc: Board
    there: list[str]
    """ssh to the Arm computer."""

    def on_arm(self, script: str) -> str:
        return subprocess.run([*self.there, "board", script], capture_output=True, text=True, check=True, timeout=300).stdout


@pytest.fixture(scope="module")
def line(host: tuple[Path, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    folder, name = tmp_path_factory.mktemp("line"), f"evp-{os.getpid()}"
    (folder / name).mkdir()
    wheels = Path(f"/var/tmp/{name}-wheels")  # which the PC's user may read, and pytest's own folder it may not
    with boarded(folder / name, name) as pc, user_manager(name):
        command = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "--python-version", "3.11", "-d", wheels]
        done = subprocess.run([*command, *needed(None, "3.11"), *requirements("cpu")], capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"no package index: {done.stderr.decode()[-200:]}")
        (pc.home / ".config/pip/pip.conf").write_text(f"[global]\nfind-links = {wheels}\n")
        port = re.search(r"Port (\d+)", Path(ssh(*host).split()[-1]).read_text())
        assert port is not None
        config = folder / "config"
        config.write_text(
            f"Host pc\n  HostName 127.0.0.1\n  Port {pc.port}\n  User {name}\n  IdentityFile {pc.folder}/id\n"
            f"Host arm\n  HostName 127.0.0.1\n  Port {port[1]}\n  User board\n  IdentityFile {host[0]}/id\n"
            f"Match all\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile {folder}/known\n"
        )
        yield Line(config=config, pc=pc, there=ssh(*host).split())
    for path in wheels.iterdir():
        path.unlink()
    wheels.rmdir()


def test_two_boards(
    line: Line, bundle_path: Path, wheelhouse: Path, tmp_path: Path, edgevit_process: Callable[..., Outcome]
) -> None:
    """From nothing to two services; updated; a run that fails on one of them alone goes back there; killed, and back again."""

    def deploy(bundle: Path, *options: object) -> tuple[Outcome, dict[str, str]]:
        outcome = edgevit_process(
            "deploy", bundle, "--hosts", line.config, "--wheelhouse", wheelhouse, "-o", tmp_path / "out", *RUN, *options,
            seconds=1800,
        )  # fmt: skip
        print(f"$ deploy {bundle.name} {options}", outcome.stderr, outcome.stdout, sep="\n")
        return outcome, {row.split()[0]: row for row in outcome.stdout.splitlines() if row.startswith(("pc", "arm"))}

    def status() -> tuple[Outcome, dict[str, Any]]:
        table = edgevit_process("fleet", "status", "--hosts", line.config, seconds=300)
        print("$ fleet status", table.stdout, table.stderr, sep="\n")
        found = edgevit_process("fleet", "status", "--json", "--hosts", line.config, seconds=300).json
        return table, {each["host"]: each["services"][0] for each in found}

    outcome, rows = deploy(bundle_path)
    assert outcome.code == 0, outcome.stderr
    assert rows.keys() == {"pc", "arm"}
    assert all(row.endswith("started") for row in rows.values())
    assert re.search(r"pc +service .* started, by a systemd user unit", outcome.stderr)
    assert re.search(r"arm +service .* started, by edgevit's own supervisor", outcome.stderr)

    opened, newer = open_bundle(bundle_path), tmp_path / "newer.edgevit"
    write_bundle(newer, replace(opened.manifest, name="newer"), {name: opened.read(name) for name in opened.manifest.files})
    outcome, rows = deploy(newer)
    assert outcome.code == 0, outcome.stderr
    assert all(row.endswith("updated") for row in rows.values())

    # An engine that only one of them has: the other goes back to what it could do.
    outcome, rows = deploy(bundle_path, "--", "--engine", "openvino")
    assert outcome.code == 11
    assert rows["pc"].endswith("updated")
    assert rows["arm"].endswith("rolled back")
    assert "edgevit: arm: rolled back to the bundle before: it does not run (exit code 8)" in outcome.stderr

    table, found = status()
    assert table.code == 0, table.stdout + table.stderr
    assert (found["pc"]["bundle"], found["arm"]["bundle"]) == ("tiny.edgevit", "newer.edgevit")
    assert found["arm"]["state"]["engine"].startswith("onnxruntime")

    line.pc.sh(f"kill -KILL {found['pc']['state']['pid']}")
    line.on_arm(f"kill -KILL {found['arm']['state']['pid']}")
    end = time.monotonic() + 300
    while any(status()[1][name]["state"]["pid"] == found[name]["state"]["pid"] for name in found) or status()[0].code:
        assert time.monotonic() < end
        time.sleep(5)
    assert json.dumps(status()[1]).count('"running"') == 2
