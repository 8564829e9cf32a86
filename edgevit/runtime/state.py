"""What a run tells others on its machine: one small JSON file, and how it is read back.

Who reads it may be another process, another user or another machine, and who wrote it another version of edgevit. So every field
is held against its type and bounds, and what a newer edgevit tells besides is passed over.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from edgevit.errors import StateError
from edgevit.files.bounded import read_bounded
from edgevit.files.fromjson import conform, json_value

SCHEMA = 1
KEY = "edgevit_state"
"""The first key of the file: its value is `SCHEMA`."""
PLACE = "EDGEVIT_STATE"
"""Environment variable: the file, for `edgevit run` and `edgevit healthcheck`."""
LIMIT = 64 * 2**10
"""Bytes of such a file, at most."""

Count = Annotated[int, Meta(ge=0)]
Short = Annotated[str, Meta(max_length=2000)]
Seconds = Annotated[float, Meta(ge=0)]
Phase = Literal["starting", "running", "ended"]


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds from capture to label that 50 and 99 % of the latest frames did not exceed."""

    p50: Seconds
    p99: Seconds


@dataclass(frozen=True, kw_only=True)
class RunState:
    """One run of ``edgevit run``, at one moment. Times are seconds since 1970, by that machine's clock."""

    version: Short
    """Of edgevit."""
    bundle: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the bundle's ``manifest.json``, and so of the whole bundle."""
    model: Short
    source: Short
    """As it was asked for, without passwords; several with commas between."""
    pid: Annotated[int, Meta(ge=1)]
    started: Seconds
    updated: Seconds
    """When this was written: every second, also while no frame comes."""
    engine: Short | None = None
    """None until it is loaded."""
    source_fps: Annotated[float, Meta(ge=0)] | None = None
    """Frames per second that the sources say they give, all together; None where one does not say, and of images."""
    live: bool = False
    """Whether a source is one that does not wait: a camera, a stream."""
    frames: Count = 0
    """Classified so far."""
    last_frame: Seconds | None = None
    """When the newest label was known; None before the first."""
    fps: Seconds | None = None
    """Labels per second over the latest `edgevit.runtime.sinks.state.WINDOW_S`; None before there are two, 0 when none comes."""
    latency_ms: Latency | None = None
    """Of the same frames."""
    dropped: Count = 0
    """Frames that were overtaken by newer ones."""
    skipped: Count = 0
    """Frames that could not be decoded."""
    reconnects: Count = 0
    """Connections to sources that came back."""
    unknown: Count = 0
    """Frames that were called unknown."""
    last_error: Short | None = None
    """What ended the run, else a camera that is lost for good, else an output that fails now, else why a source was lost last."""
    telemetry: dict[str, float | str | None] = field(default_factory=dict)
    """`edgevit.device.telemetry.Telemetry.sample`: temperature, power, clocks, load."""
    ended: Seconds | None = None
    """When the run ended in order; None while it goes on, and of one that was killed."""
    exit: Annotated[int, Meta(ge=0, le=255)] | None = None
    """Its exit code then."""

    @property
    def phase(self) -> Phase:
        """``starting`` until the first label."""
        return "ended" if self.ended is not None else "running" if self.frames else "starting"

    @property
    def unknown_share(self) -> float | None:
        """Of the frames so far; None before the first."""
        return self.unknown / self.frames if self.frames else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, as in the file."""
        return {KEY: SCHEMA, **asdict(self)}

    def to_json(self) -> str:
        """The text of the file: one line. Numbers that JSON does not know are null."""
        return json.dumps(_finite(self.to_dict()), ensure_ascii=False) + "\n"


def parse_state(text: str | bytes, where: str = "") -> RunState:
    """The state in a file's ``text``; fields of a newer edgevit are passed over. Raises ValueError for anything else."""
    if len(text) > LIMIT:
        msg = f"it is longer than {LIMIT:,} bytes"
        raise ValueError(msg)
    return state_of(json_value(text), where)


def state_of(found: object, where: str = "") -> RunState:
    """The state in the JSON value ``found``, as `RunState.to_dict` has it. Raises ValueError for anything else."""
    if not isinstance(found, dict) or found.get(KEY) != SCHEMA:
        msg = "it is no state of edgevit run"
        raise ValueError(msg)
    known = {each.name for each in fields(RunState)}
    state = conform({key: value for key, value in found.items() if key in known}, RunState, where)
    if _finite(state.to_dict()) != state.to_dict():
        msg = "it holds a number that is not finite"
        raise ValueError(msg)
    return state


def read_state(path: Path) -> RunState:
    """The state that ``edgevit run --state`` keeps at ``path``. Raises StateError if there is none, or it is something else."""
    try:
        return parse_state(read_bounded(path, LIMIT))
    except FileNotFoundError as error:
        msg = f"{path}: there is no such file: nothing runs with --state {path}, or it has not begun."
        raise StateError(msg) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        msg = f"{path}: cannot be read as the state of a run: {reason}. Name the file that edgevit run has with --state."
        raise StateError(msg) from error


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    return None if isinstance(data, float) and not math.isfinite(data) else data
