"""NAME=SOURCE, and which region is whose."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.errors import ConfigError, SourceError
from edgevit.runtime.cameras import Asked, asked_of, parse_named
from edgevit.runtime.frame import Source
from edgevit.runtime.opening import open_cameras
from tests.runtime.fakes import FakeCamera

LONG = "gst:v4l2src device=/dev/video0 " + "! identity " * 60
"""Longer than a file's name may be."""


@pytest.mark.parametrize(
    ("text", "name", "uri"),
    [
        ("gate=rtsp://u:p=w@cam/live?a=b", "gate", "rtsp://u:p=w@cam/live?a=b"),
        ("line-1_b=0", "line-1_b", "0"),
        ("rtsp://u:p=w@cam/live?a=b", None, "rtsp://u:p=w@cam/live?a=b"),
        ("http://cam/?user=me", None, "http://cam/?user=me"),
        ("gst:videotestsrc name=x ! identity", None, "gst:videotestsrc name=x ! identity"),
        ("test://64x64@10?frames=3", None, "test://64x64@10?frames=3"),
        ("/dev/v4l/by-id/a=b", None, "/dev/v4l/by-id/a=b"),
        ("./a=b.mp4", None, "./a=b.mp4"),
        ("größe=0", None, "größe=0"),
        ("=0", None, "=0"),
        ("gate=", None, "gate="),
        (f"gate={LONG}", "gate", LONG),
        ("passage=rtsp://cam/live", "passage", "rtsp://cam/live"),
        ("keys=0", "keys", "0"),
        ("token=hunter2", None, "token=hunter2"),
        ("password=123456", None, "password=123456"),
    ],
)  # fmt: skip
def test_names(text: str, name: str | None, uri: str) -> None:
    assert parse_named(text) == Asked(name=name, uri=uri)


def test_file_that_is_called_so_is_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_named("a=b.mp4").name == "a"
    Path("a=b.mp4").touch()
    assert parse_named("a=b.mp4") == Asked(uri="a=b.mp4")


def test_one_has_no_name_and_of_several_each_has_one() -> None:
    assert [each.name for each in asked_of(["0"])] == [None]
    assert [each.name for each in asked_of(["gate=0"])] == ["gate"]
    assert [each.name for each in asked_of(["0", "gate=1", "2"])] == ["camera1", "gate", "camera3"]
    for twins in (["a=0", "a=1"], ["camera2=0", "1"]):
        with pytest.raises(ConfigError, match="two sources are called"):
            asked_of(twins)


def test_regions_are_of_all_or_of_one() -> None:
    both = asked_of(["a=0", "b=1"], ["1,2,3,4", "b:5,6,7,8"])
    assert [each.region.text for each in both if each.region] == ["1,2,3,4", "5,6,7,8"]
    assert asked_of(["a=0", "b=1"], ["b:5,6,7,8"])[0].region is None
    with pytest.raises(ConfigError, match=r"no source is called 'c'. Did you mean|Known"):
        asked_of(["a=0", "b=1"], ["c:5,6,7,8"])
    with pytest.raises(ConfigError, match="Give the source one: NAME=SOURCE"):
        asked_of(["0"], ["c:5,6,7,8"])
    with pytest.raises(ConfigError, match="the second for all"):
        asked_of(["0"], ["1,2,3,4", "1,2,3,4"])


def test_what_cannot_be_opened_is_left_out_and_told_and_all_are_closed() -> None:
    closed, lost = [], dict[str, str]()

    class Closing(FakeCamera):
        def close(self) -> None:
            closed.append(self)

    def opened(uri: str) -> Source:
        if uri == "bad":
            msg = "nobody there"
            raise SourceError(msg)
        return Closing(frames=0, seconds=0)

    with open_cameras(asked_of(["a=x", "b=bad", "c=y"]), opened, lambda name, error: lost.update({name: str(error)})) as found:
        assert [each.name for each in found] == ["a", "c"]
        assert not closed
    assert lost == {"b": "nobody there"}
    assert len(closed) == 2
    with pytest.raises(SourceError, match="nobody there"), open_cameras(asked_of(["bad", "bad"]), opened, lambda *_: None):
        pass


def test_wrong_option_of_one_is_no_loss_and_the_others_are_closed() -> None:
    closed = []

    class Closing(FakeCamera):
        def close(self) -> None:
            closed.append(self)

    def opened(uri: str) -> Source:
        if uri == "bad":
            msg = "has no --loop"
            raise ConfigError(msg)
        return Closing(frames=0, seconds=0)

    with pytest.raises(ConfigError, match="has no --loop"), open_cameras(asked_of(["a", "bad"]), opened, lambda *_: None):
        pass
    assert len(closed) == 1
