"""`deploy --run` and `fleet` onto two boards over real sshds: one has a real systemd, the other none, as a Yocto board."""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.bundle import SAMPLES, open_bundle, write_bundle
from edgevit.files.npz import read_arrays
from tests.deploy.conftest import Board, boarded, free_port
from tests.deploy.managers import user_manager
from tests.support import Outcome

pytestmark = pytest.mark.slow  # minutes: each board installs edgevit and its engine
try:
    distribution("edgevit")
except PackageNotFoundError:
    pytest.skip("edgevit is not installed here, so there is nothing to send: pip install -e .", allow_module_level=True)

SOURCE = "test://320x240@15"
TOKEN = "sesame-open-4711"
RUN = ("--run", SOURCE, "--frames", 20)
WEBHOOK = ("--", "--webhook", f"http://127.0.0.1:9/hook?token={TOKEN}", "--when", "confidence<0")


@dataclass
class Boards:
    """``one`` has systemd and ``two`` has not; in ``away`` nobody answers where ``two`` is."""

    one: Board
    two: Board
    config: Path
    away: Path

    def service(self, board: Board) -> Path:
        return board.home / "edgevit/services/edgevit"

    def state(self, board: Board) -> dict[str, Any]:
        told = board.sh("edgevit/venv/bin/python -m edgevit.cli.board status edgevit")
        (found,) = json.loads(told)
        return found


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boards]:
    folder = tmp_path_factory.mktemp("boards")
    names = [f"ev{number}-{os.getpid()}" for number in (1, 2)]
    for name in names:
        (folder / name).mkdir()
    with boarded(folder / names[0], names[0]) as one, boarded(folder / names[1], names[1]) as two, user_manager(one.user):
        for file, port in (("config", two.port), ("away", free_port())):
            (folder / file).write_text(
                "".join(
                    f"Host {alias}\n  HostName 127.0.0.1\n  Port {at}\n  User {board.user}\n  IdentityFile {board.folder}/id\n"
                    f"  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile {board.folder}/known\n"
                    for alias, board, at in (("line-1", one, one.port), ("line-2", two, port))
                )
            )
        yield Boards(one=one, two=two, config=folder / "config", away=folder / "away")
        two.sh("crontab -r 2>/dev/null || true")


@pytest.fixture
def deploy(boards: Boards, edgevit_process: Callable[..., Outcome], tmp_path: Path) -> Callable[..., Outcome]:
    """As it is typed; the run's own options come last."""

    def run(bundle: Path, *options: object, hosts: Path = boards.config) -> Outcome:
        return edgevit_process("deploy", bundle, "--hosts", hosts, "-o", tmp_path / "out", *RUN, *options, seconds=600)

    return run


