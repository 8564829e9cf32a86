"""The help page of ``edgevit collect``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import CAMERA, GENERAL, SOURCE

PAGE = Page(
    arguments={"SOURCE": SOURCE},
    groups={
        "Output": ("--out", "--format", "--most-mib", "--limit", "--seconds"),
        "What is kept": ("--every", "--change", "--sharp", "--any-light", "--alike"),
        "Classes": ("--label", "--headless"),
        "What a model is unsure of": ("--uncertain", "--below", "--margin"),
        **CAMERA,
        **GENERAL,
    },
    examples=(
        ("edgevit collect 0 -o frames --seconds 60", "a minute of camera 0, to calibrate on"),
        ('edgevit collect 0 -o cells --label "crack,fine"', "two classes, by key press"),
        ("edgevit collect csi://0 -o more --uncertain cells.edgevit --below 60%", "what to label next"),
    ),
    guides=("collect.md", "camera.md"),
)
