"""The commands of a board, on Arm: what they print is what they print here, on the same bundle and pictures."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from edgevit.bundle import open_bundle, sign_bundle
from edgevit.preprocess import prepare
from edgevit.signing import generate
from tests.arm.machine import Arm
from tests.support import Outcome, picture, write_images

pytestmark = pytest.mark.slow
FALLBACK = "built for openvino, which is not installed here: runs on onnxruntime"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("photos"), 2, first=300)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 12 pictures, MJPEG."""
    import cv2

    path = tmp_path_factory.mktemp("film") / "fil m ü.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (40, 40))
    for seed in range(12):
        writer.write(picture("disc", 400 + seed))
    writer.release()
    return path


def test_doctor(arm: Arm, bundle_path: Path) -> None:
    """Nothing stands in the way, and the engine is held against torch's logits there."""
    done = arm.edgevit("doctor", bundle_path, "--json")
    assert done.code == 0, done.stderr
    found = {item["topic"]: item for item in done.json["findings"]}
    assert not [item for item in done.json["findings"] if item["level"] == "problem"]
    assert re.search(r"onnxruntime \d", found["engine"]["text"])
    assert "dB" in json.dumps(done.json["findings"])


def test_a_bundle_for_pcs_says_that_it_runs_otherwise(arm: Arm, bundle_path: Path) -> None:
    """Its engine is OpenVINO, of which Arm boards get no wheel."""
    assert open_bundle(bundle_path).manifest.engine == "openvino"
    done = arm.edgevit("run", bundle_path, "test://64x48@30?frames=3", "--headless")
    assert done.code == 0, done.stderr
    assert FALLBACK in done.stdout + done.stderr
    asked = arm.edgevit("run", bundle_path, "test://64x48@30?frames=3", "--headless", "--engine", "openvino")
    assert asked.code == 8
    assert "pip install 'edgevit[cpu]'" not in asked.stderr  # it would bring none


def test_inspect_reads_the_same(arm: Arm, bundle_path: Path, edgevit: Callable[..., Outcome]) -> None:
    """Hashes, shapes, scales, text: the files' format knows no processor."""
    there, here = (run("inspect", bundle_path, "--json") for run in (arm.edgevit, edgevit))
    assert there.code == 0, there.stderr
    assert json.loads(there.stdout.replace(arm.there(bundle_path), str(bundle_path))) == here.json


def test_pictures_are_prepared_alike(arm: Arm, bundle_path: Path, photos: Path, tmp_path: Path) -> None:
    """Resized and cropped by OpenCV's kernels for NEON: the model's input to the last bit."""
    contract = open_bundle(bundle_path).manifest.preprocessing
    frames = np.random.default_rng(0).integers(0, 256, (4, 97, 131, 3), np.uint8)
    np.save(tmp_path / "frames.npy", frames)
    script = (
        "import sys, numpy as np; from pathlib import Path; from edgevit.bundle import open_bundle; "
        "from edgevit.preprocess import prepare; c = open_bundle(Path(sys.argv[1])).manifest.preprocessing; "
        "np.save(sys.argv[3], [prepare(frame, c) for frame in np.load(sys.argv[2])])"
    )
    done = arm.python(script, bundle_path, tmp_path / "frames.npy", tmp_path / "there.npy")
    assert done.code == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "there.npy"), [prepare(frame, contract) for frame in frames])


def labels(lines: list[Any]) -> list[tuple[str, float]]:
    """Label and confidence of each frame."""
    return [(line["label"], line["confidence"]) for line in lines if "label" in line]


def test_folder_and_video(
    arm: Arm, bundle_path: Path, photos: Path, film: Path, tmp_path: Path, edgevit: Callable[..., Outcome]
) -> None:
    """The same labels as here, in JSON, CSV and a video; umlauts and blanks in names, and a locale that knows neither."""
    for source, count in ((photos / "square", 2), (film, 12)):
        options = ("--headless", "--json", "--policy", "every", "--engine", "onnxruntime", "--threads", 1)
        there = arm.edgevit(
            "run", bundle_path, source, *options, "--csv", tmp_path / f"ü{count}.csv", "--save", tmp_path / f"ü{count}.avi",
            environment={"LANG": "C", "LC_ALL": "C"},
        )  # fmt: skip
        assert there.code == 0, there.stderr
        here = edgevit("run", bundle_path, source, *options)
        on_arm, on_x86 = labels(there.lines), labels(here.lines)
        assert [label for label, _ in on_arm] == [label for label, _ in on_x86]
        assert len(on_arm) == count
        near = 1e-3 if source.is_dir() else 0.02  # FFmpeg converts colours of videos otherwise than on x86, by 3 of 255
        assert [share for _, share in on_arm] == pytest.approx([share for _, share in on_x86], abs=near)
        assert len((tmp_path / f"ü{count}.csv").read_text(encoding="utf-8").splitlines()) == count + 1
        assert (tmp_path / f"ü{count}.avi").stat().st_size > 1000


