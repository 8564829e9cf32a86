"""Lines are whole, or not there; what is read back is what was written."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from time import perf_counter

import pytest

from edgevit.errors import ConfigError, StorageError
from edgevit.runtime.decide import Decider
from edgevit.runtime.sinks.lines import COLUMNS, CsvFile, JsonFile, JsonLines, LineFile
from edgevit.runtime.smoothing import Ema
from tests.runtime.fakes import decision, frame, prediction, result


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """The system refuses what makes a file longer: as on a full disk."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_json_lines_are_one_object_per_decision() -> None:
    stream = io.StringIO()
    predictions = (prediction("café", 0.75), prediction("b", 0.25))
    with closing(JsonLines(stream)) as sink:
        for i in range(2):
            assert sink(decision(frame=frame(index=i, captured=100 + i / 8, name="a.png"), predictions=predictions))
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "frame": 0, "name": "a.png", "seconds": 0.0, "label": "café", "confidence": 0.75,
        "top_k": [{"label": "café", "confidence": 0.75}, {"label": "b", "confidence": 0.25}],
        "read_ms": 1.0, "prepare_ms": 2.0, "infer_ms": 3.0, "latency_ms": 6.0,
    }  # fmt: skip
    assert (second["frame"], second["seconds"]) == (1, 0.125)
    assert stream.getvalue().isascii(), "any terminal and any pipe takes it"


def test_time_is_that_of_the_capture() -> None:
    stream = io.StringIO()
    JsonLines(stream)(decision(frame=frame(captured=perf_counter() - 60)))
    time = datetime.fromisoformat(json.loads(stream.getvalue())["time"])
    assert abs(datetime.now(timezone.utc) - timedelta(seconds=60) - time) < timedelta(seconds=5)


def test_smoothed_lines_have_the_frame_s_own_predictions_too() -> None:
    stream, decide = io.StringIO(), Decider(smoothing=Ema(3), threshold=0.99)
    sink = JsonLines(stream)
    for i, label in enumerate("aab"):
        best = prediction(label, 1.0, ord(label))
        sink(decide(result(frame=frame(index=i), predictions=(best,))))
    last = json.loads(stream.getvalue().splitlines()[-1])
    assert last["label"] == "unknown"
    assert last["raw"] == [{"label": "b", "confidence": 1.0}]
    assert [each["label"] for each in last["top_k"]] == ["b", "a"]


def test_json_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for i in range(2):
        with closing(JsonFile(path)) as sink:
            sink(decision(frame=frame(index=i)))
            assert json.loads(path.read_text().splitlines()[-1])["frame"] == i, "written at once"
    assert len(path.read_text().splitlines()) == 2


def test_csv_reads_back(tmp_path: Path) -> None:
    path, awkward = tmp_path / "out.csv", 'a "b", c\nd'
    for i in range(2):
        with closing(CsvFile(path)) as sink:
            sink(decision(awkward, 0.75, frame=frame(index=i), dropped=3))
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == ["0", "1"]
    assert tuple(rows[0]) == COLUMNS
    wanted = {"label": awkward, "raw_label": awkward, "confidence": "0.75", "dropped": "3", "latency_ms": "6.0"}
    assert {key: rows[0][key] for key in wanted} == wanted


def test_csv_does_not_go_on_another_s_file(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("when;what\n")
    with pytest.raises(ConfigError, match="holds something else"):
        CsvFile(path)
    assert path.read_text() == "when;what\n"
    path.write_text("time,frame,name,of,another,edgevit\n")
    with pytest.raises(ConfigError, match="first line"):
        CsvFile(path)


def test_full_disk_leaves_whole_lines_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with closing(LineFile(path)) as file:
        file.append("a" * 60)
        with file_size_limit(100), pytest.raises(StorageError, match=r"out\.txt: cannot write: .*\. Free space"):
            file.append("b" * 60)
        assert path.read_text() == "a" * 60 + "\n", "nothing of the second line is there"
        file.append("c")
    assert path.read_text() == "a" * 60 + "\nc\n", "and with room again it goes on"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_device_that_is_full_is_one_line() -> None:
    with closing(JsonFile(Path("/dev/full"))) as sink, pytest.raises(StorageError, match="No space left on device"):
        sink(decision())


def test_line_that_a_power_cut_left_open_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("whole\nhal")
    with closing(LineFile(path)) as file:
        file.append("next")
    assert path.read_text() == "whole\nhal\nnext\n"


def test_pipe_that_nobody_reads_does_not_stall(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with closing(LineFile(path)) as file:
        for _ in range(15):  # fills most of it
            file.append("x" * 4000)
        with pytest.raises(StorageError, match="cannot write"):
            file.append("x" * 8000)


@pytest.mark.parametrize("name", ["gone/out.txt", "."])
def test_file_that_cannot_be_opened_is_refused_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        LineFile(tmp_path / name)


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "a")
    file.close()
    file.close()


@pytest.mark.parametrize("label", ["a\nb", "a\rb", "a\r\nb", "x\n2026-01-01,0,n,faked,1,faked,1,0,0,0,0,0"])
def test_label_makes_no_row_of_its_own(tmp_path: Path, label: str) -> None:
    path = tmp_path / "out.csv"
    with closing(CsvFile(path)) as sink:
        sink(decision(label))
    with path.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["label"] == label


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", "\n=", "\uff1d"])
def test_labels_in_csv_are_no_formulas(tmp_path: Path, start: str) -> None:
    """A spreadsheet would run ``=cmd|'/C calc'!A0``; numbers stay numbers."""
    formula, path = f"{start}cmd|'/C calc'!A0", tmp_path / "out.csv"
    with closing(CsvFile(path)) as sink:
        sink(decision(formula, 0.75, frame=frame(name=formula)))
    with path.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert {row[key] for key in ("label", "raw_label", "name")} == {f"'{formula}"}
    assert float(row["confidence"]) == 0.75


def test_a_line_and_its_end_are_one_write() -> None:
    """Ctrl-C may come between two: the summary would then stand on the last frame's line."""
    written: list[str] = []

    class Stream(io.StringIO):
        def write(self, text: str, /) -> int:
            written.append(text)
            return super().write(text)

    JsonLines(Stream())(decision("a"))
    assert len(written) == 1
    assert written[0].endswith("}\n")
