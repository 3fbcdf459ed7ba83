"""Alpaca's HTTP and websocket over a `Venue`: routes, keys, faults on demand, the clock."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

import numpy as np
from aiohttp import web

from foundation.errors import InputError
from marketsimulator.venue.answers import (
    FRAMES,
    account_answer,
    asset_answer,
    bars_answer,
    calendar_answer,
    clock_answer,
    history_answer,
    positions_answer,
)
from marketsimulator.venue.faults import Fault, Faults, fault_of
from marketsimulator.venue.stocks import FLAGS, Venue
from marketsimulator.venue.stream import TradeUpdateStream
from marketsimulator.venue.tickets import Answer, Refused, asset_id, stamp, text
from trainingdata.instruments import instrument, spelled
from trainingdata.sessions import DAY, instant

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PAGE = 10_000  # bars an answer holds
LATEST = 10 * DAY  # how old the latest bar may be


class Server:
    """The venue behind HTTP. speed: simulated seconds a second; none: the clock waits for a
    client.
    """

    def __init__(
        self, venue: Venue, speed: float | None = None, faults: Faults | None = None
    ) -> None:
        self.venue = venue
        self.speed = speed
        self.faults = faults or Faults()
        self._stream = TradeUpdateStream(self.faults)
        self._began = (time.monotonic(), venue.now)
        venue.record.listeners.append(self._stream.tell)

    def app(self) -> web.Application:
        """The application."""
        app = web.Application(middlewares=[self._guard])
        get = web.get
        post = web.post
        delete = web.delete
        plain = self._plain
        app.add_routes(
            [
                get("/v2/account", plain(lambda _: account_answer(self.venue))),
                get("/v2/account/activities", plain(self._activities)),
                get("/v2/account/activities/{kind}", plain(self._activities)),
                get("/v2/account/portfolio/history", plain(self._history)),
                get(
                    "/v2/positions",
                    plain(
                        lambda _: [*positions_answer(self.venue), *self.venue.options.positions()]
                    ),
                ),
                delete("/v2/positions", plain(self._close_all, status=207)),
                get("/v2/positions/{symbol}", plain(self._position)),
                delete("/v2/positions/{symbol}", plain(self._close)),
                get("/v2/orders", plain(self._orders)),
                post("/v2/orders", self._submit),
                delete("/v2/orders", plain(self._cancel_all, status=207)),
                get("/v2/orders:by_client_order_id", plain(self._by_name)),
                get("/v2/orders/{number}", plain(self._by_number)),
                web.patch("/v2/orders/{number}", self._change),
                delete("/v2/orders/{number}", self._cancel),
                get("/v2/options/contracts", plain(self._contracts)),
                get("/v2/clock", plain(self._clock)),
                get("/v2/calendar", plain(lambda request: calendar_answer(request.query))),
                get("/v2/assets", plain(self._assets)),
                get("/v2/assets/{symbol:.+}", plain(self._asset)),
                get("/v2/stocks/bars", plain(self._bars)),
                get("/v2/stocks/bars/latest", plain(self._latest)),
                get("/v2/stocks/trades/latest", plain(self._trades)),
                get("/v1beta1/options/quotes/latest", plain(self._quotes)),
                get("/v1beta3/crypto/us/bars", plain(self._bars)),
                get("/v1beta3/crypto/us/latest/bars", plain(self._latest)),
                get("/stream", self._stream.serve),
                post("/control/advance", self._advance),
                post("/control/faults", self._plan),
                delete("/control/faults", plain(self._forget)),
                post("/control/assets", self._flag),
                post("/control/hang_up", self._hang_up_streams),
            ]
        )
        if self.speed is not None:
            app.on_startup.append(self._start_clock)
            app.on_cleanup.append(self._stop)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Keys, faults, and refusals in Alpaca's words."""
        path = request.path
        control = request.path.startswith("/control")
        if not (
            control or path.startswith("/v1beta3") or path == "/stream"
        ) and not request.headers.get("APCA-API-KEY-ID"):
            return web.json_response(
                {"code": 40110000, "message": "request is not authorized"}, status=401
            )
        before = (
            None
            if control
            else self.faults.take(("delay", "drop_before", "status"), request.method, path)
        )
        if before is not None and (answer := await self._fail(before, request)) is not None:
            return answer
        try:
            answer = await handler(request)
        except Refused as refused:
            return web.json_response(
                {"code": refused.code, "message": str(refused)}, status=refused.status
            )
        except ValueError as error:  # a symbol, instant, number or JSON that is none
            return web.json_response({"code": 42210000, "message": str(error)}, status=422)
        after = (
            None if control else self.faults.take(("drop_after", "malformed"), request.method, path)
        )
        if after is None:
            return answer
        if after.kind == "malformed":
            return web.Response(text='{"id": "half of a', content_type="application/json")
        return await self._hang_up(request)

    async def _fail(self, fault: Fault, request: web.Request) -> web.StreamResponse | None:
        if fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
            return None
        if fault.kind == "drop_before":
            return await self._hang_up(request)
        headers = {"Retry-After": f"{fault.seconds:g}"} if fault.status == 429 else {}
        body = {"code": fault.status * 100_000, "message": "a fault on demand"}
        return web.json_response(body, status=fault.status, headers=headers)

    @staticmethod
    async def _hang_up(request: web.Request) -> web.StreamResponse:
        await request.read()  # a body that has not come yet would be waited for
        if request.transport is not None:
            request.transport.close()
        return web.Response(status=500)

    @staticmethod
    def _plain(answer: Callable[[web.Request], Any], status: int = 200) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return web.json_response(answer(request), status=status)

        return handle

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        asked = await _body(request)
        if self.faults.take(("reject",), request.method, request.path):
            raise Refused(403, 40310000, "rejected on demand")
        half, reject = (bool(self.faults.take((kind,))) for kind in ("partial", "reject_later"))
        return web.json_response(
            self._shown(self.venue.submit(asked, partial=half, reject=reject), request)
        )

    async def _change(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(
            self.venue.change(request.match_info["number"], await _body(request))
        )

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        number = request.match_info["number"]
        if (spread := self.venue.options.name_of(number)) is not None:
            self.venue.options.cancel(spread)
        else:
            self.venue.cancel(number)
        return web.Response(status=204)

    def _cancel_all(self, _: web.Request) -> list[Answer]:
        numbers = [ticket.number for ticket in self.venue.tickets.values() if ticket.open]
        for number in numbers:
            ticket = self.venue.found(number)
            for each in (ticket, *ticket.legs):
                if not each.closed:
                    self.venue.cancel(each.number)
        options = self.venue.options
        for name in options.names():
            if options.ticket(name).status == "new":
                options.cancel(name)
                numbers.append(str(options.answer(name)["id"]))
        return [{"id": number, "status": 200} for number in numbers]

    def _shown(self, answer: Answer, request: web.Request) -> Answer:
        """An order, in another state than its own on demand."""
        fault = self.faults.take(("state",), request.method, request.path)
        return answer if fault is None else {**answer, "status": fault.state}

    def _by_name(self, request: web.Request) -> Answer:
        name = request.query.get("client_order_id", "")
        options = self.venue.options
        if options.knows(name):
            return self._shown(options.answer(name, nested=False), request)
        return self._shown(self.venue.named(name).answer(), request)

    def _by_number(self, request: web.Request) -> Answer:
        number = request.match_info["number"]
        options = self.venue.options
        spread = options.name_of(number)
        if spread is not None:
            return self._shown(
                options.answer(spread, nested=request.query.get("nested") in ("true", "True")),
                request,
            )
        return self._shown(self.venue.found(number).answer(), request)

    def _orders(self, request: web.Request) -> list[Answer]:
        query = request.query
        wanted = query.get("status", "open")
        nested = query.get("nested") in ("true", "True")
        side = query.get("side")
        names = {instrument(s).symbol for s in query.get("symbols", "").split(",") if s}
        tickets = list(self.venue.tickets.values())
        if not nested:
            tickets = [each for ticket in tickets for each in (ticket, *ticket.legs)]
        tickets = [
            t
            for t in tickets
            if wanted == "all" or (t.open if nested else not t.closed) == (wanted == "open")
        ]
        tickets = [
            t
            for t in tickets
            if (not names or t.order.symbol in names) and side in (None, t.order.side)
        ]
        after, until = (
            stamp(instant(query[n], name=n)) if n in query else None for n in ("after", "until")
        )
        tickets = [
            t
            for t in tickets
            if (after is None or t.at > after) and (until is None or t.at < until)
        ]
        options = self.venue.options
        spreads = (
            [] if names or side else [(stamp(options.ticket(n).at), n) for n in options.names()]
        )
        spreads = [
            (at, n)
            for at, n in spreads
            if (after is None or at > after) and (until is None or at < until)
        ]
        spreads = [
            s
            for s in spreads
            if wanted == "all" or (options.ticket(s[1]).status == "new") == (wanted == "open")
        ]
        found: list[tuple[str, Callable[[], Answer]]] = [
            (t.at, partial(t.answer, nested=nested)) for t in tickets
        ]
        found = sorted(
            [*found, *((at, partial(options.answer, n, nested=nested)) for at, n in spreads)],
            key=lambda each: each[0],
        )
        ordered = found if query.get("direction") == "asc" else found[::-1]
        return [answer() for _, answer in ordered[: int(query.get("limit", 50))]]

    def _contracts(self, request: web.Request) -> Answer:
        found = self.venue.options.contracts(request.query)
        return {
            "option_contracts": found[: int(request.query.get("limit") or 10_000)],
            "next_page_token": None,
        }

    def _quotes(self, request: web.Request) -> Answer:
        names = [name for name in request.query.get("symbols", "").split(",") if name]
        return {"quotes": self.venue.options.quotes(names)}

    def _trades(self, request: web.Request) -> Answer:
        """What each stock trades at now, as its last trade."""
        names = [
            instrument(name).symbol for name in request.query.get("symbols", "").split(",") if name
        ]
        prices = {
            name: self.venue.price_of(name) for name in names if name in self.venue.bars.symbols
        }
        shared = {"t": stamp(self.venue.now), "s": 1, "x": "V", "i": 1, "c": ["@"], "z": "C"}
        return {
            "trades": {
                name: {**shared, "p": price} for name, price in prices.items() if price is not None
            }
        }

    def _position(self, request: web.Request) -> Answer:
        name = instrument(request.match_info["symbol"]).symbol
        held = [p for p in positions_answer(self.venue) if p["symbol"] == name]
        if not held:
            raise Refused(404, 40410000, "position does not exist")
        return held[0]

    def _close(self, request: web.Request) -> Answer:
        """Close a position, `qty` of it, or `percentage`."""
        held = self._position(request)
        query = request.query
        try:
            return self._closed(held, Decimal(query.get("percentage", "100")), query.get("qty"))
        except InvalidOperation:
            raise Refused(422, 42210000, "qty and percentage are numbers") from None

    def _close_all(self, request: web.Request) -> list[Answer]:
        if request.query.get("cancel_orders") in ("true", "True"):
            self._cancel_all(request)
        found = []
        for held in positions_answer(self.venue):
            try:
                found.append(
                    {
                        "symbol": held["symbol"],
                        "status": 200,
                        "body": self._closed(held, Decimal(100)),
                    }
                )
            except Refused as why:
                found.append(
                    {
                        "symbol": held["symbol"],
                        "status": why.status,
                        "body": {"code": why.code, "message": str(why)},
                    }
                )
        return found

    def _closed(self, held: Answer, percentage: Decimal, quantity: str | None = None) -> Answer:
        """The order that closes so much of a position."""
        size = Decimal(str(held["qty"]).lstrip("-"))
        coin = held["asset_class"] == "crypto"
        part = size * percentage / 100 if quantity is None else Decimal(quantity)
        side = "sell" if held["side"] == "long" else "buy"
        force = "gtc" if coin else "day"
        order = {
            "symbol": held["symbol"],
            "qty": text(part),
            "side": side,
            "type": "market",
            "time_in_force": force,
        }
        return self.venue.submit(order)

    def _clock(self, _: web.Request) -> Answer:
        skew = self.faults.take(("skew",))
        ahead = np.timedelta64(int(skew.seconds), "s") if skew else np.timedelta64(0, "s")
        return clock_answer(self._now() + ahead)

    def _assets(self, request: web.Request) -> list[Answer]:
        kind = request.query.get("asset_class")
        found = [asset_answer(self.venue, symbol) for symbol in self.venue.bars.symbols]
        return [asset for asset in found if kind in (None, asset["class"])]

    def _asset(self, request: web.Request) -> Answer:
        try:
            name = instrument(request.match_info["symbol"]).symbol
        except InputError:
            name = next(
                (s for s in self.venue.bars.symbols if asset_id(s) == request.match_info["symbol"]),
                "",
            )
        if name not in self.venue.bars.symbols:
            raise Refused(404, 40410000, f"asset not found for {request.match_info['symbol']}")
        return asset_answer(self.venue, name)

    def _activities(self, request: web.Request) -> list[Answer]:
        kinds = request.match_info.get("kind") or request.query.get("activity_types")
        wanted = set(kinds.split(",")) if kinds else None
        found = [
            a
            for a in self.venue.record.activities
            if wanted is None or a["activity_type"] in wanted
        ]
        if "after" in request.query:
            since = stamp(instant(request.query["after"], name="after"))
            found = [a for a in found if str(a.get("transaction_time", a.get("date"))) > since]
        if request.query.get("direction") != "asc":
            found = found[::-1]
        token = request.query.get("page_token")
        begin = next((k + 1 for k, a in enumerate(found) if a["id"] == token), 0)
        return found[begin : begin + int(request.query.get("page_size", 100))]

    def _history(self, request: web.Request) -> Answer:
        frame = request.query.get("timeframe", "1H")
        if frame not in ("1H", "1D"):
            raise Refused(400, 40010000, f"timeframe {frame} is not served here: 1H, 1D")
        return history_answer(self.venue, frame)

    def _bars(self, request: web.Request) -> Answer:
        query = request.query
        now = self.venue.now
        frame = query.get("timeframe", "1Hour")
        if frame not in FRAMES:
            raise Refused(
                400, 40010000, f"timeframe {frame} is not served here: {', '.join(FRAMES)}"
            )
        today = now.astype("datetime64[D]").astype("datetime64[ns]")
        start = instant(query["start"], name="start") if "start" in query else today
        end = instant(query["end"], name="end") if "end" in query else now
        names = [instrument(name).symbol for name in query.get("symbols", "").split(",") if name]
        found = bars_answer(self.venue, names, start, end, query.get("adjustment", "raw"))
        rows = [
            (spelled(symbol), bar) for symbol, bars in found.items() for bar in FRAMES[frame](bars)
        ]
        begin = int(query.get("page_token") or 0)
        limit = min(int(query.get("limit") or PAGE), PAGE)
        answer: dict[str, list[Answer]] = {}
        for symbol, bar in rows[begin : begin + limit]:
            answer.setdefault(symbol, []).append(bar)
        return {
            "bars": answer,
            "next_page_token": str(begin + limit) if begin + limit < len(rows) else None,
        }

    def _latest(self, request: web.Request) -> Answer:
        names = [
            instrument(name).symbol for name in request.query.get("symbols", "").split(",") if name
        ]
        found = bars_answer(self.venue, names, self.venue.now - LATEST, self.venue.now, latest=1)
        return {"bars": {spelled(symbol): bars[-1] for symbol, bars in found.items() if bars}}

    async def _advance(self, request: web.Request) -> web.StreamResponse:
        """Move a waiting clock to the next instant, or the last one not after `to`; whether it
        moved, and instants left.
        """
        if self.speed is not None:
            raise Refused(409, 40910000, "this clock runs by itself")
        asked = json.loads(await request.text() or "{}")
        index = self.venue.index + 1
        if "to" in asked:
            index = (
                int(
                    np.searchsorted(
                        self.venue.bars.times, instant(asked["to"], name="to"), side="right"
                    )
                )
                - 1
            )
        before = self.venue.index
        self.venue.advance(index)
        left = len(self.venue.bars.times) - 1 - self.venue.index
        return web.json_response(
            {**clock_answer(self.venue.now), "moved": self.venue.index > before, "left": left}
        )

    async def _plan(self, request: web.Request) -> web.StreamResponse:
        asked = json.loads(await request.text())
        for given in asked if isinstance(asked, list) else [asked]:
            self.faults.add(fault_of(given))
        return web.json_response({})

    def _forget(self, _: web.Request) -> Answer:
        self.faults.clear()
        return {}

    async def _flag(self, request: web.Request) -> web.StreamResponse:
        """Set what an asset allows: {"symbol": "NVDA", "tradable": false, "shortable": false,
        …}; "halted": orders wait.
        """
        asked = json.loads(await request.text())
        name = instrument(str(asked.get("symbol"))).symbol
        flags = {k: v for k, v in asked.items() if k != "symbol"}
        known = name in self.venue.bars.symbols and not set(flags) - {*FLAGS, "halted"}
        if not known or not all(isinstance(value, bool) for value in flags.values()):
            raise Refused(
                422,
                42210000,
                f"a symbol of this venue with {', '.join(FLAGS)} or halted, true or false, is"
                " needed",
            )
        if "halted" in flags:
            self.venue.halt(name, flags.pop("halted"))
        self.venue.flags[name] = {**self.venue.flags.get(name, {}), **flags}
        return web.json_response({})

    async def _hang_up_streams(self, _: web.Request) -> web.StreamResponse:
        """Drop every stream's connection; a client may come back."""
        await self._stream.hang_up()
        return web.json_response({})

    async def _start_clock(self, _: web.Application) -> None:
        self._began = (time.monotonic(), self.venue.now)
        self._clockwork = asyncio.get_running_loop().create_task(self._run())

    def _now(self) -> np.datetime64:
        """What the clock says: the venue's instant, or what has passed since where it runs by
        itself.
        """
        if self.speed is None or self.venue.over:
            return self.venue.now
        passed = (time.monotonic() - self._began[0]) * self.speed
        return self._began[1] + np.timedelta64(int(passed * 1e9), "ns")

    async def _run(self) -> None:
        """Let simulated time pass."""
        while not self.venue.over:
            self.venue.advance(
                int(np.searchsorted(self.venue.bars.times, self._now(), side="right")) - 1
            )
            await asyncio.sleep(min(0.05, 900 / (self.speed or 1.0)))

    async def _stop(self, _: web.Application) -> None:
        self._clockwork.cancel()


async def _body(request: web.Request) -> Mapping[str, Any]:
    try:
        asked = json.loads(await request.text())
    except ValueError:
        raise Refused(400, 40010000, "the body is no JSON") from None
    if not isinstance(asked, dict):
        raise Refused(400, 40010000, "the body is no order")
    return asked
