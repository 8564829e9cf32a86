"""What is written can be read back."""

from __future__ import annotations

import os
from collections import namedtuple
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgevit.errors import ConfigError, StorageError
from edgevit.runtime.sinks import video
from edgevit.runtime.sinks.video import VideoSink
from edgevit.runtime.source import open_source


def picture(height: int, width: int, level: int = 128) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


@pytest.mark.parametrize("name", ["out.mp4", "out.AVI", "ü 日本.mp4"])
def test_video_is_read_back_frame_by_frame(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with closing(VideoSink(path, fps=20)) as sink:
        assert all(sink(picture(48, 64, 10 * i)) for i in range(15))
        assert not path.exists(), "it has its name only once it is whole"
    assert list(tmp_path.glob(f"*{path.suffix}")) == [path]
    with open_source(str(path)) as source:
        assert source.fps == pytest.approx(20)
        levels = [each.image_bgr.mean() for each in source]
    assert levels == pytest.approx([10 * i for i in range(15)], abs=6)


def test_pictures_of_other_sizes_are_resized_to_the_first(tmp_path: Path) -> None:
    path = tmp_path / "out.avi"
    with closing(VideoSink(path, fps=20)) as sink:
        for size in ((48, 64), (480, 640), (10, 10)):
            sink(picture(*size))
    with open_source(str(path)) as source:
        assert [each.image_bgr.shape for each in source] == [(48, 64, 3)] * 3


def test_video_without_pictures_is_no_file(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4", fps=20)
    sink.close()
    sink.close()
    assert not list(tmp_path.glob("out*"))


def test_video_replaces_an_older_one_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.avi"
    path.write_bytes(old := b"RIFF....AVI old")
    with closing(VideoSink(path, fps=20)) as sink:
        sink(picture(48, 64))
        assert path.read_bytes() == old
    assert path.stat().st_size > 1000


@pytest.mark.parametrize("name", ["out.gif", "out.webm", "out"])
def test_video_suffix_that_does_not_work_names_those_that_do(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"Use one of: \.mp4, \.avi"):
        VideoSink(tmp_path / name, fps=20)


def test_video_with_a_name_that_opencv_crashes_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not UTF-8"):
        VideoSink(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.avi")), fps=20)


def test_video_into_a_missing_folder_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="mkdir -p"):
        VideoSink(tmp_path / "gone" / "out.mp4", fps=20)


def test_video_that_cannot_begin_is_a_storage_error(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    sink = VideoSink(folder / "out.mp4", fps=20)
    folder.rmdir()
    with pytest.raises(StorageError, match="cannot write: No such file"):
        sink(picture(48, 64))


def test_disk_that_gets_full_ends_the_video_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV does not tell, so the free space is looked at; only the number of bytes is made up here."""
    monkeypatch.setattr(video, "CHECK_SECONDS", 0.0)
    free = iter([10**9, 10**9, 10**6])
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage(0, 0, next(free)))
    path = tmp_path / "out.avi"
    sink = VideoSink(path, fps=20)
    sink(picture(48, 64))
    sink(picture(48, 64))
    with pytest.raises(StorageError, match=r"out\.avi: the disk is full: 1 MiB free"):
        sink(picture(48, 64))
    with open_source(str(path)) as source:
        assert len(list(source)) == 2
    sink.close()
