"""``edgevit collect``: snapshots for calibration and labelling, from the camera itself."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevit.cli.files import OutputFolder, Writing
from edgevit.cli.options import json_option, signature_option
from edgevit.cli.say import say
from edgevit.cli.shares import Share
from edgevit.cli.sources import open_asked, source_options

if TYPE_CHECKING:
    from edgevit.commands.collect_session import Keyboard, Session
    from edgevit.runtime.collecting.album import Snapshot
    from edgevit.runtime.collecting.keymap import Keymap
    from edgevit.runtime.frame import Source

REFRESH_SECONDS = 0.2
"""Of the live line."""


@click.command(cls=Writing)
@click.argument("source")
@click.option("-o", "--out", type=OutputFolder(), required=True, help="The folder to add to. Nothing in it is replaced.")
@click.option("--every", type=click.FloatRange(0), metavar="SECONDS", help="At most one snapshot in so many seconds of the "
              "source's time, a video's own; 1 by default. The images of a folder have none.")  # fmt: skip
@click.option("--change", type=Share(), default=0.05, show_default=True, metavar="SHARE",
              help="Leave out what differs less from the last snapshot: mean absolute difference, as a share of the range from "
              "black to white, of the twentieth that differs most of a 32x32 gray thumbnail, after brightness and contrast were "
              "evened out. Noise and flicker are below 0.02; 0 leaves out nothing.")  # fmt: skip
@click.option("--sharp", default="auto", show_default=True, metavar="auto|off|40%|NUMBER",
              help="Leave out what is blurred. Sharpness is the variance of the Laplacian at 256 pixels and a standard deviation "
              "of 50 gray levels, less what noise adds. NUMBER: at least that (photos have 150 to 5000); 40%: of the running "
              "median of the source's sharp frames of the same scene; auto: 40%, and 10.")  # fmt: skip
@click.option("--any-light", is_flag=True, help="Keep what is black, overexposed or of one gray, too.")
@click.option("--alike", type=Share(), default=0.95, show_default=True, metavar="CORRELATION",
              help="Leave out what is nearly the same as any picture in the folder: from this correlation on of 16x16 "
              "gray thumbnails, unless something came or went before a still background; 1 leaves out repetitions.")  # fmt: skip
@click.option("--label", metavar="NAMES", help="A class: all that is kept goes into its folder. Several, 'crack,fine': keys 1 "
              "to 9 and first letters save the current frame, in a window or in the terminal.")  # fmt: skip
@click.option("--uncertain", type=click.Path(path_type=Path), metavar="BUNDLE", help="Keep only frames of which this model is "
              "unsure; names and collected.csv have its guess.")  # fmt: skip
@click.option("--below", type=Share(), metavar="P", help="Unsure is a likeliest class below P; 0.6 by default. Of "
              "a multi-label model: a label that is neither there nor absent with P.")  # fmt: skip
@click.option("--margin", type=Share(), metavar="P", help="Unsure is, too or instead, less than P between the "
              "two likeliest classes.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), help="Stop after so many snapshots.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Stop after so much of the source's time.")
@click.option("--format", type=click.Choice(["jpg", "png"]), default="jpg", show_default=True, help="JPEG of quality 95, or PNG.")
@click.option("--most-mib", type=click.FloatRange(0, min_open=True), default=4096, show_default=True,
              help="Stop before the pictures in the folder exceed it. 64 MiB of the disk stay free in any case.")  # fmt: skip
@click.option("--roi", metavar="X,Y,W,H", help="Look at this part of the picture, and keep it alone: pixels, or all in percent. "
              "What run is to look at, with the same --roi.")  # fmt: skip
@click.option("--headless", is_flag=True, help="With --label: keys in the terminal, even on a display.")
@source_options
@signature_option
@json_option
def collect(**values: Any) -> None:
    """Keep what SOURCE shows and is worth it: sharp, exposed, and unlike all that was kept.

    Ctrl-C or SIGTERM ends it with its summary, a second at once. With --json every snapshot is one line of JSON on stdout and the
    summary is the last.
    """
    from edgevit.commands.arguments import names_of
    from edgevit.commands.collect import asked_of, refuse_within, run_collect
    from edgevit.runtime.collecting.keymap import checked_labels, keymap_of
    from edgevit.runtime.stopping import stoppable

    labels = checked_labels(names_of(values["label"], "label"))
    keymap = keymap_of(labels) if len(labels) > 1 else None
    _refuse_together(values, labels)
    if keymap is not None and not values["headless"]:
        values["headless"] = not _has_display()
    if keymap is not None and values["headless"]:
        _require_terminal()
    names = ("out", "change", "sharp", "alike", "any_light", "uncertain", "below", "margin", "limit", "seconds", "format",
             "most_mib", "roi", "keys")  # fmt: skip
    every = 1.0 if values["every"] is None else values["every"]
    asked = asked_of(
        **{name: values[name] for name in names}, every=every, labels=() if keymap else labels
    )  # fmt: skip
    watch = (_JsonWatch if values["as_json"] else _LineWatch)()
    refuse_within(values["source"], asked.folder)
    with stoppable():
        with _opened(values, playing=keymap is not None) as source:
            if source.timeless and values["every"] is not None:
                watch.note(f"{source.description}: has no time of its own, so --every means nothing")
            window = not values["headless"]
            result, error = run_collect(
                source, asked, watch, keymap=keymap, keyboard=lambda keymap, source: _keyboard(keymap, source, window=window)
            )
        watch.finish()
        if values["as_json"]:
            from edgevit.cli.console import print_json

            print_json({"summary": result.to_dict()}, indent=None)
        else:
            say(result.headline, *result.lines())
    if error is not None:
        raise error


def _refuse_together(values: dict[str, Any], labels: tuple[str, ...]) -> None:
    from edgevit.errors import ConfigError

    if values["label"] is not None and not labels:
        msg = "--label: no name of a class. Write --label crack, or --label 'crack,fine'."
    elif len(labels) > 1 and values["uncertain"] is not None:
        msg = "--uncertain and --label with several classes: either the model chooses the frames or your keys. Leave one out."
    elif len(labels) > 1 and values["every"] is not None:
        msg = "--every and --label with several classes: keys decide when. Leave one out."
    elif len(labels) < 2 and values["headless"]:
        msg = "--headless is for --label with several classes; nothing else opens a window. Leave it out."
    elif values["keys"] and values["uncertain"] is None:
        msg = "--require-signature is about a bundle: it goes with --uncertain BUNDLE."
    else:
        return
    raise ConfigError(msg)


def _has_display() -> bool:
    from edgevit.errors import needs_extra
    from edgevit.runtime.sinks.screens import has_display

    with needs_extra("cpu"):
        return has_display()


def _require_terminal() -> None:
    from edgevit.errors import ConfigError

    if not sys.stdin.isatty():
        msg = "--label with several classes takes keys: run it on a display or in a terminal, or give one class."
        raise ConfigError(msg)


@contextmanager
def _opened(values: dict[str, Any], *, playing: bool) -> Iterator[Source]:
    """The source; ``playing``, a video goes at its own rate, so that a key can meet a frame."""
    from edgevit.runtime.video import Video

    with open_asked(values) as source:
        if not (playing and isinstance(source, Video) and values["policy"] is None and source.fps):
            yield source
            return
    with open_asked(values | {"policy": "latest"}) as source:
        yield source


@contextmanager
def _keyboard(keymap: Keymap, source: Source, *, window: bool) -> Iterator[Keyboard]:
    from edgevit.runtime.collecting.terminal import key_by_key
    from edgevit.runtime.collecting.window import WindowKeys

    keys: AbstractContextManager[Keyboard] = closing(WindowKeys()) if window else key_by_key(sys.stdin.fileno())
    with keys as keyboard:
        say(f"keys: {keymap.legend(stepping=source.timeless)}", err=True)
        yield keyboard


class _JsonWatch:
    """Lines of JSON on standard output; notes and the live line on standard error."""

    def __init__(self) -> None:
        self._due = 0.0
        self._shown = False

    def kept(self, snapshot: Snapshot, against: str = "") -> None:
        """Print one snapshot."""
        from dataclasses import asdict

        from edgevit.cli.console import print_json

        self.finish()
        print_json(asdict(snapshot) | ({"against": against} if against else {}), indent=None)

    def undone(self, snapshot: Snapshot | None) -> None:
        """Print what is gone."""
        from edgevit.cli.console import print_json

        if snapshot is not None:
            self.finish()
            print_json({"undone": snapshot.file}, indent=None)

    def note(self, text: str) -> None:
        """Print one note."""
        from edgevit.cli.console import note

        self.finish()
        note(text)

    def seen(self, session: Session) -> None:
        """Renew the live line, on a terminal."""
        now = time.monotonic()
        if now < self._due or not sys.stderr.isatty():
            return
        self._due, self._shown = now + REFRESH_SECONDS, True
        reasons = ", ".join(f"{count} {reason}" for reason, count in session.chooser.left_out.most_common())
        text = f"{len(session.album.snapshots)} kept of {session.frames}" + (f"; left out {reasons}" if reasons else "")
        say(_to_width(text), end="\r", err=True)

    def finish(self) -> None:
        """Clear the live line."""
        if self._shown:
            say(_to_width(""), end="\r", err=True)
            self._shown = False


class _LineWatch(_JsonWatch):
    """Lines for people instead."""

    def kept(self, snapshot: Snapshot, against: str = "") -> None:
        """Print one snapshot."""
        self.finish()
        guess = f"  {snapshot.guess} {100 * snapshot.confidence:.0f} %" if snapshot.confidence is not None else ""
        change = "" if snapshot.change is None else f"  change {snapshot.change:.2f}"
        though = f"  though {against}" if against else ""
        say(f"{snapshot.file}{guess}  sharpness {snapshot.sharpness:.0f}{change}{though}")

    def undone(self, snapshot: Snapshot | None) -> None:
        """Print what is gone."""
        self.finish()
        say("nothing to undo" if snapshot is None else f"removed {snapshot.file}")


def _to_width(text: str) -> str:
    width = max(1, shutil.get_terminal_size().columns - 1)
    return f"{text:<{width}}"[:width]
