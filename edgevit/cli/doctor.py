"""``edgevit doctor``: what stands between this machine and a running bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevit.cli.files import OutputFile, Writing
from edgevit.cli.options import json_option
from edgevit.cli.say import say
from edgevit.files.own_kinds import ACCEPTANCE

PROBLEMS = 1
"""The exit code if there are any."""
MARKS = {"ok": "ok", "note": "note", "warning": "WARNING", "problem": "PROBLEM"}


@click.command(cls=Writing)
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@click.option("--acceptance", is_flag=True, help="Try all that BUNDLE needs here, step by step, and write a report: minutes.")
@click.option("--source", "sources", multiple=True, help="For --acceptance: a stream or camera to read, too; may be given again.")
@click.option(
    "--output",
    "-o",
    type=OutputFile(ACCEPTANCE, lambda values: Path("edgevit-acceptance.md") if values["acceptance"] else None),
    help="The report of --acceptance; edgevit-acceptance.md by default.",
)
@json_option
def doctor(bundle: Path | None, acceptance: bool, sources: tuple[str, ...], output: Path | None, as_json: bool) -> None:
    """Examine this machine, for BUNDLE if it is given, and say how to fix what is wrong.

    Board and JetPack, TensorRT, pycuda, OpenCV and GStreamer's elements, power mode and clocks, memory and swap,
    groups and cameras. Nothing is changed. Exit code 1 if there is a problem, 0 if there are warnings and notes
    at most. With --acceptance it also compiles a copy of BUNDLE and runs it, on cameras, too, and against NVIDIA's
    own program; exit code 1 if a step fails.
    """
    from edgevit.errors import ConfigError

    if acceptance:
        _accept(bundle, sources, output, as_json=as_json)
        return
    if sources or output is not None:
        msg = f"{'--source' if sources else '-o'}: belongs to --acceptance. Add it, or leave this out."
        raise ConfigError(msg)
    _examine(bundle, as_json=as_json)


def _accept(bundle: Path | None, sources: tuple[str, ...], output: Path | None, *, as_json: bool) -> None:
    """Every step on a copy of the bundle; each is said when it is done."""
    from dataclasses import asdict
    from tempfile import TemporaryDirectory

    from edgevit import __version__
    from edgevit.bundle import open_bundle
    from edgevit.cli.console import note, print_json
    from edgevit.commands.acceptance.report import counts, markdown
    from edgevit.commands.acceptance.steps import STEPS
    from edgevit.commands.acceptance.visit import Visit
    from edgevit.device.jetson import detect
    from edgevit.errors import ConfigError
    from edgevit.files.writing import write_whole

    if bundle is None or output is None:
        msg = "--acceptance: tries a bundle. Name it: edgevit doctor BUNDLE --acceptance"
        raise ConfigError(msg)
    opened = open_bundle(bundle)
    opened.verify()
    outcomes = []
    with TemporaryDirectory(prefix="edgevit-acceptance-") as folder:
        visit = Visit(bundle=opened, folder=Path(folder), board=detect(), sources=sources)
        for step in STEPS:
            for outcome in step(visit):
                outcomes.append(outcome)
                line = f"{outcome.status:<8} {outcome.step}: {outcome.text}"
                if as_json:
                    note(line)
                else:
                    say(line, bold=outcome.status == "failed")
    manifest = opened.manifest
    described = f"{manifest.name}, {manifest.precision}, {manifest.engine}, {opened.bytes} bytes"
    write_whole(output, markdown(outcomes, version=__version__, bundle=described), kind=ACCEPTANCE, option="-o")
    if as_json:
        print_json({"report": str(output), "outcomes": [asdict(outcome) for outcome in outcomes]})
    else:
        say(f"{counts(outcomes)}; {output} has all of it, to be read and sent")
    if any(outcome.status == "failed" for outcome in outcomes):
        raise click.exceptions.Exit(PROBLEMS)


def _examine(bundle: Path | None, *, as_json: bool) -> None:
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
    from edgevit.engines import traits_of
    from edgevit.errors import EdgevitError
    from edgevit.target import load_target

    name, manifest = bundle.manifest.engine, bundle.manifest
    compile_it = f"edgevit compile {bundle.path}"
    try:
        bundle.verify()
        if not traits_of(name).ahead_of_time:
            whole = f"{bundle.path}: whole; {name} compiles it at every start"
            return [Finding(topic="bundle", level="ok", text=whole), *_checked(bundle)]
        if not runs_here(name):
            elsewhere = f"run it on its device; or here, on the processor, with --engine {load_target('cpu').engine()}"
            text = f"{bundle.path}: whole, and {name} cannot run here: {backend(name).lacking()}"
            return [Finding(topic="bundle", level="problem", text=text, fix=elsewhere)]
        if ENGINE not in manifest.files:
            return [Finding(topic="bundle", level="problem", text=f"{bundle.path}: not compiled yet", fix=compile_it)]
        backend(name).check_stamp((manifest.compiled or {}).get("engine") or {})
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
