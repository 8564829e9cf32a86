"""Every error a user can cause. Each says what, where and the next step; ``cli`` prints it, once."""

from __future__ import annotations

import difflib
import errno
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from edgevit.printable import printable


class EdgevitError(Exception):
    """A failure with a known cause. ``exit_code`` is what the command line returns.

    Its text is one line, whatever the names of files, labels and boards in it hold.
    """

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


class ConfigError(EdgevitError):
    """A wrong option, recipe, target or combination of them."""

    exit_code = 2


class CheckpointError(EdgevitError):
    """A model file that cannot be read, or a model that is not a plain ViT."""

    exit_code = 3


class DataError(EdgevitError):
    """Images or labels that are missing, unreadable or of no use."""

    exit_code = 4


class BundleError(EdgevitError):
    """A bundle that is damaged, tampered with or of another schema."""

    exit_code = 5


class EngineError(EdgevitError):
    """An inference engine that refuses a model or cannot start."""

    exit_code = 6


class SourceError(EdgevitError):
    """A camera, video or folder that cannot be opened, or that ends unexpectedly."""

    exit_code = 7


class MissingPackageError(EdgevitError):
    """An optional package that this command needs is not installed."""

    exit_code = 8


class StorageError(EdgevitError):
    """A folder that cannot be written, or a full disk."""

    exit_code = 9


class BudgetError(EdgevitError):
    """An accuracy budget that no plan worth having keeps."""

    exit_code = 10


class RemoteError(EdgevitError):
    """A host that is deployed to and lacks something, or on which a step fails."""

    exit_code = 11


class StateError(EdgevitError):
    """A classifier that should be running and is not healthy, or whose state cannot be read."""

    exit_code = 12


class LinkError(RemoteError):
    """A host that cannot be reached, or a connection that broke: trying again may help."""


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn a missing third-party module inside the block into one line that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module == "edgevit":
            raise
        msg = f"This needs the package {module!r}, which is not installed. {_next_step(module, extra)}"
        if module == "cv2":
            msg += " (on a Jetson or another board use its own OpenCV: apt install python3-opencv)"
        raise MissingPackageError(msg) from error


X86_ALONE = ("openvino",)
"""What edgevit's extras bring for x86-64 alone; a test holds it against pyproject.toml."""


def is_brought(module: str) -> bool:
    """Whether the extra that names the package ``module`` brings it on a processor like this one."""
    return module not in X86_ALONE or platform.machine() in ("x86_64", "AMD64")


def _next_step(module: str, extra: str) -> str:
    if is_brought(module):
        return f"Install it with: pip install 'edgevit[{extra}]'"
    return f"edgevit[{extra}] brings none for {platform.machine()}, where ONNX Runtime runs bundles: --engine onnxruntime"


@contextmanager
def storage_errors(path: object, option: str = "") -> Iterator[None]:
    """Turn an operating-system refusal to write inside the block into a `StorageError` about ``path``.

    ``option`` is what names another place, where there is one: ``--html``.
    """
    try:
        yield
    except OSError as error:
        elsewhere = f" with {option}" if option else ""
        step = f"Free space or choose another place{elsewhere}."
        if error.errno == errno.EBUSY:  # what is mounted by itself cannot be replaced, as in a container
            step = "It is mounted by itself: mount its folder instead, or write into another place."
        msg = f"{path}: cannot write: {error.strerror or error}. {step}"
        raise StorageError(msg) from error


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """A sentence that suggests the nearest known value, else lists them all."""
    known = sorted(known)
    close = difflib.get_close_matches(value, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
