"""``edgevit collect`` as it is typed: a film of which every frame is known, a terminal, a model, a camera that drops out."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgevit as package
from edgevit.errors import ConfigError, SourceError
from edgevit.images.dataset import load_images
from tests.runtime.collecting.scenes import FPS, film, noisy, view, write_film
from tests.runtime.test_web import camera
from tests.support import CLASSES, COMMAND, ROOT, Outcome, picture, python

Edgevit = Callable[..., Outcome]
COLLECT = "import sys; from edgevit.cli import main; main(['collect', *sys.argv[1:]], prog_name='edgevit')"


@dataclass(frozen=True)
class Film:
    path: Path
    kinds: list[str]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Film:
    frames = film()
    return Film(write_film(tmp_path_factory.mktemp("film") / "day.avi", [image for _, image in frames]), [k for k, _ in frames])


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of 16 x 16 gray levels."""
    small = [
        cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (16, 16), interpolation=cv2.INTER_AREA).astype(float).ravel()
        for image in (one, other)
    ]
    return float(np.corrcoef(small)[0, 1])


def test_a_day_of_a_camera(edgevit: Edgevit, known: Film, tmp_path: Path) -> None:
    """Of every stretch what should be kept is, and nothing else; each of the others has its own reason."""
    outcome = edgevit("collect", known.path, "-o", tmp_path / "out", "--every", "0", "--json")
    assert outcome.code == 0, outcome.stderr
    *kept, last = outcome.lines
    summary, count = last["summary"], Counter(known.kinds)
    assert {known.kinds[each["frame"]] for each in kept} == {"good"}
    assert len(kept) > 12
    assert summary["left_out"] | {"unchanged": 0, "duplicate": 0} == {
        "too_soon": 0, "dark": count["dark"], "overexposed": count["overexposed"], "flat": count["flat"],
        "blurred": count["defocused"] + count["shaken"], "unchanged": 0, "duplicate": 0, "certain": 0,
    }  # fmt: skip
    assert (summary["frames"], summary["kept"], summary["ended"]) == (len(known.kinds), len(kept), "end")
    assert summary["frames"] == summary["kept"] + sum(summary["left_out"].values())
    images = load_images(tmp_path / "out")
    assert sorted(images.names) == [each["file"] for each in kept]
    pictures = [images.frame(i) for i in range(len(images))]
    assert max(correlation(a, b) for i, a in enumerate(pictures) for b in pictures[:i]) < 0.96
    again = edgevit("collect", known.path, "-o", tmp_path / "out", "--every", "0", "--json").lines
    assert len(again) == 1, "all of it is known from the first session"


def test_the_rate_is_the_video_s_own(edgevit: Edgevit, known: Film, tmp_path: Path) -> None:
    lines = edgevit("collect", known.path, "-o", tmp_path / "out", "--every", "0.7", "--json").lines[:-1]
    times = [each["seconds"] for each in lines]
    assert times == pytest.approx([each["frame"] / FPS for each in lines], abs=1e-3)
    assert min(b - a for a, b in itertools.pairwise(times)) >= 0.7 - 1e-6
    outcome = edgevit("collect", known.path, "-o", tmp_path / "three", "--any-light", "--seconds", "1", "--json")
    summary = outcome.lines[-1]["summary"]
    assert (summary["frames"], summary["ended"]) == (10, "seconds")


def test_people_read_why_and_what_next(edgevit: Edgevit, known: Film, tmp_path: Path) -> None:
    outcome = edgevit("collect", known.path, "-o", tmp_path / "a b", "--limit", "3")
    assert outcome.code == 0, outcome.stderr
    lines = outcome.stdout.splitlines()
    assert all(line.split()[0].endswith(".jpg") and "sharpness" in line for line in lines[:3])
    assert "3 of " in lines[3]
    assert "(as many as were wanted)" in lines[3]
    assert "dark" in lines[4]
    assert "--any-light" in lines[4]
    assert lines[-1] == f"Next: calibrate with it: edgevit build MODEL --data '{tmp_path / 'a b'}'"