def test_from_python(arm: Arm, bundle_path: Path, photos: Path) -> None:
    """`edgevit.load`, threads and all."""
    script = (
        "import edgevit, sys\nwith edgevit.load(sys.argv[1]) as classifier:\n"
        "    print(*(each.best.label for each in classifier.run(sys.argv[2])))"
    )
    done = arm.python(script, bundle_path, photos / "disc")
    assert done.stdout.split() == ["disc", "disc"], done.stderr


def test_signatures(arm: Arm, bundle_path: Path, tmp_path: Path) -> None:
    """Of this machine's, confirmed there; and refused where a byte differs."""
    bundle = tmp_path / "signed.edgevit"
    shutil.copytree(bundle_path, bundle)
    public = generate(tmp_path / "maker")
    sign_bundle(bundle, tmp_path / "maker")
    wanted = ("inspect", bundle, "--require-signature", public)
    assert arm.edgevit(*wanted).code == 0
    manifest = bundle / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"disc", b"disk"))
    refused = arm.edgevit(*wanted)
    assert refused.code == 5
    assert len(refused.stderr.splitlines()) == 1


class Hook(BaseHTTPRequestHandler):
    """Keeps what is posted."""

    posted: list[Any]

    def do_POST(self) -> None:
        self.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def hook() -> Iterator[tuple[str, list[Any]]]:
    posted: list[Any] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Kept", (Hook,), {"posted": posted}))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", posted
    server.shutdown()
    server.server_close()


def test_a_board_at_work(arm: Arm, bundle_path: Path, tmp_path: Path, hook: tuple[str, list[Any]]) -> None:
    """An Orin's sensors, the live page, sinks at work, and the end by SIGINT with its summary."""
    url, posted = hook
    process = arm.start(
        "edgevit", "run", bundle_path, "test://320x240@10", "--headless", "--serve", "127.0.0.1:0", "--webhook", url,
        "--snapshot", tmp_path / "snapshots", "--on-label", "/usr/bin/touch /shared/told",
        "--jsonl", tmp_path / "frames.jsonl", "--json",
        board="orin",
    )  # fmt: skip
    assert process.stderr is not None
    try:
        said = ""
        while not (page := re.search(r"http://127\.0\.0\.1:\d+/\S*", said)):
            line = process.stderr.readline()
            assert line, said
            said += line
        with urllib.request.urlopen(page[0], timeout=120) as answer:
            assert b"<html" in answer.read()
        base = re.match(r"http://[^/]+", page[0])
        assert base is not None
        state: dict[str, Any] = {}
        while not (posted and state.get("label") and (arm.shared / "told").exists()):
            with urllib.request.urlopen(f"{base[0]}/state", timeout=120) as answer:
                state = json.load(answer)
        for pid in inside(process.pid):
            os.kill(pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=180)
    finally:
        process.kill()
    assert process.returncode == 0, stderr
    summary = json.loads(stdout.splitlines()[-1])["summary"]
    assert summary["telemetry"]["power_is_of"] == ["VDD_IN"]
    assert summary["telemetry"]["power_w"]["mean"] == pytest.approx(5.04 * 1.5)
    assert summary["telemetry"]["temperature_sensor"] == "tj-thermal"
    assert summary["telemetry"]["gpu_mhz"]["mean"] == 918
    assert list((tmp_path / "snapshots").glob("*.jpg"))
    # A signal may come when a frame is counted and not yet written.
    assert summary["frames"] - len((tmp_path / "frames.jsonl").read_text().splitlines()) in (0, 1)


def inside(pid: int) -> list[int]:
    """The programs that run emulated in the namespaces of the process ``pid``."""
    own = Path(f"/proc/{pid}/ns/user").readlink()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "ns/user").readlink() == own and b"qemu" in (folder / "cmdline").read_bytes().split(b"\0")[0]:
                found.append(int(folder.name))
        except OSError:  # ended meanwhile
            continue
    assert found
    return found
