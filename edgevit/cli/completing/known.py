"""Which option takes which names. One name means one thing in all commands, so that a new one has this at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from typing import Any

import click
from click.shell_completion import CompletionItem

from edgevit.cli.command import called
from edgevit.cli.completing import names
from edgevit.cli.completing.bundles import bundles, labels

Suggest = Callable[[click.Context, str], Iterable[str]]
"""Names that begin as the word that is being typed; all of them, if nothing is."""


def _of(list_names: Callable[[], Iterable[str]]) -> Suggest:
    return lambda _, incomplete: [name for name in list_names() if name.startswith(incomplete)]


def _listed(list_names: Callable[[], Iterable[str]]) -> Suggest:
    """Of several between commas, the last."""

    def suggest(_: click.Context, incomplete: str) -> list[str]:
        done, comma, last = incomplete.rpartition(",")
        return [f"{done}{comma}{name}" for name in list_names() if name.startswith(last) and name not in done.split(",")]

    return suggest


KNOWN: dict[str, Suggest] = {
    "--target": _of(names.targets),
    "--recipe": _of(names.recipes),
    "--engine": _of(names.engines),
    "--engines": _listed(names.engines),
    "--precisions": _listed(names.compared),
    "--device": _of(lambda: ("auto", "cpu", "cuda")),
    "--smooth": _of(lambda: ("8", "ema:8", "majority:8")),
    "--unknown": _of(lambda: ("auto", "1%")),
    "--score": _of(lambda: ("obs", "wifv", "variance", "taylor")),
    "--weights": _of(lambda: ("auto", "raw", "ema")),
    "--sharp": _of(lambda: ("auto", "off", "40%")),
    "--unfreeze": _of(lambda: ("all", "1", "2", "4")),
    "--prune": _of(lambda: ("auto", "20%", "30%")),
    "--attention": _of(lambda: ("rollout", "last")),
    "--threshold": lambda ctx, incomplete: [f"{name}=" for name in labels(ctx) if name.startswith(incomplete)],
    "--when": lambda ctx, incomplete: [
        text for text in ("changed", "always", *(f"label={name}" for name in labels(ctx))) if text.startswith(incomplete)
    ],
    "--source": _of(names.sources),
    "--diff": bundles,
    "--uncertain": bundles,
    "BUNDLE": bundles,
    "SOURCE": _of(names.sources),
}
OF_COMMANDS: dict[tuple[str, str], Suggest] = {("targets", "NAME"): _of(names.targets)}
"""Where a name means something in one command only."""


class Suggested(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest click
    """A type whose values may also be others than those that are suggested. Where none fits, files are."""

    def __init__(self, of: click.ParamType, suggest: Suggest, *, files: bool) -> None:  # type: ignore[type-arg]
        self.name, self._of, self._suggest, self._files = of.name, of, suggest, files

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As the type does."""
        return self._of.convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """What fits so far."""
        found = [CompletionItem(text) for text in self._suggest(ctx, incomplete)]
        return found or ([CompletionItem(incomplete, type="file")] if self._files else [])


def completed(parameter: click.Parameter, command: str | None) -> click.Parameter:
    """A copy of a parameter of ``command`` that suggests what is known for it; the parameter itself, if nothing is."""
    suggest = OF_COMMANDS.get((command or "", called(parameter))) or KNOWN.get(called(parameter))
    if suggest is None or getattr(parameter, "is_flag", False):
        return parameter
    made = copy(parameter)
    takes_files = isinstance(parameter.type, click.Path) or called(parameter) in ("SOURCE", "--source", "--target", "--recipe")
    made.type = Suggested(parameter.type, suggest, files=takes_files)
    return made
