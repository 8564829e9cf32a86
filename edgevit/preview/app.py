"""The web application: one page, its three files, the state as JSON, the picture as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.preview.address import network, peer
from edgevit.preview.metrics import PATH
from edgevit.preview.picture import Pictures
from edgevit.preview.telemetry import TelemetryFeed
from edgevit.preview.views import View, Views

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

STATIC = Path(__file__).parent / "static"
FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
MAX_VIEWERS = 32
PER_ADDRESS = 16
"""Viewers of one address other than this machine's own, which may be a tunnel for many."""
SEND_SECONDS = 5.0
"""A viewer that takes nothing for so long is dropped."""
BOUNDARY = b"edgevit"
NO_CAMERA = "There is no such camera: /state has their names.\n"
NO_PICTURE = "No picture yet.\n"


def make_app(views: Views, telemetry: TelemetryFeed, metrics: ASGIApp | None = None) -> Starlette:
    """The application, without access control; ``metrics`` answers `/metrics`. ``camera=NAME`` says which of several is meant."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, PlainTextResponse
    from starlette.responses import Response as Whole
    from starlette.routing import Route

    def of_view(answer: Callable[[View, Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answered(request: Request) -> Response:
            view = _view(views, request)
            return PlainTextResponse(NO_CAMERA, 404) if view is None else await answer(view, request)

        return answered

    async def state(view: View, request: Request) -> Response:
        streaming = request.query_params.get("name") in stream.names
        page = {"telemetry": telemetry.values(), "viewers": views.viewers, "streaming": streaming}
        page["attention"] = view.attention.state()
        return JSONResponse({**view.feed.state(), **page, **views.rows()})

    async def picture(view: View, request: Request) -> Response:
        if request.query_params.get("size") == "small":
            jpeg = await view.small.jpeg()
            return Whole(jpeg, media_type="image/jpeg") if jpeg else PlainTextResponse(NO_PICTURE, 503)
        with _watching(view.pictures):
            try:
                jpeg = (await asyncio.wait_for(view.pictures.after(view.pictures.encoded), SEND_SECONDS))[1]
            except asyncio.TimeoutError:
                return PlainTextResponse(NO_PICTURE, 503)
        return Whole(jpeg, media_type="image/jpeg")

    async def looked(view: View, _request: Request) -> Response:
        if not view.attention.jpeg:
            return PlainTextResponse("No look at the attention yet.\n", 404)
        return Whole(view.attention.jpeg, media_type="image/jpeg")

    @asynccontextmanager
    async def background(_app: Starlette) -> AsyncIterator[None]:
        each = views.each.values()
        work = [telemetry.measure(), *(view.pictures.produce() for view in each), *(view.attention.produce() for view in each)]
        tasks = [asyncio.create_task(one) for one in work]
        yield
        for task in tasks:
            task.cancel()

    stream = PictureStream(views)
    files = [Route(path, _file(name, media), methods=["GET"]) for path, (name, media) in FILES.items()]
    answers = {"/state": state, "/picture.jpg": picture, "/attention.jpg": looked}
    routes = [*(Route(path, of_view(answer)) for path, answer in answers.items()), Route("/stream", stream)]
    scraped = [] if metrics is None else [Route(PATH, metrics, methods=["GET"])]
    return Starlette(routes=[*files, *routes, *scraped], lifespan=background)


def _view(views: Views, request: Request) -> View | None:
    """The camera that a request is about; the first if it does not say."""
    return views.named(request.query_params.get("camera"))


class PictureStream:
    """ASGI: MJPEG. A viewer that is slower than the pictures skips some; one that takes nothing is dropped."""

    def __init__(self, views: Views) -> None:
        self.names: set[str] = set()
        """What the pages call their streams, ``/stream?name=...``, for as long as they are sent."""
        self._views = views
        self._addresses: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send pictures until the viewer goes."""
        from starlette.requests import Request
        from starlette.responses import PlainTextResponse

        request = Request(scope)
        view, address = _view(self._views, request), network(scope["client"][0])
        if view is None:
            await PlainTextResponse(NO_CAMERA, 404)(scope, receive, send)
            return
        if len(self._addresses) >= MAX_VIEWERS:
            await PlainTextResponse(f"{MAX_VIEWERS} viewers watch already.\n", 503)(scope, receive, send)
            return
        if self._addresses.count(address) >= PER_ADDRESS and not peer(scope["client"][0]).is_loopback:
            await PlainTextResponse(f"{PER_ADDRESS} viewers watch from your address already.\n", 503)(scope, receive, send)
            return
        scope.get("state", {})["streams"] = True  # counted here, and not among the connections that wait
        name = request.query_params.get("name", "")
        with _watching(view.pictures), _listed(name, self.names), self._counted(address):
            sending = asyncio.create_task(self._send(view.pictures, send))
            gone = asyncio.create_task(_disconnected(receive))
            try:
                await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (sending, gone):
                    task.cancel()
                    with suppress(asyncio.CancelledError, asyncio.TimeoutError, OSError):
                        await task

    @contextmanager
    def _counted(self, address: str) -> Iterator[None]:
        self._addresses.append(address)
        try:
            yield
        finally:
            self._addresses.remove(address)

    async def _send(self, pictures: Pictures, send: Send) -> None:
        headers = [(b"content-type", b"multipart/x-mixed-replace; boundary=" + BOUNDARY)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        # The boundary follows its picture at once: browsers show a part when they see its end.
        await send({"type": "http.response.body", "body": b"--" + BOUNDARY + b"\r\n", "more_body": True})
        number = 0
        while True:
            number, jpeg = await pictures.after(number)
            head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
            body = head + jpeg + b"\r\n--" + BOUNDARY + b"\r\n"
            await asyncio.wait_for(send({"type": "http.response.body", "body": body, "more_body": True}), SEND_SECONDS)


@contextmanager
def _watching(pictures: Pictures) -> Iterator[None]:
    """Counts a viewer for as long as it watches."""
    pictures.viewers += 1
    try:
        yield
    finally:
        pictures.viewers -= 1


@contextmanager
def _listed(name: str, names: set[str]) -> Iterator[None]:
    names.add(name)
    try:
        yield
    finally:
        names.discard(name)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _file(name: str, media: str) -> Callable[[Request], Awaitable[Response]]:
    from starlette.responses import Response as Whole

    content = (STATIC / name).read_bytes()

    async def serve(_request: Request) -> Response:
        return Whole(content, media_type=media)

    return serve
