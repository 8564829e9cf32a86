"""What was typed wrong, in the one form that all errors have: ``edgevit: what is wrong. The next step.``"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from edgevit.cli.command import called, page_for
from edgevit.cli.help.layout import plain_range
from edgevit.cli.say import say
from edgevit.printable import printable


class Mistake(click.ClickException):
    """One of click's errors, told in one line. Ends the program with the code of the one it was."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click has it by class

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it on standard error."""
        say(f"edgevit: {self.message}", err=True)


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Turn click's errors inside the block into `Mistake`."""
    try:
        yield
    except Mistake:
        raise
    except click.ClickException as error:
        raise Mistake(_line(error), error.exit_code) from error


def _line(error: click.ClickException) -> str:
    if not isinstance(error, click.UsageError):
        return _fit_to_print(error.format_message())
    if isinstance(error, click.MissingParameter) and error.param is not None and error.ctx is not None:
        text = f"{called(error.param)} is missing{_wanted(error.param, error.ctx)}"
    else:
        text = _fit_to_print(_what(error))
    end = "" if text.endswith((".", "?", "!")) else "."
    return f"{text}{end} See: {error.ctx.command_path if error.ctx else 'edgevit'} --help"


def _what(error: click.UsageError) -> str:
    """What is wrong, and where."""
    if isinstance(error, click.BadParameter) and error.param is not None:
        return f"{called(error.param)}: {_in_words(error.message)}"
    if isinstance(error, click.NoSuchOption):
        close = f" Did you mean {error.possibilities[0]!r}?" if error.possibilities else ""
        return f"No such option {error.option_name!r}.{close}"
    return error.format_message()


def _wanted(parameter: click.Parameter, ctx: click.Context) -> str:
    """What to type for it, in so far as that is known."""
    if isinstance(parameter.type, click.Choice):
        return f": one of {', '.join(map(str, parameter.type.choices))}"
    if isinstance(parameter, click.Option):
        return f": write {called(parameter)} {_metavar(parameter, ctx)}"
    about = page_for(ctx).arguments.get(called(parameter), "")
    return f": {about.partition('. ')[0].rstrip('.')}" if about else ""


def _metavar(option: click.Option, ctx: click.Context) -> str:
    """What click's help has behind the option's name."""
    record = option.get_help_record(ctx)
    return record[0].rpartition(" ")[2] if record else "VALUE"


def _in_words(message: str) -> str:
    message = re.sub(r"is not a valid integer(?: range)?\b", "is no whole number", message)
    message = re.sub(r"is not a valid float(?: range)?\b", "is no number", message)
    return plain_range(message).replace(" is not in the range ", " is out of range: ")


def _fit_to_print(text: str) -> str:
    """Click quotes what was typed: an address in two words, for want of quotes, must not show its password."""
    from edgevit.runtime.redact import HIDDEN, without_secrets

    lines = [re.sub(r"[^\s'\"(]+@", f"{HIDDEN}@", printable(without_secrets(line))) for line in text.split("\n")]
    line = printable("\n").join(lines)
    if "unexpected extra argument" in line and "@" in line:
        return f"Got unexpected extra arguments ({HIDDEN}). Put what has blanks or & in it into quotes."
    return line
