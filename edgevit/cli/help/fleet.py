"""The help page of ``edgevit fleet``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import GENERAL

PAGE = Page(
    groups={**GENERAL},
    examples=(
        ("edgevit fleet status --hosts boards.txt", "a table of all boards"),
        ("edgevit fleet logs pi@gate -n 20", "what one of them said last"),
        ("edgevit fleet rollback --hosts boards.txt --at-a-time 5", "the bundles before these, five boards at once"),
    ),
    guides=("fleet.md",),
)
