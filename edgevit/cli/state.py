"""``--state`` of ``edgevit run``: the file is there before the first frame, and says at the end how the run ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgevit.bundle import Bundle
    from edgevit.runtime.sinks.state import StateFile

MOST = 2000
"""Characters of what the file says of its sources."""


@contextmanager
def open_state(bundle: Bundle, values: dict[str, Any]) -> Iterator[StateFile | None]:
    """The sink that keeps the file for as long as the block lasts; None where nobody asked for one."""
    if values["state"] is None:
        yield None
        return
    from edgevit import __version__
    from edgevit.cli import INTERRUPTED, explain
    from edgevit.cli.console import note
    from edgevit.runtime.cameras import shown_source
    from edgevit.runtime.sinks.state import StateFile, begun

    first = begun(bundle.sha256, bundle.manifest.name, ", ".join(map(shown_source, values["source"]))[:MOST], __version__)
    state = StateFile(values["state"], first, note=note)
    try:
        yield state
    except KeyboardInterrupt:
        state.end(INTERRUPTED, "interrupted before the first frame")
        raise
    except Exception as error:
        line, code = explain(error)
        state.end(code, line)
        raise
    state.end(0)
