"""``edgevit compare``: precisions side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevit.cli.options import import_options, json_option, model_options, no_cache_option, threads_option


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Images: a folder (class per subfolder) or an .npz.")
@click.option("--engines", help="Comma-separated: openvino,onnxruntime. The bundle's own, or this machine's, by default.")
@click.option("--limit", type=click.IntRange(1), default=1024, show_default=True, help="Evaluate at most so many images.")
@click.option("--runs", type=click.IntRange(5), default=100, show_default=True, help="Timed inferences of each variant.")
@click.option("--recipe", default="default", show_default=True, help="For a checkpoint: how to calibrate INT8.")
@click.option("--csv", "csv_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the rows as CSV, too.")
@model_options
@threads_option
@no_cache_option
@json_option
def compare(**values: Any) -> None:
    """Compare FP32 and INT8 of MODEL, a bundle or a checkpoint, on the same images.

    Images that the model was calibrated on are left out. Latency is measured in turns.
    """
    from edgevit.bundle import check_writable
    from edgevit.cache import Cache
    from edgevit.cli.console import ConsoleProgress, note, print_json
    from edgevit.comparing import find_subject
    from edgevit.engine import backend
    from edgevit.errors import storage_errors
    from edgevit.progress import Progress
    from edgevit.recipe import load_recipe

    as_json, csv_path = values.pop("as_json"), values.pop("csv_path")
    cache, options = Cache(enabled=not values.pop("no_cache")), import_options(values)
    engines = [name.strip() for name in (values.pop("engines") or "").split(",") if name.strip()]
    # What can be wrong is found now, not after minutes of measuring.
    for name in engines:
        _ = backend(name).version
    if csv_path is not None:
        check_writable(csv_path)
    progress = Progress() if as_json else ConsoleProgress()
    subject = find_subject(
        values["model"],
        values["data"],
        limit=values["limit"],
        recipe=load_recipe(values["recipe"]),
        options=options,
        cache=cache,
        progress=progress,
    )
    comparison = subject.compare(engines=engines, runs=values["runs"], threads=values["threads"], cache=cache, progress=progress)
    if csv_path is not None:
        with storage_errors(csv_path):
            csv_path.write_text(comparison.to_csv(), encoding="utf-8")
    if as_json:
        print_json({**comparison.to_dict(), "notes": subject.notes})
        return
    for text in subject.notes:
        note(text)
    print_comparison(comparison)


def print_comparison(comparison: Any) -> None:
    """The table and its conditions, on stdout."""
    from edgevit.cli.console import megabytes, percent, table

    rows = [
        (
            row.precision,
            row.engine.split()[0],
            percent(row.accuracy.top1),
            percent(row.accuracy.agreement),
            "-" if row is comparison.rows[0] else _decibel(row.accuracy.sqnr_db),
            "/".join(f"{time:.3g}" for time in (row.latency.p50_ms, row.latency.p90_ms, row.latency.p99_ms))
            if row.latency
            else "-",
            f"{row.speedup:.2f}x" if row.speedup else "-",
            megabytes(row.bytes),
        )
        for row in comparison.rows
    ]
    columns = ("", "engine", "top-1", "agree", "SQNR", "p50/p90/p99 ms", "speed-up", "size")  # fits 80 columns
    at, engines = comparison.conditions, dict.fromkeys(row.engine for row in comparison.rows)
    table(f"{at['images']} images of {at['source']}", columns, rows, left=2)
    click.echo("agree and SQNR: top-1 classes and logits against the first row; speed-up: p50 against FP32 of the same engine.")
    click.echo(f"Batch {at['batch']}, {at['threads']} threads, {at['device']}, {', '.join(engines)}; {at['order']}.")


def _decibel(value: float | None) -> str:
    return "identical" if value is None else f"{value:.1f} dB"
