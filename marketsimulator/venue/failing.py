"""Requests that go wrong on demand, whatever API a server speaks: late, lost, refused, nonsense."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from marketsimulator.venue.faults import AFTER_FAULTS, BEFORE_FAULTS, Fault, FaultPlan, parse_faults
from marketsimulator.venue.request_values import json_body

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

NO_ORDER = "00000000-0000-0000-0000-000000000000"  # the id of another order than was meant
BODIES = {  # of faults that answer with something else than what was asked for
    "malformed": ('{"id": "half of a', "application/json"),
    "html": ("<html><body>Bad gateway</body></html>", "text/html"),
    "null": ("null", "application/json"),
    "empty": ("[]", "application/json"),
}


class FailingRequests:
    """Requests as a server does them, and the faults between them and their client.

    faults: what goes wrong.
    answered: does a request, and answers refusals in the words of the API.
    disguised: an answer's JSON as if another order had been meant.
    """

    def __init__(
        self,
        faults: FaultPlan,
        answered: Callable[[web.Request, Handler], Awaitable[web.StreamResponse]],
        disguised: Callable[[Any], Any],
    ) -> None:
        self._faults = faults
        self._answered = answered
        self._disguised = disguised
        self._on_their_way: list[tuple[web.Request, Handler]] = []
        self._landing: set[asyncio.Task[None]] = set()

    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What the client gets to see."""
        before = self._faults.take(BEFORE_FAULTS, request.method, request.path)
        if before is not None:
            failure = await self._fail(before, request, handler)
            if failure is not None:
                return failure
        answer = await self._answered(request, handler)
        # These come after the handler, so that the request is done though its answer is lost.
        after = self._faults.take(AFTER_FAULTS, request.method, request.path)
        return answer if after is None else await self._spoilt(after, request, answer)

    def routes(self) -> list[web.RouteDef]:
        """What plans faults and clears them, and what lands requests that one holds up."""
        return [
            web.post("/control/faults", self._plan),
            web.delete("/control/faults", self._clear),
            web.post("/control/land", self._land_all),
        ]

    async def _plan(self, request: web.Request) -> web.StreamResponse:
        """Plan a fault, or a list of them."""
        for fault in parse_faults(await json_body(request)):
            self._faults.add(fault)
        return web.json_response({})

    async def _clear(self, _: web.Request) -> web.StreamResponse:
        self._faults.clear()
        return web.json_response({})

    async def _land_all(self, _: web.Request) -> web.StreamResponse:
        """Do what was held up on its way, in the order in which it was sent."""
        for request, _handler in tuple(self._on_their_way):
            await self._land(request)
        return web.json_response({})

    async def _fail(
        self, fault: Fault, request: web.Request, handler: Handler
    ) -> web.StreamResponse | None:
        """The answer that a fault puts in the place of the venue's; None where it is only late."""
        # What is not read before the client has gone could not be done after that.
        await request.read()
        if fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
            return None
        if fault.kind == "late":
            self._on_their_way.append((request, handler))
            asyncio.get_running_loop().call_later(fault.seconds, self._land_in_background, request)
            return await hang_up(request)
        if fault.kind == "silent":
            await asyncio.sleep(fault.seconds)
            return await hang_up(request)
        if fault.kind == "drop_before":
            return await hang_up(request)
        return _status_answer(fault)

    def _land_in_background(self, request: web.Request) -> None:
        task = asyncio.get_running_loop().create_task(self._land(request))
        self._landing.add(task)
        task.add_done_callback(self._landing.discard)

    async def _land(self, wanted: web.Request) -> None:
        """Do a request that was held up, unless it has been done."""
        for request, handler in self._on_their_way:
            if request is wanted:
                self._on_their_way.remove((request, handler))
                await self._answered(request, handler)
                return

    async def _spoilt(
        self, fault: Fault, request: web.Request, answer: web.StreamResponse
    ) -> web.StreamResponse:
        """What a fault makes of the answer to a request that is done."""
        if fault.kind == "drop_after":
            return await hang_up(request)
        if fault.kind == "status_after":
            return _status_answer(fault)
        if fault.kind in BODIES:
            text, content_type = BODIES[fault.kind]
            return web.Response(text=text, content_type=content_type)
        content = json.loads(answer.text or "null") if isinstance(answer, web.Response) else None
        if fault.kind == "other":
            return web.json_response(self._disguised(content), status=answer.status)
        trickle = web.StreamResponse(status=answer.status)
        trickle.content_type = "application/json"
        await trickle.prepare(request)
        for byte in json.dumps(content).encode():
            await trickle.write(bytes([byte]))
            await asyncio.sleep(fault.seconds)
        return trickle


def plain(answer: Callable[[web.Request], Any], status: int = 200) -> Handler:
    """A handler that answers with the JSON of a function's value."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return web.json_response(answer(request), status=status)

    return handle


def _status_answer(fault: Fault) -> web.Response:
    wait = fault.retry_after or (f"{fault.seconds:g}" if fault.status == 429 else "")
    headers = {"Retry-After": wait} if wait else {}
    body = {"code": fault.status * 100_000, "message": "a fault on demand"}
    return web.json_response(body, status=fault.status, headers=headers)


async def hang_up(request: web.Request) -> web.StreamResponse:
    """Close the connection without an answer."""
    # aiohttp would wait for a body that nobody has read.
    await request.read()
    if request.transport is not None:
        request.transport.close()
    return web.Response(status=500)
