"""The help page of ``edgevit attention``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import CHECKPOINT, GENERAL, MACHINE

PAGE = Page(
    arguments={"MODEL": "a bundle, or a checkpoint that edgevit build reads", "IMAGE": "the picture to look at"},
    groups={
        "Output": ("--out", "--all", "--blocks"),
        "INT8 of a checkpoint": ("--data", "--recipe"),
        **CHECKPOINT,
        **MACHINE,
        **GENERAL,
    },
    examples=(
        ("edgevit attention cells.edgevit cell.png", "FP32 beside INT8: cell-attention.png"),
        ("edgevit attention model.safetensors cell.png --blocks 10,11 -o last.png", "two blocks of a checkpoint"),
        ("edgevit attention cells.edgevit cell.png -o weights.npz", "all weights, for a program"),
    ),
    guides=("attention.md",),
)
