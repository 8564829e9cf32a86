"""A target: the device a bundle is for, and the engine that runs it there. One TOML file each."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

from edgevit.engines import CPU_MULTIPLE, ENGINES
from edgevit.errors import ConfigError, did_you_mean
from edgevit.numberformat import FORMATS
from edgevit.shipped import check_keys, find_toml, read_toml, shipped_names

PRECISIONS = tuple(FORMATS)
FAMILIES = {"cpu": "Processors", "jetson": "Jetson", "rtx": "RTX and DGX"}
CONFS = ("standard", "super")
FAMILY = "jetson"
"""The target whose file holds the table of JetPacks."""


@dataclass(frozen=True, kw_only=True)
class PowerMode:
    """One setting of a board's clocks."""

    name: str
    """As nvpmodel prints it; the card, where a target is a generation of them."""
    sms: int
    """Streaming multiprocessors that are on."""
    gpu_mhz: float
    id: int | None = None
    """As nvpmodel counts; not portable between installs."""
    conf: str = "standard"
    """Which nvpmodel file has it: standard, or super (JetPack 6.2 on). One name may be in both."""
    default: bool = False
    """Whether the board starts in it, with this conf."""
    bandwidth_gbs: float | None = None
    """Of the memory, in 10^9 bytes per second; None where no source tells."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """What a GPU can do, and how to recognise its board."""

    compute_capability: str
    memory_gb: float
    dla: int
    int8_ops: int
    """Dense operations (two per multiply-accumulate) per clock and SM."""
    fp16_ops: int
    fp32_ops: int
    modules: tuple[str, ...] = ()
    """NVIDIA's part numbers, as /proc/device-tree/compatible names them."""

    def peak(self, mode: PowerMode, precision: str) -> float:
        """Dense operations per second in ``mode``: a roof, not a promise."""
        per_clock: int = getattr(self, f"{precision}_ops")
        return per_clock * mode.sms * mode.gpu_mhz * 1e6


@dataclass(frozen=True, kw_only=True)
class Machine:
    """How to recognise a device without a GPU of its own: whether this machine is it, see `edgevit.engine.here`."""

    arch: str | None = None
    """As ``platform.machine()`` names it; None is any."""
    models: tuple[str, ...] = ()
    """Names of boards or processors, one of which the device tree or /proc/cpuinfo gives; empty is any."""


@dataclass(frozen=True, kw_only=True)
class JetPack:
    """What comes on a Jetson with one JetPack."""

    version: str
    l4t: str
    """One version, or the first and the last: ``36.4.0 to 36.4.2``."""
    tensorrt: str
    cuda: str
    python: str
    boards: str


