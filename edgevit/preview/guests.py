"""Connections that keep the server waiting: uvicorn has a limit for their number, and none for their patience.

Source: the protocol class of uvicorn, which its documentation lets one replace (``http`` of `uvicorn.Config`), and its issue 157:
there is no time limit for a request's head.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgevit.preview.address import network

REQUEST_SECONDS = 5.0
"""From a request's first byte, or from the connection, to its last: nobody has much to send here."""
PER_ADDRESS = 96
"""Connections of one address, streams aside: a browser has six, and a tunnel or a proxy may bring all viewers at once."""
MAX_CONNECTIONS = 256
"""Of all addresses, streams aside."""
FLUSH_SECONDS = 1.0
TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Guest(H11Protocol):
    """One connection. It has seconds to say what it wants; where there are too many, that which has waited longest goes.

    So nobody is sent away for others who only sit there, be it from the same address: a request that comes at once is answered.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request, and make room."""
        super().connection_made(transport)
        self._network = network(self.client[0]) if self.client else ""
        self._since = self.loop.time()
        self._late: asyncio.TimerHandle | None = self.loop.call_later(REQUEST_SECONDS, self._too_late)
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came; wait for the rest, not for ever."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """The next request may have begun already. For one that has not, uvicorn has a limit of its own."""
        self._since = self.loop.time()
        super().on_response_complete()
        self._look()

    def _look(self) -> None:
        state = self.conn.their_state
        if state is h11.SEND_BODY or (state is h11.IDLE and self.conn.trailing_data[0]):
            self._late = self._late or self.loop.call_later(REQUEST_SECONDS, self._too_late)
        else:
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0] and not self.transport.is_closing():
            self.transport.write(TOO_LATE)
        self._leave()

    def _leave(self) -> None:
        self.transport.close()
        self.loop.call_later(FLUSH_SECONDS, self.transport.abort)  # one that takes nothing would stay until it does

    def _make_room(self) -> None:
        """Let one go where there are too many, of this address or of all: the new one itself if all others are being served."""
        guests = [guest for guest in self.connections if isinstance(guest, Guest) and guest._counts()]
        for there, most in (
            ([guest for guest in guests if guest._network == self._network], PER_ADDRESS),
            (guests, MAX_CONNECTIONS),
        ):
            if len(there) > most:
                min((guest for guest in there if guest._may_go()), key=lambda guest: guest._since)._leave()
                return

    def _counts(self) -> bool:
        return not self.transport.is_closing() and not (self._served() and self._marked("streams"))

    def _may_go(self) -> bool:
        """Whether nothing is lost with it: it has asked for nothing yet, or for what it may not have."""
        return not (self._served() and self._marked("admitted"))

    def _served(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _marked(self, mark: str) -> bool:
        state: dict[str, Any] = (self.scope or {}).get("state") or {}
        return bool(state.get(mark))
