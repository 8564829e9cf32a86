"""The help page of ``edgevit deploy``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import BUNDLE, GENERAL, HOSTS

PAGE = Page(
    arguments={
        "BUNDLE": BUNDLE,
        "[USER@]HOST": "as ssh takes it: user@host, or a name of your ssh config. Several go in parallel.",
    },
    groups={
        **HOSTS,
        "Service": ("--run", "--name", "--system", "--min-fps", "--within", "--watchdog"),
        "Rolling out": ("--at-a-time", "--stop-after"),
        "On the host": ("--python", "--wheelhouse", "--frames"),
        "Output": ("--out",),
        **GENERAL,
    },
    examples=(
        ("edgevit deploy cells.edgevit camera@192.168.1.20 --dry-run", "what would be sent and done"),
        ("edgevit deploy cells.edgevit line1 line2 line3", "three boards of your ssh config"),
        (
            "edgevit deploy cells.edgevit pi@gate --run csi://0 -- --top-k 1 --smooth 8",
            "into service, with options of edgevit run",
        ),
        (
            "edgevit deploy cells.edgevit --hosts boards.txt --run csi://0 --at-a-time 5",
            "into service on all; back by itself if it fails",
        ),
        (
            "edgevit deploy cells.edgevit camera@board --port 2222 --require-signature maker.pub",
            "another port; only what is signed",
        ),
    ),
    guides=("deploy.md", "fleet.md", "board.md"),
)