@dataclass(frozen=True, kw_only=True)
class Target:
    """One device, or a family of them. ``engines`` maps a machine type (``x86_64``, ``default``) to an engine's name."""

    name: str
    description: str
    precisions: tuple[str, ...]
    engines: dict[str, str]
    minimum: dict[str, str] = field(default_factory=dict)
    """The oldest version that will do, by engine."""
    family: str | None = None
    """One of `FAMILIES`."""
    boards: tuple[str, ...] = ()
    """Targets that a bundle for this one runs on; empty for a device."""
    multiple: int = 32
    """Widths that pruning leaves are multiples of this."""
    device: Device | None = None
    machine: Machine | None = None
    """What a CPU target is; None is whatever machine edgevit runs on."""
    modes: tuple[PowerMode, ...] = ()
    jetpacks: tuple[JetPack, ...] = ()
    date: str | None = None
    """Day of the facts that age, in ISO 8601: the table of JetPacks."""
    sources: dict[str, str] | None = None
    """Where the facts come from, and which are assumptions."""

    def engine(self, machine: str | None = None) -> str:
        """Name of the engine for a machine type, as ``platform.machine()`` names it; None is the target's, else this one's."""
        own = self.machine.arch if self.machine is not None else None
        return self.engines.get(machine or own or platform.machine(), self.engines["default"])

    def on(self, engine: str) -> Target:
        """The same device with the engine called ``engine``, on every type of machine."""
        return replace(self, engines={"default": engine})

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; each power mode with its dense peaks."""
        modes = [asdict(mode) for mode in self.modes]
        if self.device is not None:
            for mode, document in zip(self.modes, modes, strict=True):
                document["int8_tops"] = round(self.device.peak(mode, "int8") / 1e12, 2)
                document["fp16_tflops"] = round(self.device.peak(mode, "fp16") / 1e12, 2)
        return asdict(self) | {"modes": modes}


def load_target(name: str) -> Target:
    """Load a shipped target by name, or a target file by path.

    Raises ConfigError: one line with the file, the key, what it must be and what it is.
    """
    path = find_toml("targets", name)
    data = read_toml(path)
    _check(path, "", data, _TARGET, required={"description", "precisions", "engine"})
    boards, engines = tuple(data.get("boards", ())), data["engine"]
    target = Target(
        name=path.stem,
        description=data["description"],
        precisions=tuple(data["precisions"]),
        engines=engines,
        minimum=data.get("minimum", {}),
        family=data.get("family"),
        boards=boards,
        multiple=data.get("multiple", _multiple(engines)),
        device=_section(path, "device", data["device"], Device, _DEVICE) if "device" in data else None,
        machine=_section(path, "machine", data["machine"], Machine, _MACHINE) if "machine" in data else None,
        modes=tuple(_section(path, "mode", mode, PowerMode, _MODE) for mode in data.get("mode", ())),
        jetpacks=tuple(_section(path, "jetpack", item, JetPack, _JETPACK) for item in data.get("jetpack", ())),
        date=data.get("date"),
        sources=data.get("sources"),
    )
    for problem in _contradictions(target):
        msg = f"{path}: {problem} See targets/README.md."
        raise ConfigError(msg)
    return target


def jetpacks() -> tuple[JetPack, ...]:
    """All that are known, oldest first."""
    return load_target(FAMILY).jetpacks


def version_of(text: str) -> tuple[int, ...]:
    """``10.3.0`` as numbers, to compare."""
    return tuple(int(part) for part in text.split("."))


def l4t_range(text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """First and last version of a `JetPack.l4t`."""
    first, _, last = text.partition(" to ")
    return version_of(first), version_of(last or first)


def _multiple(engines: dict[str, str]) -> int:
    """What all ``engines`` pack INT8 channels by; an engine that is not known is taken to be a CPU's."""
    return max(ENGINES[engine].multiple if engine in ENGINES else CPU_MULTIPLE for engine in engines.values())


# --- what a file may say ---------------------------------------------------------------------------------------------

Rule = tuple[Callable[[Any], bool], str]
"""Whether a value fits, and what to say it must be."""


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _texts(fits: Callable[[Any], bool], *, some: bool = False) -> Callable[[Any], bool]:
    """A list of different texts that fit each; at least one if ``some``."""

    def check(value: Any) -> bool:
        return isinstance(value, list) and all(map(fits, value)) and len(set(value)) == len(value) and (bool(value) or not some)

    return check


def _table(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(fits, value.values()))


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_date(value: Any) -> bool:
    try:
        return _matches(r"\d{4}-\d\d-\d\d")(value) and date.fromisoformat(value) is not None
    except ValueError:
        return False


def _is_l4t(value: Any) -> bool:
    if not _matches(r"\d+\.\d+\.\d+( to \d+\.\d+\.\d+)?")(value):
        return False
    first, last = l4t_range(value)
    return first <= last


_LINE = _matches(r"\S|\S.*\S")
_VERSION = _matches(r"\d+(\.\d+)*")

TEXT: Rule = (_LINE, "a line of text")
NUMBER: Rule = (lambda value: type(value) in (int, float) and 0 < value < math.inf, "a number above 0")
COUNT: Rule = (lambda value: type(value) is int and value >= 1, "a whole number of at least 1")
COUNT_OR_NONE: Rule = (lambda value: type(value) is int and value >= 0, "a whole number of at least 0")
VERSION: Rule = (_VERSION, 'a version like "10.3"')