@pytest.fixture(scope="module")
def other(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a newer bundle."""
    opened, path = open_bundle(bundle_path), tmp_path_factory.mktemp("other") / "newer.edgevit"
    write_bundle(path, replace(opened.manifest, name="newer"), {name: opened.read(name) for name in opened.manifest.files})
    return path


@pytest.fixture(scope="module")
def wrong(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose samples say that the engine computes something else."""
    opened, path = open_bundle(bundle_path), tmp_path_factory.mktemp("wrong") / "wrong.edgevit"
    files = {name: opened.read(name) for name in opened.manifest.files}
    arrays = dict(read_arrays(files[SAMPLES], 2**28))
    for key in ("logits", "expected"):
        arrays[key] = arrays[key][:, ::-1] + 3
    made = path.parent / "samples.npz"
    np.savez(made, **arrays)
    write_bundle(path, opened.manifest, files | {SAMPLES: made.read_bytes()})
    return path


def rows(outcome: Outcome) -> dict[str, str]:
    return {line.split()[0]: line for line in outcome.stdout.splitlines() if line.startswith("line-")}


def test_from_nothing_to_two_services(boards: Boards, deploy: Callable[..., Outcome], bundle_path: Path) -> None:
    """One command; what keeps each is said."""
    outcome = deploy(bundle_path, *WEBHOOK)
    assert outcome.code == 0, outcome.stderr
    assert all(row.endswith("started") for row in rows(outcome).values()), outcome.stdout
    assert set(rows(outcome)) == {"line-1", "line-2"}
    assert re.search(r"line-1 +service .* started, by a systemd user unit: 1\d\.\d fps", outcome.stderr), outcome.stderr
    assert re.search(r"line-2 +service .* started, by edgevit's own supervisor: 1\d\.\d fps", outcome.stderr), outcome.stderr
    for board in (boards.one, boards.two):
        told = boards.state(board)
        assert (told["condition"], told["bundle"], told["state"]["bundle"]) == (
            "running", bundle_path.name, open_bundle(bundle_path).sha256
        )  # fmt: skip
    assert "enabled" in boards.one.sh("XDG_RUNTIME_DIR=/run/user/$(id -u) systemctl --user is-enabled edgevit")


def test_no_secret_is_shown(boards: Boards) -> None:
    """Neither to who lists processes nor to who reads files."""
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert TOKEN.encode() not in line.read_bytes()
        except OSError:
            continue
    for board in (boards.one, boards.two):
        holding = [Path(path) for path in board.sh(f"grep -rlF -- {TOKEN} . --exclude-dir=venv || true").split()]
        assert [path.name for path in holding] == ["wanted.json"]
        for path in holding:
            assert stat.S_IMODE((board.home / path).stat().st_mode) == 0o600
        assert TOKEN not in json.dumps(boards.state(board))


def test_again_is_quick(boards: Boards, deploy: Callable[..., Outcome], bundle_path: Path) -> None:
    before = [boards.state(board)["state"]["pid"] for board in (boards.one, boards.two)]
    outcome = deploy(bundle_path, *WEBHOOK)
    assert outcome.code == 0, outcome.stderr
    assert all(row.endswith("already there") for row in rows(outcome).values())
    assert "not beside a service" in outcome.stderr
    assert [boards.state(board)["state"]["pid"] for board in (boards.one, boards.two)] == before


@pytest.mark.parametrize("name", ["one", "two"])
def test_a_run_that_is_killed_is_started_anew(boards: Boards, name: str) -> None:
    board = getattr(boards, name)
    before = boards.state(board)
    board.sh(f"kill -KILL {before['state']['pid']}")
    end = time.monotonic() + 60
    while (found := boards.state(board))["state"]["pid"] == before["state"]["pid"] or not found["state"]["frames"]:
        assert time.monotonic() < end, found
        time.sleep(0.5)
    assert (found["condition"], found["restarts"]) == ("running", before["restarts"] + 1)


def test_an_update_and_a_board_that_is_away(boards: Boards, deploy: Callable[..., Outcome], other: Path) -> None:
    """The same command takes it up when it is back."""
    outcome = deploy(other, hosts=boards.away)
    assert outcome.code == 11
    assert rows(outcome)["line-1"].endswith("updated"), outcome.stdout + outcome.stderr
    assert rows(outcome)["line-2"].endswith("offline"), outcome.stdout + outcome.stderr
    assert boards.state(boards.one)["previous"] == "tiny.edgevit"
    again = deploy(other)
    assert again.code == 0, again.stderr
    assert rows(again)["line-1"].endswith("already there")
    assert rows(again)["line-2"].endswith("updated")


def test_a_bundle_that_is_not_healthy_is_rolled_back(boards: Boards, deploy: Callable[..., Outcome], bundle_path: Path) -> None:
    """By itself; the reason and the last lines come home, and no other board is begun."""
    outcome = deploy(bundle_path, "--min-fps", 500, "--within", 15, "--at-a-time", 1, "--stop-after", 1)
    assert outcome.code == 11
    assert rows(outcome)["line-1"].endswith("rolled back"), outcome.stdout
    assert rows(outcome)["line-2"].endswith("not begun"), outcome.stdout
    reason = (
        r"edgevit: line-1: rolled back to the bundle before: not healthy after 15 s: 1\d\.\d frames per second, and at least 500"
    )
    assert re.search(reason, outcome.stderr), outcome.stderr
    assert re.search(r"\n  .*test  \w+ .* 1\d\.\d fps ", outcome.stderr), outcome.stderr  # its last words
    told = boards.state(boards.one)
    assert (told["condition"], told["bundle"], told["previous"]) == ("running", "newer.edgevit", "tiny.edgevit")
    assert told["state"]["frames"] > 0


def test_a_bundle_that_computes_wrongly_never_enters(boards: Boards, deploy: Callable[..., Outcome], wrong: Path) -> None:
    before = [boards.state(board)["state"]["pid"] for board in (boards.one, boards.two)]
    outcome = deploy(wrong)
    assert outcome.code == 11
    assert "computes the int8 graph wrongly here" in outcome.stderr
    assert [boards.state(board)["state"]["pid"] for board in (boards.one, boards.two)] == before


def test_the_fleet(boards: Boards, edgevit_process: Callable[..., Outcome]) -> None:
    """Its table, its logs, and the way back by hand."""

    def fleet(verb: str, *options: object) -> Outcome:
        return edgevit_process("fleet", verb, "--hosts", boards.config, *options, seconds=200)

    status = fleet("status")
    assert status.code == 0, status.stdout + status.stderr
    for row in rows(status).values():
        assert re.search(r"edgevit +running +newer\.edgevit [0-9a-f]{8} +0\.1\.0 +1\d\.\d +\d+\.\d/\d+\.\d ", row), row
    logs = fleet("logs", "-n", 3)
    assert logs.code == 0, logs.stderr
    assert len(re.findall(r"^line-[12]  .*fps", logs.stdout, re.MULTILINE)) >= 4, logs.stdout
    back = fleet("rollback")
    assert back.code == 0, back.stderr
    assert all("rolled back" in row for row in rows(back).values())
    found = {each["host"]: each for each in json.loads(fleet("status", "--json").stdout)}
    assert {each["services"][0]["bundle"] for each in found.values()} == {"tiny.edgevit"}
    assert fleet("restart").code == 0
    away = edgevit_process("fleet", "status", "--hosts", boards.away, seconds=100)
    assert away.code == 11
    assert "not reached" in rows(away)["line-2"]
    assert "running" in rows(away)["line-1"]
    none = fleet("restart", "--name", "another")
    assert (none.code, none.stderr.count("another: nothing is in service")) == (11, 2)


def test_a_first_bundle_that_is_not_healthy_is_stopped(boards: Boards, deploy: Callable[..., Outcome], bundle_path: Path) -> None:
    """Under a name of its own: there is nothing to go back to."""
    outcome = deploy(bundle_path, "--name", "second", "--min-fps", 500, "--within", 5)
    assert outcome.code == 11
    assert all(row.endswith("stopped") for row in rows(outcome).values()), outcome.stdout + outcome.stderr
    for board in (boards.one, boards.two):
        told = {
            each["name"]: each for each in json.loads(board.sh("edgevit/venv/bin/python -m edgevit.cli.board status edgevit"))
        }
        assert told["second"]["condition"] == "stopped"
        assert told["edgevit"]["condition"] == "running"
