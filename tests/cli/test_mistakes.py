"""What click finds wrong with a command line: the one line that all errors are, with what to type instead."""

from __future__ import annotations

import pytest

SECRET = "hunter2Z"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "b"], "SOURCE is missing: 0 for the first camera, test:// for none. See: edgevit run --help"),
        (["run"], "BUNDLE is missing: what edgevit build wrote: a folder or a .zip. See: edgevit run --help"),
        (["deploy", "b"], "no host is named. Write user@host, or --hosts FILE"),
        (["compare", "m.pt"], "--data is missing: write --data PATH. See: edgevit compare --help"),
        (["completion"], "SHELL is missing: one of bash, zsh, fish. See: edgevit completion --help"),
        (["inspect", "b", "--jsn"], "No such option '--jsn'. Did you mean '--json'? See: edgevit inspect --help"),
        (["inspect", "b", "--zzz"], "No such option '--zzz'. See: edgevit inspect --help"),
        (["bild"], "No such command 'bild'. Did you mean 'build'? See: edgevit --help"),
        (["run", "b", "0", "--top-k", "many"], "--top-k: 'many' is no whole number. See: edgevit run --help"),
        (["run", "b", "0", "--limit", "0"], "--limit: 0 is out of range: 1 or more. See: edgevit run --help"),
        (["run", "b", "0", "--fps", "fast"], "--fps: 'fast' is no number. See: edgevit run --help"),
        (["build", "m.pt", "--max-drop", "-1"], "--max-drop: -1.0 is out of range: 0 to 100. See: edgevit build --help"),
        (["build", "m.pt", "-o"], "Option '-o' requires an argument. See: edgevit build --help"),
        (["build", "m.pt", "--precision", "int4"],
         "--precision: 'int4' is not one of 'auto', 'int8', 'fp16', 'fp32'. See: edgevit build --help"),
        (["inspect", "a", "b"], "Got unexpected extra argument (b). See: edgevit inspect --help"),
        (["prune", "m", "--data", "d", "--prune", "30"],
         "--prune: '30' is no share: write 0.2 or 20%, of the multiply-accumulates, or auto. Did you mean 30%? "
         "See: edgevit prune --help"),
        (["collect", "0", "-o", "f", "--below", "much"],
         "--below: 'much' is no share: write 0.6 or 60%. See: edgevit collect --help"),
        (["--nonsense"], "No such option '--nonsense'. See: edgevit --help"),
    ],
)  # fmt: skip
def test_one_line(edgevit, arguments: list[str], line: str) -> None:
    outcome = edgevit(*arguments)
    assert (outcome.code, outcome.stdout, outcome.stderr) == (2, "", f"edgevit: {line}\n")


def test_of_a_service_it_is_run_that_refuses(edgevit, bundle_path, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = edgevit("service", bundle_path, "0", "--user", "root", "--", "--top-k", "0")
    assert outcome.stderr == "edgevit: --top-k: 0 is out of range: 1 or more. See: edgevit run --help\n"
    assert outcome.code == 2


@pytest.mark.parametrize(
    "words", [["rtsp://admin:my", f"{SECRET}@h/x"], [f"--{SECRET}@h"], ["0", "--top-k", f"rtsp://admin:{SECRET}@h"]]
)
def test_no_secret_is_quoted(edgevit, bundle_path, words: list[str]) -> None:
    """An address in two words is two sources, of which the second is no file."""
    outcome = edgevit("run", bundle_path, *words, "--give-up", "0", "--headless")
    assert outcome.code in (2, 7)
    assert SECRET not in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


def test_no_second_line_is_quoted(edgevit) -> None:
    outcome = edgevit("run", "b", "0", "--top-k", "x\nedgevit: faked\x1b[2J")
    assert len(outcome.stderr.splitlines()) == 1
    assert "\x1b" not in outcome.stderr
