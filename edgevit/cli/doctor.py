"""``edgevit doctor``: what stands between this machine and a running bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevit.cli.options import json_option
from edgevit.cli.say import say

PROBLEMS = 1
"""The exit code if there are any."""
MARKS = {"ok": "ok", "note": "note", "warning": "WARNING", "problem": "PROBLEM"}


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@json_option
def doctor(bundle: Path | None, as_json: bool) -> None:
    """Examine this machine, for BUNDLE if it is given, and say how to fix what is wrong.

    Board and JetPack, TensorRT, pycuda, OpenCV and GStreamer's elements, power mode and clocks, memory and swap,
    groups and cameras.
    Nothing is changed. Exit code 1 if there is a problem, 0 if there are warnings and notes at most.
    """
    from dataclasses import asdict

    from edgevit.bundle import open_bundle
    from edgevit.cli.console import print_json
    from edgevit.device.doctor import examine
    from edgevit.device.modules import python_here

    opened = None if bundle is None else open_bundle(bundle)
    python = python_here()
    findings = [*examine(python, bundle=opened), *_of_gstreamer(python), *(_of_bundle(opened) if opened else [])]
    problems = sum(finding.level == "problem" for finding in findings)
    if as_json:
        print_json({"problems": problems, "findings": [asdict(finding) for finding in findings]})
    else:
        _print(findings, problems)
    if problems:
        raise click.exceptions.Exit(PROBLEMS)


def _of_gstreamer(python: Any) -> list[Any]:
    """Which kinds of source it can read; nothing where OpenCV was built without it."""
    from edgevit.device.jetson import detect
    from edgevit.runtime.gstreamer import GSTREAMER
    from edgevit.runtime.source_kinds import gstreamer_findings

    if GSTREAMER.search(python.modules["cv2"].build) is None:
        return []
    return list(gstreamer_findings(jetson=detect() is not None))


def _of_bundle(bundle: Any) -> list[Any]:
    """Whether its files are whole, and whether its engine is here and of this machine."""
    from edgevit.bundle import ENGINE
    from edgevit.device.doctor import Finding
    from edgevit.engine import backend, runs_here
    from edgevit.engine.of_bundle import lacking
    from edgevit.engine.tensorrt import check_stamp
    from edgevit.errors import EdgevitError
    from edgevit.target import load_target

    name, manifest = bundle.manifest.engine, bundle.manifest
    compile_it = f"edgevit compile {bundle.path}"
    try:
        bundle.verify()
        if backend(name).just_in_time:
            whole = f"{bundle.path}: whole; {name} compiles it at every start"
            return [Finding(topic="bundle", level="ok", text=whole), *_checked(bundle)]
        if not runs_here(name):
            elsewhere = f"run it on its device; or here, on the processor, with --engine {load_target('cpu').engine()}"
            text = f"{bundle.path}: whole, and {name} cannot run here: {lacking(name)}"
            return [Finding(topic="bundle", level="problem", text=text, fix=elsewhere)]
        if ENGINE not in manifest.files:
            return [Finding(topic="bundle", level="problem", text=f"{bundle.path}: not compiled yet", fix=compile_it)]
        check_stamp((manifest.compiled or {}).get("engine") or {}, name)
    except EdgevitError as error:
        return [Finding(topic="bundle", level="problem", text=f"{bundle.path}: {error}", fix=compile_it)]
    return [Finding(topic="bundle", level="ok", text=f"{bundle.path}: whole, and compiled on this machine"), *_checked(bundle)]


def _checked(bundle: Any) -> list[Any]:
    """Whether the engine that runs the bundle here computes what torch computed; held against its samples anew."""
    from edgevit.bundle import SAMPLES
    from edgevit.cache import Cache
    from edgevit.device.doctor import Finding
    from edgevit.engine.of_bundle import UNCHECKED, checked, session_of
    from edgevit.errors import EdgevitError

    if SAMPLES not in bundle.manifest.files:
        return [Finding(topic="engine", level="note", text=UNCHECKED)]
    try:
        with session_of(bundle) as session:
            text = checked(bundle, session.engine.split()[0], session, cache=Cache(enabled=False)).text
            warnings = [Finding(topic="engine", level="warning", text=warning) for warning in session.warnings]
    except EdgevitError as error:
        return [Finding(topic="engine", level="problem", text=str(error))]
    return [*warnings, Finding(topic="engine", level="ok", text=text)]


def _print(findings: list[Any], problems: int) -> None:
    import textwrap

    for finding in findings:
        say(f"{MARKS[finding.level]:<8} {finding.topic:<10} {finding.text}", bold=finding.level in ("warning", "problem"))
        if finding.fix:
            say(*textwrap.wrap(finding.fix, 110, initial_indent=" " * 9 + "-> ", subsequent_indent=" " * 12,
                               break_long_words=False, break_on_hyphens=False))  # fmt: skip
    warnings = sum(finding.level == "warning" for finding in findings)
    say(f"{problems} problems, {warnings} warnings")
