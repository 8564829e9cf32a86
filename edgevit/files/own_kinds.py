"""The kinds of files that edgevit writes, by how they begin: an output replaces, or is appended to, its own kind only."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgevit.errors import ConfigError, StorageError
from edgevit.files.fromjson import json_value
from edgevit.files.paths import looked_at

HEAD = 4096  # bytes that tell
GENERATOR = '<meta name="generator" content="edgevit">'
"""In the head of an HTML report."""
UNIT_MARK = "# Written by edgevit service."
"""How a unit of systemd begins."""
ACCEPTANCE_MARK = "<!-- Written by edgevit doctor --acceptance. -->"
"""The first line of its report; unseen where it is shown."""
PLOT_MARK = 'data-by="edgevit sweep"'
"""In the first tag of its plot."""
COMMENT = "<!-- Written by edgevit compare. -->"
"""At the end of a Markdown report's first line; unseen where it is shown."""
_PICTURES = {
    ".png": b"\x89PNG\r\n\x1a\n",
    ".jpg": b"\xff\xd8\xff",
    ".jpeg": b"\xff\xd8\xff",
    ".webp": b"RIFF",
    ".npy": b"\x93NUMPY",
}


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """One kind of file."""

    name: str
    """With its article, for messages."""
    begins: Callable[[str, bytes], bool]
    """Whether a file with this suffix (in lower case) may begin so; it is not asked about empty ones."""
    stream: bool = False
    """Whether it is written line by line, so that a pipe or a terminal does as well."""


def require_kind(path: Path, kind: FileKind) -> None:
    """Raise ConfigError if ``path`` is there, and neither empty nor of ``kind``; StorageError if it cannot be looked at."""
    found = looked_at(path, StorageError)
    if found is None or (kind.stream and not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode)):
        return
    if not stat.S_ISREG(found.st_mode):
        msg = f"{path}: is no regular file, so {kind.name} cannot take its place. Choose another name."
        raise ConfigError(msg)
    head = _head(path)
    if head and not kind.begins(path.suffix.lower(), head):
        msg = f"{path}: holds something else, not {kind.name}; it is left as it is. Choose another name."
        raise ConfigError(msg)


def _head(path: Path) -> bytes:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            return file.read(HEAD)
    except OSError as error:
        msg = f"{path}: is there and cannot be read ({error.strerror}), so it is left as it is. Choose another name."
        raise StorageError(msg) from error


def _video(suffix: str, head: bytes) -> bool:
    return head[4:8] == b"ftyp" if suffix == ".mp4" else head[:4] == b"RIFF" and head[8:12] == b"AVI "


def _maps(suffix: str, head: bytes) -> bool:
    # The first of the archive's members is the frame: an .npz of images, or of a bundle, begins otherwise.
    return head[:4] == b"PK\3\4" and head[30:39] == b"frame.npy" if suffix == ".npz" else head.startswith(_PICTURES[suffix])


def _result(_suffix: str, head: bytes) -> bool:
    line, _, rest = head.partition(b"\n")
    try:
        first = json_value(line)
    except ValueError:
        # A line that is longer than what was read, or that a power cut ended.
        return not rest and line.startswith(b'{"seconds": ')
    return isinstance(first, dict) and {"seconds", "frame"} <= first.keys()


VIDEO = FileKind(name="a video", begins=_video)
RESULTS = FileKind(name="results of edgevit run, a line of JSON each", begins=_result, stream=True)
TABLE = FileKind(name="a table by edgevit run", begins=lambda _, head: head.startswith(b"time,frame,name,"), stream=True)
COLLECTED = FileKind(name="a table by edgevit collect", begins=lambda _, head: head.startswith(b"file,time,source,"), stream=True)
HTML = FileKind(name="an HTML report of edgevit's", begins=lambda _, head: GENERATOR.encode() in head)
MARKDOWN = FileKind(name="a Markdown report of edgevit's", begins=lambda _, head: COMMENT.encode() in head.partition(b"\n")[0])
COMPARISON = FileKind(name="a table by edgevit compare", begins=lambda _, head: head.startswith(b"precision,engine,"))
FEATURES = FileKind(
    name="features by edgevit run", begins=lambda _, head: head[:4] == b"PK\3\4" and head[30:42] == b"features.npy"
)
EMBEDDINGS = FileKind(
    name="text embeddings by edgevit embed", begins=lambda _, head: head[:4] == b"PK\3\4" and head[30:44] == b"embeddings.npy"
)
MAPS = FileKind(name="a picture or an array of attention maps", begins=_maps)
DEPLOYMENT = FileKind(name="a report of edgevit deploy", begins=lambda _, head: head[:1] == b"{" and b'"host":' in head)
ACCEPTANCE = FileKind(
    name="a report of edgevit doctor --acceptance", begins=lambda _, head: head.startswith(ACCEPTANCE_MARK.encode())
)
STATE = FileKind(name="the state of an edgevit run", begins=lambda _, head: head.startswith(b'{"edgevit_state": '))
SWEEP = FileKind(name="a table by edgevit sweep", begins=lambda _, head: head.startswith(b'{\n  "sweep":'))
PLOT = FileKind(name="a plot by edgevit sweep", begins=lambda _, head: head.startswith(b"<svg ") and PLOT_MARK.encode() in head)
DEB = FileKind(name="a Debian package", begins=lambda _, head: head.startswith(b"!<arch>\ndebian-binary"))
MENDER = FileKind(name="a Mender artifact", begins=lambda _, head: head.startswith(b"version\0") and head[257:262] == b"ustar")
UNIT = FileKind(name="a unit by edgevit service", begins=lambda _, head: head.startswith(UNIT_MARK.encode()))
