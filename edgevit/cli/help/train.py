"""The help page of ``edgevit train``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import CHECKPOINT, GENERAL, MACHINE

PAGE = Page(
    arguments={"PHOTOS": "a folder with a subfolder of images per class"},
    groups={
        "Input and output": ("--backbone", "--add-class", "--out"),
        "Training": ("--folds", "--flip", "--crops", "--balanced"),
        "Fine-tuning": ("--unfreeze", "--epochs", "--lr"),
        **CHECKPOINT,
        **MACHINE,
        **GENERAL,
    },
    examples=(
        ("edgevit train photos --backbone dinov2_vits14.pth", "a linear head on frozen features, in minutes"),
        ("edgevit train photos --backbone timm:vit_small_patch14_dinov2.lvd142m -o model", "of a model on the hub"),
        ("edgevit train photos --backbone dinov2_vits14.pth --unfreeze 2", "the last two blocks learn, too"),
    ),
    guides=("train.md", "start.md"),
)
