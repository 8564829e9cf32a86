"""README's commands are run as they stand, after the demo that makes their files."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

import cv2
import pytest
from click.testing import CliRunner, Result

from edgevit.cli import main
from edgevit.commands.demo import digits
from edgevit.commands.demo.digits import Size
from edgevit.commands.demo.trained import Schedule
from edgevit.commands.demo.walk import SMALLER, Smaller

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("edgevit ")]


SMALL = Size(side=64, width=96, depth=6, schedule=Schedule(epochs=7, stride=(2, 2)))
SMALL_SMALLER = Smaller(prune=20, merge=20)
"""A demo for tests: a tenth of the work, and of 64 patches less can go."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """A demo that was run."""

    folder: Path
    """Where: what it wrote lies in ``edgevit-demo``."""
    outcome: Result
    size: Size


@pytest.fixture(scope="module", params=[pytest.param(SMALL, id="small"), pytest.param(Size(), id="true", marks=pytest.mark.slow)])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """`edgevit demo`, as the README asks."""
    folder = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "SIZE", request.param)
        if request.param == SMALL:
            patch.setitem(SMALLER, "digits", SMALL_SMALLER)
        patch.chdir(folder)
        patch.setenv("EDGEVIT_CACHE", str(folder / "cache"))
        outcome = CliRunner().invoke(main, ["demo"])
    assert outcome.exit_code == 0, outcome.output
    return Demo(folder=folder, outcome=outcome, size=request.param)


def top1(demo: Demo) -> dict[str, float]:
    """By precision, percent of the held-out digits, from the table at the demo's end."""
    found = re.findall(r"^(fp32|int8\S*) +openvino +([\d.]+) ", demo.outcome.stdout, re.MULTILINE)
    return {name: float(share) for name, share in found}


def test_demo_shows_what_the_tool_does(demo: Demo) -> None:
    """Three precisions of a model that has learned, a report, a video, a picture, a bundle; three commands at the end."""
    found = top1(demo)
    smaller = SMALL_SMALLER if demo.size == SMALL else SMALLER["digits"]
    assert list(found) == ["fp32", "int8", smaller.precision], demo.outcome.stdout
    assert found["fp32"] > (85 if demo.size == SMALL else 95)
    place = demo.folder / "edgevit-demo"
    report = (place / "report.html").read_text(encoding="utf-8")
    assert "edgevit compare edgevit-demo/digits.safetensors" in report
    assert (place / "annotated.mp4").stat().st_size > 10_000
    assert cv2.imread(str(place / "attention.png")).std() > 10
    assert (place / "digits.edgevit" / "report.json").is_file()
    *_, after = demo.outcome.stdout.partition("\nNext:\n")
    assert len(after.splitlines()) == 3
    for name in ("report.html", "annotated.mp4", "attention.png", "digits.edgevit"):
        assert re.search(rf"^[A-Z][a-z ]+: +edgevit-demo/{name}$", demo.outcome.stdout, re.MULTILINE), name


def test_commands_that_the_demo_ends_with(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a video where there is no camera, and with a model and photos in the place of capitals."""
    monkeypatch.chdir(demo.folder)
    *_, after = demo.outcome.stdout.partition("\nNext:\n")
    report, run, build = (shlex.split(line, comments=True) for line in after.splitlines())
    assert Path(unquote(urlparse(report[-1]).path)).is_file()
    mine = {"MODEL": "edgevit-demo/digits.safetensors", "PHOTOS": "edgevit-demo/digits/train"}
    assert run[-1] == "0"
    film = [*run[:-1], "edgevit-demo/digits/test.mp4", "--headless"]
    for words in (film, [*(mine.get(word, word) for word in build), "--dry-run"]):
        outcome = CliRunner().invoke(main, words[1:])
        assert outcome.exit_code == 0, outcome.output


@pytest.mark.slow
def test_a_second_demo_trains_and_quantizes_nothing(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found again is said beside each stage."""
    monkeypatch.chdir(demo.folder)
    monkeypatch.setenv("EDGEVIT_CACHE", str(demo.folder / "cache"))
    monkeypatch.setattr(digits, "SIZE", demo.size)
    if demo.size == SMALL:
        monkeypatch.setitem(SMALLER, "digits", SMALL_SMALLER)
    outcome = CliRunner().invoke(main, ["demo"])
    assert outcome.exit_code == 0, outcome.output
    stages = r"^  (write 1,797|train a ViT|prune and refit|merge and refit|quantize|evaluate).* (cached|[\d.]+ s)"
    done = re.findall(stages, outcome.stderr, re.MULTILINE)
    assert len({name for name, _ in done}) == 6, outcome.stderr
    assert {how for _, how in done} == {"cached"}, done


def test_readme_shows_commands() -> None:
    """The pattern above still finds them."""
    assert len(commands()) >= 8


@pytest.mark.parametrize("command", commands())
def test_readme_command(command: str, demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo.folder)
    outcome = CliRunner().invoke(main, shlex.split(command)[1:])
    assert outcome.exit_code == 0, outcome.output


def test_readme_names_only_targets_that_exist() -> None:
    """make demo, make test and make docs are in the Makefile."""
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    named = {"".join(groups) for groups in re.findall(r"^make (\S+)|`make ([\w-]+)", README, re.MULTILINE)}
    assert named >= {"demo", "test", "docs"}
    assert named <= set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
