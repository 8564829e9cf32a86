"""The help page of ``edgevit run``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import BUNDLE, CAMERA, GENERAL, MACHINE, SOURCES

PAGE = Page(
    arguments={"BUNDLE": BUNDLE, "SOURCE": SOURCES},
    groups={
        **CAMERA,
        "What is decided": ("--threshold", "--unknown", "--smooth", "--top-k", "--limit", "--batch"),
        "Every frame": ("--headless", "--save", "--overlay", "--overlay-position", "--jsonl", "--csv", "--features"),
        "Events": ("--when", "--every", "--snapshot", "--snapshot-limit", "--on-label", "--webhook", "--mqtt"),
        "State for services": ("--state",),
        "Live page and metrics": ("--serve", "--serve-token", "--attention", "--metrics", "--metrics-token", "--telemetry"),
        **MACHINE,
        **GENERAL,
    },
    examples=(
        ("edgevit run cells.edgevit 0 --threshold 60% --smooth 8", "camera 0, steady labels"),
        ("edgevit run cells.edgevit csi://0 --headless --serve 127.0.0.1:8080", "a live page in the browser"),
        ("edgevit run cells.edgevit gate=rtsp://10.0.0.8/main door=0 --roi door:25%,0%,50%,100%", "two cameras on one engine"),
        (
            'edgevit run cells.edgevit line.mp4 --jsonl line.jsonl --when "label=crack,confidence>80%" --snapshot cracks',
            "keep cracks",
        ),
    ),
    guides=("camera.md", "cameras.md", "outputs.md", "unknown.md", "preview.md", "metrics.md"),
)
