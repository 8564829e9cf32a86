"""Models by their names on a hub: the real client against a small one on loopback, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgevit.errors import CheckpointError
from edgevit.model import load_checkpoint
from edgevit.model.reading.hub import HubName, hub_name, wanted
from tests.model.hub_server import MAIN, OLD, REPO, Hub, serving
from tests.support import ROOT, Outcome

REAL = Path(__file__).parent / "fixtures" / "real" / "vit_small_patch16_rope_224"
Ask = Callable[..., Outcome]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(REAL) as found:
        yield found


@pytest.fixture
def ask(hub: Hub, tmp_path: Path) -> Ask:
    """``edgevit`` in a process of its own, as huggingface_hub reads its environment once."""

    def run(*arguments: object, **environment: str) -> Outcome:
        own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(ROOT),
               "EDGEVIT_CACHE": str(tmp_path / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1",
               "HF_HUB_OFFLINE": "0"}  # fmt: skip
        code = [sys.executable, "-c", "from edgevit.cli import main; main()", *map(str, arguments)]
        done = subprocess.run(
            code, capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ, **own, **environment}, timeout=120
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


def test_from_its_name_to_a_bundle(hub: Hub, ask: Ask, tmp_path: Path) -> None:
    """Provenance keeps repository and commit; the second time nothing is downloaded; offline neither anything is asked."""
    done = ask("build", f"hf:{REPO}", "--precision", "fp32", "-o", "b")
    assert done.code == 0, done.stderr
    assert f"weights: {REPO}@{MAIN}, of the hub" in done.stderr
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["provenance"]["weights"]["hub"] == f"{REPO}@{MAIN}"
    assert not any("README" in line for line in hub.asked)
    hub.asked.clear()
    assert ask("build", REPO, "--dry-run", "--precision", "fp32").code == 0
    assert not any(line.startswith("GET") and "safetensors" in line for line in hub.asked)
    hub.asked.clear()
    assert ask("build", f"hf:{REPO}", "--dry-run", "--precision", "fp32", HF_HUB_OFFLINE="1").code == 0
    assert hub.asked == []


SCRIPT = """
import json, os, sys, urllib.parse, urllib.request
from edgevit.errors import CheckpointError
from edgevit.model import load_checkpoint
for state, token, name in json.loads(sys.argv[1]):
    urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/set?" + urllib.parse.quote(json.dumps(state))).read()
    os.environ["HF_TOKEN"] = token
    try:
        print(load_checkpoint(name).hub)
    except CheckpointError as error:
        print(error)
