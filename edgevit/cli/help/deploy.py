"""The help page of ``edgevit deploy``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import BUNDLE, GENERAL

PAGE = Page(
    arguments={
        "BUNDLE": BUNDLE,
        "[USER@]HOST": "as ssh takes it: user@host, or a name of your ssh config. Several go in parallel.",
    },
    groups={
        "Connection": ("--port", "--ssh"),
        "On the host": ("--dir", "--python", "--wheelhouse", "--frames"),
        "Output": ("--out",),
        **GENERAL,
    },
    examples=(
        ("edgevit deploy cells.edgevit camera@192.168.1.20 --dry-run", "what would be sent and done"),
        ("edgevit deploy cells.edgevit line1 line2 line3", "three boards of your ssh config"),
        (
            "edgevit deploy cells.edgevit camera@board --port 2222 --require-signature maker.pub",
            "another port; only what is signed",
        ),
    ),
    guides=("deploy.md", "board.md"),
)