def test_one_class_after_the_other(edgevit: Edgevit, known: Film, tmp_path: Path) -> None:
    """Then anything goes into unlabelled/: beside them it would make the labels unreadable."""
    out = tmp_path / "cells"
    first = edgevit("collect", known.path, "-o", out, "--label", "crack", "--limit", "4")
    assert "another class" in first.stdout
    second = edgevit("collect", known.path, "-o", out, "--label", "fine", "--limit", "4")
    assert second.stdout.splitlines()[-1] == f"Next: edgevit train {out} --backbone MODEL, or edgevit build MODEL --data {out}"
    third = edgevit("collect", known.path, "-o", out, "--limit", "2")
    assert "snapshots go into unlabelled/" in third.stderr
    images = load_images(out)
    assert images.class_names == ("crack", "fine")
    assert Counter(images.targets or ()) == {0: 4, 1: 4}
    assert len(list((out / "unlabelled").iterdir())) == 2


def test_what_is_collected_is_trained_and_calibrated_on(
    edgevit: Edgevit, known: Film, checkpoint_path: Path, bundle_path: Path, tmp_path: Path
) -> None:  # fmt: skip
    """The commands that it says come next, with a folder that has pictures without a label, too."""
    out = tmp_path / "cells"
    for label in ("china", "flower"):
        film_of_one = write_film(tmp_path / f"{label}.avi", [view(label, x) for x in range(0, 320, 16)])
        assert edgevit("collect", film_of_one, "-o", out, "--label", label, "--every", "0").code == 0
    assert edgevit("collect", known.path, "-o", out, "--limit", "1").code == 0
    trained = edgevit("train", out, "--backbone", checkpoint_path, "-o", tmp_path / "model", "--json")
    assert trained.code == 0, trained.stderr
    assert [row["class"] for row in trained.json["classes"]] == ["china", "flower"]
    built = edgevit("build", tmp_path / "model", "--data", out, "-o", tmp_path / "b.edgevit", "--dry-run")
    assert built.code == 0, built.stderr
    assert edgevit("collect", known.path, "-o", tmp_path / "more", "--uncertain", bundle_path, "--margin", "1").code == 0


def test_pictures_beside_the_classes_are_told(edgevit: Edgevit, known: Film, tmp_path: Path) -> None:
    assert edgevit("collect", known.path, "-o", tmp_path / "o", "--limit", "2").code == 0
    outcome = edgevit("collect", known.path, "-o", tmp_path / "o", "--limit", "2", "--label", "crack")
    assert "2 pictures lie beside the folders of classes" in outcome.stderr
    assert "move them" in outcome.stdout.splitlines()[-1]


def test_a_folder_and_a_pattern(edgevit: Edgevit, image_folder: Path, tmp_path: Path) -> None:
    outcome = edgevit("collect", image_folder, "-o", tmp_path / "o", "--json")
    assert outcome.code == 0, outcome.stderr
    summary = outcome.lines[-1]["summary"]
    assert summary["left_out"]["too_soon"] == 0
    assert summary["kept"] > 5
    assert "--every means nothing" in edgevit("collect", image_folder, "-o", tmp_path / "p", "--every", "5").stderr
    assert edgevit("collect", "test://320x240?frames=40", "-o", tmp_path / "q", "--json").lines[-1]["summary"]["kept"] > 3
    live = edgevit("collect", "test://320x240@50", "-o", tmp_path / "r", "--seconds", "0.6", "--every", "0.1", "--json")
    assert live.lines[-1]["summary"]["ended"] == "seconds"
    assert 1 <= live.lines[-1]["summary"]["kept"] <= 6


def test_png_and_the_budget(edgevit: Edgevit, known: Film, tmp_path: Path) -> None:
    outcome = edgevit(
        "collect", known.path, "-o", tmp_path / "o", "--format", "png", "--most-mib", "0.5", "--every", "0", "--json"
    )
    assert outcome.code == 0, outcome.stderr
    assert outcome.lines[-1]["summary"]["ended"] == "budget"
    files = list((tmp_path / "o").glob("*.png"))
    assert files
    assert sum(path.stat().st_size for path in files) <= 0.5 * 2**20


