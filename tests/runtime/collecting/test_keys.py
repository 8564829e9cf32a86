"""Which key means what, and a terminal that is as it was afterwards."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator

import numpy as np
import pytest

from edgevit.errors import ConfigError
from edgevit.known.fit import Seen, fit_known
from edgevit.runtime.collecting.keymap import checked_labels, keymap_of
from edgevit.runtime.collecting.terminal import key_by_key
from edgevit.runtime.collecting.unsure import Unsure, doubt_of
from edgevit.runtime.decide import Decider
from tests.runtime.fakes import frame, prediction, result
from tests.support import ROOT, python


@pytest.mark.parametrize(("labels", "keys"), [
    (["crack", "fine"], {"1": "crack", "2": "fine", "c": "crack", "f": "fine"}),
    (["crack", "Chip", "ok"], {"1": "crack", "2": "Chip", "3": "ok", "o": "ok"}),
    (["quiet", "up"], {"1": "quiet", "2": "up"}),
    (["ölig", "ßauber"], {"1": "ölig", "2": "ßauber", "ö": "ölig"}),
    (["3mm", "1mm"], {"1": "3mm", "2": "1mm", "3": "3mm"}),
])  # fmt: skip
def test_keys_of_classes(labels: list[str], keys: dict[str, str]) -> None:
    keymap = keymap_of(labels)
    assert keymap.classes == keys
    for key, label in keys.items():
        assert keymap.label_of(key.upper()) == label
    assert keymap.label_of("z") is None


def test_the_tenth_needs_a_letter() -> None:
    assert keymap_of([f"{letter}x" for letter in "abcdefghijkl"]).label_of("l") == "lx"
    with pytest.raises(ConfigError, match="'a10' has no key"):
        keymap_of([f"a{number}" for number in range(1, 11)])


@pytest.mark.parametrize("label", ["a/b", "a\\b", ".", "..", ".hidden", "a\nb", "\x1b[2J", "x" * 101, "ä" * 51, "Unlabelled"])
def test_names_that_are_no_folders(label: str) -> None:
    with pytest.raises(ConfigError, match="--label"):
        checked_labels(["good", label])


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends: the user's, and the program's."""
    user, program = pty.openpty()
    yield user, program
    for end in (user, program):
        if end >= 0:
            os.close(end)


def test_keys_come_one_by_one_and_the_mode_goes_back(terminal: tuple[int, int]) -> None:
    user, program = terminal
    before = termios.tcgetattr(program)
    with key_by_key(program) as keys:
        assert not termios.tcgetattr(program)[3] & (termios.ECHO | termios.ICANON)
        assert termios.tcgetattr(program)[3] & termios.ISIG, "Ctrl-C interrupts"
        assert keys.pressed(frame()) == []
        os.write(user, "1ö \x7f\r".encode())
        assert keys.pressed(frame(), wait=True) == ["1", "ö", " ", "\x7f", "\n"]  # the terminal makes Enter a line's end
        os.write(user, b"\x1b[A\x1b[15~\x1bOP")
        os.write(user, b"c")
        assert keys.pressed(frame(), wait=True) == ["c"], "arrows and function keys are no letters"
    assert termios.tcgetattr(program) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_mode_goes_back_after_an_error(terminal: tuple[int, int], error: type[BaseException]) -> None:
    before = termios.tcgetattr(terminal[1])
    with pytest.raises(error), key_by_key(terminal[1]):
        raise error
    assert termios.tcgetattr(terminal[1]) == before


def test_a_terminal_that_is_gone_ends_it() -> None:
    user, program = pty.openpty()
    with key_by_key(program) as keys:
        os.close(user)
        assert keys.pressed(frame(), wait=True) == ["q"]
    os.close(program)


HANGS = """
import sys, time
from edgevit.runtime.stopping import stoppable
from edgevit.runtime.collecting.terminal import key_by_key
with stoppable():
    try:
        with key_by_key(int(sys.argv[1])):
            try:
                print("ready", flush=True)
                time.sleep(60)
            except KeyboardInterrupt:
                print("first", flush=True)
                time.sleep(60)
    finally:
        print("never", flush=True)
"""


def test_the_mode_goes_back_even_at_a_second_ctrl_c(terminal: tuple[int, int]) -> None:
    before = termios.tcgetattr(terminal[1])
    with subprocess.Popen(
        [sys.executable, "-c", HANGS, str(terminal[1])], pass_fds=[terminal[1]], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert termios.tcgetattr(terminal[1]) != before
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "first\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 128 + signal.SIGINT
        assert process.stdout.read() == ""
    assert termios.tcgetattr(terminal[1]) == before


UNDISTURBED = """
import os, signal
from edgevit.runtime.stopping import stoppable, undisturbed
with stoppable():
    try:
        with undisturbed():
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(1000): pass
            print("whole")
        print("never")
    except KeyboardInterrupt:
        print("then")
"""


def test_what_belongs_together_is_done_as_a_whole() -> None:
    with python(UNDISTURBED) as process:
        assert process.communicate(timeout=30)[0] == "whole\nthen\n"


def test_unsure() -> None:
    doubt = doubt_of(Decider(top_k=2)(result(predictions=(prediction("a", 0.55), prediction("b", 0.3, 1)))))
    assert (doubt.guess, doubt.confidence, doubt.certainty, round(doubt.margin, 6)) == ("a", 0.55, 0.55, 0.25)
    assert Unsure()(doubt)
    assert not Unsure(below=0.5)(doubt)
    assert Unsure(below=0.5, margin=0.3)(doubt)
    assert not Unsure(below=None, margin=0.2)(doubt)


def test_unsure_of_several_labels() -> None:
    """Nothing is open where all are clearly there or absent; a label at 0.45 is."""
    clear = (prediction("a", 0.97), prediction("b", 0.9, 1), prediction("c", 0.02, 2))
    open_ = (prediction("a", 0.97), prediction("b", 0.45, 1), prediction("c", 0.02, 2))
    doubts = [doubt_of(Decider(problem_type="multi_label_classification")(result(predictions=each))) for each in (clear, open_)]
    assert [doubt.guess for doubt in doubts] == ["b", "b"]
    assert [round(doubt.certainty, 6) for doubt in doubts] == [0.9, 0.55]
    assert [Unsure()(doubt) for doubt in doubts] == [False, True]


def test_what_is_unusual_is_kept_however_sure_the_model_is() -> None:
    """Of a bundle that tells: there models are confidently wrong."""
    features = np.random.default_rng(0).normal(size=(99, 4)).astype(np.float32)
    known = fit_known(Seen(features=features, classes=np.zeros(99, np.int64)), 1)
    decider, sure = Decider(top_k=2, known=known), (prediction("a", 0.999), prediction("b", 0.001, 1))
    far, usual = (doubt_of(decider(result(predictions=sure, features=np.full(4, middle, np.float32)))) for middle in (30, 0))
    assert Unsure()(far)
    assert Unsure(below=None, margin=0.1)(far)
    assert not Unsure()(usual)
