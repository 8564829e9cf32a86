"""The help page of ``edgevit demo``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import GENERAL

PAGE = Page(
    groups={"Output": ("--out",), **GENERAL},
    examples=(
        ("edgevit demo", "everything into edgevit-demo"),
        ("edgevit demo -o /tmp/digits", "elsewhere"),
        ("edgevit inspect edgevit-demo/digits.edgevit", "afterwards: look at what it built"),
    ),
    guides=("start.md",),
)
