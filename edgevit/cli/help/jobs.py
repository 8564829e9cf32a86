"""All commands by the job they are for, with a line each: what ``edgevit --help`` shows, and all that it loads."""

from __future__ import annotations

# In the order of a user's work. Each name is that of a module of edgevit.cli, which holds a command of the same name.
# A line has at most 67 characters: it is never cut at 80 columns.
JOBS: dict[str, dict[str, str]] = {
    "Make": {
        "collect": "Keep snapshots from a camera, for training and calibration.",
        "train": "Train a classifier on a folder of photos, in minutes.",
        "build": "Turn a trained ViT into a bundle for a target.",
        "prune": "Make a checkpoint smaller: heads, neurons, blocks, tokens.",
        "compile": "Compile a bundle with this machine's TensorRT.",
        "classes": "List a bundle's classes, or give it others as text.",
        "embed": "Compute the text embeddings of classes.",
    },
    "Look": {
        "compare": "Compare precisions and models on the same images.",
        "sweep": "Build and compare a model in every combination of settings.",
        "inspect": "Check every file of a bundle and show what is in it.",
        "attention": "Draw where a model looks.",
        "profile": "Time every stage of a frame's way through a bundle.",
    },
    "Run": {
        "run": "Classify what a camera, stream, video or folder shows.",
        "service": "Write a systemd unit that keeps a classifier running.",
    },
    "Ship": {
        "deploy": "Put a bundle onto boards, and into service there.",
        "fleet": "Look after services on many boards: status, logs, rollback.",
        "healthcheck": "Tell whether a bundle and its run are well.",
        "package": "Make a Debian package, Mender artifact or container of it.",
        "keygen": "Make a pair of keys to sign bundles with.",
        "sign": "Sign a bundle.",
    },
    "Set up": {
        "doctor": "Examine this machine and say how to fix what is wrong.",
        "targets": "List the devices that bundles are built for.",
        "demo": "Go the whole way on a real example, in two minutes.",
        "completion": "Print the script that completes commands in your shell.",
    },
}

COMMANDS = tuple(name for lines in JOBS.values() for name in lines)
