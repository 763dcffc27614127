"""Bounds on connections that are slow, large or many: what a client may do before a request is one."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.h11_impl import H11Protocol

from endcap.serve.problems import MEDIA_TYPE, problem_body
from endcap.serve.transport import Gathering

READ_WITHIN_S = 20.0  # from the first byte of a request to the last of its body
HEAD_BYTES = 16_384  # request line and headers, while they arrive
MAX_CONNECTIONS = 1000  # of one worker; the usual limit of open files is 1024


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, but a request must arrive in time, and connections are counted.

    A head that has not ended after `HEAD_BYTES` is refused by uvicorn's settings; one that is read at once is bounded
    by what is read at once, and its headers are counted by the application. A request that arrives in one piece costs
    nothing more here.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        super().connection_made(Gathering(transport, self.loop))  # type: ignore[arg-type]
        if len(self.connections) > MAX_CONNECTIONS:
            self._close(503, "this server has as many connections as it can hold; try again")
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._stop_watching()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Run the clock while a request is arriving."""
        arriving = self.cycle is None or self.cycle.response_complete or self.cycle.more_body
        if not arriving:
            self._stop_watching()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(READ_WITHIN_S, self._give_up)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._close(408, f"the request did not arrive within {READ_WITHIN_S:g} seconds")

    def send_400_response(self, msg: str) -> None:
        """Not HTTP, or a head that is too large."""
        self._close(400, f"this is not a request that can be understood, or its head exceeds {HEAD_BYTES:,} bytes")

    def _close(self, status: int, detail: str) -> None:
        """Close, and say why where something waits for an answer."""
        begun = self.cycle is not None and not self.cycle.response_complete
        waiting = not self.cycle.response_started if begun else status != 408 or self.conn.trailing_data[0]
        if waiting:
            body = problem_body(status, detail)
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
                f"content-length: {len(body)}\r\nretry-after: 1\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode("ascii") + body)
        self.transport.close()
