"""Events published to an MQTT broker."""

from __future__ import annotations

import json
import threading
import time
from typing import Any
from urllib.parse import unquote, urlsplit

from edgevit.errors import ConfigError, needs_extra
from edgevit.printable import printable
from edgevit.runtime.decide import Decision
from edgevit.runtime.redact import origin
from edgevit.runtime.sinks.address import is_clean
from edgevit.runtime.sinks.base import Delivery, Note
from edgevit.runtime.sinks.record import record

PORTS = {"mqtt": 1883, "mqtts": 8883}
QUEUE = 100
"""Events that wait for a broker that is away; further ones are dropped."""
STATUS = "/status"
LONGEST_TOPIC = 65535 - len(STATUS)
"""Bytes, by the protocol."""
CONNECT_SECONDS = 3.0
CLOSE_SECONDS = 3.0
KEEPALIVE_SECONDS = 30
AT_LEAST_ONCE = 1


class Mqtt:
    """Publishes every event to ``mqtt[s]://[USER:PASSWORD@]HOST[:PORT]/TOPIC``, as `record` has it.

    ``TOPIC/status`` says ``online`` or ``offline`` and is retained; the broker itself says ``offline`` if this machine
    is gone. A broker that is away is tried again for as long as the run goes on; it may get an event twice, never none that
    was queued while the run lasted. Events that waited for a connection may come behind newer ones: each has its time and frame.
    """

    def __init__(self, url: str, *, note: Note) -> None:
        """Begin to connect. Raises ConfigError for another form, MissingPackageError without the extra ``mqtt``."""
        with needs_extra("mqtt"):
            from paho.mqtt import client as mqtt
            from paho.mqtt.enums import CallbackAPIVersion

        parts, port, self._topic = _parse(url)
        assert parts.hostname is not None
        self.delivery = Delivery(name=f"mqtt {parts.hostname}:{port}")
        self._note = note
        # Message numbers. Two sets and no lock: an acknowledgement can come before `publish` returns its number.
        self._published: set[int] = set()
        self._acknowledged: set[int] = set()
        # Those of the status: they are no events, and numbers come again after 65,535. Of the client's thread alone.
        self._statuses: set[int] = set()
        self._told = self._closed = False
        self._queue_full = mqtt.MQTT_ERR_QUEUE_SIZE
        self._client = client = mqtt.Client(CallbackAPIVersion.VERSION2)
        if parts.username:
            try:
                client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
            except ValueError as error:
                msg = f"--mqtt: {error}"
                raise ConfigError(msg) from None
        if parts.scheme == "mqtts":
            client.tls_set()
        client.will_set(self._topic + STATUS, "offline", qos=AT_LEAST_ONCE, retain=True)
        client.max_queued_messages_set(QUEUE)
        client.reconnect_delay_set(1, 30)
        client.connect_timeout = CONNECT_SECONDS
        client.on_connect = self._on_connect
        client.on_connect_fail = lambda *_: self._lost("cannot reach the broker")
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.connect_async(parts.hostname, port, KEEPALIVE_SECONDS)
        client.loop_start()

    def send(self, decision: Decision) -> None:
        """Hand one event to the client's own thread."""
        try:
            message = self._client.publish(self._topic, json.dumps(record(decision)), qos=AT_LEAST_ONCE)
        except ValueError as error:  # more than the protocol can carry
            self.delivery.failed += 1
            self.delivery.error = str(error)
            return
        if message.rc == self._queue_full:  # without a broker it is queued, whatever else the code says
            self.delivery.dropped += 1
        else:
            self._published.add(message.mid)
        self._settle()

    def close(self) -> None:
        """Send what is queued, for seconds, and say ``offline``."""
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + CLOSE_SECONDS
        if self._client.is_connected():
            status = self._client.publish(self._topic + STATUS, "offline", qos=AT_LEAST_ONCE, retain=True)
            while not {*self._published, status.mid} <= self._acknowledged and time.monotonic() < deadline:
                time.sleep(0.01)
        self._client.disconnect()
        # Waits for the client's thread, which may be connecting to a host that does not answer.
        stop = threading.Thread(target=self._client.loop_stop, daemon=True)
        stop.start()
        stop.join(CLOSE_SECONDS)
        self._settle()
        self.delivery.dropped += len(self._published)

    def _settle(self) -> None:
        """Count what the broker has acknowledged."""
        done = self._published & self._acknowledged
        self._published -= done
        self._acknowledged -= done
        self.delivery.sent += len(done)

    def _on_connect(self, client: Any, _data: object, _flags: object, reason: Any, _properties: object) -> None:
        if reason.is_failure:
            self._lost(f"the broker refuses: {reason}")
            return
        self._statuses.add(client.publish(self._topic + STATUS, "online", qos=AT_LEAST_ONCE, retain=True).mid)
        self.delivery.failing = False
        if self._told:
            self._told = False
            self._note(f"{self.delivery.name}: works again")

    def _on_disconnect(self, _client: object, _data: object, _flags: object, reason: Any, _properties: object) -> None:
        if not self._closed and reason.is_failure:
            self._lost("lost the broker")

    def _on_publish(self, _client: object, _data: object, mid: int, _reason: object, _properties: object) -> None:
        if mid in self._statuses:
            self._statuses.discard(mid)
        else:
            self._acknowledged.add(mid)

    def _lost(self, error: str) -> None:
        self.delivery.error = error
        self.delivery.failing = True
        if not self._told:
            self._told = True
            self._note(f"{self.delivery.name}: {error}; trying again. The run goes on")


def _parse(url: str) -> tuple[Any, int, str]:
    """The parts of the URL, the port and the topic."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        port = 0
    topic = unquote(parts.path.strip("/")) if port else ""
    if not (port and parts.hostname and _is_topic(topic)) or set(url) & set("#?") or not is_clean(url, parts):
        msg = f"--mqtt: {origin(url)!r} is no broker and topic: write mqtt://[USER:PASSWORD@]HOST[:PORT]/TOPIC or mqtts://..."
        raise ConfigError(msg)
    return parts, port, topic


def _is_topic(text: str) -> bool:
    """Whether something can be published there: no wildcard, no control character, nothing that was no UTF-8."""
    fits = 0 < len(text.encode("utf-8", "replace")) <= LONGEST_TOPIC
    return fits and printable(text) == text and not set(text) & set("#+?\ufffd")
