"""What a board may send home, and answer: only what belongs there, no more than fits, and nonsense ends in one clear line.

The board is a folder of this machine, and ssh a script that runs its command here: no sshd and no other user are needed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgevit.bundle import ENGINE, Bundle, open_bundle, write_bundle
from edgevit.deploy import answers, bringing
from edgevit.deploy.answers import parsed
from edgevit.deploy.bringing import bring_home
from edgevit.deploy.destination import Destination
from edgevit.deploy.plan import check_places, make_plan
from edgevit.deploy.several import deploy
from edgevit.deploy.ssh import Ssh
from edgevit.deploy.watcher import Watcher
from edgevit.errors import BundleError, ConfigError, RemoteError
from tests.support import Outcome

HERE = """#!/bin/sh
while :; do case $1 in -o | -p) shift 2 ;; -O) exit 0 ;; --) shift ;; *) break ;; esac; done
shift
exec sh -c "$*"
"""
HOST = Destination(address="board")


@pytest.fixture
def ssh(tmp_path: Path) -> Ssh:
    if shutil.which("rsync") is None:
        pytest.skip("needs rsync")
    script = tmp_path / "ssh"
    script.write_text(HERE)
    script.chmod(0o755)
    return Ssh(HOST, str(script))


@pytest.fixture
def sent(bundle_path: Path) -> Bundle:
    return open_bundle(bundle_path)


@pytest.fixture
def there(sent: Bundle, tmp_path: Path) -> Path:
    """The bundle as the board compiled it."""
    files = {name: sent.read(name) for name in sent.manifest.files} | {ENGINE: b"compiled there"}
    path = tmp_path / "board" / sent.path.name
    write_bundle(path, replace(sent.manifest, compiled={"engine": {}}), files)
    return path


@pytest.fixture
def local(tmp_path: Path, sent: Bundle) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / sent.path.name


@pytest.mark.parametrize("filtering", [True, False], ids=["filtered", "by an rsync that does not filter"])
def test_only_what_the_manifest_vouches_for_comes_home(
    ssh: Ssh, sent: Bundle, there: Path, local: Path, filtering: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (there / "extra.bin").write_bytes(bytes(3 * 2**20))
    (there / "evil.sh").write_text("#!/bin/sh\n")
    (there / "evil.sh").chmod(0o755)
    (there / "folder").mkdir()
    (there / "folder" / "file").touch()
    if not filtering:
        monkeypatch.setattr(bringing, "only", lambda _names: [])
    for _ in range(2):
        with ssh:
            manifest = bring_home(ssh, str(there), local, sent)
        assert {path.name for path in local.iterdir()} == {"manifest.json", *manifest.files}
        assert ENGINE in manifest.files
        assert list(local.parent.iterdir()) == [local]


def test_too_much(ssh: Ssh, sent: Bundle, there: Path, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it says of its size before: the file cannot grow beyond the limit here, and what was there stays."""
    with ssh:
        bring_home(ssh, str(there), local, sent)
        monkeypatch.setattr(bringing, "GROWN", 0)
        monkeypatch.setattr(bringing, "SPARE", 2**20)
        (there / ENGINE).write_bytes(bytes(3 * 2**20))
        with pytest.raises(RemoteError, match="board: sends a file of over 1 MiB") as caught:
            bring_home(ssh, str(there), local, sent)
    assert "\n" not in str(caught.value)
    assert open_bundle(local).read(ENGINE) == b"compiled there"
    assert all(path.stat().st_size <= 2**20 + 512 for path in local.parent.rglob("*") if path.is_file())


