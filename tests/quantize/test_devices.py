"""What is heavy is computed where the device says, and comes back the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgevit.errors import ConfigError
from edgevit.images.dataset import ImageSet, load_images
from edgevit.model.checkpoint import Checkpoint, load_checkpoint
from edgevit.model.devices import CPU, compute_device
from edgevit.model.planfile import dump_plan, load_plan
from edgevit.model.quantplan import simulate
from edgevit.quantize.fp16 import PeakMeter
from edgevit.quantize.linears import quantize
from edgevit.quantize.quantize import quantization
from edgevit.quantize.streaming import Streamed
from edgevit.recipe import Calibrate, QuantizeSettings, Recipe, load_recipe
from edgevit.workbench import Workbench
from tests.two_devices import OTHER, TwoDevices
from tests.zoo import ZOO, folded, frames


def test_names() -> None:
    assert compute_device("cpu") == CPU
    assert compute_device() == (torch.device("cuda") if torch.cuda.is_available() else CPU)


@pytest.mark.parametrize(("name", "says"), [("meta", "only the CPU and CUDA"), ("gpu0", "no name of a device"),
                                            ("cuda:99", "CUDA devices")])  # fmt: skip
def test_what_is_not_there_is_refused(name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        compute_device(name)


@pytest.fixture
def checkpoint(checkpoint_path: Path) -> Checkpoint:
    return load_checkpoint(checkpoint_path)


@pytest.fixture
def images(image_folder: Path) -> ImageSet:
    return load_images(image_folder).subset(range(12))


def quantized(name: str, recipe: Recipe, device: torch.device) -> tuple[bytes, dict[str, float]]:
    model = folded(**ZOO[name])
    batches, meter = np.array_split(frames(model.config, 11), 3), PeakMeter(model)
    with Streamed(model, batches, images=11, recipe=recipe, meter=meter, device=device) as calibration:
        return dump_plan(quantize(model, calibration, recipe, device=device).plan), meter.found


@pytest.mark.parametrize("name", ZOO)
def test_a_second_device_gives_the_same(name: str) -> None:
    """To the bit, as it is the CPU that plays it; and nothing is left behind there."""
    recipe = Recipe(calibrate=Calibrate(images=11, tokens=64))
    with TwoDevices() as machine:
        there = quantized(name, recipe, OTHER)
    assert machine.moved > 100
    assert there == quantized(name, recipe, CPU)


@pytest.mark.parametrize("ranges", ["percentile", "entropy", "mse", "output"])
@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
def test_every_recipe(ranges: Any, rounding: Any) -> None:
    recipe = Recipe(calibrate=Calibrate(images=11, tokens=64), quantize=QuantizeSettings(ranges=ranges, rounding=rounding))
    with TwoDevices():
        there = quantized("plain", recipe, OTHER)
    assert there == quantized("plain", recipe, CPU)


def test_a_build_uses_it(checkpoint: Checkpoint, images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()

    def other(name: str) -> torch.device:
        asked.append(name)
        return OTHER

    monkeypatch.setattr("edgevit.quantize.quantize.compute_device", other)
    with TwoDevices() as machine:
        there = quantization(checkpoint, images, load_recipe("default"), Workbench(device="cuda:1"))
    assert asked == ["cuda:1"]
    assert machine.moved
    monkeypatch.undo()
    here = quantization(checkpoint, images, load_recipe("default"), replace(Workbench(), device="cpu"))
    batch = torch.from_numpy(np.concatenate(list(images.prepared(checkpoint.preprocessing))))
    found, wanted = simulate(there.plan, batch), simulate(here.plan, batch)
    assert float((found - wanted).square().mean()) < 1e-3 * float(wanted.square().mean())  # sums in another order
    assert [item["rounding"] for item in there.report["layers"]] == [item["rounding"] for item in here.report["layers"]]


def test_two_devices_do_not_mix() -> None:
    """The stand-in refuses what CUDA refuses."""
    with TwoDevices():
        here, there = torch.ones(3), torch.ones(3).to(OTHER)
        assert (here.device, there.device) == (CPU, OTHER)
        for wrong in (lambda: here + there, lambda: torch.cat([here, there]), lambda: there @ here):
            with pytest.raises(RuntimeError, match="one device"):
                wrong()
        with pytest.raises(TypeError):
            there.numpy()
        assert torch.equal((there * 2).to(CPU), here * 2)
        assert all(row.device == OTHER for row in torch.zeros(2, 2, device=OTHER))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@pytest.mark.parametrize("name", ZOO)
def test_cuda_gives_nearly_the_same(name: str) -> None:
    recipe, model = Recipe(calibrate=Calibrate(images=11, tokens=64)), folded(**ZOO[name])
    batch = torch.from_numpy(frames(model.config, 8, seed=9))
    there, here = (
        simulate(load_plan(quantized(name, recipe, device)[0], model), batch) for device in (torch.device("cuda"), CPU)
    )
    assert float((there - here).square().mean()) < 0.1 * float(here.square().mean())
