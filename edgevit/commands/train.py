"""``edgevit train`` as a library call: a folder of photos and a backbone in, a checkpoint that `build` reads out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.cache import Cache
from edgevit.commands.arguments import cache_of, device_of, known_options, number_of, path_of, path_or_none
from edgevit.commands.import_options import ImportOptions, import_options
from edgevit.commands.train_result import REPORT, WEIGHTS, TrainResult
from edgevit.errors import ConfigError, DataError, StorageError, storage_errors
from edgevit.files.clashes import Output, refuse_clashes
from edgevit.files.paths import exists, own_name
from edgevit.files.writing import beside, put, require_writable
from edgevit.images.dataset import ImageSet, load_images
from edgevit.model import checkpoint as checkpoints
from edgevit.model.checkpoint import load_checkpoint
from edgevit.progress import Progress
from edgevit.training.settings import TrainSettings
from edgevit.training.train import Trained, train_head
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from typing_extensions import Unpack

FEWEST = 2
"""Classes."""
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

    Args:
        photos: a folder with a subfolder per class, or an .npz with labels.
        backbone: a checkpoint of any supported model, with a head or without; its own head is left out.
        out: the folder to write, PHOTOS-model here by default.
        folds: of the cross-validation, 2 to 20.
        flip: whether mirrored photos count, too. Not where left and right mean something.
        crops: small crops of each photo that count, too; 0 to 16.
        balanced: whether every class counts the same, however many photos it has.
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
    reading = known_options(dict(options), ImportOptions)
    if named := [name for name in OF_CLASSES if reading.get(name)]:
        msg = f"--{named[0].replace('_', '-')}: the classes are the folders of the photos, one each. Leave it out."
        raise ConfigError(msg)
    source, folder = path_of(photos, "photos"), path_of(backbone, "backbone")
    target = path_or_none(out, "out") or Path(f"{own_name(source)}-model")
    bench = Workbench(cache=cache_of(cache), progress=progress or Progress(), device=device_of(device))
    refuse_clashes([Output(name="-o", path=target, replaced=True)], [source, folder])
    check_replaceable(target)
    require_writable(target, parents=True, option="-o")
    start = time.perf_counter()
    images = _labelled(load_images(source))
    with bench.stage("import model"):
        read = load_checkpoint(folder, headless=True, **import_options(reading))
    with bench.stage("check images", total=len(images)) as stage:
        images.check(stage.advance)
    bench.cache.check()
    trained = train_head(read, images, settings, bench)
    notes = tuple(note for note in read.notes if not note.startswith(("labels: ", "head: ", "problem type: ")))
    result = TrainResult(
        path=target, findings=trained.findings, pooling=trained.judged.pooling, penalty=trained.judged.penalty,
        seconds=round(time.perf_counter() - start, 1), notes=(*([images.left_out] if images.left_out else ()), *notes),
    )  # fmt: skip
    with bench.stage("write model"):
        _write(target, trained, result)
    return result


def _labelled(images: ImageSet) -> ImageSet:
    """Raises DataError for photos whose classes nothing tells."""
    if images.marks is not None:
        msg = f"{images.source}: photos of several labels each (labels.csv); train learns one class a photo, of a folder each."
        raise DataError(msg)
    if images.targets is None or len(images.class_names) < FEWEST:
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


def _write(folder: Path, trained: Trained, result: TrainResult) -> None:
    with storage_errors(folder, "-o"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with beside(folder) as place:
            fresh = place / "model"
            fresh.mkdir()
            (fresh / WEIGHTS).write_bytes(trained.checkpoint.to_bytes())
            (fresh / REPORT).write_text(json.dumps(result.to_dict(), indent=2) + "\n", encoding="utf-8")
            put(fresh, folder)
