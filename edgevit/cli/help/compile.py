"""The help page of ``edgevit compile``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import BUNDLE, GENERAL

PAGE = Page(
    arguments={"BUNDLE": BUNDLE},
    groups={
        "Compiler": ("--workspace", "--optimization-level"),
        **GENERAL,
    },
    examples=(
        ("edgevit compile cells.edgevit", "on the board that runs it, after: sudo jetson_clocks"),
        ("edgevit compile cells.edgevit --workspace 512", "on a board with little memory"),
        ("edgevit compile cells.edgevit --require-signature maker.pub --sign board", "only what its maker signed, signed again"),
    ),
    guides=("tensorrt.md", "board.md"),
)
