"""The options of ``edgevit run`` that say where frames come from, and what they open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from edgevit.runtime.cameras import Camera
    from edgevit.runtime.frame import Source
    from edgevit.runtime.turns import Lost

Command = TypeVar("Command", bound=Callable[..., Any])


class PictureSize(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest click
    """``1280x720`` as (width, height) in pixels: cameras say the width first."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Parse; fails with the value that was given."""
        if isinstance(value, tuple):
            return value
        width, _, height = str(value).lower().partition("x")
        if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
            self.fail(f"{value!r} is no size: write WIDTHxHEIGHT, such as 1280x720.", param, ctx)
        return int(width), int(height)


OPTIONS = (
    click.option("--loop", is_flag=True, help="Start a file or folder over when it ends."),
    click.option(
        "--policy",
        type=click.Choice(["latest", "every"]),
        help="Classify the newest frame each time (default of cameras; a video plays at its own rate) or every frame (of files).",
    ),
    click.option("--size", "camera_size", type=PictureSize(), help="Picture size to ask of a camera, such as 1280x720."),
    click.option("--fps", "camera_fps", type=click.FloatRange(0, min_open=True), help="Frames a second to ask of a camera."),
    click.option(
        "--rotate", type=click.Choice(["0", "90", "180", "270"]), default="0", help="Turn a camera's picture, clockwise."
    ),
    click.option(
        "--stall",
        type=click.FloatRange(0.1),
        default=5.0,
        show_default=True,
        metavar="SECONDS",
        help="Reconnect a camera or stream that gives no frame for so long.",
    ),
    click.option(
        "--give-up",
        type=click.FloatRange(0),
        metavar="SECONDS",
        help="End with exit code 7 when it has been gone for so long; 0 does not reconnect. By default: never.",
    ),
)


roi_option = click.option(
    "--roi",
    multiple=True,
    metavar="[NAME:]X,Y,W,H",
    help="Look at this part of the picture only: pixels of the picture as it is after --rotate, or shares, 25%,25%,50%,50%. With "
    "NAME: of the source that is called so.",
)


def source_options(command: Command) -> Command:
    """Add the options that `open_asked` and `open_asked_cameras` read."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def open_asked(values: dict[str, Any]) -> Source:
    """Open the source that a command's parameters name. Raises what `open_source` raises."""
    return _opener(values)(values["source"])


def open_asked_cameras(values: dict[str, Any], lost: Lost) -> AbstractContextManager[list[Camera]]:
    """Open all that a command's parameters name; ``lost`` is told of each of several that cannot be opened.

    Raises what `edgevit.runtime.opening.open_cameras` raises.
    """
    from edgevit.runtime.cameras import asked_of
    from edgevit.runtime.opening import open_cameras

    return open_cameras(asked_of(values["source"], values["roi"]), _opener(values), lost)


def absent(texts: Sequence[str], cameras: Sequence[Camera]) -> dict[str | None, str]:
    """Of the sources that were asked for, those that are not among ``cameras``: name and what it is, without a password."""
    from edgevit.runtime.cameras import asked_of
    from edgevit.runtime.redact import redacted

    there = {camera.name for camera in cameras}
    return {each.name: redacted(each.uri) for each in asked_of(texts) if each.name not in there}


def _opener(values: dict[str, Any]) -> Callable[[str], Source]:
    """What opens a source as the options have it."""
    from edgevit.cli.console import note
    from edgevit.runtime.gstreamer import Mode
    from edgevit.runtime.recovery import Recovery
    from edgevit.runtime.source import open_source

    mode = Mode(size_wh=values["camera_size"], fps=values["camera_fps"], rotate=int(values["rotate"]))
    recovery = Recovery(stall_seconds=values["stall"], give_up_seconds=values["give_up"])
    return partial(open_source, loop=values["loop"], policy=values["policy"], mode=mode, recovery=recovery, note=note)
