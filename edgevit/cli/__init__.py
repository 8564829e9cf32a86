"""The ``edgevit`` command. Commands live in files of their own and import what they need when they run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from edgevit import __version__
from edgevit.cli.say import say
from edgevit.cli.streams import forgiving_streams
from edgevit.errors import ConfigError, EdgevitError, StorageError, did_you_mean
from edgevit.printable import printable

# In the order of a user's work. Each names a module here and holds a command of the same name.
COMMANDS = (
    "collect", "train", "build", "prune", "compile", "run", "compare", "inspect", "attention", "profile", "classes", "embed",
    "targets", "doctor", "deploy", "fleet", "service", "package", "healthcheck", "keygen", "sign", "demo",
)  # fmt: skip

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
INTERNAL = 70  # EX_SOFTWARE of sysexits.h


class Commands(click.Group):
    """Loads a command's module when it is asked for, and prints every error in one place."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run as a program does."""
        # torch's threads otherwise spin while they wait: beside one busy process all of it takes half as long again.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        forgiving_streams()
        return super().main(*args, **extra)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of a user's work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command called ``name``; a typing error gets the nearest known one."""
        if name not in COMMANDS:
            msg = f"No such command {name!r}. {did_you_mean(name, COMMANDS)}"
            raise click.UsageError(msg, ctx)
        command: click.Command = getattr(import_module(f"edgevit.cli.{name}"), name)
        return command

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:  # fmt: skip
        """Parse, which prints ``--help`` and ``--version``: where that cannot be, the same line as for a result."""
        try:
            with _fit_to_print():
                return super().make_context(info_name, args, parent, **extra)
        except BrokenPipeError:
            raise
        except OSError as error:
            line, code = explain(error)
            say(f"edgevit: {line}", err=True)
            raise click.exceptions.Exit(code) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run, and turn what goes wrong into one line and an exit code."""
        try:
            with _fit_to_print():
                return super().invoke(ctx)
        except Exception as error:
            if isinstance(error, BrokenPipeError | click.ClickException | click.exceptions.Exit | click.Abort):
                raise
            line, code = explain(error)
            debug = ctx.params.get("debug")
            say(*(_trace() if debug else []), f"edgevit: {line}", err=True)
            ctx.exit(1 if debug else code)  # as of any Python program that ends with a trace
        except KeyboardInterrupt:
            say("", "edgevit: interrupted. Finished stages are kept: the same command goes on from there.", err=True)
            ctx.exit(INTERRUPTED)


def explain(error: Exception) -> tuple[str, int]:
    """One line about ``error`` for people, and the exit code."""
    from edgevit.runtime.redact import without_secrets

    if isinstance(error, EdgevitError):
        return str(error), error.exit_code
    if isinstance(error, MemoryError):
        return "not enough memory. Close other programs, or use a smaller model or image size.", StorageError.exit_code
    if isinstance(error, OSError) and error.strerror:
        # Without a name it is what is printed: on a full disk, or into a device that takes nothing more.
        where = f"{error.filename}: " if error.filename else "standard output: cannot write: "
        line = without_secrets(f"{where}{error.strerror}")
        return f"{line}. Check the path, its permissions and the room there.", StorageError.exit_code
    if isinstance(error, ValueError) and "null byte" in str(error):  # what no path on any system may hold
        return "a path holds a NUL character. Check where this name comes from.", ConfigError.exit_code
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":  # in what was typed
        return "a name holds half of a character, which no file name can have. Check where it comes from.", ConfigError.exit_code
    line = without_secrets(f"{type(error).__name__}: {error}")
    return f"internal error: {line}. Run 'edgevit --debug ...' and report the trace.", INTERNAL


def _trace() -> list[str]:
    """The Python trace of the error at hand; messages, which stand at a line's beginning, without secrets."""
    import traceback

    from edgevit.runtime.redact import without_secrets

    return [line if line[:1] == " " else without_secrets(line) for line in traceback.format_exc().splitlines()]


@contextmanager
def _fit_to_print() -> Iterator[None]:
    """Click quotes what was typed: an address in two words, for want of quotes, must not show its password."""
    try:
        yield
    except click.ClickException as error:
        from edgevit.runtime.redact import HIDDEN, without_secrets

        lines = [re.sub(r"[^\s'\"(]+@", f"{HIDDEN}@", printable(without_secrets(line))) for line in error.message.split("\n")]
        text = "\n".join(lines) if isinstance(error, click.MissingParameter) else printable("\n").join(lines)
        if "unexpected extra argument" in text and "@" in text:
            text = f"Got unexpected extra arguments ({HIDDEN}). Put what has blanks or & in it into quotes."
        error.message = text  # type: ignore[misc]
        raise


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgevit")
@click.option("--debug", is_flag=True, help="Show the Python trace of an error.")
def main(debug: bool) -> None:
    """Turn a trained Vision Transformer into an INT8 bundle and classify camera frames with it.

    \b
    Exit codes: 0 done, 1 doctor found problems, 2 wrong option, 3 model, 4 images, 5 bundle, 6 engine,
    7 source, 8 missing package, 9 storage or memory, 10 accuracy budget, 11 remote host, 12 not healthy,
    70 internal error, 130 interrupted.
    """
    # Read when cv2 is first imported: its warnings about damaged images come twice, ours name the file.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
