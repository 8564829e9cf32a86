"""MQTT against a real broker that is there, goes away and comes back."""

from __future__ import annotations

import gc
import json
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgevit.errors import ConfigError
from edgevit.runtime.sinks import mqtt
from edgevit.runtime.sinks.mqtt import QUEUE, Mqtt
from tests.runtime.fakes import Notes, decision, eventually, frame
from tests.support import python

client = pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt: pip install 'edgevit[mqtt]'")
BROKER = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
needs_broker = pytest.mark.skipif(BROKER is None, reason="needs a broker: apt install mosquitto")


class Broker:
    """Mosquitto on a loopback port of its own; it keeps its port when it is started again."""

    def __init__(self, folder: Path, settings: str = "allow_anonymous true") -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        # Started by root, it would become a user that may not read this folder.
        self._config.write_text(f"user root\nlistener {self.port} 127.0.0.1\n{settings}\n")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        self._process = subprocess.Popen([str(BROKER), "-c", self._config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self._listens)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def free_port() -> int:
    """Below those that the system gives to connections: one of these could take the port while the broker is away."""
    while True:
        port = random.randrange(15_000, 30_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Listener:
    """Keeps what is published under ``topic``."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self.messages: list[tuple[str, str]] = []
        ready = threading.Event()
        self._client = client.Client(client.CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda _c, _d, message: self.messages.append((message.topic, message.payload.decode()))
        self._client.on_connect = lambda c, *_: c.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert ready.wait(10)

    def of(self, topic: str) -> list[str]:
        return [payload for name, payload in self.messages if name == topic]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as broker:
        yield broker


def sink_to(broker: Broker, notes: Notes | None = None, *, user: str = "") -> Mqtt:
    return Mqtt(f"mqtt://{user}127.0.0.1:{broker.port}/line/cells", note=Notes() if notes is None else notes)


@needs_broker
def test_events_arrive_and_the_status_says_who_is_there(broker: Broker) -> None:
    with closing(Listener(broker, "line/#")) as listener:
        with closing(sink_to(broker)) as sink:
            sink.send(decision("crack ü", 0.875, frame=frame(index=3)))
            sink.send(decision("ok"))
            eventually(lambda: len(listener.of("line/cells")) == 2)
        # What waited for the connection may come behind what did not.
        second, first = sorted(map(json.loads, listener.of("line/cells")), key=lambda event: event["frame"])
        assert (first["label"], first["confidence"], first["frame"]) == ("crack ü", 0.875, 3)
        assert second["label"] == "ok"
        eventually(lambda: listener.of("line/cells/status") == ["online", "offline"])
    assert (sink.delivery.sent, sink.delivery.dropped) == (2, 0)


class Numbering:
    """A client whose message numbers begin anew after the first, as they do after 65,535."""

    def publish(self, *_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(mid=1, rc=0)

    def is_connected(self) -> bool:
        return False

    def disconnect(self) -> None: ...

    def loop_stop(self) -> None: ...


def test_an_event_with_the_number_of_a_status_is_no_status(tmp_path: Path) -> None:
    """It is sent once the broker has acknowledged it, not because it acknowledged "online" long ago."""
    with closing(sink_to(Broker(tmp_path))) as sink:
        sink._client.disconnect()
        sink._client.loop_stop()
        sink._client = Numbering()
        sink._on_connect(sink._client, None, None, SimpleNamespace(is_failure=False), None)
        sink._on_publish(None, None, 1, None, None)
        sink.send(decision())
        sink._settle()
        assert sink.delivery.sent == 0
        sink._on_publish(None, None, 1, None, None)
        sink._settle()
        assert sink.delivery.sent == 1


@needs_broker
def test_broker_itself_says_offline_when_the_program_is_killed(broker: Broker) -> None:
    code = (
        "import sys, time; from edgevit.runtime.sinks.mqtt import Mqtt; "
        "Mqtt(sys.argv[1], note=print); print('up', flush=True); time.sleep(60)"
    )
    with closing(Listener(broker, "line/#")) as listener, python(code, f"mqtt://127.0.0.1:{broker.port}/line/cells") as process:
        eventually(lambda: listener.of("line/cells/status") == ["online"])
        process.kill()
        eventually(lambda: listener.of("line/cells/status") == ["online", "offline"])


@needs_broker
def test_events_of_a_time_without_a_broker_come_when_it_is_back(broker: Broker) -> None:
    notes = Notes()
    with closing(sink_to(broker, notes)) as sink:
        sink.send(decision("before"))
        eventually(lambda: (sink.send(decision("before")), sink.delivery.sent)[1])
        broker.kill()
        eventually(lambda: notes)
        assert sink.delivery.failing
        start = time.monotonic()
        for i in range(10):
            sink.send(decision(f"while {i}"))
        assert time.monotonic() - start < 0.5, "nobody waits for a broker that is gone"
        broker.start()
        with closing(Listener(broker, "line/cells")) as listener:
            eventually(lambda: len(listener.of("line/cells")) >= 10, 20)
            labels = [json.loads(message)["label"] for message in listener.of("line/cells")]
    assert [label for label in labels if label.startswith("while")] == [f"while {i}" for i in range(10)]
    assert sink.delivery.dropped == 0
    assert not sink.delivery.failing
    name = f"mqtt 127.0.0.1:{broker.port}"
    assert notes == [f"{name}: lost the broker; trying again. The run goes on", f"{name}: works again"]


@needs_broker
def test_broker_that_was_never_there_bounds_the_queue_and_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes()
    sink = sink_to(Broker(tmp_path), notes)
    for _ in range(QUEUE + 50):
        sink.send(decision())
    eventually(lambda: notes)
    start = time.monotonic()
    sink.close()
    sink.close()
    assert time.monotonic() - start < 5
    assert (sink.delivery.sent, sink.delivery.dropped) == (0, QUEUE + 50)
    assert "cannot reach the broker; trying again" in notes[0]
    assert len(notes) == 1


@needs_broker
def test_broker_that_refuses_is_said(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    notes = Notes()
    settings = f"allow_anonymous false\npassword_file {passwords}"
    with Broker(tmp_path, settings) as broker, closing(sink_to(broker, notes, user="me:secret@")) as sink:
        sink.send(decision())
        eventually(lambda: notes)
    assert "the broker refuses: Not authorized" in notes[0]
    assert "secret" not in "".join([*notes, sink.delivery.line()])
    assert sink.delivery.dropped == 1


@needs_broker
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl: apt install openssl")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves the refused socket to the collector
def test_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    make = ("openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "1", *subject)
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=60)
    notes = Notes()
    with (
        Broker(tmp_path, f"allow_anonymous true\ncertfile {certificate}\nkeyfile {key}") as broker,
        closing(Mqtt(f"mqtts://127.0.0.1:{broker.port}/t", note=notes)) as sink,
    ):
        sink.send(decision())
        eventually(lambda: notes)
    gc.collect()
    assert "cannot reach the broker" in notes[0]
    assert (sink.delivery.sent, sink.delivery.dropped) == (0, 1)


@pytest.mark.parametrize(
    "url", ["", "localhost/topic", "mqtt://localhost", "mqtt://localhost/", "mqtt:///topic", "http://localhost/topic",
            "mqtt://localhost:99999/topic", "mqtt://localhost/a/#", "mqtt://localhost/+/b"],
)  # fmt: skip
def test_other_addresses_are_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match="is no broker and topic: write mqtt://"):
        Mqtt(url, note=Notes())


def test_ports() -> None:
    assert mqtt._parse("mqtt://h/t")[1:] == (1883, "t")
    assert mqtt._parse("mqtts://h/a/b")[1:] == (8883, "a/b")
    assert mqtt._parse("mqtts://h:1/t")[1:] == (1, "t")


def test_without_the_extra_it_says_what_to_install() -> None:
    code = "from edgevit.runtime.sinks.mqtt import Mqtt\ntry: Mqtt('mqtt://h/t', note=print)\nexcept Exception as e: print(e)"
    with python(code, without=("paho",)) as process:
        assert "pip install 'edgevit[mqtt]'" in process.communicate(timeout=30)[0]


@pytest.mark.parametrize(
    "url",
    ["mqtt://h/a%00b", "mqtt://h/a%0ab", "mqtt://h/a%1bb", "mqtt://h/a%23", "mqtt://h/%2b/b", "mqtt://h/a%ffb", "mqtt://h/a b",
     "mqtt://h/a\nb", "mqtt://h/a\u202eb", "mqtt://h/" + "t" * 65530, "mqtt://h/%20" + "%C3%A4" * 33000, "mqtt://me:1/2@h/t",
     "mqtt://a..b/t", f"mqtt://{'a' * 70}/t"],
)  # fmt: skip
def test_topics_that_nobody_could_publish_to_are_refused(url: str) -> None:
    """By the protocol, or since the broker would cut the connection: every event would be lost."""
    with pytest.raises(ConfigError, match="is no broker and topic: write mqtt://") as caught:
        Mqtt(url, note=Notes())
    assert len(str(caught.value)) < 200


def test_longest_topic() -> None:
    """The client takes it, and its status, which is longer."""
    sink = Mqtt(f"mqtt://127.0.0.1:{free_port()}/{'t' * mqtt.LONGEST_TOPIC}", note=Notes())
    sink.send(decision())
    sink._client.publish(sink._topic + mqtt.STATUS, "online")
    sink.close()
    assert sink.delivery.failed == 0
    with pytest.raises(ConfigError):
        Mqtt(f"mqtt://127.0.0.1:1/{'t' * (mqtt.LONGEST_TOPIC + 1)}", note=Notes())


@pytest.mark.parametrize("label", ["a/b", "#", "+/+", "x\0y", "\ud800", "l" * 100_000, "\x1b[2J"])
def test_label_is_content_and_never_a_topic(label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is, it goes to the topic of the URL, as JSON that every reader takes."""
    sent: list[tuple[str, str]] = []

    def publish(_self: object, topic: str, payload: str, **_: object) -> object:
        sent.append((topic, payload))
        return SimpleNamespace(rc=0, mid=1)

    monkeypatch.setattr(client.Client, "publish", publish)
    sink = Mqtt(f"mqtt://127.0.0.1:{free_port()}/line/cells", note=Notes())
    sink.send(decision(label))
    monkeypatch.undo()
    sink.close()
    ((topic, payload),) = sent
    assert topic == "line/cells"
    assert payload.isascii()
    assert json.loads(payload)["label"] == label


def test_event_that_the_protocol_cannot_carry_is_a_failed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def publish(*_: object, **__: object) -> object:
        msg = "Payload too large."
        raise ValueError(msg)

    monkeypatch.setattr(client.Client, "publish", publish)
    sink = Mqtt(f"mqtt://127.0.0.1:{free_port()}/t", note=Notes())
    sink.send(decision())
    monkeypatch.undo()
    sink.close()
    assert (sink.delivery.sent, sink.delivery.failed, sink.delivery.dropped) == (0, 1, 0)
