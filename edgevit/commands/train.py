"""``edgevit train`` as a library call: a folder of photos and a backbone in, a checkpoint that `build` reads out."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.cache import Cache
from edgevit.commands.arguments import (
    cache_of,
    classes_of,
    device_of,
    known_options,
    number_of,
    number_or_none,
    path_of,
    path_or_none,
)
from edgevit.commands.import_options import ImportOptions, import_options
from edgevit.commands.learned import learned_from, marks_of, seen_note
from edgevit.commands.train_result import REPORT, WEIGHTS, TrainResult
from edgevit.errors import ConfigError, DataError, StorageError, storage_errors
from edgevit.files.clashes import Output, refuse_clashes
from edgevit.files.paths import exists, own_name
from edgevit.files.writing import beside, put, require_writable
from edgevit.images.added import with_class
from edgevit.images.dataset import ImageSet, load_images
from edgevit.model import checkpoint as checkpoints
from edgevit.model.checkpoint import Checkpoint, load_checkpoint
from edgevit.progress import Progress
from edgevit.training.fine_tune import FEWEST_PARTS, fine_tune
from edgevit.training.settings import FineTuneSettings, TrainSettings
from edgevit.training.train import train_head
from edgevit.training.unfrozen import Cut
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Unpack

FEWEST = 2
"""Classes."""
EVERYTHING = "all"
LEAST_RATE = 1e-9
OF_CLASSES = ("labels", "problem_type", "classes", "prompt", "text_embeddings", "text_model")
"""Of `ImportOptions`, those that say what classes are."""


def train(
    photos: str | Path,
    *,
    backbone: str | Path,
    out: str | Path | None = None,
    folds: int = 5,
    flip: bool = True,
    crops: int = 2,
    balanced: bool = False,
    add_class: Mapping[str, str | Path] | Sequence[str | Path] = (),
    unfreeze: int | str | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    device: str = "auto",
    cache: Cache | bool = True,
    progress: Progress | None = None,
    **options: Unpack[ImportOptions],
) -> TrainResult:
    """Train a classifier for a folder of photos: a linear head on the frozen features of a backbone.

    >>> trained = edgevit.train("photos/", backbone="dinov2-small/", out="cells/")
    >>> edgevit.build(trained.path, data="photos/")

    What a head reads (class token, mean of patches, both) and how it is regularised are chosen by cross-validation, in which
    photos that are nearly the same stay together; the same folds tell how sure the classifier is. Features are kept by a photo's
    content, so more photos, or another class, cost what is new.

    With ``unfreeze`` the last blocks learn, too, from that head on. The same folds judge it on photos that no gradient and no
    choice of an epoch saw, beside the head on frozen features; if it is not better beyond chance, the frozen head is written.
    Every epoch is kept: the same call goes on after an interruption.

    Args:
        photos: a folder with a subfolder per class, or an .npz with labels.
        backbone: a checkpoint of any supported model, with a head or without; its own head is left out.
        out: the folder to write, PHOTOS-model here by default.
        folds: of the cross-validation, 2 to 20; 3 to 20 with ``unfreeze``.
        flip: whether mirrored photos count, too. Not where left and right mean something.
        crops: small crops of each photo that count, too; 0 to 16.
        balanced: whether every class counts the same, however many photos it has.
        add_class: folders of photos of one more class each, or of more photos of one that is there, which lie elsewhere:
            ``{"scratch": "more/scratch/"}``, or texts ``"scratch=more/scratch/"``.
        unfreeze: how many blocks, counted from the last, are fine-tuned with the final norm and the head; ``"all"``: everything.
        epochs: of fine-tuning at most, 1 to 1000; 15 by default. It stops earlier where a held-out part says so.
        lr: peak learning rate of the head in fine-tuning; the first block that learns has less. By default 0.04 / width.
        device: where features are computed; see `edgevit.build`.
        cache, progress: as `edgevit.build` takes them.
        options: how to read the backbone, see `ImportOptions`.

    Raises:
        TypeError: an argument is of a type that it cannot be.
        EdgevitError: whatever else a user can put right.
    """
    settings = TrainSettings(
        folds=number_of(folds, "folds", 2, 20), crops=number_of(crops, "crops", 0, 16), flip=bool(flip), balanced=bool(balanced)
    )
    tuning = _tuning(unfreeze, epochs, lr, settings)
    reading = known_options(dict(options), ImportOptions)
    if named := [name for name in OF_CLASSES if reading.get(name)]:
        msg = f"--{named[0].replace('_', '-')}: the classes are the folders of the photos, one each. Leave it out."
        raise ConfigError(msg)
    source, folder = path_of(photos, "photos"), path_of(backbone, "backbone")
    added = classes_of(add_class, "add_class")
    target = path_or_none(out, "out") or Path(f"{own_name(source)}-model")
    bench = Workbench(cache=cache_of(cache), progress=progress or Progress(), device=device_of(device))
    refuse_clashes([Output(name="-o", path=target, replaced=True)], [source, folder, *(place for _, place in added)])
    check_replaceable(target)
    require_writable(target, parents=True, option="-o")
    start = time.perf_counter()
    images = _labelled(load_images(source), fewest=FEWEST if not added else 1)
    for label, place in added:
        images = with_class(images, label, place)
    images = _labelled(images)
    with bench.stage("import model"):
        read = load_checkpoint(folder, headless=True, **import_options(reading))
    if tuning is not None:
        Cut.of(read.model.config, tuning.unfreeze)
    with bench.stage("check images", total=len(images)) as stage:
        images.check(stage.advance)
    bench.cache.check()
    trained = train_head(read, images, settings, bench)
    tuned = None if tuning is None else fine_tune(read, images, trained, tuning, bench)
    before = learned = learned_from(folder)
    if tuned is not None and tuned.report.judgement.helped:
        learned |= frozenset(marks_of(images))
    checkpoint, findings = (trained.checkpoint, trained.findings) if tuned is None else (tuned.checkpoint, tuned.findings)
    notes = tuple(note for note in read.notes if not note.startswith(("labels: ", "head: ", "problem type: ")))
    result = TrainResult(
        path=target, findings=findings, pooling=trained.judged.pooling, penalty=trained.judged.penalty,
        seconds=round(time.perf_counter() - start, 1), fine_tuning=None if tuned is None else tuned.report,
        notes=(*([images.left_out] if images.left_out else ()), *seen_note(images, folder, before), *notes,
               *(() if tuned is None else tuned.notes)),
        learned_from=tuple(sorted(learned)),
    )  # fmt: skip
    with bench.stage("write model"):
        _write(target, checkpoint, result)
    return result


def _tuning(unfreeze: object, epochs: object, lr: object, settings: TrainSettings) -> FineTuneSettings | None:
    """How to fine-tune; None for a head on frozen features alone."""
    if unfreeze is None:
        for name, value in (("epochs", epochs), ("lr", lr)):
            if value is not None:
                msg = f"--{name}: is of fine-tuning. Say with --unfreeze how many blocks are to learn, or leave it out."
                raise ConfigError(msg)
        return None
    if isinstance(unfreeze, str) and unfreeze != EVERYTHING:
        msg = f"unfreeze: {unfreeze!r} is no number of blocks: give 2, or all."
        raise ConfigError(msg)
    if settings.folds < FEWEST_PARTS:
        msg = f"--folds {settings.folds}: fine-tuning takes 3 or more: one part judges, one says when to stop, the others teach."
        raise ConfigError(msg)
    found = FineTuneSettings(
        unfreeze="all" if isinstance(unfreeze, str) else number_of(unfreeze, "unfreeze", 1),
        rate=number_or_none(lr, "lr", LEAST_RATE, 1.0), flip=settings.flip, balanced=settings.balanced, seed=settings.seed,
    )  # fmt: skip
    return found if epochs is None else replace(found, epochs=number_of(epochs, "epochs", 1, 1000))


def _labelled(images: ImageSet, fewest: int = FEWEST) -> ImageSet:
    """Raises DataError for photos whose classes nothing tells."""
    if images.marks is not None:
        msg = f"{images.source}: photos of several labels each (labels.csv); train learns one class a photo, of a folder each."
        raise DataError(msg)
    if images.targets is None or len(images.class_names) < fewest:
        found = "no folder of a class" if images.targets is None else f"one class, {images.class_names[0]!r}"
        msg = f"{images.source}: holds {found}. Put photos of each class into a subfolder with its name, two classes at least."
        raise DataError(msg)
    return images


def check_replaceable(folder: Path) -> None:
    """Raise StorageError if ``folder`` is there, and is none that `train` wrote."""
    if not exists(folder, StorageError):
        return
    own = folder.is_dir() and {path.name for path in folder.iterdir()} == {WEIGHTS, REPORT}
    if not own:
        msg = f"{folder}: exists and is no model that edgevit train wrote; it is not overwritten. Choose another place with -o."
        raise StorageError(msg)
    checkpoints.check_replaceable(folder / WEIGHTS)


def _write(folder: Path, checkpoint: Checkpoint, result: TrainResult) -> None:
    with storage_errors(folder, "-o"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with beside(folder) as place:
            fresh = place / "model"
            fresh.mkdir()
            (fresh / WEIGHTS).write_bytes(checkpoint.to_bytes())
            (fresh / REPORT).write_text(json.dumps(result.to_dict(), indent=2) + "\n", encoding="utf-8")
            put(fresh, folder)
