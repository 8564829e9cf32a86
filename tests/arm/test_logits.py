"""Logits on Arm against those of x86, of ONNX Runtime on both, on the same frames and graphs; the table goes beside the root.

x86's own are right: `tests/engine` holds them against torch.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgevit.bundle import MODEL, REFERENCE, open_bundle
from edgevit.commands.steps import Step
from edgevit.commands.steps.merge import Merge
from edgevit.commands.steps.prune import Prune
from edgevit.device.processor import processor
from edgevit.export.graph import write_graph
from edgevit.images.dataset import load_images
from edgevit.model.quantplan import QuantPlan
from edgevit.preprocess import prepare
from edgevit.pruning.settings import PruneSettings
from edgevit.tokens.settings import MergeSettings
from edgevit.unreported import import_onnxruntime
from tests.arm import inference
from tests.arm.inference import infer_all
from tests.arm.machine import Arm
from tests.support import CLASSES, built, picture
from tests.zoo import ZOO, folded, frames, int8_of

pytestmark = pytest.mark.slow

BOARDS = {
    "pi3": "Cortex-A53: no dot products", "pi5": "Cortex-A76: dot products (SDOT)", "server": "Neoverse-V1: and I8MM, SVE, BF16",
}  # fmt: skip
"""Processors whose kernels differ. An Orin's Cortex-A78AE has what the second has; a Raspberry Pi 4's what the first has."""
FP32 = 85.0  # dB: what tests/engine asks of every engine against torch
INT8 = 30.0  # dB: two right engines may round a tie apart, and what follows carries it on


@dataclass(frozen=True)
class Difference:
    """Of one model's logits on Arm from those on x86."""

    sqnr: float
    """Of the logits, dB; infinite if none differs."""
    largest: float
    """Of all differences, in units of the logits' standard deviation."""
    agreement: float
    """Share of frames with the same first class."""

    @classmethod
    def of(cls, arm: np.ndarray, x86: np.ndarray) -> Difference:
        error = float(np.square(arm.astype(np.float64) - x86).sum())
        sqnr = 10 * np.log10(float(np.square(x86, dtype=np.float64).sum()) / error) if error else np.inf
        largest = float(np.abs(arm - x86).max() / x86.std())
        return cls(sqnr, largest, float((arm.argmax(1) == x86.argmax(1)).mean()))


class Table:
    """What was found, printed at the end and kept beside the root."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    def add(self, models: str, board: str, found: list[Difference]) -> None:
        worst = min(each.sqnr for each in found)
        same = sum(each.sqnr == np.inf for each in found)
        cells = [models, BOARDS[board], f"{same} of {len(found)}", f"{worst:.0f}" if np.isfinite(worst) else "-",
                 f"{max(each.largest for each in found):.1e}",
                 f"{100 * min(each.agreement for each in found):.0f} %"]  # fmt: skip
        self.rows.append(f"| {' | '.join(cells)} |")

    def __str__(self) -> str:
        head = "| models | processor | bit for bit | worst SQNR dB | largest difference, of a standard deviation | same class |"
        version = f"ONNX Runtime {import_onnxruntime().__version__}, x86 is {processor()} ({platform.machine()})"
        return "\n".join([version, "", head, "|---|---|---|---|---|---|", *self.rows, ""])


@pytest.fixture(scope="module")
def table(arm: Arm, request: pytest.FixtureRequest):
    found = Table()
    yield found
    (arm.root.parent / "logits.md").write_text(str(found))
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{found}")


def compared(arm: Arm, folder: Path, board: str) -> dict[str, Difference]:
    """By the names of the graphs in ``folder``, on ``board``."""
    there, script = folder / f"{board}.npz", folder / "inference.py"
    script.write_bytes(Path(inference.__file__).read_bytes())
    done = arm.run("python", script, folder, there, 1, board=board, seconds=3600)
    assert done.code == 0, done.stderr
    here = folder / "x86.npz"
    if not here.exists():
        infer_all(folder, here)
    with np.load(there) as on_arm, np.load(here) as on_x86:
        assert sorted(on_arm) == sorted(on_x86)
        return {name: Difference.of(on_arm[name], on_x86[name]) for name in on_arm}


def put(folder: Path, name: str, graph: bytes, images: np.ndarray) -> None:
    (folder / f"{name}.onnx").write_bytes(graph)
    np.save(folder / f"{name}.npy", images)


@pytest.fixture(scope="module")
def zoo(arm: Arm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Graphs of all kinds of ViT that there are, FP32 and INT8."""
    folder = tmp_path_factory.mktemp("zoo")
    for name, changes in ZOO.items():
        model, file = folded(**changes), name.replace(" ", "-")
        images = frames(model.config, 4)
        put(folder, f"fp32 {file}", write_graph(QuantPlan(model=model)), images)
        put(folder, f"int8 {file}", write_graph(int8_of(name)), images)
    return folder


