"""The help page of ``edgevit demo``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import GENERAL

PAGE = Page(
    groups={"Example": ("--solar", "--out"), **GENERAL},
    examples=(
        ("edgevit demo", "everything into edgevit-demo"),
        ("edgevit demo --solar", "a pretrained DINOv2-S/14 on solar cells: about 7 minutes, and 181 MB from PyPI"),
        ("edgevit demo -o /tmp/digits", "elsewhere"),
        ("edgevit inspect edgevit-demo/digits.edgevit", "afterwards: look at what it built"),
    ),
    guides=("start.md",),
)
