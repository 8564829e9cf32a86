"""Files of labels as editors and programs write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgevit.errors import ConfigError
from edgevit.model.reading.labels import user_labels


@pytest.mark.parametrize("content", [
    b"cat\ndog\nfox\n", b"cat\r\ndog\r\nfox", b"\xef\xbb\xbfcat\n\n  dog \n\nfox\n\n", "cat\r\ndog\r\nfox\r\n".encode("utf-16"),
], ids=["plain", "CRLF", "BOM and blank lines", "UTF-16"])  # fmt: skip
def test_labels_as_editors_write_them(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    assert user_labels(tmp_path / "labels.txt", 3) == ("cat", "dog", "fox")


def test_labels_that_never_end_are_refused(tmp_path: Path) -> None:
    """A pipe waits for ever, a device fills the memory, brackets the stack."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with (tmp_path / "long.txt").open("wb") as stream:
        stream.truncate(2**25)
    for name in ("pipe", "zero", "deep.json", "long.txt"):
        with pytest.raises(ConfigError, match=f"{name}: cannot be read as labels"):
            user_labels(tmp_path / name, 3)
