"""``edgevit collect``: snapshots of a camera that are worth a place in a set of images, to calibrate on or to label."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from edgevit.bundle import open_bundle
from edgevit.commands.arguments import choice_of, names_of, number_of, number_or_none, path_of, path_or_none, wrong_type
from edgevit.commands.collect_result import CollectResult
from edgevit.commands.collect_session import Keyboard, Session, Silent, Watch, Wishes
from edgevit.errors import ConfigError, EdgevitError, SourceError
from edgevit.files.clashes import Output, refuse_clashes
from edgevit.files.paths import expanded, looked_at
from edgevit.images.dataset import UNLABELLED
from edgevit.runtime.collecting.album import Album, contents_of
from edgevit.runtime.collecting.chooser import EVERY, Filters
from edgevit.runtime.collecting.difference import CHANGE
from edgevit.runtime.collecting.earlier import ALIKE
from edgevit.runtime.collecting.keymap import Keymap, checked_labels
from edgevit.runtime.collecting.sharp import parse_sharpness
from edgevit.runtime.collecting.unsure import BELOW, Unsure
from edgevit.runtime.frame import Source
from edgevit.runtime.redact import redacted
from edgevit.runtime.region import parse_region
from edgevit.runtime.source import open_source

MOST_MIB = 4096.0
FORMATS = ("jpg", "png")


def collect(
    source: str | Path | Source,
    *,
    out: str | Path,
    every: float = EVERY,
    change: float = CHANGE,
    sharp: str = "auto",
    alike: float = ALIKE,
    any_light: bool = False,
    label: str | None = None,
    uncertain: str | Path | None = None,
    below: float | None = None,
    margin: float | None = None,
    limit: int | None = None,
    seconds: float | None = None,
    format: Literal["jpg", "png"] = "jpg",
    most_mib: float = MOST_MIB,
    roi: str | None = None,
) -> CollectResult:
    """Keep the frames of a source that are worth a place in a set of images: sharp, exposed, and each unlike all others.

    >>> edgevit.collect("0", out="frames/", seconds=60)
    >>> edgevit.collect("0", out="cells/", label="crack", limit=50)
    >>> edgevit.collect("rtsp://camera/live", out="unsure/", uncertain="cells.edgevit", limit=200)

    What lies in the folder stays and counts: nothing is kept that is nearly the same. An interrupt ends it with what there is.

    Args:
        source: what `edgevit run` takes, or an open `Source`, which stays open.
        out: the folder to add to; made if it is not there.
        every: seconds between two snapshots, at least, by the source's clock: a recording's own time stamps. Images have none.
        change: least `difference` from the last snapshot: the twentieth of a 32 x 32 gray thumbnail that differs most, mean
            absolute difference after light and contrast were evened out, 0 to 1.
        sharp: ``auto``, ``off``, a share of the running median of the source (``40%``) or a number (``150``): see
            `edgevit.runtime.collecting.look.Look.sharpness`.
        alike: correlation, 0 to 1, of 16 x 16 gray thumbnails from which on a frame is nearly the same as an earlier snapshot.
        any_light: whether dark, overexposed and flat frames are kept, too.
        label: the class of all that is kept: its subfolder of ``out``.
        uncertain: a bundle; only frames that it is unsure of are kept.
        below, margin: unsure is a certainty below ``below`` (0.6 if neither is given), or a margin between the two likeliest
            classes below ``margin``.
        limit: snapshots, at most.
        seconds: of the source's time, at most.
        format: ``jpg`` (quality 95) or ``png``.
        most_mib: size that all pictures in ``out`` may reach.
        roi: the part of the picture that is looked at and kept, ``X,Y,WIDTH,HEIGHT`` in pixels or all in percent.

    Raises:
        TypeError: an argument is of a type that it cannot be.
        EdgevitError: whatever else a user can put right.
    """
    labels = checked_labels(names_of(label, "label"))
    if len(labels) > 1:
        msg = f"label: {len(labels)} classes are chosen by keys, on the command line: edgevit collect --label. Give one."
        raise ConfigError(msg)
    asked = asked_of(
        out=out, every=every, change=change, sharp=sharp, alike=alike, any_light=any_light, labels=labels, uncertain=uncertain,
        below=below, margin=margin, limit=limit, seconds=seconds, format=format, most_mib=most_mib,
        roi=roi,
    )  # fmt: skip
    result, error = run_collect(source, asked, Silent())
    if error is not None:
        raise error
    return result


@dataclass(frozen=True, kw_only=True)
class Asked:
    """All that is asked for, checked."""

    folder: Path
    wishes: Wishes
    suffix: str
    most_bytes: int


def asked_of(
    *, out: object, every: object, change: object, sharp: object, alike: object, any_light: object, labels: tuple[str, ...],
    uncertain: object, below: object, margin: object, limit: object, seconds: object, format: object, most_mib: object,
    roi: object, keys: tuple[Path, ...] = (),
) -> Asked:  # fmt: skip
    """Plain arguments of `collect` as values. Raises ConfigError or TypeError."""
    if not isinstance(sharp, str):
        raise wrong_type(sharp, "sharp", "a text such as auto or 40%")
    if not isinstance(roi, str | None):
        raise wrong_type(roi, "roi", "a text such as 320,180,640,360")
    bundle = path_or_none(uncertain, "uncertain")
    low, near = number_or_none(below, "below", 0.0, 1.0), number_or_none(margin, "margin", 0.0, 1.0)
    if bundle is None and (low is not None or near is not None):
        msg = f"--{'below' if low is not None else 'margin'} is about a model's doubts: it goes with --uncertain BUNDLE."
        raise ConfigError(msg)
    filters = Filters(
        every=number_of(every, "every", 0.0), change=number_of(change, "change", 0.0, 1.0), sharp=parse_sharpness(sharp),
        alike=number_of(alike, "alike", 0.0, 1.0), any_light=bool(any_light),
    )  # fmt: skip
    (label,) = labels if labels else (None,)
    wishes = Wishes(
        filters=filters, into=label or "", label=label, limit=number_or_none(limit, "limit", 1),
        seconds=number_or_none(seconds, "seconds", 0.0), model=None if bundle is None else open_bundle(bundle, keys),
        region=None if roi is None else parse_region(roi),
        unsure=Unsure(below=BELOW if low is None and near is None else low, margin=near),
    )  # fmt: skip
    kind = choice_of(format, "format", FORMATS)
    most = number_of(most_mib, "most_mib", 0.0)
    return Asked(
        folder=path_of(out, "out"), wishes=wishes, suffix=f".{kind or 'jpg'}", most_bytes=int(min(most, 2**40) * 2**20)
    )  # fmt: skip


def run_collect(
    source: str | Path | Source,
    asked: Asked,
    watch: Watch,
    *,
    keymap: Keymap | None = None,
    keyboard: Callable[[Keymap, Source], AbstractContextManager[Keyboard]] | None = None,
) -> tuple[CollectResult, EdgevitError | None]:
    """A session, and what ended it if that was an error; with ``keymap`` the keys of ``keyboard`` decide.

    Raises EdgevitError for what goes wrong before the first frame.
    """
    with ExitStack() as stack:
        if isinstance(source, Source):
            opened = source
        else:
            refuse_within(str(source), asked.folder)
            opened = stack.enter_context(open_source(str(source), note=watch.note))
        album = stack.enter_context(Album(asked.folder, suffix=asked.suffix, most_bytes=asked.most_bytes))
        session = Session(opened, album, _placed(asked, watch, by_keys=keymap is not None), watch)
        if keymap is not None and keyboard is not None:
            error = session.by_keys(keymap, stack.enter_context(keyboard(keymap, opened)))
        else:
            error = session.by_filters()
        result = session.result()
    if error is not None and not result.frames:
        raise error
    return result, error


def refuse_within(source: str, folder: Path) -> None:
    """Raise ConfigError if ``source`` is ``folder`` or lies in it: all of it would be nearly the same as what is there."""
    path = expanded(source)
    refuse_clashes([Output(name="-o", path=folder)], [path])
    if looked_at(path, SourceError, called=redacted(source)) and folder.resolve() in path.resolve().parents:
        msg = f"{path}: lies in {folder}, to which snapshots would be added that are there already. Choose another folder."
        raise ConfigError(msg)


def _placed(asked: Asked, watch: Watch, *, by_keys: bool) -> Wishes:
    """Where to: not beside the folders of classes, whose labels would not be read any more."""
    found, wishes = contents_of(asked.folder), asked.wishes
    if found.classes and not found.loose and not wishes.into and not by_keys:
        watch.note(f"{asked.folder} has folders of classes: snapshots go into {UNLABELLED}/, which is no class")
        return replace(wishes, into=UNLABELLED)
    if found.loose and (wishes.into or by_keys):
        watch.note(f"{asked.folder}: {found.loose} pictures lie beside the folders of classes: labels are not read until they "
                   "are moved away")  # fmt: skip
    return wishes
