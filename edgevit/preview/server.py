"""The sink that serves the preview, on a thread of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgevit.errors import needs_extra
from edgevit.preview.access import Access, check_token, make_token
from edgevit.preview.address import link, listen, parse_address
from edgevit.preview.app import make_app
from edgevit.preview.attention import Look
from edgevit.preview.serving import Serving
from edgevit.preview.telemetry import Sample, TelemetryFeed
from edgevit.preview.views import Views
from edgevit.runtime.decide import Decision

if TYPE_CHECKING:
    from starlette.types import ASGIApp


class Preview:
    """Serves the page until it is closed. As a sink it keeps the newest decision of each camera and never waits."""

    def __init__(
        self,
        address: str,
        *,
        info: Mapping[str, Any],
        token: str | None = None,
        telemetry: Sample | None = None,
        attention: Look | None = None,
        metrics: ASGIApp | None = None,
        sources: Mapping[str | None, str] | None = None,
    ) -> None:
        """Listen.

        Args:
            address: ``HOST:PORT``; an address that other machines reach gets a token if none is given.
            info: JSON-ready facts for the page: ``model``, ``source``, ``precision``, ``engine``.
            token: what a viewer must know; at least 8 letters, digits, ``-`` or ``_``.
            telemetry: gives the device's state; called on a thread of the server, once a second while somebody looks.
            attention: draws where the model looks in a frame; called as rarely, on a thread of the lowest priority.
            sources: what each camera is, by its name, if there are several or one that has a name.
            metrics: answers ``/metrics``: `edgevit.preview.metrics.Exposition`.

        Raises:
            ConfigError: the address is invalid or taken, or the token too short.
            MissingPackageError: the extra ``preview`` is not installed.
        """
        with needs_extra("preview"):
            import starlette.applications  # noqa: F401 (asked for here, so that nothing is bound without it)
            import uvicorn  # noqa: F401

        parsed = parse_address(address)
        token = check_token(token) if token is not None else None if parsed.loopback else make_token()
        self._views = Views(info, sources or {None: info.get("source", "")}, attention)
        listener = listen(parsed)
        self.url = link(listener, token)
        """What to open, token included."""
        app = Access(
            make_app(self._views, TelemetryFeed(telemetry), metrics),
            token=token,
            loopback=parsed.loopback,
            port=listener.getsockname()[1],
        )
        self._serving = Serving(app, listener, name="preview", option="--serve")

    def __call__(self, decision: Decision) -> bool:
        """Take one decision; never asks to end the run."""
        self._views.each[decision.camera].feed.add(decision)
        return True

    def lose(self, camera: str, error: str) -> None:
        """Say on the page that a camera is gone for good, and why."""
        if (view := self._views.each.get(camera)) is not None:
            view.feed.lose(error)

    @property
    def encoded(self) -> int:
        """Pictures encoded so far, but for small ones."""
        return sum(view.pictures.encoded for view in self._views.each.values())

    def close(self) -> None:
        """Stop listening and let every viewer go. Closing twice is harmless."""
        self._serving.close()
