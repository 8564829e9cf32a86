"""A real browser without a screen: Chromium, driven through its own protocol."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-proxy-server", "--remote-debugging-port=0",
)  # fmt: skip


class Page:
    """One tab. Every call waits for its answer; what the page logs is kept."""

    def __init__(self, socket: Any) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._socket, self._numbers = socket, itertools.count(1)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=20))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        if message["method"] == "Runtime.exceptionThrown":
            self.errors.append(parameters["exceptionDetails"]["text"])
        elif message["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])
        elif message["method"] == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def look(self, expression: str) -> Any:
        """The value of some JavaScript."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = 20.0) -> Any:
        """Wait until some JavaScript is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.look(expression)):
            assert time.monotonic() < deadline, f"not within {seconds} s: {expression}; {self.look('document.body.innerText')}"
            time.sleep(0.1)
        return value

    def screen(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)

    def press(self, key: str, code: int) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def screenshot(self) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A fresh Chromium with its profile in ``folder``; skips where there is none."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt install chromium")
    client = pytest.importorskip("websockets.sync.client", reason="needs websockets: pip install websockets")
    process = subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        port = _debugging_port(folder, process)
        with client.connect(f"ws://127.0.0.1:{port[0]}{port[1]}", proxy=None, max_size=None) as root:
            root.send(json.dumps({"id": 0, "method": "Target.getTargets"}))
            targets = json.loads(root.recv(timeout=20))["result"]["targetInfos"]
        (target,) = [each["targetId"] for each in targets if each["type"] == "page"]
        with client.connect(f"ws://127.0.0.1:{port[0]}/devtools/page/{target}", proxy=None, max_size=None) as socket:
            yield Page(socket)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _debugging_port(folder: Path, process: subprocess.Popen[bytes]) -> list[str]:
    file, deadline = folder / "DevToolsActivePort", time.monotonic() + 30
    while not (file.exists() and len(lines := file.read_text().splitlines()) == 2):
        assert process.poll() is None, "Chromium did not start"
        assert time.monotonic() < deadline, "Chromium did not start in time"
        time.sleep(0.05)
    return lines
