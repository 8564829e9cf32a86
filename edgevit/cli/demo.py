"""``edgevit demo``: the whole way on a real example, each step by the command that a user would type."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevit.cli.files import OutputFolder, Writing
from edgevit.cli.say import say

if TYPE_CHECKING:
    from edgevit.commands.demo.material import Material
    from edgevit.commands.demo.walk import Step


def _out(values: dict[str, Any]) -> Path:
    return Path("edgevit-solar" if values["solar"] else "edgevit-demo")


@click.command(cls=Writing)
@click.option("-o", "--out", type=OutputFolder(otherwise=_out), help="A folder; edgevit-demo here by default, or edgevit-solar.")
@click.option(
    "--solar",
    is_flag=True,
    help="A real DINOv2-S/14 on pictures of solar cells instead. Downloads 181 MB with pip; the pictures are for non-commercial "
    "use (CC BY-NC-SA 4.0). About 7 minutes on 2 cores.",
)
def demo(out: Path, solar: bool) -> None:
    """Train a ViT on handwritten digits, build, run and compare it: the whole way, in about 2 minutes on 2 cores.

    Leaves a report, an annotated video and a picture of where the model looks. What is finished is kept: a second run is quick.
    """
    from edgevit.commands.demo.walk import next_commands

    material, steps = _solar(out) if solar else _digits(out)
    for step in steps:
        _take(step)
    _print_end(material, next_commands(material, program()))


def _digits(out: Path) -> tuple[Material, tuple[Step, ...]]:
    from edgevit.errors import needs_extra

    with needs_extra("demo"):
        from edgevit.commands.demo.digits import SIZE, digits_material
    from edgevit.commands.demo.walk import steps

    say("A ViT is trained on 1,198 handwritten digits (scikit-learn), 599 are held out. About 2 minutes in all on 2 quiet cores.")
    with _unfinished("Nothing is kept of training that is not finished: the same command begins it again."):
        material = digits_material(out, SIZE, _bench())
    return material, steps(material)


def _solar(out: Path) -> tuple[Material, tuple[Step, ...]]:
    from edgevit.errors import needs_extra

    with needs_extra("demo"):
        from edgevit.commands.demo.solar import LICENCE, solar_material
    from edgevit.commands.demo.walk import steps

    say("DINOv2-S/14, pretrained, learns eight classes of solar cells. About 7 minutes in all on 2 quiet cores.", LICENCE)
    with _unfinished("What was downloaded whole is kept: the same command goes on from there."):
        material = solar_material(out, _bench())
    return material, steps(material)


def _bench() -> Any:
    from edgevit.cache import Cache
    from edgevit.cli.console import ConsoleProgress, note
    from edgevit.workbench import Workbench

    return Workbench(cache=Cache(note=note), progress=ConsoleProgress())


@contextmanager
def _unfinished(what: str) -> Iterator[None]:
    """Say what is left of an interrupted block, and end as interrupted."""
    from edgevit.cli import INTERRUPTED

    try:
        yield
    except KeyboardInterrupt:
        say("", f"edgevit: interrupted. {what}", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None


def _take(step: Step) -> None:
    """Run one command as a user would, after showing it; what it prints is shown where the demo is for that."""
    from edgevit.cli import main

    say("", step.meaning, f"$ edgevit {step.typed}")
    sys.stdout.flush()
    with _typed(step), nullcontext() if step.shows else redirect_stdout(io.StringIO()):
        code = main(list(step.arguments), standalone_mode=False, prog_name="edgevit")
    if code:  # it has said why
        raise click.exceptions.Exit(code)


@contextmanager
def _typed(step: Step) -> Iterator[None]:
    """Reports say with which command they were made: with this one, not with the demo."""
    before = sys.argv
    sys.argv = [before[0], *step.arguments]
    try:
        yield
    finally:
        sys.argv = before


def _print_end(material: Material, commands: tuple[tuple[str, str], ...]) -> None:
    from edgevit.commands.demo.walk import outputs

    bundle, report, video, picture = outputs(material)
    say(
        "",
        f"Report:            {report}",
        f"Annotated video:   {video}",
        f"Where it looks:    {picture}",
        f"Bundle:            {bundle}",
    )
    say("", "Next:", bold=True)
    for purpose, command in commands:
        say(f"  {command}   # {purpose}")


def program() -> str:
    """How edgevit was called here: by its name where the shell finds that, else by its path."""
    import shutil

    called = Path(sys.argv[0])
    if called.parts[-2:] == ("edgevit", "__main__.py"):
        return "python3 -m edgevit"
    found = shutil.which("edgevit")
    by_path = called.name == "edgevit" and called.is_file() and (found is None or not Path(found).samefile(called))
    return str(called) if by_path else "edgevit"
