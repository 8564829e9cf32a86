"""The scripts that make a shell ask, and the answer to what it asks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

import click
from click.shell_completion import FishComplete, ShellComplete, ZshComplete, split_arg_string

from edgevit.cli.say import say_fields

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

PROGRAM = "edgevit"
TYPED = "_EDGEVIT_TYPED"
"""Environment variable with a line of bash, as far as the cursor."""


class Bash(ShellComplete):
    """Click's own, except that a word goes on behind ``LABEL=`` and ``folder/``, ``csi://`` is one word, and errors stay unseen.

    Bash takes ``:`` and ``=`` for the ends of words: it is given what follows the last of them.
    """

    name: ClassVar[str] = "bash"
    source_template: ClassVar[str] = """\
%(complete_func)s() {
    local type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                printf -v value %%q "$value"
                COMPREPLY+=("$value")
                [[ $value == *[=/] ]] && compopt -o nospace
                ;;
        esac
    done < <(_EDGEVIT_TYPED="${COMP_LINE:0:COMP_POINT}" %(complete_var)s=bash_complete "$1" 2>/dev/null)
    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one under the cursor, and that one."""
        line = os.environ[TYPED]
        words = split_arg_string(line)[1:]
        return (words, "") if not words or line[-1:].isspace() else (words[:-1], words[-1])

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[Any]]:
        """Candidates, less what bash holds for earlier words."""
        kept = incomplete[: max(incomplete.rfind(end) for end in ":=") + 1]
        found = super().get_completions(args, incomplete)
        for item in found:
            if item.type == "plain":
                item.value = str(item.value).removeprefix(kept)
        return found

    def format_completion(self, item: Any) -> str:
        """One line, as the script reads it."""
        return f"{item.type},{item.value}"


SHELLS: dict[str, type[ShellComplete]] = {"bash": Bash, "zsh": ZshComplete, "fish": FishComplete}


def script(shell: str, asked: str) -> str:
    """What the shell called ``shell``, one of `SHELLS`, has to run once; it asks in the environment variable ``asked``."""
    return SHELLS[shell](click.Command(PROGRAM), {}, PROGRAM, asked).source()


def answer(command: click.Command, asked: str) -> int:
    """Print what may follow on the line that a shell has; ``asked`` is how: ``bash_complete``. Returns the exit code.

    Somebody is typing: whatever goes wrong, nothing is said about it.
    """
    try:
        shell = SHELLS[asked.partition("_")[0]](command, {}, PROGRAM, asked)
        lines = shell.complete()
    except (Exception, KeyboardInterrupt):
        return 1
    for line in lines.split("\n") if lines else ():
        say_fields(*line.split("\t"))
    return 0
