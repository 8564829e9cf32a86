"""README's commands are run as they stand, after the demo that makes their files."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgevit.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("edgevit ")]


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `edgevit demo` was run, as the README asks."""
    folder = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("EDGEVIT_CACHE", str(folder / "cache"))
        outcome = CliRunner().invoke(main, ["demo"])
    assert outcome.exit_code == 0, outcome.output
    assert "Annotated video: edgevit-demo/digits.mp4" in outcome.output
    assert (folder / "edgevit-demo" / "digits.mp4").stat().st_size > 10_000
    assert (folder / "edgevit-demo" / "digits.edgevit" / "report.json").is_file()
    accuracy = re.search(r"([\d.]+) % of the held-out digits right", outcome.output)
    assert accuracy is not None
    assert float(accuracy[1]) > 93
    return folder


def test_readme_shows_commands() -> None:
    """The pattern above still finds them."""
    assert len(commands()) >= 8


@pytest.mark.parametrize("command", commands())
def test_readme_command(command: str, demo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo_folder)
    outcome = CliRunner().invoke(main, shlex.split(command)[1:])
    assert outcome.exit_code == 0, outcome.output


def test_readme_names_only_targets_that_exist() -> None:
    """make demo and make test are in the Makefile."""
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    named = {"".join(groups) for groups in re.findall(r"^make (\S+)|`make ([\w-]+)", README, re.MULTILINE)}
    assert named >= {"demo", "test", "lint"}
    assert named <= set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
