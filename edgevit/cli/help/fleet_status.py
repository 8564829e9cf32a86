"""The help page of ``edgevit fleet status``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import BOARD, GENERAL, HOSTS

PAGE = Page(
    arguments={"[USER@]HOST": BOARD},
    groups={**HOSTS, "Service": ("--name",), **GENERAL},
    examples=(
        ("edgevit fleet status --hosts boards.txt", "all services of all boards"),
        ("edgevit fleet status --hosts inventory.yaml --group line2", "a group of an Ansible inventory"),
        ("edgevit fleet status pi@gate --name door --json", "one service of one board, for a program"),
    ),
    guides=("fleet.md",),
)
