"""The help page of ``edgevit classes``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import BUNDLE, GENERAL

PAGE = Page(
    arguments={"BUNDLE": BUNDLE},
    groups={"Other classes": ("--set", "--out", "--prompt", "--text-model"), **GENERAL},
    examples=(
        ("edgevit classes cells.edgevit", "what it tells apart"),
        ("edgevit classes clip.edgevit --set new.npz -o new.edgevit", "other classes, embedded elsewhere by edgevit embed"),
        ('edgevit classes clip.edgevit --set "crack, fine" --text-model clip -o new.edgevit', "embedded here"),
    ),
    guides=("text.md",),
)
