"""The help page of ``edgevit fleet logs``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import BOARD, GENERAL, HOSTS

PAGE = Page(
    arguments={"[USER@]HOST": BOARD},
    groups={**HOSTS, "Service": ("--name",), "Lines": ("--lines", "--follow"), **GENERAL},
    examples=(
        ("edgevit fleet logs --hosts boards.txt", "the last 50 lines of each board"),
        ("edgevit fleet logs pi@gate -n 200", "more of one"),
        ("edgevit fleet logs pi@gate --follow", "as they come, until Ctrl-C"),
    ),
    guides=("fleet.md",),
)
