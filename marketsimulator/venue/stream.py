"""The venue's websocket of trade updates, and what goes wrong with it on demand."""

from __future__ import annotations

import asyncio
import json

from aiohttp import WSMsgType, web

from marketsimulator.venue.faults import STREAM_FAULTS, FaultPlan
from marketsimulator.venue.tickets import Answer


class TradeUpdateStream:
    """Every connection that has asked for trade updates, and what each is sent."""

    def __init__(self, faults: FaultPlan) -> None:
        self._faults = faults
        self._sockets: set[web.WebSocketResponse] = set()
        self._delayed: list[Answer] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Trade updates, once authenticated and asked for."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        authorized = False
        async for message in socket:
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                continue
            command = json.loads(message.data)
            if command.get("action") in ("authenticate", "auth"):
                # Alpaca takes two forms of this message: the older one holds the keys under `data`,
                # the newer one beside the action.
                keys = command.get("data", command)
                authorized = bool(keys.get("key_id") or command.get("key"))
                status = "authorized" if authorized else "unauthorized"
                reply = {"action": "authenticate", "status": status}
                await _send(socket, {"stream": "authorization", "data": reply})
            elif command.get("action") == "listen" and authorized:
                self._sockets.add(socket)
                await _send(socket, {"stream": "listening", "data": {"streams": ["trade_updates"]}})
        self._sockets.discard(socket)
        return socket

    async def hang_up(self) -> None:
        """Drop every connection; a client may come back."""
        for socket in list(self._sockets):
            await socket.close()

    def publish(self, update: Answer) -> None:
        """Send a trade update to every listener, or fail to, on demand."""
        if not self._sockets:
            return
        fault = self._faults.take(STREAM_FAULTS)
        if fault is not None and fault.kind == "silence":
            return
        if fault is not None and fault.kind == "out_of_order":
            self._delayed.append(update)
            return
        updates = [update, *self._delayed]
        if fault is not None:
            updates.insert(0, update)
        self._delayed = []
        for each in updates:
            for socket in list(self._sockets):
                message = {"stream": "trade_updates", "data": each}
                task = asyncio.get_running_loop().create_task(_send(socket, message))
                # The event loop refers weakly to its tasks: one that nobody keeps may be collected
                # before it has sent anything.
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)


async def _send(socket: web.WebSocketResponse, message: Answer) -> None:
    if not socket.closed:
        await socket.send_bytes(json.dumps(message).encode())
