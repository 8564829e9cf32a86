"""docs/troubleshooting.md: every message that it quotes is one that edgevit prints, and every exit code is there."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from edgevit import errors
from tests.support import ROOT

TEXT = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"^\| `([^`]+)` \|", TEXT, re.MULTILINE)


@cache
def texts() -> tuple[str, ...]:
    """Every text in edgevit's code; what is put into it is a gap, shown as NUL."""
    found = set()
    for path in (ROOT / "edgevit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return tuple(found)


def holds(text: str, message: str) -> bool:
    """Whether the fixed parts of ``message`` stand in ``text``, in their order."""
    parts = [re.escape(part.strip()) for part in message.split("...") if part.strip(" .:,(")]
    return re.search(r"[\s\S]*?".join(parts), text) is not None


def test_there_are_messages() -> None:
    assert len(QUOTED) > 45


@pytest.mark.parametrize("message", QUOTED)
def test_message_is_one_of_edgevits(message: str) -> None:
    """A message that was changed in the code is changed here, too."""
    assert any(holds(text, message) for text in texts()), f"docs/troubleshooting.md quotes what no code says: {message}"


def test_made_up_messages_are_found_out() -> None:
    assert not any(holds(text, "...: the camera is tired") for text in texts())


def test_every_exit_code_is_explained() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.EdgevitError)]
    for code in {each.exit_code for each in kinds} - {1}:
        assert re.search(rf"^## {code}: ", TEXT, re.MULTILINE), code
    assert all(f"| {code} |" in TEXT for code in (*range(12), 70, 130))
