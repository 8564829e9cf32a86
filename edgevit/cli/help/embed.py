"""The help page of ``edgevit embed``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import GENERAL

PAGE = Page(
    arguments={"MODEL": "the folder or file of a CLIP or SigLIP, with its text tower"},
    groups={
        "Input and output": ("--classes", "--prompt", "--out"),
        "What the checkpoint does not tell": ("--activation",),
        **GENERAL,
    },
    examples=(
        ('edgevit embed clip --classes "crack, scratch, fine" -o classes.npz', "three classes"),
        ("edgevit embed clip --classes classes.txt -o classes.npz", "classes in a file, one a line"),
        ('edgevit embed clip --classes "crack, fine" --prompt "a solar cell with a {}" -o classes.npz', "in words of your own"),
    ),
    guides=("text.md",),
)
