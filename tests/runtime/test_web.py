"""Cameras that speak HTTP: MJPEG from a server on the loopback, with a password, over TLS, lost and found again."""

from __future__ import annotations

import base64
import datetime
import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgevit.errors import ConfigError, SourceError
from edgevit.runtime.frame import Policy
from edgevit.runtime.gstreamer import Mode
from edgevit.runtime.recovery import Recovery
from edgevit.runtime.source import open_source

SECRET = "s3cr3t"
QUICK = Recovery(open_seconds=15, first_delay=0.1, longest_delay=0.2)


class Camera(http.server.BaseHTTPRequestHandler):
    """Sends ``server.frames`` pictures, each brighter than the one before, and ends the connection."""

    def do_GET(self) -> None:
        wanted = self.server.login  # type: ignore[attr-defined]
        given = self.headers.get("Authorization", "")
        if wanted and given != "Basic " + base64.b64encode(wanted.encode()).decode():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for i in range(self.server.frames):  # type: ignore[attr-defined]
            data = cv2.imencode(".jpg", np.full((48, 64, 3), 5 * i % 250, np.uint8))[1].tobytes()
            head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
            try:
                self.wfile.write(head + data + b"\r\n")
            except OSError:
                return

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


@contextmanager
def camera(frames: int = 40, login: str = "", tls: Path | None = None) -> Iterator[str]:
    """HOST:PORT of a camera."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.frames, server.login = frames, login  # type: ignore[attr-defined]
    server.daemon_threads = True
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("path", ["video.mjpg", "?action=stream", "mjpg/video"])
def test_a_stream_that_is_read_to_its_end(path: str) -> None:
    with camera() as host, open_source(f"HTTP://{host}/{path}", policy="every", recovery=QUICK) as source:
        frames = list(source)
    assert len(frames) == 40
    assert frames[0].image_bgr.shape == (48, 64, 3)
    assert [round(float(frame.image_bgr.mean())) for frame in frames[:4]] == pytest.approx([0, 5, 10, 15], abs=2)


def test_a_lost_camera_is_found_again() -> None:
    said: list[str] = []
    with camera(frames=5) as host, open_source(f"http://{host}/video", recovery=QUICK, note=said.append) as source:
        assert source.live
        assert source.policy == "latest"
        names = {frame.name for frame in islice(source, 12)}
        assert source.faults is not None
        assert source.faults.lost >= 1
    assert names == {f"http://{host}/video"}
    assert "lost, the stream ended" in said[0]


def test_a_password_opens_and_is_never_shown() -> None:
    said: list[str] = []
    with (
        camera(frames=5, login=f"admin:{SECRET}") as host,
        open_source(f"http://admin:{SECRET}@{host}/video", recovery=QUICK, note=said.append) as source,
    ):
        frames = list(islice(source, 8))
        told = [source.description, *said, *(frame.name for frame in frames), str(source.faults)]
    assert said
    assert not any(SECRET in text or "admin" in text for text in told)


def test_a_wrong_password_is_one_line_without_it() -> None:
    with camera(login="admin:other") as host, pytest.raises(SourceError, match="no picture came") as caught:
        open_source(f"http://admin:{SECRET}@{host}/video", recovery=QUICK)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tls_with_the_cameras_own_certificate(tmp_path: Path) -> None:
    with (
        camera(tls=own_certificate(tmp_path)) as host,
        open_source(f"https://{host}/v", policy="every", recovery=QUICK) as source,
    ):
        assert len(list(source)) == 40


@pytest.mark.parametrize("policy", ["latest", "every"])
def test_nobody_there(policy: Policy) -> None:
    with pytest.raises(SourceError, match="no picture came"):
        open_source("http://127.0.0.1:9/video", policy=policy, recovery=QUICK)


def test_size_and_rate_are_the_cameras() -> None:
    with pytest.raises(ConfigError, match="size and rate"):
        open_source("http://127.0.0.1:9/video", mode=Mode(fps=5))


def own_certificate(folder: Path) -> Path:
    """Key and certificate of 127.0.0.1, signed by itself."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path = folder / "camera.pem"
    path.write_bytes(private + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path
