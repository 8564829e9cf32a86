"""The help page of ``edgevit healthcheck``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import BUNDLE, GENERAL, MACHINE

PAGE = Page(
    arguments={"BUNDLE": BUNDLE},
    groups={
        "The run": ("--state", "--within", "--min-fps"),
        "The bundle": ("--samples",),
        **MACHINE,
        **GENERAL,
    },
    examples=(
        ("edgevit healthcheck cells.edgevit", "whether its samples come out right on this machine"),
        ("edgevit healthcheck cells.edgevit --state /run/edgevit/state.json --within 30", "and whether it is it that runs"),
        ("edgevit healthcheck cells.edgevit --state state.json --no-samples --min-fps 10", "only the run, and how fast"),
    ),
    guides=("fleet.md", "outputs.md"),
)
