"""The venue's websocket of trade updates, and what goes wrong with it on demand."""

from __future__ import annotations

import asyncio
import json

from aiohttp import WSMsgType, web

from marketsimulator.venue.faults import Faults
from marketsimulator.venue.tickets import Answer

FAULTS = ("silence", "duplicate", "out_of_order")


class TradeUpdateStream:
    """Every connection that has asked for trade updates, and what each is sent."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._sockets: set[web.WebSocketResponse] = set()
        self._held: list[Answer] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Trade updates, once authenticated and asked for."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        known = False
        async for message in socket:
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                continue
            asked = json.loads(message.data)
            if asked.get("action") in ("authenticate", "auth"):
                known = bool(asked.get("data", asked).get("key_id") or asked.get("key"))
                status = "authorized" if known else "unauthorized"
                await _send(
                    socket,
                    {
                        "stream": "authorization",
                        "data": {"action": "authenticate", "status": status},
                    },
                )
            elif asked.get("action") == "listen" and known:
                self._sockets.add(socket)
                await _send(socket, {"stream": "listening", "data": {"streams": ["trade_updates"]}})
        self._sockets.discard(socket)
        return socket

    async def hang_up(self) -> None:
        """Drop every connection; a client may come back."""
        for socket in list(self._sockets):
            await socket.close()

    def tell(self, update: Answer) -> None:
        """Send a trade update to every listener, or fail to, on demand."""
        if not self._sockets:
            return
        fault = self._faults.take(FAULTS)
        if fault is not None and fault.kind == "silence":
            return
        if fault is not None and fault.kind == "out_of_order":
            self._held.append(update)
            return
        updates = [update, *self._held] if fault is None else [update, update, *self._held]
        self._held = []
        for each in updates:
            for socket in list(self._sockets):
                task = asyncio.get_running_loop().create_task(
                    _send(socket, {"stream": "trade_updates", "data": each})
                )
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)


async def _send(socket: web.WebSocketResponse, message: Answer) -> None:
    if not socket.closed:
        await socket.send_bytes(json.dumps(message).encode())
