"""docs/start.md's commands are run as they stand, but for what a test has not: a hub, a camera, a board and a text tower."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import ROOT, Outcome, built, write_images

FIXTURES = Path(__file__).parent / "model" / "fixtures"
CLIP = FIXTURES / "real" / "huggingface_clip_tower"
CAMERA = "test://64x64@30?frames=8"
NAMES = ("facebook/dinov2-small", "google/vit-base-patch16-224", "timm:vit_small_patch16_224.augreg_in21k_ft_in1k", "my-model/")
"""What stands for any ViT."""


def sections() -> dict[str, list[str]]:
    """Commands by heading."""
    text = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    parts = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    found = {}
    for part in parts:
        lines = [line for block in re.findall(r"```sh\n(.*?)```", part, re.DOTALL) for line in block.splitlines()]
        found[part.splitlines()[0]] = [line for line in lines if line.startswith("edgevit ")]
    return found


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


def words(line: str, checkpoint: Path) -> list[str]:
    """A command's arguments, with what is at hand in the place of what is not."""
    found = shlex.split(line)[1:]
    if found[0] == "build" and "--classes" in found:
        at = found.index("--classes")
        found[at : at + 4] = ["--text-embeddings", str(CLIP / "embeddings.npz")]
        found[1] = str(CLIP)
    found = [str(checkpoint) if word in NAMES else word for word in found]
    if found[0] in ("run", "collect"):
        found = [CAMERA if word == "0" else word for word in found]
    return [*found, "--headless"] if found[0] == "run" else found


@pytest.mark.parametrize("heading", sections())
def test_commands_of_a_section(
    heading: str, place: Path, checkpoint_path: Path, edgevit: Callable[..., Outcome]
) -> None:  # fmt: skip
    for line in sections()[heading]:
        outcome = edgevit(*words(line, checkpoint_path))
        assert outcome.code == 0, f"{line}\n{outcome.stderr}"
    assert (place / "photos").is_dir()
