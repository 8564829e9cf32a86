"""The help page of ``edgevit package``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import BUNDLE, GENERAL, SOURCE

PAGE = Page(
    arguments={"BUNDLE": BUNDLE, "SOURCE": SOURCE, "OPTIONS": "after --: options of edgevit run"},
    groups={
        "What is written": ("--as", "--version", "--name", "--output"),
        "Health after an update": ("--within", "--min-fps", "--watchdog"),
        "With deb": ("--wheelhouse", "--python", "--machine"),
        "With mender": ("--device-type", "--mender-key"),
        **GENERAL,
    },
    examples=(
        ("edgevit package cells.edgevit 0 --as deb --version 1.0 -- --top-k 1", "a Debian package, with options of edgevit run"),
        (
            "edgevit package cells.edgevit csi://0 --as mender --version 1.1 --device-type jetson-orin-nano",
            "an artifact for Mender",
        ),
        ("edgevit package cells.edgevit rtsp://gate/main --as container --version 1.0", "a Dockerfile and a compose.yaml"),
    ),
    guides=("updates.md", "board.md", "security.md"),
)
