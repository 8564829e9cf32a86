"""``edgevit run`` with several sources, regions, devices and batches, as a user types it."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.runtime.fakes import write_image, write_video

A, B = "gate=test://64x64@200?frames=12", "test://96x64?frames=8"


@pytest.fixture
def run(edgevit, bundle_path: Path):
    """``edgevit run`` on the tiny bundle."""
    return lambda *arguments: edgevit("run", bundle_path, *arguments, "--headless", "--threads", 1, "--no-telemetry")


def test_every_output_has_the_camera(run, tmp_path: Path) -> None:
    done = run(
        A, B, "--json", "--jsonl", tmp_path / "a.jsonl", "--csv", tmp_path / "a.csv", "--save", tmp_path / "a.avi",
        "--snapshot", tmp_path / "shots", "--when", "always", "--every", 0, "--smooth", "ema:3",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    *frames, last = done.lines
    counts = Counter(frame["camera"] for frame in frames)
    assert counts["camera2"] == 8  # a file: all of them
    assert 1 <= counts["gate"] <= 12
    summary = last["summary"]
    assert [(each["camera"], each["frames"], each["lost"]) for each in summary["cameras"]] == [
        ("gate", counts["gate"], None), ("camera2", 8, None),
    ]  # fmt: skip
    assert summary["frames"] == sum(counts.values())
    assert 0.5 <= summary["fairness"] <= 1
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["camera"] for line in lines] == [frame["camera"] for frame in frames]
    assert all(line["seconds"] >= 0 for line in lines), "each camera has its own beginning"
    with (tmp_path / "a.csv").open() as file:
        assert [row["camera"] for row in csv.DictReader(file)] == [frame["camera"] for frame in frames]
    for camera, width in (("gate", 64), ("camera2", 96)):
        video = cv2.VideoCapture(str(tmp_path / f"a-{camera}.avi"))
        assert (video.get(cv2.CAP_PROP_FRAME_WIDTH) / video.get(cv2.CAP_PROP_FRAME_HEIGHT)) == pytest.approx(width / 64)
    names = Counter(path.name.split("-")[1] for path in (tmp_path / "shots").glob("*.jpg"))
    assert set(names) == {"gate", "camera2"}


def test_one_source_says_nothing_of_a_camera_and_a_name_does(run) -> None:
    plain = run("test://64x64?frames=3", "--json").lines
    assert all("camera" not in line for line in plain)
    assert "cameras" not in plain[-1]["summary"]
    named = run("gate=test://64x64?frames=3", "--json").lines
    assert [line["camera"] for line in named[:-1]] == ["gate"] * 3
    assert [{k: v for k, v in line.items() if k in ("frame", "label", "confidence")} for line in named[:-1]] == [
        {k: v for k, v in line.items() if k in ("frame", "label", "confidence")} for line in plain[:-1]
    ]


def test_labels_of_one_camera_do_not_smooth_those_of_another(run, tmp_path: Path) -> None:
    """Nor are they changes: each camera decides, and tells its events, by itself."""
    for name, level in (("dark", 0), ("bright", 255)):
        write_video(tmp_path / f"{name}.avi", [level] * 6)
    alone = {name: run(tmp_path / f"{name}.avi", "--json", "--smooth", "ema:8").lines[:-1] for name in ("dark", "bright")}
    both = run(f"dark={tmp_path / 'dark.avi'}", f"bright={tmp_path / 'bright.avi'}", "--json", "--smooth", "ema:8",
               "--snapshot", tmp_path / "shots", "--every", 0)  # fmt: skip
    for name, expected in alone.items():
        found = [line["confidence"] for line in both.lines if line.get("camera") == name]
        assert found == [line["confidence"] for line in expected]
    assert len(list((tmp_path / "shots").iterdir())) == 2  # changed: once for each


def test_source_that_cannot_be_opened_leaves_the_others_running(run, tmp_path: Path) -> None:
    done = run("gone=" + str(tmp_path / "gone.mp4"), B, "--json")
    assert done.code == 7
    assert "note: gone: " in done.stderr
    assert "no such file or folder" in done.stderr.splitlines()[-1]
    cameras = done.lines[-1]["summary"]["cameras"]
    assert [(each["camera"], each["frames"]) for each in cameras] == [("camera2", 8), ("gone", 0)]
    assert "no such file" in cameras[1]["lost"]
    assert run(tmp_path / "gone.mp4", tmp_path / "gone2.mp4").code == 7


def test_state_file_has_the_sum_and_what_is_lost(run, tmp_path: Path) -> None:
    done = run("gone=" + str(tmp_path / "gone.mp4"), B, "rtsp=test://64x64?frames=4", "--state", tmp_path / "run.state")
    assert done.code == 7
    state = json.loads((tmp_path / "run.state").read_text())
    assert (state["frames"], state["exit"], state["live"]) == (12, 7, False)
    assert state["source"] == f"gone={tmp_path}/gone.mp4, test://96x64?frames=8, rtsp=test://64x64?frames=4"
    assert "gone.mp4: no such file" in state["last_error"]


def test_text_has_a_row_of_each(run) -> None:
    lines = run(A, B).stdout.splitlines()
    head = next(place for place, line in enumerate(lines) if line.startswith("camera "))
    assert lines[head - 1].startswith("2 cameras: ")
    assert [line.split()[0] for line in lines[head + 1 : head + 3]] == ["gate", "camera2"]
    assert lines[head + 2].split()[1] == "8"


def test_wrong_names_and_regions_are_refused(run) -> None:
    for arguments, told in {
        ("a=0", "a=1"): "two sources are called 'a'",
        (B, "--roi", "1,2,3"): "no region",
        (B, "--roi", "c:0,0,5,5"): "no source is called 'c'",
        (B, "--roi", "90,0,20,20"): "which has 96x64 pixels",
        (A, B, "--roi", "gate:60,0,20,20"): "not within the picture, which has 64x64 pixels",
        (A, "--batch", 4): "is live",
        (B, "--device", "GPU", "--engine", "onnxruntime"): "has but one device",
    }.items():
        done = run(*arguments)
        assert done.code == 2, (arguments, done.stderr)
        assert told in done.stderr.splitlines()[-1]


def test_region_is_what_is_classified_and_kept(run, edgevit, tmp_path: Path) -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32, :48] = cv2.randu(np.zeros((32, 48, 3), np.uint8), 0, 255)
    cv2.imwrite(str(tmp_path / "whole.png"), image)
    cv2.imwrite(str(tmp_path / "part.png"), image[:32, :48])
    part = run(tmp_path / "part.png", "--json").lines[0]
    whole = run(tmp_path / "whole.png", "--json", "--roi", "0,0,48,32", "--snapshot", tmp_path / "shots").lines[0]
    assert (whole["label"], whole["confidence"]) == (part["label"], part["confidence"])
    (shot,) = (tmp_path / "shots").iterdir()
    assert cv2.imread(str(shot)).shape == (32, 48, 3)
    keep = ("--format", "png", "--sharp", "off", "--any-light")
    assert edgevit("collect", tmp_path / "whole.png", "-o", tmp_path / "kept", "--roi", "0,0,48,32", *keep).code == 0
    (kept,) = (tmp_path / "kept").glob("*.png")
    assert np.array_equal(cv2.imread(str(kept)), image[:32, :48])
    refused = edgevit("collect", tmp_path / "whole.png", "-o", tmp_path / "none", "--roi", "50,0,48,32")
    assert refused.code == 2
    assert "not within the picture" in refused.stderr


def test_batch_gives_the_same_labels(run, tmp_path: Path) -> None:
    for number, level in enumerate(range(0, 250, 36)):
        write_image(tmp_path / f"{number}.png", level)
    single, batched = (run(tmp_path, "--json", "--batch", batch).lines for batch in (1, 3))
    assert len(single) == len(batched) == 8
    for one, other in zip(single[:-1], batched[:-1], strict=True):
        assert (one["name"], one["label"]) == (other["name"], other["label"])
        assert one["confidence"] == pytest.approx(other["confidence"], abs=1e-4)
