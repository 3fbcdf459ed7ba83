"""Kalshi's HTTP over the simulated exchange: routes, keys, faults, the clock.

What a request is signed with `KalshiKeys.headers` says, over timestamp + METHOD + path.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from event_contracts.simulation import answers
from event_contracts.simulation.answers import Answer, milliseconds
from event_contracts.simulation.exchange import Exchange
from event_contracts.simulation.venue import (
    KalshiVenueSettings,
    OrderRequest,
    Refused,
    placed_of,
    take,
)
from event_contracts.trading.endpoint import KEY, ROOT, SIGNATURE, TIMESTAMP, KalshiKeys
from event_contracts.trading.order_venue import WRITES
from marketsimulator.venue.door import foreign_page
from marketsimulator.venue.failing import NO_ORDER, FailingRequests, Handler, plain
from marketsimulator.venue.faults import FaultPlan
from marketsimulator.venue.request_values import json_object

ORDERS = f"{ROOT}{WRITES}"
PRIVATE = f"{ROOT}/portfolio"  # what needs keys
STATES = {"filled": "executed", "canceled": "canceled"}  # of a fault `state`; else resting
MOST_STEPS = 1_000_000  # of the clock, at once
PERIOD = 0.02  # seconds between looks at a clock that runs by itself
BITS = 2048
PATIENCE = 5_000  # milliseconds that a timestamp may be off; how many the real venue allows is U


def new_keys() -> KalshiKeys:
    """A throw-away key, of which whoever serves knows both halves; PEM is PKCS #8, unencrypted."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=BITS)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return KalshiKeys(str(uuid.uuid4()), pem.decode())


def why_unsigned(
    keys: KalshiKeys, headers: Mapping[str, str], method: str, path: str, now: int
) -> str | None:
    """Why a request is not these keys', in words; nothing where it is.

    path: without a query. now: milliseconds since 1970.
    """
    missing = [name for name in (KEY, TIMESTAMP, SIGNATURE) if not headers.get(name)]
    if missing:
        return f"{missing[0]} is missing"
    if headers[KEY] != keys.key_id:
        return "there is no such key"
    stamp = headers[TIMESTAMP]
    if not (stamp.isascii() and stamp.isdigit()) or abs(int(stamp) - now) > PATIENCE:
        return f"{TIMESTAMP} is not within {PATIENCE} ms of the clock"
    digest = hashes.SHA256()
    scheme = padding.PSS(padding.MGF1(digest), salt_length=digest.digest_size)
    try:
        given = base64.b64decode(headers[SIGNATURE], validate=True)
        message = f"{stamp}{method}{path}".encode()
        keys.signing_key.public_key().verify(given, message, scheme, digest)
    except (binascii.Error, InvalidSignature, ValueError):
        return "the signature does not fit"
    return None


