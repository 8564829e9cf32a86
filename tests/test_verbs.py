"""The public functions on the tiny model: plain arguments, what the commands print as JSON, what a notebook shows."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import edgevit
from edgevit.cache import Cache
from edgevit.commands import build as build_module
from edgevit.errors import BundleError, CheckpointError, ConfigError, DataError
from edgevit.progress import Progress, Stage
from edgevit.target import load_target
from tests.support import CLASSES, ROOT, picture, write_images

VERBS = ("attention", "build", "compare", "inspect", "prune", "sweep")
ONE = {"threads": 1}
DEMONIC = "<script>alert('disc')</script>"


@pytest.fixture(autouse=True)
def few_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build_module, "RUNS", 5)
    monkeypatch.setattr("edgevit.commands.prune.RUNS", 5)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(name="edgevit_command")
def _edgevit_command(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """The fixture ``edgevit``, beside the package of that name."""
    return request.getfixturevalue("edgevit")


class Fragment(HTMLParser):
    """Raises for a tag that closes none that is open; keeps the texts and the tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def timeless(document: Any) -> Any:
    """Without what no two runs share: times, dates, what was typed, and where it was written."""
    unlike = {"seconds", "latency", "startup", "speedup", "speedup_interval", "recommendation", "command", "date", "load",
              "clock", "bundle", "checkpoint", "written", "warnings", "notes", "milliseconds", "energy"}  # fmt: skip
    if isinstance(document, dict):
        return {str(key): timeless(value) for key, value in document.items() if key not in unlike}
    return [timeless(item) for item in document] if isinstance(document, list | tuple) else document


def test_build_is_what_the_command_does(
    edgevit_command: Callable[..., Any], checkpoint_path: Path, image_folder: Path, tmp_path: Path
) -> None:
    result = edgevit.build(str(checkpoint_path), data=str(image_folder), out="mine.edgevit", **ONE)
    printed = edgevit_command(
        "build", checkpoint_path, "--data", image_folder, "-o", tmp_path / "other.edgevit", "--threads", 1, "--json"
    )
    assert printed.code == 0, printed.stderr
    assert timeless(result.to_dict()).keys() == timeless(printed.json).keys()
    assert timeless(result.to_dict())["comparison"] == timeless(printed.json)["comparison"]
    assert result.bundle.manifest.files["model.onnx"] == edgevit.inspect("other.edgevit").bundle.manifest.files["model.onnx"]
    assert [row["precision"] for row in result.rows] == ["fp32", "int8"]
    assert result.rows[0]["accuracy_top1"] > 0.8
    assert repr(result) == f"BuildResult('mine.edgevit', int8, {result.bundle.bytes / 1e6:.1f} MB)"
    assert {"table", "caption"} <= Fragment(result._repr_html_()).tags


def test_build_needs_a_model_alone(checkpoint_path: Path) -> None:
    """Named after it, in the working folder; a target may be given as itself, a cache left out, and progress is told."""
    stages = []

    class Told(Progress):
        def begin(self, stage: Stage) -> None:
            stages.append(stage.name)

    result = edgevit.build(checkpoint_path, precision="fp32", target=load_target("cpu"), cache=False, progress=Told(), **ONE)
    assert result.bundle.path == Path("tiny.edgevit")
    assert "write bundle" in stages
    assert (result.rows, result.comparison) == ([], None)
    assert "accuracy: not measured" in "".join(Fragment(result._repr_html_()).texts)


def test_prune_is_what_the_command_does(
    edgevit_command: Callable[..., Any], checkpoint_path: Path, image_folder: Path, tmp_path: Path
) -> None:
    result = edgevit.prune(checkpoint_path, data=image_folder, share=0.3, **ONE)
    assert result.path == Path("tiny-pruned.safetensors")
    printed = edgevit_command(
        "prune", checkpoint_path, "--data", image_folder, "--share", 0.3, "-o", "o.safetensors", "--threads", 1, "--json"
    )
    assert printed.code == 0, printed.stderr
    assert timeless(result.to_dict())["pruning"] == timeless(printed.json)["pruning"]
    assert len(result.rows) == 4
    assert "What is left" in Fragment(result._repr_html_()).texts
    assert repr(result).startswith("PruneResult('tiny-pruned.safetensors', 0.")