@pytest.mark.parametrize(("options", "said"), [
    (["--below", "0.5"], "--below is about a model's doubts"),
    (["--margin", "0.5"], "--margin is about a model's doubts"),
    (["--sharp", "very"], "--sharp 'very'"),
    (["--label", " , "], "no name of a class"),
    (["--label", "a,b/c"], "is a path"),
    (["--label", "a,b"], "takes keys: run it on a display or in a terminal"),
    (["--label", "a,b", "--every", "2"], "keys decide when"),
    (["--label", "a,b", "--uncertain", "x"], "either the model chooses"),
    (["--headless"], "--headless is for --label"),
    (["--require-signature", "k.pub"], "goes with --uncertain"),
])  # fmt: skip
def test_what_does_not_go_together(options: list[str], said: str, edgevit: Edgevit, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    outcome = edgevit("collect", "test://32x32?frames=2", "-o", tmp_path / "o", *options)
    assert outcome.code == 2
    assert said in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_never_out_of_its_own_folder(edgevit: Edgevit, image_folder: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(image_folder, tmp_path / "data"))
    for source, code in ((data, 2), (data / "disc", 2)):
        outcome = edgevit("collect", source, "-o", data)
        assert outcome.code == code, outcome.stderr
    assert sorted(path.name for path in data.iterdir()) == sorted(CLASSES)
    assert edgevit("collect", tmp_path / "gone.mp4", "-o", tmp_path / "o").code == 7
    assert not (tmp_path / "o").exists(), "nothing is made for a source that is not there"


# --- what a model is unsure of --------------------------------------------------------------------------------------------


def blend(a: str, b: str, share: float, seed: int) -> np.ndarray:
    return cv2.addWeighted(picture(a, seed), 1 - share, picture(b, seed), share, 0)


def test_uncertain_frames_alone(edgevit: Edgevit, bundle_path: Path, tmp_path: Path) -> None:
    """What the model itself says of every frame, asked one by one, tells which must be kept."""
    source = tmp_path / "source"
    source.mkdir()
    for seed in range(30):
        image = blend("disc", "stripes", 0.1 * (seed % 10), 3000 + seed)
        (source / f"{seed:02d}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    off = ("--sharp", "off", "--change", "0", "--alike", "1")
    outcome = edgevit("collect", source, "-o", tmp_path / "o", "--uncertain", bundle_path, "--below", "0.8", *off, "--json")
    assert outcome.code == 0, outcome.stderr
    *kept, last = outcome.lines
    with package.load(bundle_path, threads=1) as classifier:
        best = {path.name: classifier.classify(path, top_k=2) for path in sorted(source.iterdir())}
    wanted = {name: each for name, each in best.items() if each[0].confidence < 0.8}
    assert 0 < len(wanted) < 30
    assert {each["source"] for each in kept} == set(wanted)
    for each in kept:
        first, second = wanted[each["source"]]
        assert each["guess"] == first.label
        assert each["confidence"] == pytest.approx(first.confidence, abs=1e-3)
        assert each["margin"] == pytest.approx(first.confidence - second.confidence, abs=2e-3)
        assert f"-{first.label}-{first.confidence:.2f}" in each["file"]
    assert last["summary"]["left_out"]["certain"] == 30 - len(kept)
    assert "folder per class" in last["summary"]["next"][0]
    table = (tmp_path / "o" / "collected.csv").read_text().splitlines()
    assert len(table) == 1 + len(kept)


def test_from_python(bundle_path: Path, known: Film, tmp_path: Path) -> None:
    result = package.collect(known.path, out=tmp_path / "o", every=0.5, label="crack", limit=3)
    assert [row["label"] for row in result.rows] == ["crack"] * 3
    assert (result.path, result.ended, len(result.snapshots)) == (tmp_path / "o", "limit", 3)
    assert repr(result).startswith("CollectResult(")
    assert "crack/" in result._repr_html_()
    unsure = package.collect(known.path, out=tmp_path / "p", uncertain=bundle_path, below=1.0, margin=0.1, limit=1)
    assert unsure.snapshots[0].guess in CLASSES
    with pytest.raises(ConfigError, match="chosen by keys"):
        package.collect(known.path, out=tmp_path / "q", label="a,b")
    with pytest.raises(TypeError, match="sharp: expected a text"):
        package.collect(known.path, out=tmp_path / "q", sharp=0.4)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="alike: 2 is out of range"):
        package.collect(known.path, out=tmp_path / "q", alike=2.0)
    with pytest.raises(SourceError):
        package.collect(tmp_path / "gone", out=tmp_path / "q")


def test_on_a_device_without_torch(known: Film, tmp_path: Path) -> None:
    blocked = ("torch", "onnx", "safetensors", "onnxruntime", "openvino", "sklearn", "psutil")
    with python(COLLECT, known.path, "-o", tmp_path / "o", "--limit", 2, without=blocked) as process:
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "2 of " in stdout
    code = "import edgevit, sys; print(len(edgevit.collect(sys.argv[1], out=sys.argv[2], limit=2).snapshots))"
    with python(code, known.path, tmp_path / "p", without=blocked) as process:
        assert process.communicate(timeout=60)[0] == "2\n"


# --- cameras, signals, terminals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_its_summary(number: signal.Signals, tmp_path: Path) -> None:
    with python(COMMAND, "collect", "test://320x240@30", "-o", tmp_path / "o", "--every", "0.1", "--json") as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        process.send_signal(number)
        rest, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    lines = [first, *map(json.loads, rest.splitlines())]
    assert lines[-1]["summary"]["ended"] == "interrupted"
    files = {path.name for path in (tmp_path / "o").iterdir()}
    assert files == {"collected.csv", *(each["file"] for each in lines[:-1])}
    assert len((tmp_path / "o" / "collected.csv").read_text().splitlines()) == len(lines)


def test_a_killed_one_leaves_no_half_picture(tmp_path: Path) -> None:
    with python(COMMAND, "collect", "test://1280x720", "-o", tmp_path / "o", "--change", "0", "--alike", "1") as process:
        assert process.stdout is not None
        for _ in range(5):
            process.stdout.readline()
        process.kill()
    images = load_images(tmp_path / "o")
    images.check()
    assert all(images.frame(i).shape == (720, 1280, 3) for i in range(len(images)))


def test_a_camera_that_drops_out(tmp_path: Path, edgevit: Edgevit) -> None:
    """It ends its connection after 30 pictures, is connected to again, and the time is over although none may come."""
    with camera(frames=30) as address:
        options = ("--any-light", "--sharp", "off", "--every", "0.2", "--seconds", "2.5", "--json")
        outcome = edgevit("collect", f"http://{address}/", "-o", tmp_path / "o", *options)
    assert outcome.code == 0, outcome.stderr
    summary = outcome.lines[-1]["summary"]
    assert summary["ended"] == "seconds"
    assert "lost" in summary["faults"]
    assert summary["seconds"] < 8


@dataclass
class Terminal:
    """The user's end of a terminal in which the command runs."""

    process: subprocess.Popen[bytes]
    user: int
    program: int
    before: list[object]
    said: str = field(default="")

    def press(self, keys: str, until: str) -> None:
        """Press keys and wait for what the command says."""
        os.write(self.user, keys.encode())
        self.wait(until)

    def wait(self, until: str, seconds: float = 20.0) -> None:
        end, start = time.monotonic() + seconds, len(self.said)
        while until not in self.said[start:]:
            assert time.monotonic() < end, f"{until!r} did not come: {self.said[start:]}"
            if select.select([self.user], [], [], 0.1)[0]:
                self.said += os.read(self.user, 65536).decode()

    def ended(self) -> int:
        code = self.process.wait(20)
        with suppress(OSError):
            while select.select([self.user], [], [], 0.2)[0]:
                self.said += os.read(self.user, 65536).decode()
        return code


@contextmanager
def terminal(*arguments: object) -> Iterator[Terminal]:
    user, program = pty.openpty()
    before = termios.tcgetattr(program)
    hidden = {"DISPLAY", "WAYLAND_DISPLAY"}
    environment = {key: value for key, value in os.environ.items() if key not in hidden} | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "collect", *map(str, arguments)], stdin=program, stdout=program, stderr=program,
        env=environment, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    try:
        yield Terminal(process, user, program, before)
    finally:
        process.kill()
        process.wait()
        os.close(user)
        os.close(program)


