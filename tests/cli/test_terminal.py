"""What files, labels and typing errors say reaches the terminal as text: no escape, no second line, no password."""

from __future__ import annotations

import ast
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import edgevit.cli
from edgevit.bundle import Bundle, open_bundle, write_bundle
from tests.cli.test_outputs import TEST
from tests.runtime.test_redact import FORMS, HOSTLESS, PIPELINES

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
LINE = "x\nedgevit: faked"
SECRET = "hunter2Z"


def harmless(*texts: str) -> bool:
    return not any(char in text for text in texts for char in "\x1b\x07\x9b\u202e\x7f\r")


def relabelled(source: Path, target: Path, text: str) -> Path:
    """A bundle whose every name is ``text``."""
    opened = open_bundle(source)
    old = opened.manifest
    labels = tuple(f"{text}{i}" for i in range(len(old.labels)))
    manifest = replace(old, name=text, family=text, labels=labels, notes=(text,), recipe={**old.recipe, "name": text})
    write_bundle(target, manifest, {name: opened.read(name) for name in old.files})
    return target


@pytest.fixture(scope="module")
def owned(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return relabelled(bundle_path, tmp_path_factory.mktemp("owned") / "o.edgevit", ESCAPES + LINE)


def test_commands_print_in_one_way_only() -> None:
    """So that nothing is forgotten: lines through `say`, tables and JSON through the console."""
    found = []
    for path in sorted(Path(edgevit.cli.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "click.echo",
                "click.secho",
                "click.style",
                "print",
                "sys.stdout.write",
            ):
                found.append(path.name)
    assert set(found) == {"say.py", "console.py", "layout.py", "board.py"}, (
        "layout.py: bold headings; board.py: JSON to a program"
    )


@pytest.mark.parametrize("json_too", [False, True])
def test_labels_of_a_bundle(edgevit, owned: Path, bundle_path: Path, json_too: bool) -> None:
    more = ["--json"] if json_too else []
    for arguments in (
        ["run", owned, TEST, "--headless", "--no-telemetry"], ["inspect", owned], ["inspect", bundle_path, "--diff", owned],
    ):  # fmt: skip
        outcome = edgevit(*arguments, *more)
        assert outcome.code == 0, outcome.stderr
        assert harmless(outcome.stdout, outcome.stderr)
        assert not any(line.startswith("edgevit: faked") for line in (outcome.stdout + outcome.stderr).splitlines())
    if json_too:
        assert json.loads(outcome.stdout)["differences"], "it reads back"


def test_file_names(edgevit, bundle_path: Path, image_folder: Path, tmp_path: Path) -> None:
    image = next(image_folder.rglob("*.png"))
    for name in ("\x1b[31mx.png", "a\nedgevit: faked.png"):
        shutil.copy(image, tmp_path / name)
    for source in (tmp_path, tmp_path / "\x1b[31mx.png"):
        outcome = edgevit("run", bundle_path, source, "--headless", "--no-telemetry")
        assert outcome.code == 0, outcome.stderr
        assert harmless(outcome.stdout, outcome.stderr)
        assert not any(line.startswith("edgevit:") for line in outcome.stdout.splitlines())


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "BUNDLE", "\x1b[31mgone"],
        ["run", "BUNDLE", LINE],
        ["run", "gone\x1b[31m", "0"],
        ["inspect", LINE],
        ["run", "BUNDLE", "0", "--top-k", ESCAPES],
        ["run", "BUNDLE", "0", ESCAPES],
        [f"--{ESCAPES}"],
        [ESCAPES],
        ["run", "BUNDLE", f"--{LINE}"],
        ["build", "gone\x1b.safetensors", "--data", LINE],
        ["targets", ESCAPES + LINE],
    ],
)
def test_errors_are_one_line(edgevit, bundle_path: Path, arguments: list[str]) -> None:
    outcome = edgevit(*(bundle_path if each == "BUNDLE" else each for each in arguments))
    assert outcome.code in (2, 3, 4, 5, 7)
    assert harmless(outcome.stdout, outcome.stderr)
    assert not any(line.startswith("edgevit: faked") for line in outcome.stderr.splitlines())


