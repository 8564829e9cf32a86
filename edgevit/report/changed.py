"""The images whose class or labels changed, as thumbnails."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from edgevit.errors import needs_extra
from edgevit.images.dataset import ImageSet
from edgevit.measure.comparison import Comparison, Row
from edgevit.measure.details import ChangedImage, ChangedLabels, changed_images, changed_labels
from edgevit.report.svg import cut

THUMBNAILS = 24  # images shown; at `SIDE` pixels a few kilobytes each
SIDE = 128
CALLED = 48  # characters of a name


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """One image and what became of its answer."""

    jpeg: str
    """The picture, in base64."""
    name: str
    kind: str
    """Of `outcome`, for the style sheet."""
    outcome: str
    lines: Sequence[str]

    @property
    def called(self) -> str:
        """Its name, cut."""
        return cut(self.name, CALLED)


@dataclass(frozen=True, kw_only=True)
class Changed:
    """All that changed, and some of it to be seen."""

    title: str
    summary: str
    images: Sequence[Thumbnail] = ()


def changed(comparison: Comparison, row: Row) -> Changed:
    """The images that ``row`` answers otherwise than the first row. Raises MissingPackageError without OpenCV."""
    seen, several = comparison.evidence, comparison.multi_label
    place = next(i for i, other in enumerate(comparison.rows) if other is row)
    what = "labels" if several else "class"
    title = f"Images whose {what} changed: {row.name}"
    logits, reference, total, known = seen.logits[place], seen.logits[0], len(seen.images), seen.targets is not None
    found: Sequence[ChangedImage] | Sequence[ChangedLabels] = (
        changed_labels(logits, reference, seen.targets) if several else changed_images(logits, reference, seen.targets, total)
    )
    if not found:
        return Changed(title=title, summary=f"None: every image has the {what} it had.")
    shown = found[:THUMBNAILS]
    count = f"{len(found)} of {total:,} images" + (f", {len(shown)} of them here" if len(shown) < len(found) else "")
    if several:
        order = "those that lost right labels first" if known else "those with most changes first"
    else:
        order = "those that were right first, surest first" if known else "surest first"
    return Changed(
        title=title, summary=f"{count}; {order}.", images=[_thumbnail(image, seen.images, seen.labels) for image in shown]
    )


def _thumbnail(image: ChangedImage | ChangedLabels, images: ImageSet, labels: Sequence[str]) -> Thumbnail:
    def called(label: int) -> str:
        return cut(labels[label], CALLED)

    if isinstance(image, ChangedLabels):
        signs = (("\N{MINUS SIGN}", image.gone), ("+", image.new))
        lines = [", ".join(f"{sign} {called(label)}" for sign, own in signs for label in own)]
    else:
        before, after = f"{called(image.before)} {100 * image.before_confidence:.0f} %", f"{100 * image.after_confidence:.0f} %"
        lines = [] if image.target is None else [f"is {called(image.target)}"]
        lines.append(f"{before} \N{RIGHTWARDS ARROW} {called(image.after)} {after}")
    return Thumbnail(
        jpeg=base64.b64encode(thumbnail(images, image.index)).decode(), name=images.names[image.index], outcome=image.outcome,
        kind=image.outcome.replace(" ", "-"), lines=lines,
    )  # fmt: skip


def thumbnail(images: ImageSet, index: int) -> bytes:
    """Image ``index`` as a JPEG whose longer side has `SIDE` pixels, or fewer if the image has."""
    with needs_extra("cpu"):
        import cv2
    frame = images.frame(index)
    scale = min(1.0, SIDE / max(frame.shape[:2]))
    size = tuple(max(1, round(side * scale)) for side in frame.shape[1::-1])
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes())