_TARGET: dict[str, Rule] = {
    "description": TEXT,
    "precisions": (_texts(lambda item: item in PRECISIONS, some=True), f"a list of some of {', '.join(PRECISIONS)}, each once"),
    "engine": (
        lambda value: _table(_LINE)(value) and "default" in value,
        "a table of engine names by machine type, with a default",
    ),
    "minimum": (_table(_VERSION), 'a table of versions like "10.3" by engine name'),
    "family": (lambda value: isinstance(value, str) and value in FAMILIES, f"one of {', '.join(FAMILIES)}"),
    "boards": (_texts(_LINE), "a list of target names, each once"),
    "multiple": COUNT,
    "device": (lambda value: isinstance(value, dict), "a table, [device]"),
    "machine": (lambda value: isinstance(value, dict) and bool(value), "a table, [machine], with arch or models"),
    "mode": (_is_list, "tables, [[mode]]"),
    "jetpack": (_is_list, "tables, [[jetpack]]"),
    "date": (_is_date, 'a day like "2026-08-21", in quotes'),
    "sources": (_table(_LINE), "a table of lines of text"),
}
_DEVICE: dict[str, Rule] = {
    "compute_capability": (_matches(r"\d+\.\d"), 'a text like "8.7"'),
    "memory_gb": NUMBER,
    "dla": COUNT_OR_NONE,
    "int8_ops": COUNT,
    "fp16_ops": COUNT,
    "fp32_ops": COUNT,
    "modules": (_texts(_matches(r"p\d{4}-\d{4}")), 'a list of part numbers like "p3767-0004", each once'),
}
_MACHINE: dict[str, Rule] = {"arch": TEXT, "models": (_texts(_LINE, some=True), "a list of names, each once")}
_MODE: dict[str, Rule] = {
    "name": TEXT,
    "sms": COUNT,
    "gpu_mhz": NUMBER,
    "id": COUNT_OR_NONE,
    "conf": (lambda value: value in CONFS, f"one of {', '.join(CONFS)}"),
    "default": (lambda value: isinstance(value, bool), "true or false"),
    "bandwidth_gbs": NUMBER,
}
_JETPACK: dict[str, Rule] = {
    "version": TEXT,
    "l4t": (_is_l4t, 'a version like "36.4.3", or a range like "36.4.0 to 36.4.2"'),
    "tensorrt": VERSION,
    "cuda": VERSION,
    "python": VERSION,
    "boards": TEXT,
}


def _check(path: Path, table: str, data: dict[str, Any], rules: dict[str, Rule], required: set[str]) -> None:
    check_keys(path, table, data, set(rules))
    for key, (fits, form) in rules.items():
        if key in data and fits(data[key]):
            continue
        if key in data or key in required:
            found = repr(data[key]) if key in data else "missing"
            msg = f"{path}: {table + '.' if table else ''}{key} must be {form}, and is {found}. See targets/README.md."
            raise ConfigError(msg)


def _section(path: Path, name: str, table: Any, form: type[Any], rules: dict[str, Rule]) -> Any:
    """A table of the file as a dataclass."""
    if not isinstance(table, dict):
        msg = f"{path}: {name} must be tables, [[{name}]]. See targets/README.md."
        raise ConfigError(msg)
    required = {item.name for item in fields(form) if item.default is MISSING}
    _check(path, name, table, rules, required)
    return form(**{key: tuple(value) if isinstance(value, list) else value for key, value in table.items()})


def _contradictions(target: Target) -> list[str]:
    """What is wrong although every key is right."""
    found = []
    for board in target.boards:
        known = [name for name in shipped_names("targets") if name != target.name]
        if board not in known:
            found.append(f"boards: unknown {board!r}. {did_you_mean(board, known)}")
    if target.machine is not None and target.device is not None:
        found.append("machine is for targets without a [device], which is recognised by that.")
    for engine in target.minimum:
        if engine not in target.engines.values():
            found.append(f"minimum: unknown {engine!r}. {did_you_mean(engine, set(target.engines.values()))}")
    if target.modes and target.device is None:
        found.append("mode needs a [device] whose clocks it sets.")
    if target.jetpacks and target.date is None:
        found.append("jetpack needs a date: when the table was true.")
    if target.jetpacks != tuple(sorted(target.jetpacks, key=lambda item: l4t_range(item.l4t))):
        found.append("jetpack: list the oldest first.")
    for conf in CONFS:
        modes = [mode for mode in target.modes if mode.conf == conf]
        if sum(mode.default for mode in modes) > 1:
            found.append(f"mode: two of conf {conf} are the default.")
        for key in ("id", "name"):
            values = [value for mode in modes if (value := getattr(mode, key)) is not None]
            found += [f"mode.{key}: {value!r} twice in conf {conf}." for value in sorted(set(values)) if values.count(value) > 1]
    return found
