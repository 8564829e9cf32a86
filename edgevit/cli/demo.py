"""``edgevit demo``: the whole way on a small real example."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from edgevit.cli.files import OutputFolder, Writing
from edgevit.cli.say import say


@click.command(cls=Writing)
@click.option("-o", "--out", type=OutputFolder(), default=Path("edgevit-demo"), show_default=True)
def demo(out: Path) -> None:
    """Train a small ViT on handwritten digits, build, compare, and classify a video. Takes about a minute."""
    from edgevit.errors import needs_extra, storage_errors

    with needs_extra("demo"):
        from edgevit.commands.demo import train_digits, write_digits
        from edgevit.model.checkpoint import check_replaceable
    from edgevit.cli.console import ConsoleProgress

    check_replaceable(out / "digits.safetensors")
    say("1,797 handwritten digits (scikit-learn) and a ViT trained on two thirds of them:")
    with storage_errors(out, "-o"):
        write_digits(out / "digits")
    top1 = train_digits(out / "digits", out / "digits.safetensors", ConsoleProgress())
    say(f"  {out / 'digits.safetensors'}: {100 * top1:.1f} % of the held-out digits right")
    bundle, video = out / "digits.edgevit", out / "digits.mp4"
    digits, test = out / "digits", out / "digits" / "test"
    _command("build", out / "digits.safetensors", "--data", digits / "train", "--eval-data", test, "-o", bundle)
    _command("compare", bundle, "--data", test, "--engines", "openvino,onnxruntime", "--csv", out / "digits.csv")
    _command("run", bundle, digits / "test.mp4", "--headless", "--save", video)
    say("", f"Report:          {bundle / 'report.json'} and {out / 'digits.csv'}")
    say(f"Annotated video: {video}")


def _command(*arguments: str | Path) -> None:
    """Run one command as a user would, after showing it."""
    from edgevit.cli import main

    words = [str(argument) for argument in arguments]
    say("", f"$ edgevit {shlex.join(words)}")
    main(words, standalone_mode=False, prog_name="edgevit")
