"""``edgevit healthcheck``: does the engine compute right here, and does the run that should go on give labels?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevit.cli.command import Command
from edgevit.cli.options import json_option, signature_option, threads_option
from edgevit.cli.say import say

if TYPE_CHECKING:
    from edgevit.bundle import Bundle

WITHIN_S = 30.0


@click.command(cls=Command)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    envvar="EDGEVIT_STATE",
    help="What the run has with --state: wait until it classifies frames of this very bundle. Also $EDGEVIT_STATE.",
)
@click.option(
    "--within", type=click.FloatRange(0), default=WITHIN_S, show_default=True, metavar="SECONDS", help="How long to wait for it."
)
@click.option("--min-fps", type=click.FloatRange(0), help="Labels per second that it must give, over ten seconds.")
@click.option(
    "--samples/--no-samples",
    default=True,
    show_default=True,
    help="Compute the bundle's samples. A run did at its start; beside one, it takes a second engine's memory.",
)
@click.option("--engine", help="For the samples: openvino, onnxruntime or tensorrt; the bundle's own by default.")
@threads_option
@signature_option
@json_option
def healthcheck(**values: Any) -> None:
    """Check that BUNDLE computes right on this machine and, with --state, that a run of it classifies frames.

    Exit codes: 0 healthy, 5 the bundle is damaged, 6 its engine does not start or computes wrongly, 12 the run gives no labels,
    too few, or is of another bundle. For Docker's HEALTHCHECK, Mender's state scripts, a cron job.
    """
    from dataclasses import asdict

    from edgevit.bundle import open_bundle
    from edgevit.errors import ConfigError
    from edgevit.runtime.health import await_health

    if values["state"] is None and values["min_fps"] is not None:
        msg = "--min-fps is of a run: name its file with --state"
        raise ConfigError(msg)
    if values["state"] is None and not values["samples"]:
        msg = "--no-samples leaves nothing to check: name the file of a run with --state"
        raise ConfigError(msg)
    bundle = open_bundle(values["bundle"], values["keys"])
    checked = _samples(bundle, values) if values["samples"] else None
    state = None
    if values["state"] is not None:
        state = await_health(values["state"], bundle.sha256, within=values["within"], min_fps=values["min_fps"])
    if values["as_json"]:
        from edgevit.cli.console import print_json

        print_json({"bundle": bundle.sha256, "samples": checked, "run": state and asdict(state)})
        return
    say(*([checked] if checked else []))
    if state is not None:
        fps = f", {state.fps:.1f} fps" if state.fps is not None else ""
        say(f"running: {state.frames} frames of {state.source}{fps}")


def _samples(bundle: Bundle, values: dict[str, Any]) -> str:
    """Verify every file, and compute the samples; a line about them."""
    from edgevit.cache import Cache
    from edgevit.cli.console import note
    from edgevit.engine.of_bundle import checked, session_of
    from edgevit.errors import EngineError

    bundle.verify()
    with session_of(bundle, values["engine"], threads=values["threads"]) as session:
        for text in session.warnings:
            note(text)
        # Computed now, not looked up: it is this moment's health that is asked for.
        found = checked(bundle, session.engine.split()[0], session, threads=values["threads"], cache=Cache(enabled=False))
    if found.wrong:
        msg = f"{bundle.path}: {found.wrong}"
        raise EngineError(msg)
    return found.text
