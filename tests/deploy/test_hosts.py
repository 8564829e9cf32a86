"""Files of hosts as people have them, and such as nobody should have."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevit.deploy import hosts
from edgevit.deploy.hosts import inventory_program, read_hosts
from edgevit.errors import ConfigError
from tests.support import Outcome


def written(folder: Path, text: str, name: str = "hosts") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def needs_ansible() -> None:
    if inventory_program() is None:
        pytest.skip("pip install 'edgevit[fleet]'")


def addresses(path: Path, **options: str | int) -> list[tuple[str, int | None]]:
    return [(each.address, each.port) for each in read_hosts(path, **options).destinations]  # type: ignore[arg-type]


def settings(config: Path, host: str) -> dict[str, str]:
    """What OpenSSH itself makes of a configuration."""
    if shutil.which("ssh") is None:
        pytest.skip("apt install openssh-client")
    done = subprocess.run(["ssh", "-G", "-F", config, host], capture_output=True, text=True, check=True)
    return dict(line.partition(" ")[::2] for line in done.stdout.splitlines())


def test_a_plain_list(tmp_path: Path) -> None:
    path = written(
        tmp_path, "# the line\npi@line-1\n\n  pi@10.0.0.7:2222   # by its address\nboard\n[fe80::1]:22\npi@[::1]\npi@line-1\n"
    )
    expected = [("pi@line-1", None), ("pi@10.0.0.7", 2222), ("board", None), ("[fe80::1]", 22), ("pi@[::1]", None)]
    assert addresses(path) == expected
    assert addresses(path, port=23)[:2] == [("pi@line-1", 23), ("pi@10.0.0.7", 2222)]
    assert read_hosts(path, folder="x").destinations[0].folder == "x"


OPENSSH = """\
Include more
Host line-1 line-2 # both
    HostName 10.0.0.1
Host *.lab !gate
    User pi
host="gate way"
Host=line-3
    ProxyCommand sh -c 'touch /tmp/never'
Match host x
Host *
    Port 2222
"""


def test_an_ssh_config(tmp_path: Path) -> None:
    """Its names alone are read; what it says of them is ssh's affair. No pattern is a host."""
    path = written(tmp_path, OPENSSH.replace('host="gate way"\n', ""), "config")
    found = read_hosts(path)
    assert [each.address for each in found.destinations] == ["line-1", "line-2", "line-3"]
    assert (found.config, found.config_path) == (None, path)
    with pytest.raises(ConfigError, match="'gate way' is no destination"):
        read_hosts(written(tmp_path, OPENSSH, "bad"))


def test_the_users_own_config_is_ssh_s_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    assert read_hosts(written(tmp_path / ".ssh", "Host a\n", "config")).config_path is None


INI = """\
[line]
board-1 ansible_host=10.0.0.11
board-2 ansible_host=10.0.0.12 ansible_port=2022

[lab]
bench ansible_user=jetson ansible_ssh_private_key_file="~/keys/bench key"

[line:vars]
ansible_user=pi
"""
YAML = """\
all:
  vars: {ansible_user: pi}
  children:
    line:
      hosts:
        board-[1:2]: {ansible_host: 10.0.0.11}
        board-3: {ansible_host: 10.0.0.13, ansible_port: 2022}
    lab:
      hosts:
        bench: {ansible_user: jetson}
"""


def test_an_ini_inventory(tmp_path: Path) -> None:
    needs_ansible()
    path = written(tmp_path, INI)
    found = read_hosts(path)
    assert sorted(each.address for each in found.destinations) == ["bench", "board-1", "board-2"]
    assert addresses(path, group="line") == [("board-1", None), ("board-2", None)]
    config = written(tmp_path, found.config or "", "config")
    one, two, bench = (settings(config, name) for name in ("board-1", "board-2", "bench"))
    assert (one["hostname"], one["user"], one["port"]) == ("10.0.0.11", "pi", "22")
    assert (two["hostname"], two["user"], two["port"]) == ("10.0.0.12", "pi", "2022")
    assert (bench["hostname"], bench["user"], bench["identityfile"]) == ("bench", "jetson", "~/keys/bench key")
    config = written(tmp_path, read_hosts(path, port=23).config or "", "config")
    assert [settings(config, name)["port"] for name in ("board-1", "board-2")] == ["23", "2022"]


