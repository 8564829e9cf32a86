"""The help page of ``edgevit targets``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import GENERAL

PAGE = Page(
    arguments={"NAME": "a target; all are listed without"},
    groups={**GENERAL},
    examples=(
        ("edgevit targets", "all of them"),
        ("edgevit targets jetson-orin-nano-8gb", "power modes, peaks, JetPacks, and where each fact is from"),
        ("edgevit targets jetson --json", "for a program"),
    ),
    guides=("tensorrt.md",),
)
