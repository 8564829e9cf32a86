"""The help page of ``edgevit sign``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import BUNDLE, GENERAL

PAGE = Page(
    arguments={"BUNDLE": BUNDLE},
    groups={"Signature": ("--key",), **GENERAL},
    examples=(
        ("edgevit sign cells.edgevit --key maker", "with the key that edgevit keygen maker made"),
        ("edgevit sign cells.zip --key maker", "a bundle in one file"),
        ("edgevit sign cells.edgevit --key maker --json", "for a program"),
    ),
    guides=("security.md",),
)