@pytest.mark.parametrize("schema", ["x\nedgevit: faked", "\x1b[2J"])
def test_manifest_that_writes_a_line_of_its_own(edgevit, bundle_path: Path, tmp_path: Path, schema: str) -> None:
    copy = Path(shutil.copytree(bundle_path, tmp_path / "b.edgevit"))
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "schema": schema}))
    outcome = edgevit("inspect", copy)
    assert outcome.code == 5
    assert harmless(outcome.stderr)
    assert len(outcome.stderr.splitlines()) == 1


def test_trace_is_as_harmless(edgevit, bundle_path: Path) -> None:
    """What --debug prints as well."""
    outcome = edgevit("--debug", "run", bundle_path, f"rtsp//admin:{SECRET}@h/{ESCAPES}")
    assert outcome.code == 1
    assert "Traceback" in outcome.stderr
    assert harmless(outcome.stderr)
    assert SECRET not in outcome.stderr


def test_square_brackets_are_no_markup(edgevit, bundle_path: Path, tmp_path: Path) -> None:
    """rich would colour such a name, or fail on it."""
    copy = Path(shutil.copytree(bundle_path, tmp_path / "a[/b][red].edgevit"))
    outcome = edgevit("inspect", copy)
    assert outcome.code == 0, outcome.stderr
    assert "a[/b][red].edgevit" in outcome.stdout


def test_half_a_surrogate_pair(edgevit, bundle_path: Path, tmp_path: Path) -> None:
    """JSON can say it, and no terminal can be told."""
    copy = Path(shutil.copytree(bundle_path, tmp_path / "b.edgevit"))
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["notes"] = ["\ud800 half"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert isinstance(open_bundle(copy), Bundle)
    for arguments in (["inspect", copy], ["inspect", copy, "--json"], ["inspect", bundle_path, "--diff", copy]):
        outcome = edgevit(*arguments)
        assert outcome.code == 0, outcome.stderr
        assert "\\ud800" in outcome.stdout + outcome.stderr


@pytest.mark.parametrize("form", [*FORMS, *HOSTLESS, *PIPELINES])
def test_no_form_of_a_source_prints_its_secret(edgevit, bundle_path: Path, form: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The whole command, FFmpeg's own words as well. Streams are looked for on this machine only, where nobody has them."""
    user = "127.0.0.1" if form in HOSTLESS else "admin"
    source = form.replace("¤", user).replace("§", SECRET).replace("@h", "@127.0.0.1:9").replace("//h", "//127.0.0.1:9")
    outcome = edgevit("run", bundle_path, source, "--headless", "--no-telemetry", "--give-up", 0, "--limit", 1)
    assert outcome.code == 7, outcome.stderr
    assert SECRET not in outcome.stdout + outcome.stderr + "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "words",
    [["rtsp://admin:my", f"{SECRET}@h/x"], ["rtsp://admin:my", SECRET, "b@h/x"], [f"--{SECRET}@h"], ["0", f"admin:{SECRET}@h"]],
)
def test_address_in_two_words(edgevit, bundle_path: Path, words: list[str]) -> None:
    """Without quotes the shell takes a password with a blank apart: a source more, of which no word is told."""
    outcome = edgevit("run", bundle_path, *words, "--give-up", "0")
    assert outcome.code in (2, 7)
    assert SECRET not in outcome.stderr


@pytest.mark.parametrize("option", ["--webhook", "--mqtt"])
@pytest.mark.parametrize(
    "address",
    ["rtps://h/x?token=§", "§", "h/§", "me:§@h", "http:/me:§@h", "http://me:1/§@h/x", "http://h/a b?§", "http://h/\n§", "mqtt://h/t?p=§",
     "mqtt://me:1/§@h/t", "http://a..b/§", "mqtt://h/a#§", "http://[::1/§", "htp://hooks.example/services/§"],
)  # fmt: skip
def test_wrong_addresses_of_events(edgevit, bundle_path: Path, option: str, address: str) -> None:
    pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt: pip install 'edgevit[mqtt]'")
    outcome = edgevit("run", bundle_path, TEST, "--headless", "--no-telemetry", option, address.replace("§", SECRET))
    assert outcome.code == 2, outcome.stderr
    assert SECRET not in outcome.stdout + outcome.stderr
