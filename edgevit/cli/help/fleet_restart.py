"""The help page of ``edgevit fleet restart``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import BOARD, GENERAL, HOSTS

PAGE = Page(
    arguments={"[USER@]HOST": BOARD},
    groups={**HOSTS, "Service": ("--name", "--within", "--at-a-time"), **GENERAL},
    examples=(
        ("edgevit fleet restart pi@gate", "one board, and wait until it is healthy"),
        ("edgevit fleet restart --hosts boards.txt --at-a-time 1", "one board after the other"),
        ("edgevit fleet restart --hosts boards.txt --name door --within 300", "another service, with more patience"),
    ),
    guides=("fleet.md",),
)
