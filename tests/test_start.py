"""docs/start.md's commands are run as they stand, but for what a test has not: a hub, a camera, a board and a text tower."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import ROOT, Outcome, built, write_images
from tests.typed import Typed, at_hand, typed

FIXTURES = Path(__file__).parent / "model" / "fixtures"


def sections() -> dict[str, list[Typed]]:
    """Commands by heading."""
    text = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    parts = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return {part.splitlines()[0]: [line for line in typed(part) if line.is_edgevit] for part in parts}


def test_every_beginning_has_commands() -> None:
    assert len(sections()) >= 8
    assert all(sections().values())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, checkpoint_path: Path) -> Path:
    """What several sections begin from."""
    folder = tmp_path_factory.mktemp("start")
    write_images(folder / "photos", 10)
    write_images(folder / "frames", 6)
    shutil.copy(FIXTURES / "onnx" / "timm" / "model.onnx", folder / "model.onnx")
    shutil.move(built(checkpoint_path, folder, data=folder / "photos"), folder / "cells.edgevit")
    shutil.copytree(folder / "cells.edgevit", folder / "board.edgevit")
    return folder


@pytest.fixture
def place(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it to work in."""
    shutil.copytree(shared, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize("heading", sections())
def test_commands_of_a_section(
    heading: str, place: Path, checkpoint_path: Path, edgevit: Callable[..., Outcome]
) -> None:  # fmt: skip
    for line in sections()[heading]:
        outcome = edgevit(*at_hand(line.arguments, checkpoint_path))
        assert outcome.code == 0, f"{line.line}\n{outcome.stderr}"
    assert (place / "photos").is_dir()
