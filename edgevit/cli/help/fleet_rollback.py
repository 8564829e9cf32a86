"""The help page of ``edgevit fleet rollback``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import BOARD, GENERAL, HOSTS

PAGE = Page(
    arguments={"[USER@]HOST": BOARD},
    groups={**HOSTS, "Service": ("--name", "--within", "--at-a-time"), **GENERAL},
    examples=(
        ("edgevit fleet rollback pi@gate", "the bundle before, on one board"),
        ("edgevit fleet rollback --hosts boards.txt --at-a-time 5", "on all, five at once"),
        ("edgevit fleet rollback --hosts boards.txt --name door", "of another service"),
    ),
    guides=("fleet.md",),
)
