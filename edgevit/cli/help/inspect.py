"""The help page of ``edgevit inspect``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import BUNDLE, GENERAL, MACHINE

PAGE = Page(
    arguments={"BUNDLE": BUNDLE},
    groups={"What is shown": ("--layers", "--diff"), **MACHINE, **GENERAL},
    examples=(
        ("edgevit inspect cells.edgevit", "what it holds; every file's hash is checked"),
        ("edgevit inspect cells.edgevit --layers", "precision, size and time of every part of every block"),
        ("edgevit inspect cells.edgevit --diff older.edgevit", "what differs"),
    ),
    guides=("inspect.md", "security.md"),
)