def test_compare_is_what_the_command_does(
    edgevit_command: Callable[..., Any], bundle_path: Path, fp32_bundle_path: Path, image_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.edgevit").symlink_to(bundle_path)
    found = edgevit.compare("a.edgevit", data=image_folder, engines=["onnxruntime"], runs=5, **ONE)
    printed = edgevit_command(
        "compare", "a.edgevit", "--data", image_folder, "--engines", "onnxruntime", "--runs", 5, "--threads", 1, "--json"
    )
    assert printed.code == 0, printed.stderr
    assert timeless(found.to_dict()) == timeless(printed.json)
    assert [row["precision"] for row in found.rows] == ["fp32", "int8"]
    assert found.to_csv().count("\n") == 3
    assert found.recommendation.headline in found.to_markdown().replace("\\", "")
    shown = Fragment(found._repr_html_())
    assert found.recommendation.headline in shown.texts
    assert len(repr(found)) < 300


def test_names_are_escaped(checkpoint_path: Path, image_folder: Path, tmp_path: Path) -> None:
    """Of classes and paths, wherever a notebook shows them."""
    labels = (DEMONIC, *CLASSES[1:])
    built = edgevit.build(checkpoint_path, precision="fp32", labels=labels, out="<b>bold.edgevit", **ONE)
    image = picture("disc", 1)
    for result in (built, edgevit.inspect("<b>bold.edgevit"), edgevit.attention("<b>bold.edgevit", image)):
        shown = Fragment(result._repr_html_())
        assert not shown.tags & {"script", "b>bold.edgevit"}
        assert "<script" not in result._repr_html_()
        assert "<b>bold" not in result._repr_html_()


def test_inspect_is_what_the_command_does(edgevit_command: Callable[..., Any], bundle_path: Path, fp32_bundle_path: Path) -> None:
    assert edgevit.inspect(bundle_path).to_dict() == edgevit_command("inspect", bundle_path, "--json").json
    found = edgevit.inspect(str(bundle_path), layers=True, engine="onnxruntime", diff=str(fp32_bundle_path), **ONE)
    # On ONNX Runtime, whose profile names the same layers every time: OpenVINO's does not.
    timed_on = ("--engine", "onnxruntime", "--threads", 1)
    printed = edgevit_command("inspect", bundle_path, "--layers", "--diff", fp32_bundle_path, *timed_on, "--json").json
    assert timeless(found.to_dict()) == timeless(printed)
    assert {row["part"] for row in found.rows} >= {"fc1", "fc2", "qkv"}
    texts = Fragment(found._repr_html_()).texts
    assert "Differences" in texts
    assert "By part" in texts
    assert {"fact": "recipe", "value": "default"} in edgevit.inspect(bundle_path).rows


def test_attention_is_what_the_command_does(edgevit_command: Callable[..., Any], bundle_path: Path, tmp_path: Path) -> None:
    """The image as a path and as an array; nothing is written unless asked for."""
    image = picture("stripes", 5)
    (tmp_path / "image.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    seen = edgevit.attention(bundle_path, "image.png", blocks=[1], **ONE)
    printed = edgevit_command(
        "attention", bundle_path, "image.png", "--blocks", "1", "-o", "cli.png", "--threads", 1, "--json"
    ).json
    assert timeless(seen.to_dict()) == timeless(printed)
    assert (seen.written, list(seen.moved), [row["block"] for row in seen.rows]) == (None, [1], [1])
    seen.save("again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "cli.png").read_bytes()
    same = edgevit.attention(bundle_path, image, out="maps.npy", **ONE)
    assert np.load("maps.npy").shape == (2, 2, 2, 4, 4)
    assert same.to_dict()["written"] == "maps.npy"
    shown = Fragment(seen._repr_html_())
    assert "img" in shown.tags
    assert "data:image/png;base64," in seen._repr_html_()


class OfTorch:
    """What a module of torch's looks like from outside."""


OfTorch.__module__ = "torch.nn.modules.module"


@pytest.mark.parametrize(
    ("verb", "arguments", "options", "words"),
    [
        ("build", (None,), {}, "model: expected a path (str or Path), got None"),
        ("build", (["m.pt"],), {}, "model: expected a path (str or Path), got list"),
        ("build", (OfTorch(),), {}, "torch.save(model.state_dict(), 'model.pt')"),
        ("build", ("m.pt",), {"target": None}, "target: expected a name in targets/"),
        ("build", ("m.pt",), {"max_drop": "1"}, "max_drop: expected a number, got str"),
        ("build", ("m.pt",), {"prune": "0.3"}, "share to prune: expected a number, or 'auto', got str"),
        ("build", ("m.pt",), {"threads": True}, "threads: expected a whole number, got bool"),
        ("build", ("m.pt",), {"recipe": 3}, "recipe: expected a name in calibration/"),
        ("build", ("m.pt",), {"cache": "here"}, "cache: expected True, False or a Cache, got str"),
        ("build", ("m.pt",), {"labels": 3}, "labels: expected a list of names"),
        ("build", ("m.pt",), {"image_size": "224"}, "image_size: expected the side in pixels"),
        ("build", ("m.pt",), {"hedas": 3}, "unexpected keyword argument 'hedas'. Did you mean 'heads'?"),
        ("prune", ("m.pt",), {"data": None, "share": 0.3}, "Pruning and merging need images"),
        ("build", ("m.pt",), {"merge": True}, "merge: expected a share"),
        ("build", ("m.pt",), {"merge": [64]}, "merge: expected a share"),
        ("compare", (), {"data": "d"}, "name at least one model"),
        ("compare", ("a", None), {"data": "d"}, "model: expected a path"),
        ("compare", ("a",), {"data": None}, "data: expected a path"),
        ("compare", ("a",), {"data": "d", "engines": 3}, "engines: expected a list of names"),
        ("inspect", (None,), {}, "bundle: expected a path"),
        ("attention", (None, "x.png"), {}, "model: expected a path"),
    ],
)
def test_wrong_types(verb: str, arguments: tuple[Any, ...], options: dict[str, Any], words: str) -> None:
    kind = DataError if "need images" in words else TypeError
    with pytest.raises(kind, match=re.escape(words)):
        getattr(edgevit, verb)(*arguments, **options)


@pytest.mark.parametrize(
    ("verb", "arguments", "options", "words"),
    [
        ("build", ("m.pt",), {"target": "jetsn"}, "Did you mean 'jetson'?"),
        ("build", ("m.pt",), {"precision": "int4"}, "precision: unknown 'int4'"),
        ("build", ("m.pt",), {"max_drop": 200}, "max_drop: 200 is out of range: 0 to 100"),
        ("build", ("m.pt",), {"max_drop": float("nan")}, "max_drop: nan is out of range"),
        ("build", ("m.pt",), {"max_drop": 1, "precision": "fp32"}, "leaves --max-drop nothing to choose"),
        ("build", ("m.pt",), {"recover": 3}, "--recover trains a pruned model"),
        ("build", ("m.pt",), {"class_order": "size"}, "class_order: unknown 'size'"),
        ("build", ("",), {}, "model: expected a path, got ''"),
        ("prune", ("m.pt",), {"data": "d"}, "Say how much"),
        ("prune", ("m.pt",), {"data": "d", "recover": 3}, "--recover trains a pruned model"),
        ("prune", ("m.pt",), {"data": "d", "share": 0.3, "max_drop": 1}, "leaves it nothing to choose"),
        ("prune", ("m.pt",), {"data": "d", "share": 3}, "share of the MACs to remove is above 0"),
        ("compare", ("a",), {"data": "d", "engines": "openvin"}, "Did you mean 'openvino'?"),
        ("compare", ("a",), {"data": "d", "precisions": ["int9"]}, "unknown 'int9'"),
        ("compare", ("a",), {"data": "d", "runs": 1}, "runs: 1 is out of range: at least 5"),
        ("inspect", ("a",), {"threads": 1}, "are for --layers"),
        ("attention", ("a", "x.png"), {"out": "x.gif"}, "cannot write this kind of file"),
    ],
)
def test_wrong_values(verb: str, arguments: tuple[Any, ...], options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        getattr(edgevit, verb)(*arguments, **options)


def test_what_is_not_there(checkpoint_path: Path, bundle_path: Path, image_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="gone"):
        edgevit.build("gone/", data=image_folder)
    with pytest.raises(DataError, match="gone"):
        edgevit.prune(checkpoint_path, data="gone/", share=0.3)
    with pytest.raises(BundleError, match="gone"):
        edgevit.compare("gone.edgevit", data=image_folder)
    with pytest.raises(BundleError, match="gone"):
        edgevit.inspect("gone.edgevit")
    with pytest.raises(DataError, match="gone"):
        edgevit.attention(bundle_path, "gone.png")


def test_home_folder_is_meant_by_a_tilde(monkeypatch: pytest.MonkeyPatch, bundle_path: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.edgevit").symlink_to(bundle_path)
    assert edgevit.inspect("~/a.edgevit").bundle.path == tmp_path / "a.edgevit"


def test_importing_loads_nothing() -> None:
    """Nor does asking what there is; a verb that needs no torch loads none."""
    loaded = "print(*({'torch', 'click', 'numpy', 'onnx'} & {*sys.modules}))"
    without = "edgevit.inspect, edgevit.compare, edgevit.attention; print(*({'torch', 'click'} & {*sys.modules}))"
    lines = ("import sys, edgevit", "dir(edgevit)", loaded, without)
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "\n\n"


def test_no_function_has_the_name_of_a_module() -> None:
    """Importing ``edgevit.NAME`` would put the module in the function's place."""
    inside = {path.stem for path in Path(edgevit.__file__).parent.iterdir()}
    assert not inside & set(edgevit.__all__)
    assert set(VERBS) < set(edgevit.__all__)


def test_every_argument_is_documented() -> None:
    """In its docstring, in the words of an Args section."""
    for verb in VERBS:
        tree = ast.parse((ROOT / "edgevit" / "commands" / f"{verb}.py").read_text(encoding="utf-8"))
        function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == verb)
        names = [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)]
        listed = re.findall(r"^ {4}([\w, ]+):", ast.get_docstring(function) or "", re.MULTILINE)
        assert set(names) <= {name.strip() for line in listed for name in line.split(",")}, verb


def test_documented_examples_run(checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/python.md has them, on the tiny model; only the target is another, which a CPU stands in for."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").symlink_to(checkpoint_path)
    write_images(tmp_path / "train", 32)
    write_images(tmp_path / "test", 8, first=500)
    (tmp_path / "cell.png").write_bytes(cv2.imencode(".png", picture("disc", 1))[1].tobytes())
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL)
    running = [block for block in blocks if "edgevit.build" in block]
    assert len(running) == 1
    names: dict[str, Any] = {}
    exec(running[0].replace('"model/"', '"model/model.safetensors"').replace('target="jetson"', 'target="cpu"'), names)
    assert (tmp_path / "cells.edgevit" / "manifest.json").is_file()
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_cache_is_used(checkpoint_path: Path, tmp_path: Path) -> None:
    root = tmp_path / "mine"
    write_images(tmp_path / "train", 32)
    edgevit.build(checkpoint_path, data="train", cache=Cache(root=root), out="a.edgevit", **ONE)
    assert any(root.rglob("*"))
