"""The help page of ``edgevit compare``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import CHECKPOINT, GENERAL, MACHINE, MODEL, WORKERS

PAGE = Page(
    arguments={"MODEL": f"bundles, and checkpoints. A checkpoint is {MODEL}"},
    groups={
        "Input": ("--data", "--limit", "--calibration", "--recipe"),
        "What is compared": ("--precisions", "--engines", "--target", "--runs"),
        "Reports": ("--html", "--markdown", "--csv"),
        **CHECKPOINT,
        **WORKERS,
        **MACHINE,
        **GENERAL,
    },
    examples=(
        ("edgevit compare cells.edgevit --data held-out --html report.html", "FP32 against INT8, as a report"),
        ("edgevit compare model.safetensors --data images --precisions fp32,int8,int8+speedup1.5", "before anything is built"),
        ("edgevit compare old.edgevit new.edgevit --data held-out --engines openvino,onnxruntime", "two bundles on two engines"),
    ),
    guides=("compare.md", "precision.md", "sweep.md"),
)