def test_a_link_in_the_place_of_what_is_fetched(ssh: Ssh, sent: Bundle, there: Path, local: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    local.with_name(f".{local.name}.part").symlink_to(precious)
    with ssh:
        bring_home(ssh, str(there), local, sent)
    assert [path.name for path in precious.iterdir()] == ["file"]
    assert list(local.parent.iterdir()) == [local]


def test_files_of_the_users_beside_it_are_not_lost(ssh: Ssh, sent: Bundle, there: Path, local: Path) -> None:
    with ssh:
        bring_home(ssh, str(there), local, sent)
        (local / "notes.txt").write_text("mine")
        with pytest.raises(BundleError, match=r"notes\.txt lies in it"):
            bring_home(ssh, str(there), local, sent)
    assert (local / "notes.txt").read_text() == "mine"


# --- answers ---------------------------------------------------------------------------------------------------------

FACTS = "shell=quiet\nours=yes\nfolder={folder}\nmachine=x86_64\nfree_kb={free}\npython={python}\n"


@pytest.mark.parametrize(("folder", "free", "python", "words"), [
    ("/home/me", "abc", "3.11.2", "free_kb='abc'"),
    ("/home/me", "9" * 50, "3.11.2", "free_kb='999"),
    ("/home/me", "1e9", "3.11.2", "free_kb='1e9'"),
    ("/home/me", "١٢", "3.11.2", "free_kb="),
    ("/home/me", "1000", "x.y", "python='x.y'"),
    ("/home/me", "1000", "3", "python='3'"),
    ("relative", "1000", "3.11.2", "folder='relative'"),
])  # fmt: skip
def test_facts_that_make_no_sense(folder: str, free: str, python: str, words: str, bundle_path: Path, tmp_path: Path) -> None:
    script = tmp_path / "ssh"
    script.write_text(f"#!/bin/sh\ncat <<'E'\n{FACTS.format(folder=folder, free=free, python=python)}E\n")
    script.chmod(0o755)
    (outcome,) = deploy(make_plan(bundle_path, tmp_path, tmp_path / "out", ssh=str(script)), [HOST], Watcher())
    assert isinstance(outcome.error, RemoteError)
    assert words in str(outcome.error)
    assert "please report" not in str(outcome.error)
    assert "\n" not in str(outcome.error)


@pytest.mark.parametrize(("check", "good"), [
    (answers.doctor, '{"findings": [{"level": "problem", "topic": "a", "text": "b", "fix": null}]}'),
    (answers.doctor, '{"findings": []}'),
    (answers.compiled, '{"version": "TensorRT 10.3", "seconds": 1}'),
    (answers.benchmark, '{"summary": {"fps": 12.5}}'),
    (answers.benchmark, '{"summary": {"fps": null}}'),
])  # fmt: skip
def test_what_edgevit_answers(check: answers.Check, good: str) -> None:
    assert parsed(good, check)


@pytest.mark.parametrize("check", [answers.doctor, answers.compiled, answers.benchmark])
@pytest.mark.parametrize("text", [
    "", "no JSON", "[]", "3", "null", "{}", "[" * 100_000, '{"findings": {}}', '{"findings": [1]}', '{"findings": [{}]}',
    '{"findings": [{"level": 1, "topic": "a", "text": "b"}]}',
    '{"findings": [{"level": "a", "topic": "a", "text": "b", "fix": 1}]}',
    '{"version": 10, "seconds": 1}', '{"version": "a", "seconds": "long"}', '{"version": "a", "seconds": true}',
    '{"summary": []}', '{"summary": {"fps": "fast"}}', '{"summary": {"fps": [1]}}', '{"summary": null}',
])  # fmt: skip
def test_what_edgevit_does_not_answer(check: answers.Check, text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (json's own, too)
        parsed(text, check)


# --- places ----------------------------------------------------------------------------------------------------------


def test_results_go_nowhere_into_what_is_sent(bundle_path: Path, tmp_path: Path) -> None:
    """Deployed from where it came home, or into a folder that is the bundle: refused before anybody is asked."""
    bundle = Path(shutil.copytree(bundle_path, tmp_path / "board"))
    plan = make_plan(bundle, tmp_path, tmp_path)
    with pytest.raises(ConfigError, match="is read by this command, and -o would overwrite it"):
        check_places(plan, [HOST])
    check_places(replace(plan, out=tmp_path / "elsewhere"), [HOST])


def test_a_strangers_report_stays(bundle_path: Path, tmp_path: Path) -> None:
    plan = make_plan(bundle_path, tmp_path, tmp_path)
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "report.json").write_text('{"mine": 1}')
    with pytest.raises(ConfigError, match="not a report of edgevit deploy"):
        check_places(plan, [HOST])
    (tmp_path / "board" / "report.json").write_text('{\n  "host": "board"\n}')
    check_places(plan, [HOST])


def test_the_command_refuses_before_it_connects(edgevit: Callable[..., Outcome], bundle_path: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(bundle_path, tmp_path / "board"))
    outcome = edgevit("deploy", bundle, "board", "-o", tmp_path, "--ssh", "false")
    assert outcome.code == 2
    assert outcome.stderr.count("\n") == 1
