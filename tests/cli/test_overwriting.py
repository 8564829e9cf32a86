"""Outputs never destroy inputs or each other: refused before anything is opened, whatever name leads there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import cv2
import pytest

from edgevit.bundle import open_bundle
from edgevit.cli import COMMANDS
from edgevit.cli.files import OUTPUTS, OutputFile, OutputFolder, Writing
from tests.support import Outcome, picture, python

Edgevit = Callable[..., Outcome]
ALL: dict[str, click.Command] = {name: getattr(import_module(f"edgevit.cli.{name}"), name) for name in COMMANDS}


def outputs(command: click.Command) -> list[click.Parameter]:
    return [parameter for parameter in command.params if isinstance(parameter.type, OUTPUTS)]


def inputs(command: click.Command) -> list[click.Parameter]:
    return [
        parameter
        for parameter in command.params
        if (isinstance(parameter.type, click.Path) and not isinstance(parameter.type, OUTPUTS)) or parameter.name == "source"
    ]


def word(parameter: click.Parameter, value: object) -> list[str]:
    if isinstance(parameter.type, click.Choice):
        value = parameter.type.choices[0]
    return [str(value)] if isinstance(parameter, click.Argument) else [max(parameter.opts, key=len), str(value)]


PAIRS = [
    pytest.param(name, output, given, id=f"{name} {output.name} {given.name}")
    for name, command in ALL.items()
    for output in outputs(command)
    for given in inputs(command)
]
SUFFIXES = {"save": ".avi", "csv_path": ".csv", "jsonl": ".jsonl", "csv": ".csv", "html_path": ".html", "out": ".safetensors"}


def test_every_command_that_writes_is_known() -> None:
    """A new output is an option of one of these types, or is named here with what keeps it from destroying anything."""
    assert {name for name, command in ALL.items() if outputs(command)} == {
        "attention", "build", "classes", "collect", "compare", "compile", "demo", "deploy", "doctor", "embed", "package",
        "prune", "run", "service", "sweep", "train",
    }  # fmt: skip
    assert all(isinstance(command, Writing) for command in ALL.values() if outputs(command))
    others = {"completion", "fleet", "healthcheck", "inspect", "profile", "targets"}  # write nothing
    own = {"keygen", "sign"}  # never replaces a file; adds a file to a bundle under a name of its own
    assert set(ALL) == {name for name, command in ALL.items() if outputs(command)} | others | own


@pytest.mark.parametrize("link", ["itself", "symbolic link", "hard link", "another spelling"])
@pytest.mark.parametrize(("name", "output", "given"), PAIRS)
def test_no_output_is_an_input(
    name: str, output: click.Parameter, given: click.Parameter, link: str, edgevit: Edgevit, tmp_path: Path
) -> None:
    """Every output of every command against every input of it, and by every kind of name."""
    folder = isinstance(output.type, OutputFolder)
    if folder and isinstance(given.type, click.Path) and not given.type.dir_okay:
        pytest.skip("a file that cannot be that folder, as click says")
    place = tmp_path / f"precious{SUFFIXES.get(output.name or '', '')}"
    if folder:
        place.mkdir()
    precious = place / "file" if folder else place
    precious.write_text("precious")
    other = tmp_path / f"other{place.suffix}"
    if link == "symbolic link":
        other.symlink_to(place)
    elif link == "hard link":
        if folder:
            pytest.skip("folders have no hard links")
        other.hardlink_to(place)
    else:
        other = place if link == "itself" else tmp_path / "." / "sub" / ".." / place.name
        (tmp_path / "sub").mkdir()
    arguments: list[str] = []
    for parameter in ALL[name].params:
        if parameter in (output, given):
            arguments += word(parameter, place if parameter is given else other)
        elif parameter.required:
            arguments += word(parameter, "127.0.0.1" if parameter.name == "hosts" else tmp_path / "none")
    outcome = edgevit(name, *arguments)
    assert outcome.code == 2, outcome.stderr
    assert "overwrite" in outcome.stderr or "wheelhouse" in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert precious.read_text() == "precious"


TWO = [
    pytest.param(name, one, other, id=f"{name} {one.name} {other.name}")
    for name, command in ALL.items()
    for one in outputs(command)
    for other in outputs(command)
    if str(one.name) < str(other.name)
]


@pytest.mark.parametrize(("name", "one", "other"), TWO)
def test_no_output_is_another(name: str, one: click.Parameter, other: click.Parameter, edgevit: Edgevit, tmp_path: Path) -> None:
    path = tmp_path / "both"
    (tmp_path / "link").symlink_to(path)
    arguments = word(one, path) + word(other, tmp_path / "link")
    for parameter in ALL[name].params:
        if parameter.required:
            arguments += word(parameter, tmp_path / "none")
    outcome = edgevit(name, *arguments)
    assert outcome.code == 2
    assert "are one file" in outcome.stderr
    assert not path.exists()


KINDS = [
    pytest.param(name, output, id=f"{name} {output.name}")
    for name, command in ALL.items()
    for output in outputs(command)
    if isinstance(output.type, OutputFile)
]
FOREIGN = {
    "text": b"precious notes\n",
    "JSON": b'{"architectures": ["ViT"]}\n',
    "safetensors": b"\x40\0\0\0\0\0\0\0" + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(64) + b"\0" * 4,
    "zip": b"PK\3\4\x14\0\0\0\0\0" + b"\0" * 16 + b"\x0a\0\0\0images.npy",
    "page": b"<!doctype html>\n<html><title>mine</title>",
    "Markdown": b"**Use this** and that\n",
    "table": b"time;frame\n1;2\n",
    "unit": b"[Unit]\nDescription=mine\n",
}


@pytest.mark.parametrize("content", FOREIGN)
@pytest.mark.parametrize(("name", "output"), KINDS)
def test_no_output_replaces_a_file_of_another_kind(
    name: str, output: click.Parameter, content: str, edgevit: Edgevit, tmp_path: Path, bundle_path: Path, image_folder: Path
) -> None:
    """Nor is anything appended to one: a checkpoint, a page, a table, notes."""
    if (name, output.name) == ("attention", "out"):
        path = tmp_path / ("a.npz" if content == "zip" else "a.png")
    else:
        path = tmp_path / f"out{SUFFIXES.get(output.name or '', '.md')}"
    path.write_bytes(FOREIGN[content])
    given: dict[str, Any] = {"bundle": bundle_path, "model": bundle_path, "models": bundle_path, "data": image_folder}
    given |= {
        "source": "test://32x32?frames=1",
        "image": next(image_folder.rglob("*.png")),
        "classes": "a,b",
        "photos": image_folder,
    }
    arguments = word(output, path) + (["--prune", "0.2"] if name == "prune" else [])
    for parameter in ALL[name].params:
        if parameter.required and parameter is not output:
            arguments += word(parameter, given[str(parameter.name)])
    outcome = edgevit(name, *arguments)
    assert outcome.code == (9 if name == "prune" else 2), outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert path.read_bytes() == FOREIGN[content]
    assert list(tmp_path.glob(".*")) == []


# --- the findings, as they were reported -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Film:
    path: Path
    content: bytes


@pytest.fixture
def film(tmp_path: Path) -> Film:
    path = tmp_path / "in.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (40, 40))
    for seed in range(30):
        writer.write(picture("disc", seed))
    writer.release()
    return Film(path, path.read_bytes())


def test_the_recording_is_not_replaced_by_its_annotation(edgevit: Edgevit, bundle_path: Path, film: Film) -> None:
    outcome = edgevit("run", bundle_path, film.path, "--headless", "--limit", "5", "--save", film.path)
    assert outcome.code == 2
    assert "is read by this command, and --save would overwrite it" in outcome.stderr
    assert film.path.read_bytes() == film.content


def test_an_older_annotation_is_replaced(edgevit: Edgevit, bundle_path: Path, film: Film, tmp_path: Path) -> None:
    for _ in range(2):
        assert edgevit("run", bundle_path, film.path, "--headless", "--limit", "5", "--save", tmp_path / "out.avi").code == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".avi") == ["in.avi", "out.avi"]


def test_the_unpruned_weights_stay(edgevit: Edgevit, checkpoint_path: Path, image_folder: Path, tmp_path: Path) -> None:
    """They are edgevit's own, which alone would let them be replaced; and a model's folder is as good as its file."""
    model = tmp_path / "folder" / "model.safetensors"
    model.parent.mkdir()
    shutil.copy(checkpoint_path, model)
    for given in (model, model.parent):
        outcome = edgevit("prune", given, "--data", image_folder, "--prune", "0.2", "-o", model)
        assert outcome.code == 2
        assert "-o would overwrite it" in outcome.stderr.replace("--out", "-o")
        assert model.read_bytes() == checkpoint_path.read_bytes()


def test_the_photograph_stays(edgevit: Edgevit, bundle_path: Path, image_folder: Path, tmp_path: Path) -> None:
    own = Path(shutil.copy(next(image_folder.rglob("*.png")), tmp_path / "own.png"))
    before = own.read_bytes()
    assert edgevit("attention", bundle_path, own, "-o", own).code == 2
    assert own.read_bytes() == before
    data = Path(shutil.copytree(image_folder, tmp_path / "data"))
    image = next(data.rglob("*.png"))
    for name in (image, tmp_path / "hard.png"):
        if name != image:
            name.hardlink_to(image)
        outcome = edgevit("attention", bundle_path, own, "--data", data, "-o", name)
        assert outcome.code == 2
        assert "is read by this command" in outcome.stderr


def test_what_lies_in_a_bundle_that_is_built_anew(
    edgevit: Edgevit, bundle_path: Path, checkpoint_path: Path, image_folder: Path, tmp_path: Path
) -> None:
    """Its folder is replaced as a whole: an input in it is not lost, nor is anything else that is not the bundle's."""
    bundle = Path(shutil.copytree(bundle_path, tmp_path / "b.edgevit"))
    model = Path(shutil.copy(checkpoint_path, bundle))
    outcome = edgevit("build", model, "--data", image_folder, "-o", bundle)
    assert outcome.code == 2
    assert "which is replaced as a whole" in outcome.stderr
    outcome = edgevit("build", checkpoint_path, "--data", image_folder, "-o", bundle)
    assert outcome.code == 5
    assert f"{model.name} lies in it, which is not the bundle's" in outcome.stderr
    assert model.read_bytes() == checkpoint_path.read_bytes()
    open_bundle(bundle).verify()


