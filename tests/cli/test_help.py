"""``--help``: options in groups, examples that are true, guides that exist, on every terminal."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from edgevit import errors
from edgevit.cli import COMMANDS, EXIT_CODES, INTERNAL, INTERRUPTED, main
from edgevit.cli.command import Command, called, longest
from edgevit.cli.help.jobs import JOBS
from edgevit.cli.help.layout import plain_record
from edgevit.cli.help.page import DOCS, Page, page_of
from tests.support import ROOT

ALL: dict[str, click.Command] = {name: getattr(import_module(f"edgevit.cli.{name}"), name) for name in COMMANDS}
for group in [name for name, command in ALL.items() if isinstance(command, click.Group)]:
    ALL |= {f"{group}_{name}": command for name, command in ALL[group].commands.items()}
PAGES = tuple(ALL)
"""``fleet_status`` is the page of ``edgevit fleet status``."""

SHARED = [
    group for name, group in vars(import_module("edgevit.cli.help.shared")).items() if name.isupper() and isinstance(group, dict)
]


def shown(name: str, **environment: str) -> list[str]:
    """Lines of ``edgevit NAME --help``, in a process of its own, without a terminal."""
    words = name.split("_") if name else []
    done = subprocess.run(
        [sys.executable, "-m", "edgevit", *words, "--help"], capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.splitlines()


def options(name: str) -> list[str]:
    return [longest(item) for item in ALL[name].params if isinstance(item, click.Option)]


# --- one page a command ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_every_option_is_in_one_named_group(name: str) -> None:
    page = page_of(name)
    for option in [*options(name), "--help"]:
        titles = [title for title, group in page.groups.items() if option in group]
        assert len(titles) == 1, (
            f"edgevit {name} {option} is in {titles or 'no group'}: write {option!r} into one group of `groups` "
            f"in edgevit/cli/help/{name}.py (headings there: {', '.join(page.groups)}), or into edgevit/cli/help/shared.py"
        )


@pytest.mark.parametrize("name", PAGES)
def test_every_argument_is_described(name: str) -> None:
    """By the name that the usage line has."""
    arguments = {called(item) for item in ALL[name].params if isinstance(item, click.Argument)}
    assert set(page_of(name).arguments) == arguments, f"edgevit/cli/help/{name}.py, `arguments`: one entry for each of these"


def test_groups_name_options_that_exist() -> None:
    """Shared ones are in some command, and those of one page in its own."""
    everywhere = {option for name in PAGES for option in options(name)} | {"--help"}
    shared = {option for group in SHARED
              for names in group.values() for option in names}  # fmt: skip
    for name in PAGES:
        listed = {option for group in page_of(name).groups.values() for option in group}
        assert listed <= everywhere, f"edgevit/cli/help/{name}.py"
        assert listed - shared <= {*options(name), "--help"}, f"edgevit/cli/help/{name}.py"


@pytest.mark.parametrize("name", PAGES)
def test_three_examples_and_a_guide(name: str) -> None:
    page = page_of(name)
    where = f"edgevit/cli/help/{name}.py: `examples` are three command lines and what each is for"
    assert len(page.examples) >= 3, where
    assert sum(command.startswith(f"edgevit {name.replace('_', ' ')}") for command, _ in page.examples) >= 2, where
    assert page.guides, f"edgevit/cli/help/{name}.py: `guides` are files of {DOCS}"
    for guide in page.guides:
        assert (ROOT / DOCS / guide).is_file(), guide


@pytest.mark.parametrize(
    ("name", "line"), [pytest.param(name, line, id=line) for name in PAGES for line, _ in page_of(name).examples]
)
def test_examples_are_true(name: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's own parser takes them, shares and sources included; files that must exist are made first."""
    from edgevit.deploy.destination import Destination
    from edgevit.runtime.smoothing import parse_smoothing
    from edgevit.runtime.threshold import parse_thresholds

    monkeypatch.chdir(tmp_path)
    words = shlex.split(line.partition(" > ")[0])
    assert words[0] == "edgevit"
    taken = 3 if isinstance(ALL[words[1]], click.Group) else 2
    command = ALL["_".join(words[1:taken])]
    for item in command.params:
        if getattr(item.type, "exists", False) and longest(item) in words:
            (tmp_path / words[words.index(longest(item)) + 1]).touch()
    context = command.make_context(" ".join(words[:taken]), words[taken:])
    if context.params.get("smooth"):
        parse_smoothing(context.params["smooth"])
    if context.params.get("threshold"):
        parse_thresholds(context.params["threshold"], ["crack", "fine"], "single_label")
    for host in context.params.get("hosts", ()):
        Destination(address=host)


