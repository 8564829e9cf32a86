"""No password, token or user name is shown, whatever the form in which a source or an address has it."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgevit.errors import EdgevitError
from edgevit.runtime.gstreamer import elements
from edgevit.runtime.redact import origin, redacted, without_secrets
from edgevit.runtime.source import open_source

MARK = "hunter2Z"
"""The middle of every secret here."""

# § is the secret, ¤ a user. Addresses as they should be, with typing errors, of other kinds, pipelines.
FORMS = (
    "rtsp://¤:§@h/x", "rtsp://§@h/x", "rtsps://¤:§@h:554/x?channel=1", "RTSP://¤:§@h", "rtsp://¤:§@[::1]:554/x",
    "rtsp:/¤:§@h/x", "rtsp:¤:§@h/x", "rtsp//¤:§@h/x", "rtsp;//¤:§@h/x", "rtsp ://¤:§@h/x", "rtsp:\\\\¤:§@h\\x", "rstp://¤:§@h/x",
    "¤:§@h/x", "§@h/x", "//¤:§@h/x", "://¤:§@h/x", "¤:§@h:554", "/¤:§@h/x",
    "rtsp://h/x?token=§", "rtsp://h/x?access_token=§", "rtsp://h/x?api_key=§", "rtsp://h/x?secret=§", "rtsp://h?passphrase=§",
    "rtsp://h/x?user=¤&loginpas=§", "rtsp://h/x?u=¤&p=§", "rtsp://h/x?sig=§&channel=1", "rtsp://h/x?§", "rtsp://h/x#§",
    "rtsp://h/x?auth=§", "rtsp://h/x?jwt=§", "rtsp://h/x;token=§", "rtsp://h/user=¤&password=§&channel=1",
    "rtsp://h/user=¤_password=§_channel=1_stream=0.sdp", "rtsp://h/x?login=¤:§@h",
    "http://¤:§@h/x.mp4", "https://h/x?key=§", "srt://h?passphrase=§", "rtmp://h/x?auth=§", "mqtt://¤:§@h/t", "ftp://¤:§@h",
    "test://¤:§@x", "csi://¤:§@0", "usb://¤:§@0", "h/x?token=§", "user=¤ password=§", "password: §", "token=§",
)  # fmt: skip
HOSTLESS = ("rtsp://¤:§", "rtsp://¤:§/x", "rtsp//¤:§", "¤:§", "rtsp://h/¤:§/x")
"""With an @ in the secret, what follows it is a host by all rules."""
PIPELINES = (
    "gst:rtspsrc location=rtsp://¤:§@h/x ! decodebin", "gst:rtspsrc location=rtsp://h/x user-pw=§ ! decodebin",
    "gst:rtspsrc location=rtsp://h/x user-id = ¤ user-pw = §", "gst:rtspsrc location=rtsp://h/x?token=§ ! decodebin",
    "gst:rtspsrc user-pw=§", "GST:rtspsrc user-pw=§", "gst:souphttpsrc location=https://h/x proxy-pw=§ cookies=§ ! x",
    "gst:rtspsrc location=¤:§@h/x ! decodebin", "gst:srtsrc uri=srt://h passphrase=§ ! x",
)  # fmt: skip
QUOTED = tuple(
    f"gst:rtspsrc latency=0 {pair} ! decodebin"
    for pair in (
        "location={0}rtsp://¤:§@h/x{0}",
        "user-pw={0}§{0}",
        "user-id={0}¤{0} user-pw = {0}§{0}",
        "uri={0}srt://h?passphrase=§{0}",
    )
)

AWKWARD = "@:/?#&=;,%+ \\\"'`$(){}[]<>|~^*.-_\n\t\r\x1b\x7f\u202e\ud800üß日0aZ"
around = st.text(AWKWARD, max_size=6)
users = st.sampled_from(["admin", "me", "a.b", "x y", 'u"', "u'"])


def shows(form: str, before: str, after: str, user: str = "admin") -> str:
    return redacted(form.replace("¤", user).replace("§", before + MARK + after))


@settings(max_examples=500, derandomize=True, database=None, deadline=None)
@given(form=st.sampled_from(FORMS), before=around, after=around, user=users)
@example(form="rtsp://¤:§@h/x", before="p@ss/w", after='"', user="admin")
@example(form="rtsp://h/x?token=§", before="a@", after="", user="admin")
@example(form="rtsp://h/x?token=§", before="a&", after="=1", user="admin")
@example(form="rtsp://¤:§@h/x", before="a\n", after=" b", user="admin")
def test_no_form_shows_its_secret(form: str, before: str, after: str, user: str) -> None:
    assert MARK not in shows(form, before, after, user)


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(form=st.sampled_from(HOSTLESS), before=around, after=around, user=users)
def test_no_address_without_its_host_shows_its_secret(form: str, before: str, after: str, user: str) -> None:
    assert MARK not in shows(form, "p" + before.replace("@", ""), after, user)


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(form=st.sampled_from(PIPELINES), before=around, after=around, user=users)
def test_no_pipeline_shows_its_secret(form: str, before: str, after: str, user: str) -> None:
    assert MARK not in shows(form, before, after, user)


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(form=st.sampled_from(QUOTED), quote=st.sampled_from("'\""), before=around, after=around)
def test_no_quoted_pipeline_shows_its_secret(form: str, quote: str, before: str, after: str) -> None:
    """The secret may hold everything, its own quote as well: then it is no pipeline, and shown as far as it is one."""
    assert MARK not in shows(form.replace("{0}", quote), before, after)


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(form=st.sampled_from([*FORMS, *PIPELINES]), before=around, after=around)
def test_what_is_shown_is_shown_again(form: str, before: str, after: str) -> None:
    """Texts that hold what was shown once are not taken apart."""
    once = shows(form, before, after)
    assert MARK not in redacted(once)


@settings(max_examples=150, derandomize=True, database=None, deadline=None)
@given(form=st.sampled_from(FORMS), before=around, after=around)
def test_no_error_of_a_source_shows_its_secret(form: str, before: str, after: str) -> None:
    """What is no source is told in one line. Real cameras and streams are left out: they would be looked for."""
    source = form.replace("¤", "admin").replace("§", before + MARK + after)
    if re.match(r"(?i)rtsps?://|gst:|csi://\d|usb://\d|/dev/|\d+$", source):
        return
    with pytest.raises(EdgevitError) as caught:
        open_source(source)
    assert MARK not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    ["0", "/dev/video0", "/dev/v4l/by-id/usb-046d_C920-video-index0", "usb://0", "csi://1", "test://", "test://640x480@30?frames=5",
     "rtsp://host/a", "rtsp://host:554/Streaming/Channels/101", "rtsp://[::1]:8554/live?channel=1&subtype=0", "http://host/a.mp4",
     "rtsp://192.168.1.5/h264Preview_01_main", "video.mp4", "/data/run=3/12:30.avi", "../my pictures", "~/monkeys/key.png",
     "gst:videotestsrc num-buffers=30 pattern=ball ! video/x-raw,width=640,framerate=30/1 ! videoconvert ! appsink",
     'gst:rtspsrc location="rtsp://host/a" latency=0 ! rtph264depay ! decodebin ! tee name=t t. ! queue ! t.src_1',
     "gst:filesrc location=/data/x.avi ! avidemux ! jpegdec"],
)  # fmt: skip
def test_what_holds_no_secret_is_shown_as_it_is(source: str) -> None:
    """So that `redacted(x) != x` says whether there is one; see `edgevit service`."""
    assert redacted(source) == source


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ("rtsp://admin:S@h:554/a/b?channel=1&token=S", "rtsp://h:554/a/b?channel=1&token=***"),
        ("rtsp:/admin:S@h/x", "rtsp:/h/x"),
        ("rtsp//admin:S@h/x", "***@h/x"),
        ("admin:S@h:554/x", "***@h:554/x"),
        ("admin:S", "***"),
        ("rtsp://admin:S", "rtsp://***"),
        ("rtsp://h/user=admin_password=S_channel=1", "rtsp://h/user=***"),
        ("https://hooks.slack.com/services/T00/B00/abcdefgh1234ijklmnop5678", "https://hooks.slack.com/services/T00/B00/***"),
        ("gst:rtspsrc location=rtsp://h/a user-pw = S ! decodebin", "gst:rtspsrc location=rtsp://h/a user-pw = *** ! decodebin"),
        ("gst:rtspsrc user-pw='a\\'S' latency=0 ! decodebin", "gst:rtspsrc user-pw=*** latency=0 ! decodebin"),
        ("gst:rtspsrc user-pw=a S ! decodebin", "gst:rtspsrc user-pw=*** ***"),
    ],
)
def test_what_is_left(source: str, want: str) -> None:
    assert redacted(source) == want


@pytest.mark.parametrize(
    ("sentence", "want"),
    [
        ("rtsp://me:S@h/x: Connection refused", "rtsp://h/x: Connection refused"),
        ("cannot open 'https://h/x?sig=S'.", "cannot open 'https://h/x?***"),
        ("admin:S@h/x: File name too long", "***@h/x: File name too long"),
        ("curl -u me:S http://h", "curl -u *** http://h"),
        ("curl -H 'Authorization: Bearer S' http://h/x", "curl -H 'Authorization: Bearer ***' http://h/x"),
        ("send --token=S -v", "send --token=*** -v"),
        ("pi@board: cannot write /home/pi/x.png", "pi@board: cannot write /home/pi/x.png"),
    ],
)
def test_sentences(sentence: str, want: str) -> None:
    assert without_secrets(sentence) == want


@pytest.mark.parametrize(
    ("address", "want"),
    [
        ("htp://me:S@h:80/S?x=S", "htp://h:80/..."),
        ("hooks.slack.com/services/S", "..."),
        ("me:S@h/S", "..."),
        ("S", "..."),
        ("http://me:S", "http://***/..."),
    ],
)
def test_origin(address: str, want: str) -> None:
    assert origin(address) == want


def test_single_quotes_hide_elements_too() -> None:
    """What an error says that GStreamer lacks is no part of a password."""
    assert elements("rtspsrc user-pw='a ! S ! b' ! decodebin") == ["rtspsrc", "decodebin"]


@pytest.mark.parametrize("text", ["a", "a:", "://", "key", "gst:" + "a ", "'", "@", "=", "a/", "pass ", "user=", "a:b@"])
@pytest.mark.parametrize("function", [redacted, without_secrets])
def test_long_texts_take_no_time(text: str, function) -> None:
    start = time.monotonic()
    function(text * 100_000)
    assert time.monotonic() - start < 5