def test_results_go_on_only_results(edgevit: Edgevit, bundle_path: Path, tmp_path: Path) -> None:
    """A file of one line of JSON is a configuration as often as not."""
    config = tmp_path / "config.json"
    config.write_text('{"architectures": ["ViTForImageClassification"]}')
    run = ("run", bundle_path, "test://32x32?frames=2", "--headless")
    assert edgevit(*run, "--jsonl", config).code == 2
    assert config.read_text() == '{"architectures": ["ViTForImageClassification"]}'
    for lines in (2, 4):
        outcome = edgevit(*run, "--jsonl", tmp_path / "r.jsonl", "--csv", tmp_path / "r.csv")
        assert outcome.code == 0, outcome.stderr
        assert len((tmp_path / "r.jsonl").read_text().splitlines()) == lines
        assert len((tmp_path / "r.csv").read_text().splitlines()) == lines + 1


def test_reports_replace_reports(edgevit: Edgevit, bundle_path: Path, image_folder: Path, tmp_path: Path) -> None:
    paths = {kind: tmp_path / f"r.{kind}" for kind in ("html", "markdown", "csv")}
    options = [part for kind, path in paths.items() for part in (f"--{kind}", path)]
    for path in paths.values():
        path.touch()  # an empty file is nobody's loss: mktemp makes such
    for _ in range(2):
        outcome = edgevit("compare", bundle_path, "--data", image_folder, "--runs", "5", "--engines", "onnxruntime", *options)
        assert outcome.code == 0, outcome.stderr
    image = next(image_folder.rglob("*.png"))
    for name in ("a.png", "a.jpg", "a.webp", "a.npy", "a.npz"):
        for _ in range(2):
            outcome = edgevit("attention", bundle_path, image, "-o", tmp_path / name)
            assert outcome.code == 0, outcome.stderr


