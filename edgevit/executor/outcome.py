"""What a worker sends back of a task: its result, or its error in a form that can be sent."""

from __future__ import annotations

import pickle
import traceback
from dataclasses import dataclass
from typing import Any

from edgevit.errors import EdgevitError
from edgevit.executor.task import Task, Warm


class TaskError(RuntimeError):
    """A fault inside a task that is no `EdgevitError`; its text has the trace of the worker."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one task."""

    content: bytes = b""
    """Its result, pickled; empty if it failed."""
    error: EdgevitError | None = None
    fault: str = ""
    """The trace of any other error."""

    def result(self) -> Any:
        """What the task gave. Raises what it raised: EdgevitError as it was, all else as `TaskError`."""
        if self.error is not None:
            raise self.error
        if self.fault:
            raise TaskError(self.fault)
        return pickle.loads(self.content)


def outcome_of(task: Task, warm: Warm) -> Outcome:
    """Do ``task`` and keep what comes of it. Lets nothing but the end of the process through."""
    try:
        return Outcome(content=pickle.dumps(task.run(warm), pickle.HIGHEST_PROTOCOL))
    except EdgevitError as error:
        error.__traceback__ = error.__cause__ = error.__context__ = None
        return Outcome(error=error)
    except Exception as error:
        name = f"{task.name}: {type(error).__name__}: {error}"
        return Outcome(fault=f"{name}\n{traceback.format_exc()}")