"""


def answers(hub: Hub, folder: Path, *asked: tuple[dict[str, object], str, str], **environment: str) -> list[str]:
    """A line for each: a state of the hub, a token, a name."""
    own = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "0",
    }
    done = subprocess.run([sys.executable, "-c", SCRIPT, json.dumps(asked)], capture_output=True, text=True, check=True,
                          env={**os.environ, **own, **environment}, timeout=120)  # fmt: skip
    return done.stdout.splitlines()


def test_revisions_and_a_download_that_was_cut(hub: Hub, tmp_path: Path) -> None:
    """The client may try again by itself; if not, the same command goes on."""
    found = answers(
        hub, tmp_path, ({"cut": 1000}, "", f"hf:{REPO}"), ({}, "", f"hf:{REPO}"), ({}, "", f"hf:{REPO}@v1"),
        ({}, "", f"hf:{REPO}@v2"),
    )  # fmt: skip
    assert found[0] == f"{REPO}@{MAIN}" or "goes on from there" in found[0] or "cannot be reached" in found[0]
    assert found[1:3] == [f"{REPO}@{MAIN}", f"{REPO}@{OLD}"]
    assert "that revision is not" in found[3]


def test_what_a_hub_refuses(hub: Hub, tmp_path: Path) -> None:
    """One line each: no such name, a licence, a token that is wrong, files that are missing, no network."""
    asked = [
        ({}, "", "hf:acme/none", "no such repository, or it is private"),
        ({}, "", "timm:vit_none", "timm's names have a tag"),
        ({}, "", "hf:vit", "ORG/NAME"),
        ({"gated": True}, "", f"hf:{REPO}", "hf auth login"),
        ({"gated": False, "token": "secret"}, "wrong", f"hf:{REPO}", "it is private"),
        ({}, "secret", f"hf:{REPO}", f"{REPO}@{MAIN}"),
        ({"token": "", "files": {MAIN: {"config.json": "", "README.md": ""}}}, "", f"hf:{REPO}", "no weights"),
    ]
    found = answers(hub, tmp_path, *((state, token, name) for state, token, name, _ in asked))
    assert len(found) == len(asked)
    for line, (*_, why) in zip(found, asked, strict=True):
        assert why in line
    (offline,) = answers(hub, tmp_path / "new", ({}, "", f"hf:{REPO}"), HF_HUB_OFFLINE="1")
    assert "not in the cache" in offline


def test_names_of_timm_without_a_tag(hub: Hub, tmp_path: Path) -> None:
    """Of one training that is meant; of several they are named. Names that merely begin alike are others."""
    hub.timm += ["timm/vit_a.lvd", "timm/vit_ab.lvd", "timm/vit_b.mae", "timm/vit_b.augreg", "other/vit_c.x"]
    found = answers(
        hub, tmp_path, *(({}, "", f"timm:{name}") for name in ("vit_a", "vit_a.lvd@main", "vit_b", "vit_c", "vit_a.x"))
    )
    assert found[:2] == [f"timm/vit_a.lvd@{MAIN}"] * 2
    assert found[2] == "timm:vit_b: has been trained 2 times. Say which: timm:vit_b.augreg, timm:vit_b.mae"
    assert "no such repository" in found[3]
    assert "no such repository" in found[4]
    (offline,) = answers(hub, tmp_path, ({}, "", "timm:vit_a"), HF_HUB_OFFLINE="1")
    assert offline == f"timm/vit_a.lvd@{MAIN}"


@pytest.mark.parametrize("place", ["", "onnx/"])
def test_repositories_of_onnx_alone(hub: Hub, ask: Ask, place: str) -> None:
    """As optimum writes them, or in a folder of their own beside the settings, as hubs have them."""
    own = {path.name: path.read_bytes() for path in (REAL.parent.parent / "onnx" / "optimum_style").iterdir()}
    hub.files[MAIN] = {f"{place}{name}" if name == "model.onnx" else name: content for name, content in own.items()}
    done = ask("build", f"hf:{REPO}", "--precision", "fp32", "--dry-run")
    assert done.code == 0, done.stderr
    assert f"weights: {REPO}@{MAIN}, of the hub" in done.stderr
    assert not any("logits" in line for line in hub.asked)


def test_no_network(ask: Ask) -> None:
    done = ask("build", "hf:acme/other", "--dry-run", "--precision", "fp32", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.code == 3
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ways on: the extra, or by hand."""
    monkeypatch.setattr("edgevit.model.reading.hub.find_spec", lambda _name: None)
    with pytest.raises(
        CheckpointError, match=r"pip install 'edgevit\[hub\]' lets edgevit download it, or hf download acme/tiny-vit"
    ):
        load_checkpoint(f"hf:{REPO}")


@pytest.mark.parametrize(("typed", "expected"), [
    ("hf:google/vit-base", HubName(repo="google/vit-base", revision=None, of_timm=False)),
    ("hf://google/vit-base@main", HubName(repo="google/vit-base", revision="main", of_timm=False)),
    ("timm:vit_small_patch16_224.augreg", HubName(repo="timm/vit_small_patch16_224.augreg", revision=None, of_timm=True)),
    ("google/vit-base", HubName(repo="google/vit-base", revision=None, of_timm=False)),
    ("vit-base", None), ("here/vit-base", None), ("google/model.safetensors", None), ("a/b/c", None), ("/google/vit", None),
])  # fmt: skip
def test_names(typed: str, expected: HubName | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that may be meant for this machine is never asked of a hub."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert hub_name(Path(typed)) == expected


@pytest.mark.parametrize(("files", "expected"), [
    (["config.json", "model.safetensors", "pytorch_model.bin", "x.onnx"], ("config.json", "model.safetensors")),
    (["pytorch_model.bin", "tf_model.h5"], ("pytorch_model.bin",)),
    (["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "x.bin"],
     ("model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")),
    (["open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"],
     ("open_clip_config.json", "tokenizer.json", "open_clip_model.safetensors")),
    (["own.pth", "README.md"], ("own.pth",)),
])  # fmt: skip
def test_what_is_downloaded(files: list[str], expected: tuple[str, ...]) -> None:
    assert wanted(files, REPO) == expected


def test_repositories_without_a_choice() -> None:
    with pytest.raises(CheckpointError, match="several weights files"):
        wanted(["a.pt", "b.pt"], REPO)
    with pytest.raises(CheckpointError, match="no weights"):
        wanted(["model.h5"], REPO)