def test_two_runs_with_one_name(bundle_path: Path, tmp_path: Path) -> None:
    """Each has its own file until it ends: the last one's video is whole, and none is mixed of both."""
    code = "import sys; from edgevit.cli import main; main(sys.argv[1:], prog_name='edgevit')"
    path = tmp_path / "videos" / "w.avi"
    path.parent.mkdir()
    processes = [
        python(code, "run", bundle_path, "test://64x64@100?frames=60", "--policy", "every", "--headless", "--save", path)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    capture, frames = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        frames += 1
    assert frames == 60
    assert list(path.parent.iterdir()) == [path]


def test_a_link_in_the_place_of_the_unfinished_video(edgevit: Edgevit, bundle_path: Path, tmp_path: Path) -> None:
    """Its name cannot be known before; and a link with the video's own name is replaced, not followed."""
    precious = tmp_path / "precious"
    precious.write_text("RIFF....AVI precious")
    (tmp_path / ".v.partial.avi").symlink_to(precious)
    (tmp_path / "v.avi").symlink_to(precious)
    outcome = edgevit("run", bundle_path, "test://64x64?frames=5", "--headless", "--save", tmp_path / "v.avi")
    assert outcome.code == 0, outcome.stderr
    assert precious.read_text() == "RIFF....AVI precious"
    assert not (tmp_path / "v.avi").is_symlink()


def test_snapshots_of_the_same_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs into one folder keep all their pictures."""
    from edgevit.runtime.sinks import snapshot
    from tests.runtime.fakes import decision

    monkeypatch.setattr(snapshot, "file_name", lambda _: "20260102T030405.678Z-disc-0.93.jpg")
    for sink in [snapshot.Snapshots(tmp_path, limit=10, note=print) for _ in range(3)]:
        sink.send(decision("disc"))
        sink.close()
        assert sink.delivery.failed == 0
    assert len(list(tmp_path.glob("*.jpg"))) == 3