def test_a_yaml_inventory(tmp_path: Path) -> None:
    needs_ansible()
    path = written(tmp_path, YAML, "inventory.yml")
    assert [name for name, _ in addresses(path, group="line")] == ["board-1", "board-2", "board-3"]
    config = written(tmp_path, read_hosts(path).config or "", "config")
    assert settings(config, "board-2")["hostname"] == "10.0.0.11"
    assert (settings(config, "bench")["user"], settings(config, "board-3")["port"]) == ("jetson", "2022")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no host there"),
        ("# nothing\n\n", "no host there"),
        ("-oProxyCommand=touch${IFS}x\n", "is no destination"),
        ("pi@-oX\n", "is no destination"),
        ("pi@a b\n", "line 1 is no host"),
        ("a\npi@b:0\n", "line 2 is no host"),
        ("pi@b:70000\n", "line 1 is no host"),
        ("a;b\n", "is no destination"),
        ("`id`\n", "is no destination"),
        ("a\x1b[2J\n", "line 1 is no host"),
        ("".join(f"h{number}\n" for number in range(5000)), "5000 hosts, and at most 4096"),
        ("Host *\n  User pi\n", "no host there"),
        ("Host -oX\n", "is no destination"),
    ],
)
def test_what_is_no_list(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hosts") as caught:
        read_hosts(written(tmp_path, text))
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[a]\nx ansible_host=-oProxyCommand=id\n", "cannot be its HostName"),
        ("[a]\nx ansible_host='10.0.0.1\\n  ProxyCommand id'\n", "cannot be its HostName"),
        ("[a]\nx ansible_user={{ secret }}\n", ""),
        ("[a]\nx ansible_user='pi evil'\n", "cannot be its User"),
        ("[a]\n-oX ansible_host=1\n", "is no destination"),
        ("[a]\nlocalhost ansible_ssh_private_key_file='k\" y'\n", ""),
        ("[a\nx\n", ""),
    ],
)
def test_hostile_inventories(text: str, reason: str, tmp_path: Path) -> None:
    needs_ansible()
    with pytest.raises(ConfigError) as caught:
        read_hosts(written(tmp_path, text, "hosts.ini"))
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_groups(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no inventory of Ansible's, and has no groups"):
        read_hosts(written(tmp_path, "a\n"), group="line")
    needs_ansible()
    with pytest.raises(ConfigError, match=r"has no such group\. It has: .*lab.*line"):
        read_hosts(written(tmp_path, INI), group="lin")


def test_unreadable(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=reason):
            read_hosts(path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_hosts(tmp_path / "binary")


def test_without_the_program(tmp_path: Path, edgevit: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "inventory_program", lambda: None)
    outcome = edgevit("fleet", "status", "--hosts", written(tmp_path, INI))
    assert (outcome.code, outcome.stderr.count("\n")) == (8, 1)
    assert "pip install 'edgevit[fleet]'" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["status"], "no host is named"),
        (["status", "--group", "x", "a"], "--group is of an inventory"),
        (["logs", "--lines", "0", "a"], "--lines"),
        (["status", "-oProxyCommand=x"], ""),
    ],
)
def test_options(arguments: list[str], reason: str, edgevit: Callable[..., Outcome]) -> None:
    outcome = edgevit("fleet", *arguments)
    assert outcome.code == 2
    assert reason in outcome.stderr


def test_dry_run_says_what_would_run(edgevit: Callable[..., Outcome], bundle_path: Path, tmp_path: Path) -> None:
    path = written(tmp_path, "pi@a\npi@b\n")
    arguments = ["deploy", bundle_path, "--hosts", path, "--dry-run", "--run", "rtsp://me:secret@cam/1"]
    outcome = edgevit(*arguments, "--", "--top-k", 1, "--webhook", "http://x/?token=sesame")
    assert outcome.code == 0, outcome.stderr
    assert "On pi@a, pi@b" in outcome.stdout
    assert "run it on rtsp://cam/1 --top-k 1" in outcome.stdout
    assert "secret" not in outcome.stdout
    assert "sesame" not in outcome.stdout
    for wrong, reason in (
        (["--top-k", "none"], "--top-k"),
        (["--jsonl", "x.jsonl"], "Write the whole path"),
        (["--bogus"], "bogus"),
    ):
        refused = edgevit(*arguments, "--", *wrong)
        assert refused.code == 2
        assert reason in refused.stderr