def test_classes_by_key(tmp_path: Path) -> None:
    out = tmp_path / "cells"
    with terminal("test://320x240@30", "-o", out, "--label", "crack,fine") as user:
        user.wait("keys: 1/c crack, 2/f fine, space unlabelled, u undo, q end")
        user.press("1", "crack/")
        user.press("F", "fine/")
        user.press(" ", "unlabelled/")
        user.press("2", "fine/")
        user.press("u", "removed fine/")
        user.press("x\x1b[A", "kept of")
        user.press("q", "Next: edgevit train")
        assert user.ended() == 0
        assert termios.tcgetattr(user.program) == user.before
    images = load_images(out)
    assert (images.class_names, images.targets) == (("crack", "fine"), (0, 1))
    assert len(list((out / "unlabelled").iterdir())) == 1
    assert len((out / "collected.csv").read_text().splitlines()) == 4


def test_ctrl_c_at_the_terminal(tmp_path: Path) -> None:
    with terminal("test://320x240@30", "-o", tmp_path / "o", "--label", "crack,fine") as user:
        user.wait("keys:")
        user.press("1", "crack/")
        user.press("\x03", "(interrupted)")
        assert user.ended() == 0
        assert termios.tcgetattr(user.program) == user.before


def test_a_source_that_fails_under_keys(tmp_path: Path) -> None:
    """The mode of the terminal goes back, and the summary and the error are both there."""
    with camera(frames=60) as address, terminal(
        f"http://{address}/", "-o", tmp_path / "o", "--label", "a,b", "--give-up", "0"
    ) as user:  # fmt: skip
        user.wait("given up")
        assert user.ended() == 7
        assert "(by an error)" in user.said
        assert termios.tcgetattr(user.program) == user.before


