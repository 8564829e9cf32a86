"""The ``edgevit`` command. Commands live in files of their own and import what they need when they run."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from edgevit import __version__
from edgevit.cli.command import Command
from edgevit.cli.help.jobs import COMMANDS, JOBS
from edgevit.cli.mistakes import told_in_one_line
from edgevit.cli.say import say
from edgevit.cli.streams import forgiving_streams
from edgevit.errors import ConfigError, EdgevitError, StorageError, did_you_mean

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

NAMES = 2 + max(map(len, COMMANDS)) + 2
"""Where the line about a command begins."""
COMPLETES = "_EDGEVIT_COMPLETE"
"""Environment variable with which a shell asks what may follow: `edgevit.cli.completing.shells`."""
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
INTERNAL = 70  # EX_SOFTWARE of sysexits.h
EXIT_CODES = (
    "Exit codes: 0 done, 1 doctor found problems, 2 wrong option, 3 model, 4 images, 5 bundle, 6 engine, 7 source, 8 missing "
    "package, 9 storage or memory, 10 accuracy budget, 11 remote host, 12 not healthy, 70 internal error, 130 interrupted."
)


class Commands(Command, click.Group):
    """Loads a command's module when it is asked for, and prints every error in one place."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run as a program does."""
        # torch's threads otherwise spin while they wait: beside one busy process all of it takes half as long again.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        forgiving_streams()
        if (asked := os.environ.get(COMPLETES)) is not None:
            from edgevit.cli.completing.shells import answer

            sys.exit(answer(self, asked))
        return super().main(*args, **extra)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        """Commands with their lines, or the options that all have."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        from click.shell_completion import CompletionItem

        lines = {name: line for job in JOBS.values() for name, line in job.items()}
        return [CompletionItem(name, help=line) for name, line in lines.items() if name.startswith(incomplete)]

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

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Nothing typed is a question, too."""
        return super().parse_args(ctx, args or ["--help"])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by job, then the options that all have."""
        for job, lines in JOBS.items():
            with formatter.section(job):
                formatter.write_dl(list(lines.items()), col_max=NAMES)
        super().format_options(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Nothing: they stand before the options."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:  # fmt: skip
        """Parse, which prints ``--help`` and ``--version``: where that cannot be, the same line as for a result."""
        try:
            with told_in_one_line():
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
            with told_in_one_line():
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


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="edgevit")
@click.option("--debug", is_flag=True, help="Show the Python trace of an error.")
def main(debug: bool) -> None:
    """Turn a trained Vision Transformer into an INT8 bundle and classify camera frames with it."""
    # Read when cv2 is first imported: its warnings about damaged images come twice, ours name the file.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
