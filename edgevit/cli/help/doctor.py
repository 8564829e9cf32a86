"""The help page of ``edgevit doctor``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import BUNDLE, GENERAL

PAGE = Page(
    arguments={"BUNDLE": f"{BUNDLE}; whether it would run here"},
    groups={"Acceptance": ("--acceptance", "--source", "--output"), **GENERAL},
    examples=(
        ("edgevit doctor", "this machine"),
        ("edgevit doctor cells.edgevit", "and what the bundle needs"),
        ("edgevit doctor cells.edgevit --acceptance --source csi://0", "every step is tried, and a report written"),
    ),
    guides=("board.md",),
)
