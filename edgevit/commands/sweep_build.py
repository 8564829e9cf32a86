"""A point of a sweep, built: a task that any machine can do which has the images and the model, by path or by content."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgevit.bundle import check_replaceable
from edgevit.cache import Cache, Kind
from edgevit.commands.arguments import recipe_of, target_of
from edgevit.commands.build import run_build
from edgevit.commands.build_arguments import build_request
from edgevit.commands.sweep_points import Point
from edgevit.errors import BudgetError, DataError, EdgevitError
from edgevit.executor.base import Executor
from edgevit.executor.carried import Unpacked, packed
from edgevit.executor.task import Blob, Task, Warm
from edgevit.files.paths import is_file
from edgevit.files.writing import write_whole
from edgevit.progress import Progress

POINT = Kind("sweep-point", __name__)


@dataclass(frozen=True, kw_only=True)
class Built:
    """What became of a point."""

    seconds: float = 0.0
    error: EdgevitError | None = None
    """Why there is no bundle of it."""
    content: bytes = b""
    """Of the bundle, if it was built where nobody could put it into its place."""
    cached: bool = False


@dataclass(frozen=True, kw_only=True)
class PointJob:
    """A point to build."""

    arguments: Mapping[str, Any]
    """Of `edgevit.build`; paths are blobs where workers do not see this machine's files."""
    bundle: str
    """Name of its file."""
    folder: Path | None
    """Where that goes; None: it is sent back."""
    cache: bool


def build_point(job: PointJob, warm: Warm) -> Built:
    """Build one point, without measuring it. What cannot be built is told, not raised: other points go on."""
    unpacked: Unpacked = warm.get("files", Unpacked)
    arguments = {name: unpacked.path(value) if isinstance(value, Blob) else value for name, value in job.arguments.items()}
    if job.folder is not None:
        return _built(arguments, job.folder / job.bundle, Cache(enabled=job.cache))
    with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
        place = Path(folder) / job.bundle
        made = _built(arguments, place, Cache(enabled=job.cache))
        return made if made.error else replace(made, content=place.read_bytes())


def _built(arguments: Mapping[str, Any], out: Path, cache: Cache) -> Built:
    given = dict(arguments)
    try:
        request = replace(build_request(given.pop("model"), out=out, **given), compared=False)
        return Built(seconds=sum(run_build(request, cache, Progress()).seconds.values()))
    except EdgevitError as error:
        return Built(error=error)


def build_points(
    points: Sequence[Point], folder: Path, executor: Executor, cache: Cache, progress: Progress
) -> dict[str, Built]:  # fmt: skip
    """Build what of ``points`` does not lie in ``folder`` yet, each on a machine of its own; what became of each, by name.

    Building takes times where a graph has several forms or a speed-up is asked for, so no two run on one machine at once.
    Interrupted, what is built stays, and is known by the content of all that it was made of.
    """
    keeping = Keeping(folder, cache)
    found = {point.name: built for point in points if (built := keeping.find(point)) is not None}
    missing = [point for point in points if point.name not in found]
    if found:
        with progress.stage(f"{len(found)} of {len(points)} points") as stage:
            stage.cached = True
    results = executor.map(_tasks(missing, folder, executor, cache), exclusive=True)
    for _ in missing:
        with progress.stage(
            f"build point {len(found) + 1} of {len(points)}"
        ) as stage:  # they come in the order in which they end
            position, built = next(results)
            point = missing[position]
            if built.content:
                check_replaceable(folder / point.bundle)
                write_whole(folder / point.bundle, built.content)
            keeping.keep(point, built)
            found[point.name] = replace(built, content=b"")
            stage.found = f"{point.name}{': ' + str(built.error) if built.error else ''}"
    return found


def _tasks(points: Sequence[Point], folder: Path, executor: Executor, cache: Cache) -> Iterator[Task]:
    for point in points:
        arguments = _resolved(point)
        if not executor.reaches_files:
            paths = {name: value for name, value in arguments.items() if isinstance(value, Path)}
            arguments |= {name: executor.share(packed(path)) for name, path in paths.items()}
        place = folder if executor.reaches_files else None
        job = PointJob(arguments=arguments, bundle=point.bundle, folder=place, cache=cache.enabled)
        yield Task(name=f"build {point.name}", function=build_point, argument=job)


def _resolved(point: Point) -> dict[str, Any]:
    """The point's arguments with what its recipe and target say, which other machines may not have."""
    given = point.arguments()
    return given | {"recipe": recipe_of(given["recipe"]), "target": target_of(given.get("target", "cpu"))}


class Keeping:
    """Which points lie in the folder already, made of what is asked for, by this code."""

    def __init__(self, folder: Path, cache: Cache) -> None:
        self._folder, self._cache = folder, cache
        self._digests: dict[Path, str] = {}

    def find(self, point: Point) -> Built | None:
        """What became of it; None if it is to be built."""
        stored = self._cache.find(POINT, **self._key(point)) if self._cache.enabled else None
        if stored is None:
            return None
        kept = json.loads(stored)
        if kept["refused"] is not None:
            return Built(error=BudgetError(kept["refused"]), cached=True)
        path = self._folder / point.bundle
        if not is_file(path, DataError) or hashlib.sha256(path.read_bytes()).hexdigest() != kept["sha256"]:
            return None
        return Built(seconds=kept["seconds"], cached=True)

    def keep(self, point: Point, built: Built) -> None:
        """Remember it; of what could not be built, what another try could not either: a budget that is not met."""
        if not self._cache.enabled or (built.error is not None and not isinstance(built.error, BudgetError)):
            return
        path = self._folder / point.bundle
        digest = None if built.error else hashlib.sha256(path.read_bytes()).hexdigest()
        kept = {"refused": str(built.error) if built.error else None, "sha256": digest, "seconds": built.seconds}
        self._cache.store(POINT, json.dumps(kept).encode(), **self._key(point))

    def _key(self, point: Point) -> dict[str, Any]:
        given = _resolved(point)
        if given.get("max_drop") is None:  # how many it is compared on later does not change what is built
            given.pop("eval_limit", None)
        own = {"recipe": given["recipe"].to_dict(), "target": given["target"].to_dict(), "name": point.name}
        rest = {
            name: self._digest(value) if isinstance(value, Path) else value for name, value in given.items() if name not in own
        }
        return {"arguments": json.loads(json.dumps(rest | own, default=str))}

    def _digest(self, path: Path) -> str:
        """Of a file, or of all files of a folder with their names; read once."""
        if path not in self._digests:
            digest = hashlib.sha256()
            try:
                for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                    if file.is_file():
                        digest.update(f"{file.relative_to(path)}\0".encode("utf-8", "surrogateescape"))
                        digest.update(hashlib.sha256(file.read_bytes()).digest())
            except OSError:
                return str(path)  # the build says what is wrong with it
            self._digests[path] = digest.hexdigest()
        return self._digests[path]
