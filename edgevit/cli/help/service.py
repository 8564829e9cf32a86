"""The help page of ``edgevit service``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import BUNDLE, GENERAL, SOURCES

PAGE = Page(
    arguments={"BUNDLE": BUNDLE, "SOURCE": f"{SOURCES} After --: options of edgevit run."},
    groups={
        "The unit": ("--name", "--output", "--user", "--writable"),
        "Limits": ("--watchdog", "--memory"),
        **GENERAL,
    },
    examples=(
        ("edgevit service cells.edgevit csi://0", "edgevit.service, and how to enable it"),
        ("edgevit service cells.edgevit csi://0 -- --top-k 1 --json", "with options of edgevit run"),
        (
            "edgevit service cells.edgevit 0 --name line2 --user camera --memory 1024 --watchdog 60",
            "of another name, user and limits",
        ),
    ),
    guides=("board.md",),
)
