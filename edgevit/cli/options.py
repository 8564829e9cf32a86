"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgevit.cli.shares import Share
from edgevit.problem import PROBLEM_TYPES

Command = TypeVar("Command", bound=Callable[..., Any])


class Size(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest click
    """``224`` or ``HEIGHTxWIDTH`` as (height, width) in pixels."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Parse; fails with the value that was given."""
        if isinstance(value, tuple):
            return value
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(part.isdecimal() and int(part) for part in parts):
            self.fail(f"{value!r} is no size: write 224, or HEIGHTxWIDTH.", param, ctx)
        return int(parts[0]), int(parts[-1])


class Numbers(click.ParamType):  # type: ignore[type-arg]  # the same
    """Comma-separated numbers, one per colour channel."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Parse; fails with the value that was given."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of numbers: write 0.485,0.456,0.406.", param, ctx)


MODEL_OPTIONS = (
    click.option(
        "--weights",
        metavar="auto|raw|ema|NAME",
        help="Of several in one file: auto takes the average (EMA) if there is one, as timm does; or the name of an entry.",
    ),
    click.option("--heads", type=click.IntRange(1), help="Attention heads, where the checkpoint does not tell."),
    click.option("--image-size", type=Size(), help="Model input, 224 or HEIGHTxWIDTH; positions are interpolated."),
    click.option(
        "--activation",
        type=click.Choice(["gelu", "gelu_tanh", "quick_gelu", "relu"]),
        help="MLP activation, where the checkpoint does not tell.",
    ),
    click.option(
        "--labels",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Class names, one a line or JSON, where the checkpoint has none.",
    ),
    click.option(
        "--classes",
        metavar="NAMES|FILE",
        help="What a CLIP or SigLIP is to tell apart, as text: 'crack, scratch, fine', or a .txt or .json of them.",
    ),
    click.option(
        "--prompt",
        multiple=True,
        metavar="TEXT",
        help="Sentence for --classes, with {} where the class stands; several are averaged. By default: a photo of a {}",
    ),
    click.option(
        "--text-embeddings",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Instead of --classes: a file of their embeddings, as edgevit embed writes it.",
    ),
    click.option(
        "--text-model",
        type=click.Path(exists=True, path_type=Path),
        help="Checkpoint with the text tower for --classes, if MODEL has none.",
    ),
    click.option(
        "--problem-type",
        type=click.Choice(PROBLEM_TYPES),
        help="One class an image (softmax) or any number of labels (sigmoid), where the checkpoint does not tell.",
    ),
)
PREPROCESSING_OPTIONS = (
    click.option("--resize-mode", type=click.Choice(["squash", "shortest", "letterbox"]), help="How a frame meets the input."),
    click.option("--resize", type=Size(), help="Box a frame is resized to before the centre crop."),
    click.option(
        "--interpolation",
        type=click.Choice(["nearest", "linear", "cubic", "lanczos", "area"]),
        help="Resampling filter; shrinking is antialiased.",
    ),
    click.option("--mean", type=Numbers(), help="Per-channel mean, 0..1."),
    click.option("--std", type=Numbers(), help="Per-channel standard deviation, 0..1."),
    click.option("--color", type=click.Choice(["rgb", "bgr", "gray"]), help="Channel order the weights were trained on."),
)


def model_options(command: Command) -> Command:
    """Add `edgevit.commands.import_options.ImportOptions`: how to read a checkpoint that does not tell everything."""
    for option in reversed((*MODEL_OPTIONS, *PREPROCESSING_OPTIONS)):
        command = option(command)
    return command


PRUNE_OPTIONS = (
    click.option("--prune", "--share", type=Share("0.2 or 20%, of the multiply-accumulates", ("auto",)), metavar="SHARE|auto",
                 help="Share of the MACs to remove, 0.2 or 20%, or auto: what "
                 "--max-drop allows."),
    click.option("--speedup", type=float, metavar="X", help="Remove heads, neurons, sublayers and tokens, as does least harm, "
                 "until the model is so many times as fast: measured where the target is this machine's CPU, else as estimated, "
                 "and a note says so."),
    click.option("--merge", metavar="SHARE", help="Merge tokens that are alike, without training: this share of the MACs, "
                 "0.35 or 35%; or by hand, tokens at blocks: 64@2,64@5. With --speedup or --prune auto, none: leave them alone."),
    click.option("--recover", type=click.IntRange(0), default=0, metavar="EPOCHS", help="Then distil from the unpruned model."),
    click.option("--score", default="obs", help="What goes first: obs, wifv, variance, or taylor (needs labels).",
                 show_default=True),
    click.option("--prune-images", type=click.IntRange(1), default=512, show_default=True, help="Images pruning uses at most."),
    click.option("--multiple", type=click.IntRange(1), help="MLP widths stay a multiple of it; the target's by default."),
)  # fmt: skip


def prune_options(command: Command) -> Command:
    """Add how much to prune, and how."""
    for option in reversed(PRUNE_OPTIONS):
        command = option(command)
    return command


EXECUTOR_NAMES = ("executor", "workers", "worker_threads", "ray_address")
EXECUTOR_OPTIONS = (
    click.option(
        "--executor",
        type=click.Choice(["local", "ray"]),
        help="Who evaluates: processes of this machine, or the nodes of a Ray cluster. Latency is always measured here, when "
        "nothing else runs.",
    ),
    click.option("--workers", type=click.IntRange(1), help="So many at most; by default as many as there are CPUs for."),
    click.option(
        "--worker-threads",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="CPU threads of each worker, and so of the figures: how many workers there are changes none.",
    ),
    click.option("--ray-address", metavar="HOST:PORT", help="The cluster's; by default the one that this machine is a node of."),
)


def executor_options(command: Command) -> Command:
    """Add where work in pieces is done."""
    for option in reversed(EXECUTOR_OPTIONS):
        command = option(command)
    return command


class_order_option = click.option(
    "--class-order",
    type=click.Choice(["text", "natural"]),
    help="How the trainer sorted class folders, for a model without names: text (1, 10, 2) or natural (1, 2, 10). By default the "
    "model is asked.",
)
threads_option = click.option("--threads", type=click.IntRange(1), help="CPU threads of the engine; all by default.")
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Where torch computes: cpu, cuda or cuda:N; auto is CUDA where there is one.",
)
engine_device_option = click.option(
    "--device",
    metavar="NAME",
    help="Of an engine that has several, OpenVINO: CPU, by default; GPU, GPU.0, GPU.1 or NPU, of Intel's, where present.",
)
graph_option = click.option(
    "--graph/--no-graph", default=True, show_default=True, help="Let TensorRT replay a CUDA graph where that is faster."
)
watchdog_option = click.option(
    "--watchdog", type=click.IntRange(2), default=30, show_default=True, help="Seconds without a label before a restart."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
no_cache_option = click.option("--no-cache", is_flag=True, help="Compute every stage anew and keep nothing.")
signature_option = click.option(
    "--require-signature",
    "keys",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="KEY",
    help="Refuse the bundle unless this public key confirms its signature; of several, one. Also: EDGEVIT_REQUIRE_SIGNATURE.",
)
