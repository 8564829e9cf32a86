"""``/metrics``, for Prometheus: on the page, and by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgevit.errors import ConfigError, needs_extra
from edgevit.preview.access import Access, check_token
from edgevit.preview.address import link, listen, parse_address
from edgevit.preview.serving import Serving

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from edgevit.runtime.metrics import RunMetrics

PATH = "/metrics"
OPTION = "--metrics"
TOKEN_OPTION, TOKEN_VARIABLE = "--metrics-token", "EDGEVIT_METRICS_TOKEN"


class Exposition:
    """ASGI: the metrics of one run, in the format that the asker takes. By `prometheus_client`."""

    def __init__(self, metrics: RunMetrics) -> None:
        """Raises MissingPackageError without the extra ``metrics``."""
        with needs_extra("metrics"):
            from prometheus_client import CollectorRegistry, make_asgi_app

        # Its own: the package's global one has what every other user of it in this process counts.
        registry = CollectorRegistry(auto_describe=True)
        registry.register(metrics)
        self._app: Any = make_asgi_app(registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one scrape."""
        await self._app(scope, receive, send)


class MetricsServer:
    """Serves ``/metrics``, and nothing else, until it is closed."""

    def __init__(self, address: str, metrics: RunMetrics, *, token: str | None = None) -> None:
        """Listen.

        Args:
            address: ``HOST:PORT``; one that other machines reach needs a token.
            metrics: what is served.
            token: what Prometheus must send as ``Authorization: Bearer TOKEN``; at least 8 letters, digits, ``-`` or ``_``.

        Raises:
            ConfigError: the address is invalid or taken, or the token missing or too short.
            MissingPackageError: the extra ``metrics`` is not installed.
        """
        exposition = Exposition(metrics)
        with needs_extra("metrics"):
            app = _app(exposition)
            import uvicorn  # noqa: F401 (asked for here, so that nothing is bound without it)

        parsed = parse_address(address, OPTION)
        if token is not None:
            check_token(token, TOKEN_OPTION)
        elif not parsed.loopback:
            # One that is made anew at each start, as the page's is, would have to be carried to Prometheus each time.
            msg = (
                f"{OPTION} {address}: other machines reach this address, so Prometheus needs a token: set {TOKEN_VARIABLE} here, "
                "and authorization: credentials there (docs/metrics.md)"
            )
            raise ConfigError(msg)
        listener = listen(parsed, OPTION)
        self.url = link(listener, None).rstrip("/") + PATH
        """What Prometheus scrapes."""
        access = Access(app, token=token, loopback=parsed.loopback, port=listener.getsockname()[1])
        self._serving = Serving(access, listener, name="server of metrics", option=OPTION)

    def close(self) -> None:
        """Stop. Closing twice is harmless."""
        self._serving.close()


def _app(exposition: ASGIApp) -> ASGIApp:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def root(_request: Request) -> Response:
        return PlainTextResponse(f"Metrics of edgevit are at {PATH}\n")

    return Starlette(routes=[Route("/", root), Route(PATH, exposition, methods=["GET"])])
