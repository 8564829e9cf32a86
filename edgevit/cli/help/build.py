"""The help page of ``edgevit build``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import CHECKPOINT, GENERAL, MACHINE, MODEL, PRUNING

PAGE = Page(
    arguments={"MODEL": MODEL},
    groups={
        "Input and output": ("--data", "--target", "--out"),
        "Quantization": ("--precision", "--max-drop", "--recipe"),
        "Accuracy": ("--eval-data", "--eval-limit"),
        "What the bundle holds": ("--reference", "--features", "--unknown"),
        **PRUNING,
        **CHECKPOINT,
        **MACHINE,
        **GENERAL,
    },
    examples=(
        ("edgevit build model.safetensors --data images", "INT8 for this machine's CPU: model.edgevit"),
        ("edgevit build model.safetensors --data images --target jetson-orin-nano-8gb -o cells.edgevit", "for a board"),
        (
            "edgevit build model.safetensors --data images --speedup 1.5 --max-drop 1 --dry-run",
            "what it would do, and what is cached",
        ),
    ),
    guides=("build.md", "precision.md", "checkpoints.md"),
)
