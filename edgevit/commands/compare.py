"""``edgevit compare`` as a library call: models and precisions side by side on the same images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgevit.cache import Cache
from edgevit.commands.arguments import (
    cache_of,
    choice_of,
    device_of,
    known_options,
    names_of,
    number_of,
    number_or_none,
    path_of,
    path_or_none,
    recipe_of,
    target_of,
)
from edgevit.commands.compare_field import find_field
from edgevit.commands.compare_names import parse_precisions
from edgevit.commands.compare_request import Request
from edgevit.commands.compare_result import CompareResult
from edgevit.commands.executors import executor_of
from edgevit.commands.import_options import ImportOptions, import_options
from edgevit.engine import backend
from edgevit.images.classes import ORDERS
from edgevit.progress import Progress
from edgevit.target import load_target
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from typing_extensions import Unpack

    from edgevit.recipe import Recipe
    from edgevit.target import Target

LEAST_RUNS = 5


def compare(
    *models: str | Path,
    data: str | Path,
    precisions: str | Sequence[str] | None = None,
    engines: str | Sequence[str] | None = None,
    target: str | Path | Target | None = None,
    calibration: str | Path | None = None,
    limit: int = 1024,
    runs: int = 100,
    recipe: str | Path | Recipe = "default",
    class_order: str | None = None,
    threads: int | None = None,
    device: str = "auto",
    executor: str | None = None,
    workers: int | None = None,
    worker_threads: int = 1,
    ray_address: str | None = None,
    cache: Cache | bool = True,
    progress: Progress | None = None,
    command: str = "",
    **options: Unpack[ImportOptions],
) -> CompareResult:
    """Compare precisions of bundles and checkpoints on the same images, and say which to use.

    >>> found = edgevit.compare("a.edgevit", "b.edgevit", data="test/", engines=["openvino", "onnxruntime"])
    >>> found.recommendation.headline, found.rows

    Args:
        models: bundles or checkpoints; the first precision of the first is the reference.
        data: images, a folder (class per subfolder) or an .npz; those that a model was calibrated on are left out.
        precisions: ``fp32``, ``fp16``, ``int8-linear``, ``int8``, each also pruned, with tokens merged, or
            both, ``int8+prune20+merge35``, or as fast as wanted, ``int8+speedup1.5``; a list, or a text with commas. All of a
            bundle, ``fp32`` and ``int8`` of a checkpoint by default.
        engines: ``openvino``, ``onnxruntime``, ...; the bundle's own, or this machine's, by default.
        target: for checkpoints: a device whose plans and estimated milliseconds are wanted, not this machine's.
        calibration: for checkpoints: other images to calibrate on.
        limit: images compared on at most.
        runs: timed inferences of each variant, at least 5.
        recipe: for checkpoints: how to calibrate INT8.
        class_order, threads, device, cache, progress, command: as `edgevit.build` takes them.
        executor: who evaluates: ``local``, processes of this machine; ``ray``, the nodes of a Ray cluster; by default this
            process alone. Latency is measured here, when no worker runs.
        workers: how many at most, as many as there are CPUs for by default; given alone it means ``local``.
        worker_threads: CPU threads of each: what accuracy is measured with, whatever ``threads`` latency is.
        ray_address: of the cluster, ``HOST:PORT``; by default the one that this machine is a node of.
        options: for checkpoints: how to read them, see `ImportOptions`.

    Raises:
        TypeError: an argument is of a type that it cannot be.
        EdgevitError: whatever else a user can put right. Messages name an argument as the command line does.
    """
    # What can be wrong is found now, not after minutes of measuring.
    names, number = names_of(engines, "engines"), number_of(runs, "runs", LEAST_RUNS)
    wanted = parse_precisions(names_of(precisions, "precisions"))
    for name in names:
        _ = backend(name).version
    request = Request(
        models=_models(models),
        data=path_of(data, "data"),
        precisions=wanted,
        calibration=path_or_none(calibration, "calibration"),
        limit=number_of(limit, "limit", 1),
        recipe=recipe_of(recipe),
        target=None if target is None else target_of(target),
        class_order=choice_of(class_order, "class_order", ORDERS),
        options=import_options(known_options(dict(options), ImportOptions)),
    )
    bench = Workbench(
        target=request.target or load_target("cpu"), cache=cache_of(cache), progress=progress or Progress(),
        threads=number_or_none(threads, "threads", 1), device=device_of(device),
    )  # fmt: skip
    with executor_of(executor, workers, worker_threads, ray_address) as found:
        return compare_models(request, engines=names, runs=number, bench=replace(bench, executor=found), command=command)


def compare_models(request: Request, *, engines: Sequence[str], runs: int, bench: Workbench, command: str) -> CompareResult:
    """Compare what ``request`` names on ``engines``, or each on its own if there are none. Raises EdgevitError."""
    field = find_field(request, bench).checked(engines=engines, bench=bench)
    comparison = field.compare(runs=runs, bench=bench, command=command)
    return CompareResult(comparison=comparison, field=field, bench=replace(bench, executor=None))


def _models(models: Sequence[object]) -> tuple[Path, ...]:
    if not models:
        msg = 'name at least one model: edgevit.compare("a.edgevit", data="test/")'
        raise TypeError(msg)
    return tuple(path_of(model, "model") for model in models)
