"""The sink that serves the preview, on a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from edgevit.errors import ConfigError, needs_extra
from edgevit.preview.access import Access, check_token, make_token
from edgevit.preview.address import link, listen, parse_address
from edgevit.preview.app import make_app
from edgevit.preview.attention import AttentionFeed, Look
from edgevit.preview.feed import Feed
from edgevit.preview.picture import Pictures
from edgevit.preview.telemetry import Sample, TelemetryFeed
from edgevit.runtime.decide import Decision

START_SECONDS = 10.0
CLOSE_SECONDS = 3.0


class Preview:
    """Serves the page until it is closed. As a sink it keeps the newest decision and never waits."""

    def __init__(
        self,
        address: str,
        *,
        info: Mapping[str, Any],
        token: str | None = None,
        telemetry: Sample | None = None,
        attention: Look | None = None,
    ) -> None:
        """Listen.

        Args:
            address: ``HOST:PORT``; an address that other machines reach gets a token if none is given.
            info: JSON-ready facts for the page: ``model``, ``source``, ``precision``, ``engine``.
            token: what a viewer must know; at least 8 letters, digits, ``-`` or ``_``.
            telemetry: gives the device's state; called on a thread of the server, once a second while somebody looks.
            attention: draws where the model looks in a frame; called as rarely, on a thread of the lowest priority.

        Raises:
            ConfigError: the address is invalid or taken, or the token too short.
            MissingPackageError: the extra ``preview`` is not installed.
        """
        with needs_extra("preview"):
            import starlette.applications  # noqa: F401 (asked for here, so that nothing is bound without it)
            import uvicorn

            from edgevit.preview.guests import Guest

        parsed = parse_address(address)
        token = check_token(token) if token is not None else None if parsed.loopback else make_token()
        self._feed = Feed(info)
        self.pictures = Pictures(self._feed)
        self._listener = listen(parsed)
        self.url = link(self._listener, token)
        """What to open, token included."""
        app = Access(
            make_app(self._feed, self.pictures, TelemetryFeed(telemetry), AttentionFeed(self._feed, attention)),
            token=token,
            loopback=parsed.loopback,
            port=self._listener.getsockname()[1],
        )
        config = uvicorn.Config(
            app, log_config=None, log_level="critical", access_log=False, server_header=False, proxy_headers=False, http=Guest,
            ws="none", lifespan="on", loop="asyncio", timeout_graceful_shutdown=0,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],), name="preview", daemon=True)
        self._thread.start()
        self._wait_until_started()

    def __call__(self, decision: Decision) -> bool:
        """Take one decision; never asks to end the run."""
        self._feed.add(decision)
        return True

    def close(self) -> None:
        """Stop listening and let every viewer go. Closing twice is harmless."""
        self._server.should_exit = True
        self._thread.join(CLOSE_SECONDS)
        self._listener.close()

    def _wait_until_started(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.close()
                msg = f"the preview on {self.url} did not start. Run again with --debug, or without --serve"
                raise ConfigError(msg)
            time.sleep(0.005)
