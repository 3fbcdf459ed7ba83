"""A proxy on loopback before the practice server, on which the wire fails in every way it can.

It knows nothing of orders: it drops, delays, repeats and spoils what passes. Requests that it holds
up land when `land` is called, long after their sender has gone. A trap stops a chosen request while
something is done to its sender, as killing it.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

import aiohttp
from aiohttp import web

from tests.support.served import serving

BEFORE = ("drop", "refuse", "busy", "silence", "late")  # the request has not reached the venue yet
AFTER = ("lost", "error", "truncated", "trickle", "page", "null", "list", "other")
RETRY_AFTER = ("0", "0.01", "1", "-5", "nan", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", "")
SPOILT = {
    "page": ("<html><body>Bad gateway</body></html>", "text/html"),
    "null": ("null", "application/json"),
    "list": ("[]", "application/json"),
}
HELD_UP = 0.4  # share of order requests with a fault of their own
OK = 200
SILENCE = 5.0  # seconds, longer than any client in these tests waits


When = Literal["before", "flying", "after", "pass"]
ORDERS = ("/v2/orders", "/trade-api/v2/portfolio/events/orders")  # of stocks, of event contracts
SIGNED = ("apca-", "kalshi-", "content-type")  # how the headers begin that are passed on
CLOCK = "/v2/clock"
ALERTS = "/alert"  # where notices are sent


@dataclass
class Trap:
    """What is done while a chosen request is held.

    act: what is done, in a thread of its own.
    method, path: of the requests that count; `path` is how theirs begin.
    count: which of them is held, from 1.
    when: `before` lets the venue hear nothing of it; `flying` lets it land later; `after` lets it
        be done, and loses the answer; `pass` lets it and its answer pass.
    """

    act: Callable[[], object]
    method: str = ""
    path: str = ""
    count: int = 1
    when: When = "pass"

    def catches(self, method: str, path: str) -> bool:
        """Whether this request is the chosen one; every one is to be asked for once."""
        if self.method not in ("", method) or not path.startswith(self.path):
            return False
        self.count -= 1
        return self.count == 0


class Message(NamedTuple):
    """A request as it is passed on; path: with its query."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class FaultProxy:
    """What passes between a client and `upstream`.

    danger: share of requests that something happens to.
    danger_of_orders: the same of orders that are sent, of which more are held up; none is no other.
    rng: draws what.
    happened: how often what did.
    heard: requests by their method, those on which the wire failed included.
    trap: for the next requests; none lets them pass.
    ahead: seconds by which the venue's clock is shown ahead.
    idle: requests for the clock since any other.
    change: what is made of an answer that is no error: of its method, path and JSON; none nothing.
    on_order: called with the body of every order that is sent, before the venue hears of it.
    on_request: called with the path of every request, likewise.
    on_alert: called with every notice that is sent.
    loop, session: in which it passes requests on; none before it listens.
    """

    upstream: str
    rng: random.Random
    danger: float = 0.0
    danger_of_orders: float | None = None
    url: str = ""
    happened: Counter[str] = field(default_factory=Counter)
    heard: Counter[str] = field(default_factory=Counter)
    trap: Trap | None = None
    ahead: int = 0
    idle: int = 0
    change: Callable[[str, str, Any], Any] | None = None
    on_order: Callable[[bytes], object] | None = None
    on_request: Callable[[str], object] = lambda path: None
    on_alert: Callable[[Any], object] = lambda notice: None
    _held: list[Message] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop | None = None
    session: aiohttp.ClientSession | None = None

    def land(self) -> None:
        """Every request that was held up reaches the venue, in the order in which it was sent."""
        assert self.loop is not None
        asyncio.run_coroutine_threadsafe(self._land(), self.loop).result(30)

    async def _land(self) -> None:
        while self._held:
            # The venue may fail on demand: no client waits for this response any more.
            with suppress(aiohttp.ClientError):
                await self._forwarded(self._held.pop(0))

    def calm(self) -> None:
        """From now on nothing happens to requests, and those that were held up are let through."""
        self.danger = 0.0
        self.danger_of_orders = None
        self.trap = None
        self.change = None
        self.ahead = 0
        self.land()

    def _drawn(self, kinds: tuple[str, ...], method: str = "") -> str:
        danger = self.danger
        held_up = False
        if method == "POST" and self.danger_of_orders is not None:
            danger = self.danger_of_orders
            held_up = self.rng.random() < HELD_UP
        if self.rng.random() >= danger:
            return ""
        kind = "late" if held_up else self.rng.choice(kinds)
        self.happened[kind] += 1
        return kind

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on, or let it fail."""
        try:
            return await self._serve(request)
        except (ConnectionError, aiohttp.ClientError):  # one of the two sides has disconnected
            return web.Response(status=502)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.path == ALERTS:
            self.on_alert(json.loads(body))
            return web.Response()
        self.heard[request.method] += 1
        self.idle = self.idle + 1 if request.path == CLOCK else 0
        headers = {k: v for k, v in request.headers.items() if k.lower().startswith(SIGNED)}
        message = Message(request.method, request.path_qs, headers, body)
        await asyncio.to_thread(self.on_request, request.path)
        if self.on_order is not None and request.method == "POST" and request.path in ORDERS:
            await asyncio.to_thread(self.on_order, body)
        trap = self.trap
        if trap is not None and trap.catches(request.method, request.path):
            # A fault at the client ends its connection; the request is processed anyway.
            return await asyncio.shield(self._trapped(trap, request, message))
        fault = self._drawn((*BEFORE, *AFTER), request.method)
        if fault in BEFORE:
            return await self._fail(fault, request, message)
        return await self._answer(fault, request, *await self._forwarded(message))

    async def _forwarded(self, message: Message) -> tuple[bytes, int]:
        """The venue's answer, and its status."""
        method, path, headers, body = message
        assert self.session is not None
        url = f"{self.upstream}{path}"
        async with self.session.request(method, url, headers=headers, data=body) as answer:
            content, status = await answer.read(), answer.status
        if path == CLOCK and status == OK:
            content = shifted(content, self.ahead)
        if self.change is not None and status == OK and content:
            told = self.change(method, path.partition("?")[0], json.loads(content))
            content = json.dumps(told).encode()
        return content, status

    async def _trapped(
        self, trap: Trap, request: web.Request, message: Message
    ) -> web.StreamResponse:
        if trap.when == "after":
            await self._forwarded(message)
        await asyncio.to_thread(trap.act)
        self.happened[f"trap {trap.when}"] += 1
        if trap.when == "flying":
            self._held.append(message)
        if trap.when == "pass":
            # The client may have been killed by now.
            with suppress(ConnectionResetError):
                return await self._answer("", request, *await self._forwarded(message))
        return _hang_up(request)

    async def _fail(self, fault: str, request: web.Request, message: Message) -> web.StreamResponse:
        if fault == "late":
            self._held.append(message)
        if fault == "silence":
            await asyncio.sleep(SILENCE)
        if fault in ("refuse", "busy"):
            status = 429 if fault == "busy" else self.rng.choice((500, 502, 503, 504))
            wait = self.rng.choice(RETRY_AFTER)
            more = {"Retry-After": wait} if wait else {}
            return web.Response(status=status, text="no", headers=more)
        return _hang_up(request)

    async def _answer(
        self, fault: str, request: web.Request, content: bytes, status: int
    ) -> web.StreamResponse:
        if fault == "lost":
            return _hang_up(request)
        if fault == "error":
            return web.Response(status=502, text="<html>Bad gateway</html>")
        if fault == "truncated":
            content = content[: len(content) // 2]
        if fault in SPOILT:
            text, kind = SPOILT[fault]
            return web.Response(text=text, content_type=kind)
        if fault == "other":
            told: Any = json.loads(content or b"null")
            if isinstance(told, dict) and "client_order_id" in told:
                another = dict.fromkeys(("id", "order_id", "client_order_id"), "another")
                told |= {name: value for name, value in another.items() if name in told}
            content = json.dumps(told).encode()
        answer = web.StreamResponse(status=status)
        answer.content_type = "application/json"
        await answer.prepare(request)
        for byte in content if fault == "trickle" else ():
            await answer.write(bytes([byte]))
            await asyncio.sleep(0.05)
        if fault != "trickle":
            await answer.write(content)
        return answer


def shifted(clock: bytes, seconds: int) -> bytes:
    """An answer of the clock, so many seconds ahead."""
    answer = json.loads(clock)
    told = datetime.fromisoformat(answer["timestamp"]) + timedelta(seconds=seconds)
    return json.dumps({**answer, "timestamp": told.isoformat()}).encode()


def _hang_up(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.close()
    return web.Response(status=500)


@contextmanager
def faulty_wire(proxy: FaultProxy) -> Iterator[FaultProxy]:
    """Have a proxy listen on loopback at its `url`, until the block ends."""
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", proxy.serve)

    async def connect(_: web.Application) -> AsyncIterator[None]:
        proxy.loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as proxy.session:
            yield

    app.cleanup_ctx.append(connect)
    with serving() as served:
        proxy.url = served.serve(app, shutdown_timeout=0.2, handler_cancellation=True)
        yield proxy
