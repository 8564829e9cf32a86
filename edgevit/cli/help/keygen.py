"""The help page of ``edgevit keygen``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import GENERAL

PAGE = Page(
    arguments={"NAME": "the file of the private key; NAME.pub is the public one"},
    groups={**GENERAL},
    examples=(
        ("edgevit keygen maker", "maker, which stays with you, and maker.pub, for the devices"),
        ("edgevit keygen keys/line1 --json", "for a program"),
        ("edgevit keygen ~/.ssh/edgevit", "beside your other keys"),
    ),
    guides=("security.md",),
)
