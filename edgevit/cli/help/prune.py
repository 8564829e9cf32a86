"""The help page of ``edgevit prune``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import CHECKPOINT, GENERAL, MACHINE, MODEL, PRUNING

PAGE = Page(
    arguments={"MODEL": MODEL},
    groups={
        "Input and output": ("--data", "--out"),
        **PRUNING,
        "Budget": ("--max-drop", "--target", "--precision"),
        "Accuracy": ("--eval-data", "--eval-limit"),
        **CHECKPOINT,
        **MACHINE,
        **GENERAL,
    },
    examples=(
        ("edgevit prune model.safetensors --data images --prune 30%", "without 30 % of the multiply-accumulates"),
        ("edgevit prune model.safetensors --data images --prune auto --max-drop 1", "as far as a point of top-1 allows"),
        (
            "edgevit prune model.safetensors --data images --speedup 1.5 --recover 3",
            "1.5 times as fast, and distilled for three epochs",
        ),
    ),
    guides=("pruning.md", "tokens.md"),
)
