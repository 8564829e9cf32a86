"""The help page of ``edgevit profile``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import BUNDLE, GENERAL, MACHINE

PAGE = Page(
    arguments={"BUNDLE": BUNDLE, "SOURCE": "what edgevit run reads; a synthetic picture by default"},
    groups={"Measuring": ("--runs",), **MACHINE, **GENERAL},
    examples=(
        ("edgevit profile cells.edgevit", "where a frame's time goes"),
        ("edgevit profile cells.edgevit cell.mp4 --runs 200", "on frames of your own"),
        ("edgevit profile cells.edgevit --engine onnxruntime --threads 2", "on another engine"),
    ),
    guides=("inspect.md",),
)