def test_a_page_that_misses_an_option_shows_it_last() -> None:
    """A new option is seen before anybody gave it a group."""
    page = Page(groups={"Input": ("--data",)})
    assert page.arranged(["--new", "--data"]) == {"Input": ["--data"], "Other options": ["--new"]}
    assert page_of("nothing of this name") == page_of(None) == Page()


# --- all commands ----------------------------------------------------------------------------------------------------


def test_commands_by_job() -> None:
    """None is cut at 80 columns, each line is a sentence, and every one is there once."""
    lines = shown("", COLUMNS="80")
    for job, commands in JOBS.items():
        assert f"{job}:" in lines
        for name, line in commands.items():
            assert any(re.fullmatch(rf"  {name} +{re.escape(line)}", each) for each in lines), name
            assert line.endswith(".")
    assert max(map(len, lines)) < 80
    assert len(set(COMMANDS)) == len(COMMANDS)


def test_nothing_typed_is_help(edgevit) -> None:
    assert edgevit() == edgevit("--help")


def test_exit_codes_are_those_that_there_are() -> None:
    """In help, in the guide and in the code."""
    codes = {0, 1, INTERNAL, INTERRUPTED, *(kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and
             issubclass(kind, errors.EdgevitError))}  # fmt: skip
    assert {int(code) for code in re.findall(r"(?:: |, )(\d+) ", EXIT_CODES)} == codes
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", (ROOT / DOCS / "cli.md").read_text(), re.MULTILINE)} == codes


# --- terminals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", *PAGES])
@pytest.mark.parametrize("columns", [80, 40])
def test_lines_fit_the_terminal(name: str, columns: int, monkeypatch: pytest.MonkeyPatch, edgevit) -> None:
    """Only a word that is longer than a line goes beyond it."""
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = edgevit(*name.split("_") if name else (), "--help").stdout.splitlines()
    assert not [line for line in lines if len(line) >= columns and len(line.removesuffix(" \\").split()) > 1]


@pytest.mark.parametrize("environment", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"TERM": "dumb"}, {"COLUMNS": "0"}])
def test_plain_everywhere(environment: dict[str, str]) -> None:
    lines = shown("run", **environment)
    assert lines[2] == "  Classify SOURCE, or several in turns on one engine, with BUNDLE."
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize(("environment", "bold"), [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False),
                                                   ({"TERM": "xterm", "NO_COLOR": "1"}, False)])  # fmt: skip
def test_headings_are_bold_on_a_terminal(environment: dict[str, str], bold: bool) -> None:
    code = "from edgevit.cli import main; main(['keygen', '--help'], prog_name='edgevit')"
    surroundings = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    mine, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=terminal, env={**surroundings, "PYTHONPATH": str(ROOT), **environment}
    ) as process:  # fmt: skip
        os.close(terminal)
        written = b""
        while True:
            try:
                piece = os.read(mine, 4096)
            except OSError:  # its end, on Linux
                break
            if not piece:
                break
            written += piece
        assert process.wait(timeout=30) == 0
    os.close(mine)
    assert b"General:" in written.replace(b"\x1b[1m", b"").replace(b"\x1b[0m", b"")
    assert (b"\x1b[1m" in written) is bold


def test_examples_in_a_narrow_terminal_can_be_pasted(monkeypatch: pytest.MonkeyPatch, edgevit) -> None:
    """A shell reads the same words, quotes included."""
    monkeypatch.setenv("COLUMNS", "40")
    pasted = edgevit("run", "--help").stdout.partition("Examples:\n")[2].partition("More:")[0]
    assert "\\\n" in pasted
    done = subprocess.run(["bash", "-c", f"edgevit() {{ printf '%s\\n' \"$@\" --; }}\n{pasted}"], capture_output=True, text=True,
                          check=True)  # fmt: skip
    wanted = [word for line, _ in page_of("run").examples for word in [*shlex.split(line)[1:], "--"]]
    assert done.stdout.splitlines() == wanted


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        (("--limit INTEGER RANGE", "Stop.  [x>=1]"), ("--limit N", "Stop.  [1 or more]")),
        (("--fps FLOAT RANGE", "Rate.  [default: 1.0; x>0]"), ("--fps X", "Rate.  [default: 1.0; more than 0]")),
        (("--port INTEGER RANGE", "Of ssh.  [1<=x<=65535]"), ("--port N", "Of ssh.  [1 to 65535]")),
        (("-o, --out DIRECTORY", "Here."), ("-o, --out FOLDER", "Here.")),
        (("--json", "x>y is text"), ("--json", "x>y is text")),
    ],
)
def test_plain_words_for_values(record: tuple[str, str], wanted: tuple[str, str]) -> None:
    assert plain_record(record) == wanted


def test_every_command_has_this_help() -> None:
    """``@click.command(cls=Command)``, or ``cls=Writing``, which is one."""
    assert all(isinstance(command, Command) for command in [main, *ALL.values()])
