"""What a board compiled: its result survives a cut, and only the bundle that was sent comes home."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgevit.bundle import ENGINE, Bundle, open_bundle, write_bundle
from edgevit.deploy import steps
from edgevit.deploy.bringing import bring_home
from edgevit.deploy.destination import Destination
from edgevit.deploy.job import _START
from edgevit.deploy.ssh import Ssh
from edgevit.deploy.steps import DONE, Deployment
from edgevit.deploy.watcher import Watcher
from edgevit.errors import BundleError, RemoteError
from tests.deploy.conftest import USER, Board

# Stands in for a board's Python and GPU: what edgevit's own commands say there, and nothing more.
PYTHON = """#!/bin/sh
cd "$HOME/standin" || exit 1
case "$1 $3" in
  "-m compile") echo once >>runs; sleep 1; touch compiled; echo '{"version": "TensorRT 10.3", "seconds": 1.0}' ;;
  "-c "*) if [ -e compiled ]; then echo engine compiled; else echo engine missing; fi ;;
esac
"""


@pytest.fixture
def deployment(board: Board, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """One that has come as far as compiling."""
    board.sh(f"rm -rf standin; mkdir -p standin/venv/bin; cd standin/venv/bin; cat >python <<'E'\n{PYTHON}E\nchmod +x python")
    monkeypatch.setattr(steps, "requirements", lambda *_, **__: ())
    plan: Any = SimpleNamespace(
        name="a.edgevit", digest="0", extra="jetson", python="python3", wheels=list, ssh=board.ssh, frames=1
    )
    made = Deployment(plan, Destination(address="board"), Watcher())
    made._folder = f"{board.home}/standin"
    made.report["opencv"] = ""
    return made


def runs(board: Board) -> int:
    return len((board.home / "standin" / "runs").read_text().split())


def test_a_compilation_that_ended_while_nobody_looked(deployment: Deployment, board: Board) -> None:
    """Its figures are collected, though the engine is there already; after that there is nothing to do."""
    with deployment._ssh as ssh:
        job = deployment._job("compile")
        assert ssh.run(_START, job.folder, *deployment._command("compile", deployment._bundle, "--json")).code == 0
        job.run()
        assert deployment._compile() == "TensorRT 10.3, 1 s"
        assert deployment.report["compiled"] == {"version": "TensorRT 10.3", "seconds": 1.0}
        assert deployment._compile() == DONE
    assert runs(board) == 1


def test_a_result_whose_engine_is_gone(deployment: Deployment, board: Board) -> None:
    """Of before a JetPack upgrade, say: it says nothing about now."""
    with deployment._ssh:
        deployment._job("compile").run(*deployment._command("compile", deployment._bundle, "--json"))
        board.sh("rm standin/compiled")
        assert deployment._compile() == "TensorRT 10.3, 1 s"
    assert runs(board) == 2


@pytest.fixture(params=["folder", "zip"])
def sent(request: pytest.FixtureRequest, bundle_path: Path, tmp_path: Path) -> Bundle:
    path = tmp_path / f"sent{'.zip' if request.param == 'zip' else '.edgevit'}"
    opened = open_bundle(bundle_path)
    return write_bundle(path, opened.manifest, {name: opened.read(name) for name in opened.manifest.files})


def put(board: Board, sent: Bundle, **changes: Any) -> str:
    """A bundle like the one sent, with an engine and other changes, on the board."""
    files = {name: sent.read(name) for name in sent.manifest.files} | {ENGINE: b"compiled there"}
    there = board.home / "there" / sent.path.name
    shutil.rmtree(there.parent, ignore_errors=True)
    write_bundle(there, replace(sent.manifest, compiled={"engine": {}}, **changes), files)
    shutil.chown(there.parent, USER)
    for path in (there, *there.rglob("*")):
        shutil.chown(path, USER)
    return str(there)


def test_the_way_home(board: Board, sent: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, of what was sent, in the place of an older one; nothing beside it. A signature was checked before it was sent."""
    monkeypatch.setenv("EDGEVIT_REQUIRE_SIGNATURE", str(tmp_path / "no.pub"))
    (tmp_path / "out").mkdir()
    local = tmp_path / "out" / sent.path.name
    with Ssh(Destination(address="board"), board.ssh) as ssh:
        for notes in ((), ("again",)):
            manifest = bring_home(ssh, put(board, sent, notes=notes), local, sent)
            assert manifest.notes == notes
            assert open_bundle(local, None).read(ENGINE) == b"compiled there"
            assert [path.name for path in local.parent.iterdir()] == [local.name]


class PowerCutError(BaseException):
    """The program ends here."""


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_cut_while_it_is_put_in_place(
    board: Board, sent: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    """Whenever it comes, a whole bundle lies there, and the next run goes on with it."""
    (tmp_path / "out").mkdir()
    local = tmp_path / "out" / sent.path.name
    with Ssh(Destination(address="board"), board.ssh) as ssh:
        bring_home(ssh, put(board, sent, notes=("first",)), local, sent)
        there, real, renames = put(board, sent, notes=("second",)), Path.replace, []

        def replaced(path: Path, target: Path) -> Path:
            if path.parent != local.parent:
                return real(path, target)
            renames.append(path)
            if len(renames) >= cut:  # nor is anything put right: the power is off
                raise PowerCutError
            return real(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replaced)
            try:
                bring_home(ssh, there, local, sent)
            except PowerCutError:
                kept = local if local.exists() else local.with_name(f".{local.name}.old")
                assert open_bundle(kept, None).manifest.notes == ("first",)
        bring_home(ssh, put(board, sent, notes=("third",)), local, sent)
        assert open_bundle(local, None).manifest.notes == ("third",)
        assert [path.name for path in local.parent.iterdir()] == [local.name]


def test_what_does_not_come_home(board: Board, sent: Bundle, tmp_path: Path) -> None:
    """Another bundle, or half of one; the one that came home before stays."""
    (tmp_path / "out").mkdir()
    local = tmp_path / "out" / sent.path.name
    with Ssh(Destination(address="board"), board.ssh) as ssh:
        bring_home(ssh, put(board, sent), local, sent)
        with pytest.raises(RemoteError, match="is not the one that was sent"):
            bring_home(ssh, put(board, sent, labels=tuple(f"not {label}" for label in sent.manifest.labels)), local, sent)
        there = Path(put(board, sent))
        damaged = there / ENGINE if there.is_dir() else there
        damaged.write_bytes(damaged.read_bytes()[:-5])
        with pytest.raises(BundleError):
            bring_home(ssh, str(there), local, sent)
        bundle = open_bundle(local)
        bundle.verify()
        assert bundle.manifest.labels == sent.manifest.labels
        foreign = tmp_path / "out" / "mine"
        foreign.mkdir()
        (foreign / "file").write_text("mine")
        with pytest.raises(BundleError, match="is no edgevit bundle; it is not overwritten"):
            bring_home(ssh, put(board, sent), foreign, sent)
        assert (foreign / "file").read_text() == "mine"
