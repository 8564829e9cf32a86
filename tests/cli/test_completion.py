"""Completion: what real shells are given, quickly and in silence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from edgevit.cli import COMMANDS
from edgevit.cli.command import called
from edgevit.cli.completing.known import KNOWN
from edgevit.commands.compare_names import parse_precisions
from edgevit.engines import ENGINES
from edgevit.pruning.settings import SCORES
from edgevit.runtime.collecting.sharp import parse_sharpness
from edgevit.runtime.smoothing import parse_smoothing
from edgevit.shipped import shipped_names
from tests.support import ROOT

JETSONS = [name for name in shipped_names("targets") if name.startswith("jetson-orin-n")]
LABELS = ["crack", "fine", "dust, dry"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with bundles, one of them damaged, other things, and `edgevit` on the path."""
    folder = tmp_path / "place"
    for name, manifest in (("cells.edgevit", json.dumps({"labels": LABELS})), ("spoilt.edgevit", '{"labels": [1')):
        (folder / name).mkdir(parents=True)
        (folder / name / "manifest.json").write_text(manifest)
    (folder / "photos").mkdir()
    (folder / "clip.mp4").touch()
    program = tmp_path / "bin" / "edgevit"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m edgevit "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(folder)
    return folder


def shell(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


def in_bash(line: str) -> list[str]:
    """What bash has in COMPREPLY when Tab is pressed at the end of ``line``."""
    script = (
        'eval "$(edgevit completion bash)"; COMP_LINE=$1; COMP_POINT=${#1}; compopt() { echo "compopt $*" >&3; }; exec 3>&1; '
        '_edgevit_completion edgevit; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return [word for word in shell("bash", "--norc", "-c", script, "bash", line) if word]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("edgevit ", list(COMMANDS)),
        ("edgevit bui", ["build"]),
        ("edgevit build m.pt --eval-l", ["--eval-limit"]),
        (
            "edgevit build m.pt --target jetson-orin-n",
            JETSONS,
        ),
        ("edgevit build m.pt --target=cp", ["cpu"]),
        ("edgevit build m.pt --recipe ", list(shipped_names("calibration"))),
        ("edgevit build m.pt --precision ", ["auto", "int8", "fp16", "fp32"]),
        ("edgevit targets rtx-a", ["rtx-ada", "rtx-ampere"]),
        ("edgevit run b 0 --engine ", list(ENGINES)),
        ("edgevit compare b --engines openvino,onn", ["openvino\\,onnxruntime"]),
        ("edgevit run ", ["cells.edgevit", "spoilt.edgevit"]),
        ("edgevit run ./c", ["./cells.edgevit"]),
        ("edgevit inspect cells.edgevit --diff s", ["spoilt.edgevit"]),
        ("edgevit run cells.edgevit te", ["compopt -o nospace", "test://"]),
        ("edgevit run cells.edgevit csi:", ["//0"]),
        ("edgevit run cells.edgevit 0 --threshold cr", ["compopt -o nospace", "crack="]),
        ("edgevit run cells.edgevit 0 --threshold d", ["compopt -o nospace", "dust\\,\\ dry="]),
        ("edgevit run cells.edgevit 0 --when label=f", ["fine"]),
        ("edgevit run spoilt.edgevit 0 --threshold ", []),
        ("edgevit run cells.edgevit 0 --smooth e", ["ema:8"]),
        ("edgevit run cells.edgevit cl", ["compopt -o default"]),
        ("edgevit compare ph", ["compopt -o default"]),
        ("edgevit completion ", ["bash", "zsh", "fish"]),
        ("edgevit nonsense --t", []),
        ("edgevit run 'unclosed --th", ["compopt -o default"]),
    ],
)
def test_bash(place: Path, line: str, wanted: list[str]) -> None:
    found = in_bash(line)
    assert sorted(found) == sorted(wanted)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh(place: Path) -> None:
    """Its functions are those of an interactive shell; these stand in for them and print what they are given."""
    script = (
        "compdef() { :; }; compadd() { print -l -- ${(P)@[-1]}; }; _describe() { print -l -- ${(P)@[-2]}; }; "
        'eval "$(edgevit completion zsh)"; words=({words}); CURRENT=$#words; _edgevit_completion'
    )

    def asked(*words: str) -> list[str]:
        return shell("zsh", "-f", "-c", script.replace("{words}", " ".join(f"'{word}'" for word in words)))

    assert asked("edgevit", "bu") == ["build:Turn a trained ViT into a bundle for a target."]
    assert asked("edgevit", "build", "m", "--target", "cp") == ["cpu"]
    assert asked("edgevit", "run", "c") == ["cells.edgevit"]


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
@pytest.mark.parametrize(
    ("line", "wanted"),
    [("edgevit bui", ["build"]), ("edgevit build m --target cp", ["cpu"]), ("edgevit run c", ["cells.edgevit"])],
)
def test_fish(place: Path, line: str, wanted: list[str]) -> None:
    script = f"edgevit completion fish | source; complete --do-complete {line!r}"
    assert [word.partition("\t")[0] for word in shell("fish", "--no-config", "-c", script)] == wanted


@pytest.mark.parametrize("asked", ["bash_complete", "zsh_complete", "fish_complete", "tcsh_complete", ""])
def test_questions_that_make_no_sense_are_met_with_silence(place: Path, asked: str) -> None:
    """Without the words of a line, and from a shell that nobody knows."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COMP_")}
    done = subprocess.run(
        ["edgevit"], env={**environment, "_EDGEVIT_COMPLETE": asked}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_names_are_completed_for_options_that_exist() -> None:
    """And what is suggested for a method is one."""
    commands = [getattr(import_module(f"edgevit.cli.{name}"), name) for name in COMMANDS]
    assert set(KNOWN) <= {called(parameter) for command in commands for parameter in command.params}
    context = click.Context(commands[0])
    assert {*KNOWN["--score"](context, "")} == set(SCORES)
    assert all(parse_precisions([name]) for name in KNOWN["--precisions"](context, ""))
    assert all(parse_smoothing(text) for text in KNOWN["--smooth"](context, ""))
    assert all(parse_sharpness(text) for text in KNOWN["--sharp"](context, ""))


def test_a_folder_that_is_not_there(place: Path) -> None:
    assert in_bash("edgevit run gone/b") == ["compopt -o default"]


def test_completing_needs_no_optional_package(edgevit_process, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor anything that takes long to load."""
    monkeypatch.setenv("_EDGEVIT_COMPLETE", "bash_complete")
    monkeypatch.setenv("_EDGEVIT_TYPED", "edgevit build m --target cp")
    heavy = ("torch", "onnx", "openvino", "onnxruntime", "cv2", "numpy", "rich")
    assert edgevit_process(without=heavy).stdout == "plain,cpu\n"
