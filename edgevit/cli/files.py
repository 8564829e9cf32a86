"""Options that name what a command writes. Before the command opens anything, all of them are held against what it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevit.cli.command import Command
from edgevit.errors import ConfigError, storage_errors
from edgevit.files.own_kinds import FileKind, require_kind
from edgevit.files.paths import expanded, is_file

if TYPE_CHECKING:
    from edgevit.files.clashes import Output


class OutputFile(click.Path):
    """A file to write, of ``kind`` where only that may be replaced; with ``parents`` its folder is made first.

    ``otherwise`` names it, from the values of all parameters, where nobody else does.
    """

    def __init__(
        self,
        kind: FileKind | None = None,
        otherwise: Callable[[dict[str, Any]], Path | None] | None = None,
        *,
        parents: bool = False,
    ) -> None:
        super().__init__(dir_okay=False, path_type=Path)
        self.kind, self.otherwise, self.parents = kind, otherwise, parents


class OutputFolder(click.Path):
    """A folder to write into; ``otherwise`` as in `OutputFile`."""

    def __init__(self, otherwise: Callable[[dict[str, Any]], Path] | None = None) -> None:
        super().__init__(file_okay=False, path_type=Path)
        self.otherwise = otherwise


class OutputBundle(click.Path):
    """A bundle, folder or zip, that is written anew as a whole; ``otherwise`` as in `OutputFile`."""

    def __init__(self, otherwise: Callable[[dict[str, Any]], Path] | None = None) -> None:
        super().__init__(path_type=Path)
        self.otherwise = otherwise


OUTPUTS = (OutputFile, OutputFolder, OutputBundle)


class Writing(Command):
    """A command with options of these types."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, if it can write what it is asked to without a loss."""
        check_outputs(self, ctx.params)
        return super().invoke(ctx)


def check_outputs(command: click.Command, values: dict[str, Any], *, now: bool = True) -> None:
    """Name the outputs that nobody named, and see that each is neither an input, another output nor a file of another kind.

    ``now=False`` leaves out what is different for another user at another time: what lies there, and whether it can be written.
    Raises ConfigError or StorageError.
    """
    from edgevit.files.clashes import refuse_clashes
    from edgevit.files.writing import require_writable

    for parameter in command.params:
        otherwise = getattr(parameter.type, "otherwise", None)
        if otherwise is not None and parameter.name is not None and values.get(parameter.name) is None:
            values[parameter.name] = otherwise(values)
    outputs = list(_outputs(command, values))
    refuse_clashes([output for output, _ in outputs], list(_inputs(command, values)))
    for output, kind in outputs:
        if now and isinstance(kind, OutputFile):
            if kind.kind is not None:
                require_kind(output.path, kind.kind)
            if kind.parents:
                with storage_errors(output.path, output.name):
                    output.path.parent.mkdir(parents=True, exist_ok=True)
            if kind.kind is None or not kind.kind.stream:
                require_writable(output.path, option=output.name)


def _outputs(command: click.Command, values: dict[str, Any]) -> Iterator[tuple[Output, Any]]:
    from edgevit.files.clashes import Output

    for parameter in command.params:
        value = values.get(parameter.name or "")
        if isinstance(parameter.type, OUTPUTS) and value is not None:
            name = max(parameter.opts, key=len) if isinstance(parameter, click.Option) else parameter.human_readable_name
            yield Output(name=name, path=value, replaced=isinstance(parameter.type, OutputBundle)), parameter.type


def _inputs(command: click.Command, values: dict[str, Any]) -> Iterator[Path]:
    """Every path that a command is given to read, and every text that happens to name a file, such as run's SOURCE."""
    from edgevit.runtime.cameras import parse_named

    for parameter in command.params:
        if isinstance(parameter.type, OUTPUTS):
            continue
        value = values.get(parameter.name or "")
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Path):
                yield expanded(str(each))
            elif isinstance(each, str) and parameter.name == "source":
                yield expanded(parse_named(each).uri)
            elif isinstance(each, str) and _names_file(each):
                yield Path(each)


def _names_file(text: str) -> bool:
    try:
        return is_file(Path(text), ConfigError)
    except ConfigError:  # it is no path at all, or the command says what is wrong with it
        return False
