"""The Arm computer that these tests run on: made once, in the folder that `make test-arm` names, and kept."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.arm.boards import lay_out
from tests.arm.machine import BOARDS, PROCESSORS, Arm, lacking, refused
from tests.arm.root import make_root
from tests.deploy.conftest import free_port, wait_for

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


@pytest.fixture(scope="session")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Arm:
    """The computer, with this edgevit installed. What is below pytest's own folder of temporary files is on it, too."""
    folder = os.environ.get("EDGEVIT_ARM", "")
    if not folder:
        pytest.skip("takes minutes, and a Debian for Arm: make test-arm")
    shared = tmp_path_factory.getbasetemp().resolve()
    if why := lacking() or refused():
        pytest.skip(why)
    home = Path(folder).resolve()
    made = Arm(root=home / "root", shared=shared)
    make_root(home, made)
    lay_out(made.root)
    return made


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