def test_images_wait_for_a_key(tmp_path: Path) -> None:
    """One after the other, each into the class of its key, in order; Enter passes one over."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(4):
        (source / f"{number}.png").write_bytes(cv2.imencode(".png", noisy(view("china", 90 * number)))[1].tobytes())
    with terminal(source, "-o", tmp_path / "o", "--label", "crack,fine") as user:
        user.wait("Enter next image")
        user.press("1", "crack/")
        user.press("\r2", "fine/")
        user.press("c", "crack/")
        assert user.ended() == 0
        assert "the source ended" in user.said
    rows = [line.split(",") for line in (tmp_path / "o" / "collected.csv").read_text().splitlines()[1:]]
    assert [(row[2], row[5]) for row in rows] == [("0.png", "crack"), ("2.png", "fine"), ("3.png", "crack")]


def test_a_video_plays_under_keys(tmp_path: Path) -> None:
    """At its own rate: a key meets what is there when it is pressed."""
    path = write_film(tmp_path / "v.avi", [view("china", 8 * i) for i in range(30)])
    with terminal(path, "-o", tmp_path / "o", "--label", "crack,fine") as user:
        user.wait("keys:")
        begun = time.monotonic()
        user.press("1", "crack/")
        assert user.ended() == 0
        assert time.monotonic() - begun > 1.5, "3 s of video"


class FakeWindow:
    """What a display's window gives: no machine of the tests has one. Keys by the number of the look."""

    def __init__(self, keys: dict[int, str]) -> None:
        self.keys, self.looks, self.shown = keys, 0, 0

    def __call__(self, _milliseconds: int) -> int:
        self.looks += 1
        return ord(self.keys[self.looks]) if self.looks in self.keys else -1


def test_keys_in_a_window(edgevit: Edgevit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = FakeWindow({3: "1", 5: "f", 7: " ", 9: "q"})
    monkeypatch.setenv("DISPLAY", ":0")
    for name in ("namedWindow", "imshow", "destroyAllWindows"):
        monkeypatch.setattr(cv2, name, lambda *_: None)
    monkeypatch.setattr(cv2, "waitKey", keys)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "GUI: QT5")
    outcome = edgevit("collect", "test://320x240@50", "-o", tmp_path / "o", "--label", "crack,fine", "--json")
    assert outcome.code == 0, outcome.stderr
    assert [each["label"] for each in outcome.lines[:-1]] == ["crack", "fine", None]
    assert outcome.lines[-1]["summary"]["ended"] == "quit"
    assert keys.looks == 9
