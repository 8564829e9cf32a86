"""A web application on a thread of its own, for as long as a run lasts."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

from edgevit.errors import ConfigError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

START_SECONDS = 10.0
CLOSE_SECONDS = 3.0


class Serving:
    """Serves ``app`` until it is closed."""

    def __init__(self, app: ASGIApp, listener: socket.socket, *, name: str, option: str) -> None:
        """Begin. Raises ConfigError, which names ``option``, if the server does not start; ``name`` is the thread's."""
        import uvicorn

        from edgevit.preview.guests import Guest

        config = uvicorn.Config(
            app, log_config=None, log_level="critical", access_log=False, server_header=False, proxy_headers=False, http=Guest,
            ws="none", lifespan="on", loop="asyncio", timeout_graceful_shutdown=0,
        )  # fmt: skip
        self._listener, self._name, self._option = listener, name, option
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name=name, daemon=True)
        self._thread.start()
        self._wait_until_started()

    def close(self) -> None:
        """Stop listening and let everybody go. Closing twice is harmless."""
        self._server.should_exit = True
        self._thread.join(CLOSE_SECONDS)
        self._listener.close()

    def _wait_until_started(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.close()
                msg = f"the {self._name} did not start. Run again with --debug, or without {self._option}"
                raise ConfigError(msg)
            time.sleep(0.005)