@pytest.mark.parametrize("board", BOARDS)
def test_all_kinds_of_vit(arm: Arm, zoo: Path, board: str, table: Table) -> None:
    found = compared(arm, zoo, board)
    assert len(found) == 2 * len(ZOO)
    for precision, least in (("fp32", FP32), ("int8", INT8)):
        these = {name: each for name, each in found.items() if name.startswith(precision)}
        table.add(f"{len(these)} small ViTs with random weights, {precision}", board, list(these.values()))
        assert not {name: each for name, each in these.items() if each.sqnr < least}


SMALLER: dict[str, tuple[Step, ...]] = {
    "as it is": (),
    "merged": (Merge(MergeSettings(merges=((0, 6),))),),
    "pruned": (Prune(PruneSettings(share=0.2, multiple=8)),),
}


@pytest.fixture(scope="module")
def bundles(arm: Arm, checkpoint_path: Path, image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Graphs of a trained ViT, FP32 and INT8, as they lie in its bundles, and prepared images that none was made with."""
    folder = tmp_path_factory.mktemp("trained")
    for name, steps in SMALLER.items():
        out = tmp_path_factory.mktemp("bundle")
        bundle = open_bundle(built(checkpoint_path, out, data=image_folder, smaller=steps))
        images = [prepare(picture(kind, seed), bundle.manifest.preprocessing) for kind in CLASSES for seed in range(500, 516)]
        put(folder, f"int8 {name}", bundle.read(MODEL), np.stack(images))
        put(folder, f"fp32 {name}", bundle.read(REFERENCE), np.stack(images))
    return folder


@pytest.mark.parametrize("board", BOARDS)
def test_trained_bundles(arm: Arm, bundles: Path, board: str, table: Table) -> None:
    """As they are, with tokens merged, and pruned: the same classes."""
    found = compared(arm, bundles, board)
    for name, each in found.items():
        table.add(f"trained, {name}", board, [each])
    assert {each.agreement for each in found.values()} == {1.0}
    assert not {name: each for name, each in found.items() if each.sqnr < (FP32 if name.startswith("fp32") else INT8)}


@pytest.fixture(scope="module")
def own(arm: Arm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Graphs of the bundle $EDGEVIT_ARM_BUNDLE, FP32 and INT8, and 4 prepared images of the folder $EDGEVIT_ARM_IMAGES."""
    path, pictures = os.environ.get("EDGEVIT_ARM_BUNDLE"), os.environ.get("EDGEVIT_ARM_IMAGES")
    if not path or not pictures:
        pytest.skip(
            "name a bundle in $EDGEVIT_ARM_BUNDLE and a folder of images in $EDGEVIT_ARM_IMAGES: 1 to 2 minutes a processor"
        )
    bundle, folder = open_bundle(Path(path), None), tmp_path_factory.mktemp("own")
    found = load_images(Path(pictures))
    images = [prepare(found.frame(len(found) * at // 4), bundle.manifest.preprocessing) for at in range(4)]
    for precision, file in (("int8", MODEL), ("fp32", REFERENCE)):
        put(folder, precision, bundle.read(file), np.stack(images))
    return folder


@pytest.mark.parametrize("board", BOARDS)
def test_a_bundle_of_ones_own(arm: Arm, own: Path, board: str, table: Table) -> None:
    """A real model: FP32 as x86 has it, and INT8 as near as its quantization error at least."""
    found = compared(arm, own, board)
    for precision, each in found.items():
        table.add(f"{Path(os.environ['EDGEVIT_ARM_BUNDLE']).stem}, {precision}", board, [each])
    assert found["fp32"].sqnr > 60
    assert found["int8"].sqnr > 20
