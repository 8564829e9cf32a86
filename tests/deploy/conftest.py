"""A board to deploy to: another user of this machine behind a real sshd on the loopback address."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

USER = f"edgevit-{os.getpid()}"  # two runs of the tests have two boards
PACKAGES = "openssh-server openssh-client rsync python3-venv"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@dataclass
class Board:
    """The user's home is the board; ``ssh`` is what ``--ssh`` takes."""

    folder: Path
    """Of keys, configuration and logs, here."""
    home: Path
    port: int
    config: Path
    user: str = USER

    @property
    def ssh(self) -> str:
        return f"ssh -F {self.config}"

    def through(self, port: int) -> str:
        """The same over another port: a proxy's."""
        config = self.folder / f"config-{port}"
        config.write_text(self.config.read_text().replace(f"Port {self.port}", f"Port {port}"))
        return f"ssh -F {config}"

    def sh(self, script: str) -> str:
        """Run ``script`` in the home of the board's user, without ssh."""
        done = subprocess.run(
            ["su", self.user, "-s", "/bin/sh", "-c", script], capture_output=True, text=True, check=True, cwd=self.home
        )
        return done.stdout

    def connections(self) -> int:
        """How often somebody has logged in."""
        return (self.folder / "log").read_text(errors="replace").count("Accepted publickey")


class Proxy:
    """Forwards to a port; ``cut`` breaks all connections, as does the first byte beyond ``limit`` that a client sends.

    ``freeze`` lets nothing through any more and closes nothing, as a cable does that is pulled.
    """

    def __init__(self, target: int, limit: int | None = None) -> None:
        self.target, self.limit, self.cuts = target, limit, 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        self._through = threading.Event()
        self._through.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
                there = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            self._open += [client, there]
            threading.Thread(target=self._pump, args=(client, there, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(there, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        try:
            while data := source.recv(8192):
                self._through.wait()
                if counted and self.limit is not None:
                    self.limit -= len(data)
                    if self.limit < 0:
                        self.limit = None
                        self.cut()
                        return
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            end.close()

    def freeze(self) -> None:
        self._through.clear()

    def cut(self) -> None:
        self.cuts += 1
        self._through.set()
        for end in self._open:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._open.clear()

    def close(self) -> None:
        self._server.close()
        self.cut()


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    with boarded(tmp_path_factory.mktemp("board"), USER) as made:
        yield made


@contextmanager
def boarded(folder: Path, user: str) -> Iterator[Board]:
    """A board of that name, made and removed; ``folder`` is for its keys. Skips where one cannot be."""
    needed = ("/usr/sbin/sshd", shutil.which("ssh"), shutil.which("rsync"), shutil.which("useradd"), "/usr/bin/python3")
    if os.geteuid() or not all(path and Path(path).exists() for path in needed):
        pytest.skip(f"needs root, to make another user, and: apt install {PACKAGES}")
    if subprocess.run(["/usr/bin/python3", "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode:
        pytest.skip("needs a system Python with venv: apt install python3-venv")
    # Without a password, and not locked: sshd refuses those.
    made = subprocess.run(["useradd", "-m", "-s", "/bin/bash", "-p", "*", user], check=False, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"cannot make another user here: {made.stderr.strip()}")
    home = Path(pwd.getpwnam(user).pw_dir)
    try:
        with _served(folder, home, user) as made:
            yield made
    finally:
        subprocess.run(["pkill", "-KILL", "-u", user], check=False, capture_output=True)
        time.sleep(0.3)
        subprocess.run(["userdel", "-rf", user], check=False, capture_output=True)


@contextmanager
def _served(folder: Path, home: Path, user: str) -> Iterator[Board]:
    for name in ("host_key", "id"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    _write(home / ".ssh" / "authorized_keys", (folder / "id.pub").read_text(), 0o600, user)
    _write(home / ".config" / "pip" / "pip.conf", _pip_settings(), 0o600, user)
    port = free_port()
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\nPasswordAuthentication no\nUsePAM no\n"
        "MaxStartups 100\nLogLevel INFO\n"
    )
    config = folder / "config"
    config.write_text(
        f"Host board board2\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n  IdentityFile {folder}/id\n"
        "  IdentitiesOnly yes\n"
        f"  StrictHostKeyChecking no\n  UserKnownHostsFile {folder}/known\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", folder / "sshd_config", "-E", folder / "log"])
    try:
        wait_for(port)
        yield Board(folder=folder, home=home, port=port, config=config, user=user)
    finally:
        server.terminate()
        server.wait()


def _write(path: Path, text: str, mode: int, user: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    home = Path(pwd.getpwnam(user).pw_dir)
    for part in (path, *(folder for folder in path.parents if folder.is_relative_to(home))):
        shutil.chown(part, user, user)
    path.parent.chmod(0o700)


def _pip_settings() -> str:
    """This environment's, for a user who does not inherit it."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    values: dict[str, str] = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        if key.startswith((":env:.", "global.")):
            values[key.rpartition(".")[2]] = value.strip("'")
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())


def wait_for(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return


@pytest.fixture
def proxy(board: Board) -> Iterator[Callable[..., Proxy]]:
    made: list[Proxy] = []

    def make(limit: int | None = None) -> Proxy:
        made.append(Proxy(board.port, limit))
        return made[-1]

    yield make
    for each in made:
        each.close()
