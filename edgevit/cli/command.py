"""What every command is: click's, with the help page of its own."""

from __future__ import annotations

import click

from edgevit.cli.help.layout import Layout, plain_record
from edgevit.cli.help.page import DOCS, Page, page_of


class Command(click.Command):
    """A command whose ``--help`` has its options in groups, examples and the guide to read: `edgevit.cli.help.page`."""

    def get_help(self, ctx: click.Context) -> str:
        """The whole page, as wide as the terminal."""
        layout = Layout()
        self.format_help(ctx, layout)
        return layout.getvalue().rstrip("\n")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; an error knows the command, whose help then is the next step."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The parameters; while a shell completes a line, with what completes them."""
        parameters = super().get_params(ctx)
        if not ctx.resilient_parsing:
            return parameters
        from edgevit.cli.completing.known import completed

        return [completed(parameter, self.name) for parameter in parameters]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write arguments and options, by heading, and the examples."""
        page = page_for(ctx)
        if page.arguments:
            with formatter.section("Arguments"):
                formatter.write_dl(list(page.arguments.items()))
        records = {
            longest(parameter): plain_record(record)
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)) is not None
        }
        for title, names in page.arranged(list(records)).items():
            with formatter.section(title):
                formatter.write_dl([records[name] for name in names])
        if isinstance(formatter, Layout):
            if page.examples:
                with formatter.section("Examples"):
                    for command, what in page.examples:
                        formatter.write_command(command, what)
            if page.guides:
                with formatter.section("More"):
                    formatter.write_text(", ".join(f"{DOCS}{guide}" for guide in page.guides))


class Group(Command, click.Group):
    """A command that has commands of its own, each with a page: ``fleet status`` has that of ``fleet_status``."""

    command_class = Command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, then options and examples."""
        super().format_commands(ctx, formatter)
        Command.format_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Nothing: they stand before the options."""


def page_for(ctx: click.Context) -> Page:
    """The page of the command that ``ctx`` is of."""
    names, parent = [ctx.command.name or ""], ctx.parent
    while parent is not None and parent.parent is not None:
        names.insert(0, parent.command.name or "")
        parent = parent.parent
    return page_of("_".join(names))


def longest(option: click.Parameter) -> str:
    """The name by which an option is spoken of: ``--out`` of ``-o, --out``."""
    return max(option.opts, key=len)


def called(parameter: click.Parameter) -> str:
    """What a message calls a parameter: ``--out``, ``SOURCE``."""
    if isinstance(parameter, click.Option):
        return longest(parameter)
    return str(parameter.human_readable_name).removesuffix("...")
