"""How a practice server lets clients in: a bound of connections, and a time for a head.

aiohttp bounds lines, headers, bodies and idle connections by itself, but neither the number of
connections nor how long the first head of a request may take.
"""

from __future__ import annotations

import asyncio
import logging
import resource

from aiohttp import web

MOST_CONNECTIONS = 512
HEAD_SECONDS = 10.0  # for the first head of a request
LONGEST_HEAD = 2**16  # bytes; what is longer goes to aiohttp, which refuses it

log = logging.getLogger(__name__)


def most_connections() -> int:
    """Half of the files that the process may open at most: the others are for the venue."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if allowed < 0 else min(MOST_CONNECTIONS, allowed // 2)


class Door:
    """Connections until the first whole head of a request; from there on they are aiohttp's.

    Who has sent none keeps a place until somebody else needs it, and `HEAD_SECONDS` at most: silent
    connections keep nobody out.

    server: of the application.
    most: connections, at once.
    """

    def __init__(self, server: web.Server, most: int) -> None:
        self.server = server
        self._most = most
        self._waiting: dict[_Caller, None] = {}  # the oldest first
        self._full_before = False

    def caller(self) -> asyncio.Protocol:
        return _Caller(self)

    def enter(self, caller: _Caller) -> None:
        """A connection is open and has sent no head: whoever waits longest may have to go."""
        self._waiting[caller] = None
        if len(self._waiting) + len(self.server.connections) <= self._most:
            return
        next(iter(self._waiting)).turn_away()
        if not self._full_before:
            self._full_before = True
            log.warning(
                "%d connections are open: those that ask nothing are closed for new ones",
                self._most,
            )

    def leave(self, caller: _Caller) -> None:
        """A connection has ended, or is aiohttp's."""
        self._waiting.pop(caller, None)

    def close(self) -> None:
        for caller in tuple(self._waiting):
            caller.turn_away()


class _Caller(asyncio.Protocol):
    """A connection that has sent no whole head of a request."""

    _transport: asyncio.Transport
    _timer: asyncio.TimerHandle

    def __init__(self, door: Door) -> None:
        self._door = door
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self.turn_away)
        self._door.enter(self)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" in self._head or len(self._head) > LONGEST_HEAD:
            self._leave()
            handler = self._door.server()
            self._transport.set_protocol(handler)
            handler.connection_made(self._transport)
            handler.data_received(self._head)

    def connection_lost(self, error: Exception | None) -> None:
        self._leave()

    def turn_away(self) -> None:
        """Close the connection without an answer."""
        self._leave()
        self._transport.abort()

    def _leave(self) -> None:
        self._timer.cancel()
        self._door.leave(self)
