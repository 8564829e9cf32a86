"""``edgevit sweep`` as a library call: many ways of building a model, all compared on the same images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgevit.cache import Cache
from edgevit.commands.arguments import (
    cache_of,
    choice_of,
    device_of,
    known_options,
    number_of,
    number_or_none,
    path_of,
    path_or_none,
    recipe_of,
    target_of,
)
from edgevit.commands.compare import LEAST_RUNS
from edgevit.commands.compare_field import find_field
from edgevit.commands.compare_request import Request
from edgevit.commands.executors import LOCAL, executor_of
from edgevit.commands.import_options import ImportOptions, import_options
from edgevit.commands.sweep_build import Built, build_points
from edgevit.commands.sweep_points import Axes, Point, axes_of, points_of
from edgevit.commands.sweep_result import SweepResult
from edgevit.errors import ConfigError, storage_errors
from edgevit.executor.base import Executor
from edgevit.files.own_kinds import HTML, PLOT, SWEEP, require_kind
from edgevit.files.writing import write_whole
from edgevit.images.classes import ORDERS
from edgevit.measure.comparison import Comparison
from edgevit.printable import json_text
from edgevit.progress import Progress
from edgevit.report.sweep import Sweep, SweptPoint
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from typing_extensions import Unpack

    from edgevit.target import Target

OUT = "sweep"
FILES = {"sweep.json": SWEEP, "sweep.html": HTML, "sweep.svg": PLOT}
"""What a sweep writes beside its bundles."""


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """What is asked to be tried and compared."""

    points: tuple[Point, ...]
    out: Path
    data: Path
    """Images to compare on."""
    limit: int
    runs: int
    class_order: str | None
    bench: Workbench
    command: str


def sweep(
    *models: str | Path,
    data: str | Path,
    eval_data: str | Path | None = None,
    eval_limit: int = 1024,
    grid: str | Path | None = None,
    recipes: str | Sequence[str] | None = None,
    prune: str | Sequence[float | str] | None = None,
    merge: str | Sequence[float | str] | None = None,
    speedup: str | Sequence[float] | None = None,
    precisions: str | Sequence[str] | None = None,
    max_drop: float | None = None,
    target: str | Path | Target = "cpu",
    out: str | Path = OUT,
    runs: int = 100,
    class_order: str | None = None,
    threads: int | None = None,
    device: str = "auto",
    executor: str | None = LOCAL,
    workers: int | None = None,
    worker_threads: int = 1,
    ray_address: str | None = None,
    cache: Cache | bool = True,
    progress: Progress | None = None,
    command: str = "",
    **options: Unpack[ImportOptions],
) -> SweepResult:
    """Build a model in every combination of what is to be tried, compare all of them, and say which to use.

    >>> found = edgevit.sweep("model/", data="train/", eval_data="test/", recipes=["default", "fast"], prune=[0, 0.2])
    >>> found.best.command, found.rows

    Interrupted or killed, the same call goes on: a point that is built stays, and so do the stages of the others.

    Args:
        models: checkpoints; FP32 of the first is what all are held against.
        data: images to calibrate, prune and merge on.
        eval_data: images to compare on; by default what none was fitted to of ``data``.
        eval_limit: images compared on at most.
        grid: a .toml file of axes, ``recipes``, ``prune``, ``merge``, ``speedup`` and ``precisions``, each a list.
        recipes: names in calibration/, or .toml paths; a list, or a text with commas. It takes the place of the grid's, as do
            the next four.
        prune: shares of the multiply-accumulates to remove, 0 for none, or ``auto``.
        merge: the same of tokens to merge, or schedules by hand, ``64@2,64@5``; ``none`` for none.
        speedup: how many times as fast, as points of their own.
        precisions: ``int8`` (the default), ``fp16``, ``fp32``, ``auto``.
        max_drop: points of accuracy that ``auto`` may cost.
        target: the device: a name in targets/, the path of a .toml file, or a `Target`.
        out: the folder for bundles, ``sweep.json``, ``sweep.html`` and ``sweep.svg``.
        runs: timed inferences of each point, at least 5.
        class_order, threads, device, cache, progress, command: as `edgevit.build` takes them.
        executor, workers, worker_threads, ray_address: who builds and evaluates, as `edgevit.compare` takes them; by default the
            processes of this machine.
        options: how to read the checkpoints, see `ImportOptions`.

    Raises:
        TypeError: an argument is of a type that it cannot be.
        EdgevitError: whatever else a user can put right, but for single points that cannot be built: their rows say why.
    """
    request = sweep_request(
        models, data=data, eval_data=eval_data, eval_limit=eval_limit, grid=grid, recipes=recipes, prune=prune, merge=merge,
        speedup=speedup, precisions=precisions, max_drop=max_drop, target=target, out=out, runs=runs, class_order=class_order,
        threads=threads, device=device, cache=cache, progress=progress, command=command, options=dict(options),
    )  # fmt: skip
    with executor_of(executor or LOCAL, workers, worker_threads, ray_address) as found:
        assert found is not None  # one was asked for
        return run_sweep(request, found)


def sweep_request(
    models: Sequence[str | Path], *, data: Any, eval_data: Any, eval_limit: Any, grid: Any, max_drop: Any, target: Any, out: Any,
    runs: Any, class_order: Any, threads: Any, device: Any, cache: Any, progress: Progress | None, command: str,
    options: dict[str, Any], **axes: Any,
) -> SweepRequest:  # fmt: skip
    """What `sweep` is asked to do. Raises as it does for arguments that are wrong by themselves."""
    if not models:
        msg = 'name at least one model: edgevit.sweep("model/", data="train/")'
        raise TypeError(msg)
    given = known_options(options, ImportOptions)
    import_options(given)
    common = {
        "data": path_of(data, "data"),
        "eval_data": path_or_none(eval_data, "eval_data"),
        "eval_limit": number_of(eval_limit, "eval_limit", 1),
        "max_drop": number_or_none(max_drop, "max_drop", 0.0, 100.0),
        "target": target,
        "class_order": choice_of(class_order, "class_order", ORDERS),
        "threads": number_or_none(threads, "threads", 1),
        "device": device_of(device),
        **given,
    }
    tried = axes_of(path_or_none(grid, "grid"), **axes)
    _check(tried)
    return SweepRequest(
        points=points_of([path_of(model, "model") for model in models], tried, common),
        out=path_of(out, "out"),
        data=common["eval_data"] or common["data"],
        limit=common["eval_limit"],
        runs=number_of(runs, "runs", LEAST_RUNS),
        class_order=common["class_order"],
        bench=Workbench(
            target=target_of(target), cache=cache_of(cache), progress=progress or Progress(), threads=common["threads"],
            device=common["device"],
        ),
        command=command,
    )  # fmt: skip


def _check(axes: Axes) -> None:
    """Raise for a recipe that is not there: before the first point, not at the last."""
    for recipe in axes.recipes:
        recipe_of(recipe)


def run_sweep(request: SweepRequest, executor: Executor) -> SweepResult:
    """Build all points, compare those that came out, and write what was found. Raises EdgevitError if none did."""
    out, bench = request.out, replace(request.bench, executor=executor)
    with storage_errors(out, "-o"):
        out.mkdir(parents=True, exist_ok=True)
    for name, kind in FILES.items():
        require_kind(out / name, kind)
    bench.cache.check()
    built = build_points(request.points, out, executor, bench.cache, bench.progress)
    ready = [point for point in request.points if built[point.name].error is None]
    if not ready:
        error = built[request.points[0].name].error
        assert error is not None  # as none is ready
        raise error
    comparison, notes = _compared(request, ready, bench)
    result = SweepResult(
        folder=out,
        sweep=Sweep(points=_swept(request.points, built, ready), comparison=comparison, notes=notes),
        settings={point.name: point.arguments() for point in request.points},
        seconds={name: item.seconds for name, item in built.items() if item.error is None},
    )
    _write(result, out)
    return result


def _compared(request: SweepRequest, ready: Sequence[Point], bench: Workbench) -> tuple[Comparison, tuple[str, ...]]:
    """Every point that was built, on the same images, one row each in their order."""
    bundles = tuple(request.out / point.bundle for point in ready)
    wanted = Request(models=bundles, data=request.data, limit=request.limit, class_order=request.class_order)
    field = find_field(wanted, bench).checked(engines=(), bench=bench)
    comparison = field.compare(runs=request.runs, bench=bench, command=request.command, startup=False, by_subject=True)
    if len(comparison.rows) != len(ready):
        msg = f"{request.out}: {len(ready)} bundles gave {len(comparison.rows)} rows. Empty the folder and sweep again."
        raise ConfigError(msg)
    return comparison, field.notes


def _swept(points: Sequence[Point], built: dict[str, Built], ready: Sequence[Point]) -> tuple[SweptPoint, ...]:
    rows = {point.name: row for row, point in enumerate(ready)}
    return tuple(
        SweptPoint(name=point.name, command=point.command(), row=rows.get(point.name), reason=str(built[point.name].error or ""))
        for point in points
    )


def _write(result: SweepResult, out: Path) -> None:
    texts = {
        "sweep.json": f"{json_text(result.to_dict(), indent=2)}\n",
        "sweep.html": result.to_html(),
        "sweep.svg": result.to_svg(),
    }
    for name, text in texts.items():
        if text:
            write_whole(out / name, text, kind=FILES[name], option="-o")
