"""``edgevit targets``: the devices that bundles can be built for."""

from __future__ import annotations

import textwrap
from typing import Any

import click

from edgevit.cli.command import Command
from edgevit.cli.options import json_option
from edgevit.cli.say import say

WIDTH = 80


@click.command(cls=Command)
@click.argument("name", required=False)
@json_option
def targets(name: str | None, as_json: bool) -> None:
    """List the targets, or show the facts about the one called NAME."""
    from edgevit.cli.console import print_json
    from edgevit.shipped import shipped_names
    from edgevit.target import load_target

    known = [load_target(each) for each in ([name] if name else shipped_names("targets"))]
    if as_json:
        documents = [target.to_dict() | {"engine_here": target.engine()} for target in known]
        print_json(documents[0] if name else documents)
    elif name:
        _show(known[0])
    else:
        _list(known)


def _list(known: list[Any]) -> None:
    from edgevit.cli.console import table
    from edgevit.target import FAMILIES

    for family, title in FAMILIES.items():
        members = [target for target in known if target.family == family]
        members.sort(key=lambda target: not target.boards)  # a family before its boards
        rows = [(target.name, target.description, target.engine()) for target in members]
        table(title, ("name", "device", "engine here"), rows, left=3)
        say()
    say("More about one: edgevit targets NAME")


def _show(target: Any) -> None:
    from edgevit.cli.console import table

    table(target.name, ("", ""), _facts(target), left=2)
    if target.modes:
        say()
        nvpmodel = any(mode.id is not None for mode in target.modes)  # else its conf and ids say nothing
        columns = ("mode", *(("conf", "id") if nvpmodel else ()), "SMs", "MHz", "GB/s", "INT8 TOPS", "FP16 TFLOPS")
        rows = [_mode(target.device, mode, nvpmodel=nvpmodel) for mode in target.modes]
        table("Dense peaks of the GPU alone (* default)", columns, rows, left=2 if nvpmodel else 1)
    if target.jetpacks:
        say()
        rows = [(item.version, item.l4t, item.tensorrt, item.cuda, item.python, item.boards) for item in target.jetpacks]
        table(f"JetPacks, as of {target.date}", ("JetPack", "L4T", "TensorRT", "CUDA", "Python", "boards"), rows, left=6)
    say()
    for key, text in (target.sources or {}).items():
        say(*textwrap.wrap(f"{key}: {text}", WIDTH, subsequent_indent="  ", break_on_hyphens=False))


def _facts(target: Any) -> list[tuple[str, str]]:
    facts = [("device", target.description), ("engine here", target.engine()), ("precisions", ", ".join(target.precisions))]
    facts += [(f"{engine} from", version) for engine, version in target.minimum.items()]
    facts += [("board" if not at else "", name) for at, name in enumerate(target.boards)]
    if target.machine:
        names = [name for name in (target.machine.arch, *target.machine.models) if name]
        facts += [("recognised by" if not at else "", name) for at, name in enumerate(names)]
    if target.device:
        device = target.device
        facts += [
            ("compute capability", device.compute_capability),
            ("memory", f"{device.memory_gb:g} GB"),
            ("DLA", str(device.dla) if device.dla else "none"),
        ]
        facts += [("modules", ", ".join(device.modules))] if device.modules else []
    return [*facts, ("prune to", f"multiples of {target.multiple}")]


def _mode(device: Any, mode: Any, *, nvpmodel: bool) -> tuple[str, ...]:
    name = f"{mode.name} *" if mode.default else mode.name
    numbers = (mode.conf, "" if mode.id is None else str(mode.id)) if nvpmodel else ()
    bandwidth = "?" if mode.bandwidth_gbs is None else f"{mode.bandwidth_gbs:g}"
    peaks = (f"{device.peak(mode, precision) / 1e12:.1f}" for precision in ("int8", "fp16"))
    return (name, *numbers, str(mode.sms), f"{mode.gpu_mhz:g}", bandwidth, *peaks)