class KalshiServer:
    """The exchange behind HTTP.

    settings: what of an order is refused, and how fast the clock runs.
    keys: what requests are signed with.
    speed: simulated seconds a second; None: the clock waits for a client.
    faults: what goes wrong on demand, planned while it runs.
    """

    def __init__(
        self,
        exchange: Exchange,
        settings: KalshiVenueSettings,
        keys: KalshiKeys,
        speed: float | None = None,
    ) -> None:
        self.exchange = exchange
        self.settings = settings
        self.keys = keys
        self.speed = speed
        self.faults = FaultPlan()
        self._requests = FailingRequests(self.faults, _answered, _another_order)

    def app(self) -> web.Application:
        """The application."""
        app = web.Application(middlewares=[self._guard])
        app.router.add_post(ORDERS, self._submit)
        app.router.add_delete(f"{ORDERS}/{{order_id}}", self._cancel)
        for path, read in self._reads().items():
            app.router.add_get(f"{ROOT}/{path}", plain(read))
        # What Kalshi does not have: the clock and the faults.
        app.add_routes([web.post("/control/advance", self._advance), *self._requests.routes()])
        if self.speed is not None:
            app.cleanup_ctx.append(self._clockwork)
        return app

    def _reads(self) -> dict[str, Callable[[web.Request], Answer]]:
        exchange = self.exchange

        def named(request: web.Request) -> str:
            return request.match_info["name"]

        return {
            "portfolio/orders": self._orders,
            "portfolio/orders/{order_id}": self._order,
            "portfolio/fills": lambda request: answers.fills(
                exchange, request.query, self._hidden(request)
            ),
            "portfolio/positions": lambda request: answers.positions(exchange, request.query),
            "portfolio/settlements": lambda request: answers.settlements(exchange, request.query),
            "portfolio/balance": lambda _: answers.balance(exchange),
            "exchange/status": lambda _: {"trading_active": exchange.trades},
            "markets": lambda request: answers.markets(exchange, request.query),
            "markets/{name}": lambda request: {"market": answers.market(exchange, named(request))},
            "events/{name}": lambda request: answers.event(exchange, named(request)),
            "series/{name}": lambda request: answers.series(exchange, named(request)),
        }

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Keys, faults, and refusals in Kalshi's words."""
        # Faults leave the control routes alone: otherwise nobody could clear them.
        if request.path.startswith("/control"):
            foreign = foreign_page(request)
            if foreign is not None:
                return _refusal(403, "forbidden", foreign)
            return await _answered(request, handler)
        signed = KEY in request.headers
        if signed or request.path.startswith(PRIVATE):
            now = time.time_ns() // 1_000_000
            why = why_unsigned(self.keys, request.headers, request.method, request.path, now)
            if why:
                return _refusal(401, "authentication_error", why)
        return await self._requests.answer(request, handler)

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        order = OrderRequest.of(await json_object(request))
        faulty = self.faults.take
        if faulty(("reject",), request.method, request.path):
            raise Refused(400, "invalid_order", "rejected on demand")
        placed = take(
            self.exchange,
            order,
            reused_ids_refused=self.settings.reused_ids_refused,
            partial=faulty(("partial",), request.method, request.path) is not None,
            reject=faulty(("reject_later",), request.method, request.path) is not None,
        )
        return web.json_response(answers.receipt(placed, self.exchange.now), status=201)

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        placed = placed_of(self.exchange, request.match_info["order_id"])
        if placed.is_done:
            raise Refused(404, "not_found", f"order {placed.order_id} is {placed.state}")
        reduced = placed.waiting
        self.exchange.cancel(placed.order_id)
        return web.json_response(answers.cancellation(placed, reduced, self.exchange.now))

    def _orders(self, request: web.Request) -> Answer:
        answer = answers.orders(self.exchange, request.query, self._hidden(request))
        answer["orders"] = [self._disguised(order, request) for order in answer["orders"]]
        return answer

    def _order(self, request: web.Request) -> Answer:
        order_id = request.match_info["order_id"]
        if self._hidden(request):
            raise Refused(404, "not_found", f"order {order_id} not found")
        placed = placed_of(self.exchange, order_id)
        return {"order": self._disguised(answers.order(self.exchange, placed), request)}

    def _hidden(self, request: web.Request) -> int:
        """How many of the newest rows a read leaves out, on demand."""
        return int(self.faults.take(("unlisted",), request.method, request.path) is not None)

    def _disguised(self, answer: Answer, request: web.Request) -> Answer:
        fault = self.faults.take(("state",), request.method, request.path)
        return answer if fault is None else {**answer, "status": STATES.get(fault.state, "resting")}

    async def _advance(self, request: web.Request) -> web.StreamResponse:
        """Move a waiting clock by {"steps": 1} ticks, or until every market has paid.

        The answer says by how many it moved, the tick and the instant, and whether all is over.
        """
        if self.speed is not None:
            raise Refused(409, "clock", "this clock runs by itself")
        steps = (await json_object(request)).get("steps", 1)
        if isinstance(steps, bool) or not isinstance(steps, int) or not 0 < steps <= MOST_STEPS:
            raise Refused(422, "invalid_parameters", f"steps must be 1 to {MOST_STEPS}")
        exchange = self.exchange
        before = exchange.tick
        while exchange.tick < before + steps and not exchange.is_over:
            exchange.advance()
        progress = {
            "moved": exchange.tick - before,
            "tick": exchange.tick,
            "ts_ms": milliseconds(exchange.now),
            "over": exchange.is_over,
        }
        return web.json_response(progress)

    async def _clockwork(self, _: web.Application) -> AsyncIterator[None]:
        clock = asyncio.create_task(self._run_clock())
        yield
        clock.cancel()

    async def _run_clock(self) -> None:
        began = time.monotonic()
        ticks_a_second = (self.speed or 0.0) / self.settings.interval
        while not self.exchange.is_over:
            due = int((time.monotonic() - began) * ticks_a_second)
            if self.exchange.tick < due:
                self.exchange.advance()
                await asyncio.sleep(0)
            else:
                await asyncio.sleep(PERIOD)


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What a handler answers, its refusals in Kalshi's words."""
    try:
        return await handler(request)
    except Refused as refused:
        return _refusal(refused.status, refused.code, str(refused))
    except web.HTTPException as error:
        return _refusal(error.status, "not_found" if error.status == 404 else "http", error.reason)
    except ValueError as error:  # JSON, a number or a setting that is none
        status = 422 if request.path.startswith("/control") else 400
        return _refusal(status, "invalid_parameters", str(error))


def _refusal(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"code": code, "message": message, "details": ""}, status=status)


def _another_order(content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    if "order" in content:
        return {**content, "order": _another_order(content["order"])}
    if "orders" in content:
        return {**content, "orders": [_another_order(order) for order in content["orders"]]}
    if "client_order_id" in content:
        return {**content, "order_id": NO_ORDER, "client_order_id": "another"}
    return content
