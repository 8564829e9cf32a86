"""The help page of ``edgevit sweep``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import CHECKPOINT, GENERAL, MACHINE, MODEL, WORKERS

PAGE = Page(
    arguments={"MODEL": MODEL},
    groups={
        "Input and output": ("--data", "--eval-data", "--eval-limit", "--target", "--out", "--runs"),
        "Axes": ("--recipes", "--prune", "--merge", "--speedup", "--precisions", "--max-drop", "--grid"),
        **WORKERS,
        **CHECKPOINT,
        **MACHINE,
        **GENERAL,
    },
    examples=(
        (
            "edgevit sweep model --data train --eval-data test --prune 0,0.2 --merge none,0.35 --dry-run",
            "which points",
        ),
        ("edgevit sweep model --data train --eval-data test --recipes fast,default --prune 0,0.2 -o sweep", "four points"),
        ("edgevit sweep model --data train --eval-data test --grid grid.toml --executor ray", "accuracy on a cluster"),
    ),
    guides=("sweep.md", "compare.md"),
)
