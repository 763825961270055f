"""One client's connection: bounds how long it may be open without a request.

uvicorn's protocol for h11, which bounds the size of a request's headers. It closes a connection that is idle
after an answer, but waits for ever for one that brings no request at all, or never the rest of one.
"""

import asyncio
from typing import Final

import h11
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from roundhouse_engine.unread import Unread

_REQUEST_SECONDS: Final = 30.0


class Connection(Unread, H11Protocol):
    _due: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_request()

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_protocol() is not self:
            return  # a WebSocket has it now
        # uvicorn declares `cycle` as never None, and sets it to None until the first request is there.
        if getattr(self.cycle, "response_complete", True) is False:
            self._forget()  # the request is at work, and the route bounds its body
        elif self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            # What was left of a refused body is through: the connection is as good as new.
            self._forget()
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        elif self._due is None:
            self._expect_request()  # the beginning of a request, or the body of one that was refused

    @override
    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._forget()
        self.stop_looking()
        super().handle_websocket_upgrade(event)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        self._due = self.loop.call_later(_REQUEST_SECONDS, self.timeout_keep_alive_handler)

    def _forget(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
