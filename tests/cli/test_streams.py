"""Labels, file names and messages on outputs that are not UTF-8: text with escapes, no error."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgevit.cli.streams import forgiving_streams
from tests.support import COMMAND, ROOT

TEXT = "Mäusebussard 小鸟 \U0001f426 caf\udce9"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_every_text_can_be_written(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And JSON that is written so reads back as it was."""
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    forgiving_streams()
    for stream in streams.values():
        stream.write(json.dumps(TEXT, ensure_ascii=False))
        stream.flush()
        assert json.loads(stream.buffer.getvalue().decode(encoding)) == TEXT  # type: ignore[attr-defined]


def test_a_stream_of_another_kind_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    forgiving_streams()


@pytest.mark.parametrize("encoding", ["ascii:strict", "latin-1:strict", "utf-8:strict"])
def test_a_command_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    """An error names a path that no encoding has."""
    name = os.fsencode(tmp_path) + "/小鸟".encode() + b"-\xff"
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "inspect", name],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 5
    assert b"internal" not in done.stderr
    assert done.stderr.count(b"\n") == 1
