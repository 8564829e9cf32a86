"""What tests share: a tiny trained model, images of three classes, a bundle of it, and a cache of their own."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import COMMAND, Outcome, built, python, trained, write_images

if TYPE_CHECKING:
    from edgevit.images.dataset import ImageSet
    from edgevit.model.checkpoint import Checkpoint

EACH = 32  # images a class: 96, of which the default recipe calibrates on 64

# Models here are tiny: on a busy machine torch's threads cost seven times what they gain. Set before anything imports torch;
# processes inherit it.
os.environ["OMP_NUM_THREADS"] = "1"
# No test asks a hub of the world for a model; those of the hub have one on loopback. Read when huggingface_hub is imported.
os.environ["HF_HUB_OFFLINE"] = "1"
# FFmpeg reads it once in a process, and a test that writes a video may come before one that opens a damaged one.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


LONGEST = (
    "test_readme.py", "test_deploy.py", "test_plans.py", "test_pruning.py", "test_build.py", "test_graph.py", "test_bad_input.py",
    "test_fuzz.py", "test_compare.py", "test_streams.py", "test_target_build.py",
)  # fmt: skip
"""Files of tests that take longest, which the workers begin with: at the end nobody waits for one of them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, all else as it was."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.fixture(autouse=True)
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for every test: results of one never help another, or the user's own."""
    folder = tmp_path / "edgevit-cache"
    monkeypatch.setenv("EDGEVIT_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def checkpoint(checkpoint_path: Path) -> Checkpoint:
    """The one of `checkpoint_path`, read. Leave its model alone."""
    from edgevit.model.checkpoint import load_checkpoint

    return load_checkpoint(checkpoint_path)


@pytest.fixture(scope="module")
def images(image_folder: Path) -> ImageSet:
    """Those of `image_folder`."""
    from edgevit.images.dataset import load_images

    return load_images(image_folder)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 images, a class per subfolder. Read only."""
    return write_images(tmp_path_factory.mktemp("images"), EACH)


@pytest.fixture(scope="session")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT of 2 blocks, trained for a second on images that `image_folder` does not hold. Read only."""
    return trained(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="session")
def bundle_path(checkpoint_path: Path, image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An INT8 bundle folder of `checkpoint_path`, calibrated on `image_folder`. Read only."""
    return built(checkpoint_path, tmp_path_factory.mktemp("bundle"), data=image_folder)


@pytest.fixture(scope="session")
def fp32_bundle_path(checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An FP32 bundle folder of `checkpoint_path`, made without images: right on every engine and processor. Read only."""
    return built(checkpoint_path, tmp_path_factory.mktemp("fp32"), precision="fp32")


@lru_cache(maxsize=64)
def _compiled(compiler: Callable[..., Any], model: bytes, threads: int | None, options: tuple[Any, ...], _usual: str) -> Any:
    """OpenVINO takes a quarter of a second for the tiniest graph, and most tests of commands run the same few."""
    from edgevit.engine.openvino import OpenVino

    return compiler(OpenVino(), model, threads, dict(options))


@pytest.fixture
def edgevit(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Runs ``edgevit`` with arguments, inside this process: fast."""
    from click.testing import CliRunner

    from edgevit.cli import main
    from edgevit.commands import build
    from edgevit.engine.openvino import OpenVino, openvino_options
    from edgevit.unreported import import_openvino

    monkeypatch.setattr(build, "RUNS", 5)
    compiler = OpenVino.compiled

    def compiled_once(engine: OpenVino, model: bytes, threads: int | None, options: dict[str, object], *, batch: int = 1) -> Any:
        import_openvino()  # a test may have hidden it
        if batch > 1:
            return compiler(engine, model, threads, options, batch=batch)
        return _compiled(compiler, model, threads, tuple(options.items()), str(openvino_options(threads)))

    monkeypatch.setattr(OpenVino, "compiled", compiled_once)

    def run(*arguments: object) -> Outcome:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="edgevit")
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def edgevit_process() -> Callable[..., Outcome]:
    """Runs ``edgevit`` with arguments in a process of its own; ``without`` names packages to hide."""

    def run(*arguments: object, without: tuple[str, ...] = (), seconds: float = 60) -> Outcome:
        with python(COMMAND, *arguments, without=without) as process:
            stdout, stderr = process.communicate(timeout=seconds)
        return Outcome(process.returncode, stdout, stderr)

    return run
