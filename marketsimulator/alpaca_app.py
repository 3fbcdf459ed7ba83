"""Alpaca's HTTP and websocket over a `Venue`: routes, keys, faults on demand, the clock."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from aiohttp import WSMsgType, web

from marketsimulator.faults import Fault, Faults, fault_of
from marketsimulator.tickets import OPEN, Answer, Refused, Ticket, asset_id, stamp
from marketsimulator.venue import Venue
from trainingdata.errors import InputError
from trainingdata.instruments import Kind, instrument, spelled
from trainingdata.sessions import NEW_YORK, instant, stock_grid

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HALF = np.timedelta64(30, "m")
PAGE = 10_000  # bars an answer holds
FLAGS = ("tradable", "shortable", "easy_to_borrow", "fractionable")
STREAM = ("silence", "duplicate", "out_of_order")


class Server:
    """The venue behind HTTP. speed: simulated seconds a second; none: the clock waits for a client."""

    def __init__(self, venue: Venue, speed: float | None = None, faults: Faults | None = None) -> None:
        self.venue, self.speed, self.faults = venue, speed, faults or Faults()
        self._streams: set[web.WebSocketResponse] = set()
        self._held: list[Answer] = []
        self._began = (time.monotonic(), venue.now)
        self._tasks: set[asyncio.Task[None]] = set()
        venue.listeners.append(self._tell)

    def app(self) -> web.Application:
        """The application."""
        app = web.Application(middlewares=[self._guard])
        get, post, delete = web.get, web.post, web.delete
        app.add_routes(
            [
                get("/v2/account", self._plain(lambda _: self.venue.account())),
                get("/v2/positions", self._plain(lambda _: self.venue.positions())),
                get("/v2/positions/{symbol}", self._plain(self._position)),
                delete("/v2/positions/{symbol}", self._plain(self._close)),
                get("/v2/orders", self._plain(self._orders)),
                post("/v2/orders", self._submit),
                delete("/v2/orders", self._plain(self._cancel_all, status=207)),
                get("/v2/orders:by_client_order_id", self._plain(self._by_name)),
                get("/v2/orders/{number}", self._plain(lambda r: self.venue.found(r.match_info["number"]).answer())),
                delete("/v2/orders/{number}", self._cancel),
                get("/v2/clock", self._plain(self._clock)),
                get("/v2/calendar", self._plain(_calendar)),
                get("/v2/assets", self._plain(self._assets)),
                get("/v2/assets/{symbol:.+}", self._plain(self._asset)),
                get("/v2/account/activities", self._plain(self._activities)),
                get("/v2/account/activities/{kind}", self._plain(self._activities)),
                get("/v2/account/portfolio/history", self._plain(self._history)),
                get("/v2/stocks/bars", self._plain(self._bars)),
                get("/v2/stocks/bars/latest", self._plain(self._latest)),
                get("/v1beta3/crypto/us/bars", self._plain(self._bars)),
                get("/v1beta3/crypto/us/latest/bars", self._plain(self._latest)),
                get("/stream", self._stream),
                post("/control/advance", self._advance),
                post("/control/faults", self._plan),
                post("/control/assets", self._flag),
                post("/control/hang_up", self._hang_up_streams),
                delete("/control/faults", self._plain(self._forget)),
            ]
        )
        if self.speed is not None:
            app.on_startup.append(self._start_clock)
            app.on_cleanup.append(self._stop)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Keys, faults, and refusals in Alpaca's words."""
        path, control = request.path, request.path.startswith("/control")
        if not (control or path.startswith("/v1beta3") or path == "/stream") and not request.headers.get("APCA-API-KEY-ID"):
            return web.json_response({"code": 40110000, "message": "request is not authorized"}, status=401)
        before = None if control else self.faults.take(("delay", "drop_before", "status"), request.method, path)
        if before is not None and (answer := await self._fail(before, request)) is not None:
            return answer
        try:
            answer = await handler(request)
        except Refused as refused:
            return web.json_response({"code": refused.code, "message": str(refused)}, status=refused.status)
        except ValueError as error:  # a symbol, instant, number or JSON that is none
            return web.json_response({"code": 42210000, "message": str(error)}, status=422)
        after = None if control else self.faults.take(("drop_after", "malformed"), request.method, path)
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
        if request.transport is not None:
            request.transport.close()
        return web.Response(status=500)

    @staticmethod
    def _plain(answer: Callable[[web.Request], Any], status: int = 200) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return web.json_response(answer(request), status=status)

        return handle

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = json.loads(await request.text())
        except ValueError:
            raise Refused(400, 40010000, "the body is no JSON") from None
        if not isinstance(asked, dict):
            raise Refused(400, 40010000, "the body is no order")
        if self.faults.take(("reject",), request.method, request.path):
            raise Refused(403, 40310000, "rejected on demand")
        return web.json_response(self.venue.submit(asked, partial=bool(self.faults.take(("partial",)))))

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        self.venue.cancel(request.match_info["number"])
        return web.Response(status=204)

    def _cancel_all(self, _: web.Request) -> list[Answer]:
        numbers = [ticket.number for ticket in self.venue.tickets.values() if ticket.status in OPEN]
        for number in numbers:
            self.venue.cancel(number)
        return [{"id": number, "status": 200} for number in numbers]

    def _by_name(self, request: web.Request) -> Answer:
        return self.venue.named(request.query.get("client_order_id", "")).answer()

    def _orders(self, request: web.Request) -> list[Answer]:
        wanted, query = request.query.get("status", "open"), request.query
        names = {instrument(s).symbol for s in query.get("symbols", "").split(",") if s}
        tickets = [t for t in self.venue.tickets.values() if _listed(t, wanted) and (not names or t.order.symbol in names)]
        after, until = (stamp(instant(query[n], name=n)) if n in query else None for n in ("after", "until"))
        tickets = [t for t in tickets if (after is None or t.at > after) and (until is None or t.at < until)]
        ordered = tickets if query.get("direction") == "asc" else tickets[::-1]
        return [ticket.answer() for ticket in ordered[: int(query.get("limit", 50))]]

    def _position(self, request: web.Request) -> Answer:
        name = instrument(request.match_info["symbol"]).symbol
        held = [p for p in self.venue.positions() if p["symbol"] == name]
        if not held:
            raise Refused(404, 40410000, "position does not exist")
        return held[0]

    def _close(self, request: web.Request) -> Answer:
        held = self._position(request)
        size, coin = str(held["qty"]).lstrip("-"), held["asset_class"] == "crypto"
        side, force = ("sell" if held["side"] == "long" else "buy"), ("gtc" if coin else "day")
        order = {"symbol": held["symbol"], "qty": size, "side": side, "type": "market", "time_in_force": force}
        return self.venue.submit(order)

    def _clock(self, _: web.Request) -> Answer:
        skew = self.faults.take(("skew",))
        clock = self.venue.clock()
        ahead = np.timedelta64(int(skew.seconds), "s") if skew else np.timedelta64(0, "s")
        return {**clock, "timestamp": stamp(self.venue.now + ahead)}

    def _assets(self, request: web.Request) -> list[Answer]:
        kind = request.query.get("asset_class")
        found = [_asset(symbol) | self.venue.flags.get(symbol, {}) for symbol in self.venue.bars.symbols]
        return [asset for asset in found if kind in (None, asset["class"])]

    def _asset(self, request: web.Request) -> Answer:
        try:
            name = instrument(request.match_info["symbol"]).symbol
        except InputError:
            name = next((s for s in self.venue.bars.symbols if asset_id(s) == request.match_info["symbol"]), "")
        if name not in self.venue.bars.symbols:
            raise Refused(404, 40410000, f"asset not found for {request.match_info['symbol']}")
        return _asset(name) | self.venue.flags.get(name, {})

    def _activities(self, request: web.Request) -> list[Answer]:
        kinds = request.match_info.get("kind") or request.query.get("activity_types")
        wanted = set(kinds.split(",")) if kinds else None
        found = [a for a in self.venue.activities if wanted is None or a["activity_type"] in wanted]
        if "after" in request.query:
            since = stamp(instant(request.query["after"], name="after"))
            found = [a for a in found if str(a.get("transaction_time", a.get("date"))) > since]
        if request.query.get("direction") != "asc":
            found = found[::-1]
        token = request.query.get("page_token")
        begin = next((k + 1 for k, a in enumerate(found) if a["id"] == token), 0)
        return found[begin : begin + int(request.query.get("page_size", 100))]

    def _history(self, _: web.Request) -> Answer:
        curve = self.venue.curve
        equity = [value for _, value in curve]
        base = self.venue.settings.capital
        return {
            "timestamp": [int(at.astype("datetime64[s]").astype(int)) for at, _ in curve],
            "equity": equity,
            "profit_loss": [value - base for value in equity],
            "profit_loss_pct": [value / base - 1 for value in equity],
            "base_value": base,
            "timeframe": "1H",
        }

    def _bars(self, request: web.Request) -> Answer:
        query, now = request.query, self.venue.now
        frame = query.get("timeframe", "1Hour")
        if frame not in FRAMES:
            raise Refused(400, 40010000, f"timeframe {frame} is not served here: {', '.join(FRAMES)}")
        start = (
            instant(query["start"], name="start") if "start" in query else now.astype("datetime64[D]").astype("datetime64[ns]")
        )
        end = instant(query["end"], name="end") if "end" in query else now
        names = [name for name in query.get("symbols", "").split(",") if name]
        found = self.venue.bars_of([instrument(name).symbol for name in names], start, end)
        framed = FRAMES[frame]
        rows = [(spelled(symbol), bar) for symbol, bars in found.items() for bar in framed(bars)]
        begin, limit = int(query.get("page_token") or 0), min(int(query.get("limit") or PAGE), PAGE)
        answer: dict[str, list[Answer]] = {}
        for symbol, bar in rows[begin : begin + limit]:
            answer.setdefault(symbol, []).append(bar)
        return {"bars": answer, "next_page_token": str(begin + limit) if begin + limit < len(rows) else None}

    def _latest(self, request: web.Request) -> Answer:
        names = [instrument(name).symbol for name in request.query.get("symbols", "").split(",") if name]
        week = self.venue.now - np.timedelta64(10, "D")
        found = self.venue.bars_of(names, week, self.venue.now)
        return {"bars": {spelled(symbol): bars[-1] for symbol, bars in found.items() if bars}}

    async def _advance(self, request: web.Request) -> web.StreamResponse:
        """Move a waiting clock to the next instant, or the last one not after `to`; whether it moved, and instants left."""
        if self.speed is not None:
            raise Refused(409, 40910000, "this clock runs by itself")
        asked = json.loads(await request.text() or "{}")
        index = self.venue.index + 1
        if "to" in asked:
            index = int(np.searchsorted(self.venue.bars.times, instant(asked["to"], name="to"), side="right")) - 1
        before = self.venue.index
        self.venue.advance(index)
        left = len(self.venue.bars.times) - 1 - self.venue.index
        return web.json_response({**self.venue.clock(), "moved": self.venue.index > before, "left": left})

    async def _plan(self, request: web.Request) -> web.StreamResponse:
        asked = json.loads(await request.text())
        for given in asked if isinstance(asked, list) else [asked]:
            self.faults.add(fault_of(given))
        return web.json_response({})

    async def _flag(self, request: web.Request) -> web.StreamResponse:
        """Set what an asset allows: {"symbol": "NVDA", "tradable": false, "shortable": false, "easy_to_borrow": false}."""
        asked = json.loads(await request.text())
        name, flags = instrument(str(asked.get("symbol"))).symbol, {k: v for k, v in asked.items() if k != "symbol"}
        if (
            name not in self.venue.bars.symbols
            or set(flags) - set(FLAGS)
            or not all(isinstance(v, bool) for v in flags.values())
        ):
            raise Refused(422, 42210000, f"a symbol of this venue with {', '.join(FLAGS)}, true or false, is needed")
        self.venue.flags[name] = {**self.venue.flags.get(name, {}), **flags}
        return web.json_response({})

    def _forget(self, _: web.Request) -> Answer:
        self.faults.clear()
        return {}

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
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
                await _send(socket, {"stream": "authorization", "data": {"action": "authenticate", "status": status}})
            elif asked.get("action") == "listen" and known:
                self._streams.add(socket)
                await _send(socket, {"stream": "listening", "data": {"streams": ["trade_updates"]}})
        self._streams.discard(socket)
        return socket

    async def _hang_up_streams(self, _: web.Request) -> web.StreamResponse:
        """Drop every stream's connection; a client may come back."""
        for socket in list(self._streams):
            await socket.close()
        return web.json_response({})

    def _tell(self, update: Answer) -> None:
        """Send a trade update to every listener, or fail to, on demand."""
        if not self._streams:
            return
        fault = self.faults.take(STREAM)
        if fault is not None and fault.kind == "silence":
            return
        if fault is not None and fault.kind == "out_of_order":
            self._held.append(update)
            return
        updates = [update, *self._held] if fault is None else [update, update, *self._held]
        self._held = []
        for each in updates:
            for socket in list(self._streams):
                task = asyncio.get_running_loop().create_task(_send(socket, {"stream": "trade_updates", "data": each}))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _start_clock(self, _: web.Application) -> None:
        self._began = (time.monotonic(), self.venue.now)
        self._clockwork = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        """Let simulated time pass."""
        while not self.venue.over:
            passed = (time.monotonic() - self._began[0]) * (self.speed or 0.0)
            now = self._began[1] + np.timedelta64(int(passed * 1e9), "ns")
            self.venue.advance(int(np.searchsorted(self.venue.bars.times, now, side="right")) - 1)
            await asyncio.sleep(min(0.05, 900 / (self.speed or 1.0)))

    async def _stop(self, _: web.Application) -> None:
        self._clockwork.cancel()


async def _send(socket: web.WebSocketResponse, message: Answer) -> None:
    if not socket.closed:
        await socket.send_bytes(json.dumps(message).encode())


def _listed(ticket: Ticket, wanted: str) -> bool:
    return wanted == "all" or (ticket.status in OPEN) == (wanted == "open")


def _asset(symbol: str) -> Answer:
    coin = instrument(symbol).kind is Kind.CRYPTO
    asset = {
        "id": asset_id(symbol),
        "class": "crypto" if coin else "us_equity",
        "exchange": "CRYPTO" if coin else "NASDAQ",
        "symbol": spelled(symbol),
        "name": symbol,
        "status": "active",
        "tradable": True,
        "marginable": not coin,
        "shortable": not coin,
        "easy_to_borrow": not coin,
        "fractionable": True,
    }
    increments = {"min_order_size": "0.000000001", "min_trade_increment": "0.000000001", "price_increment": "0.000000001"}
    return {**asset, **increments} if coin else asset


def _calendar(request: web.Request) -> list[Answer]:
    grid, query = stock_grid(), request.query
    first, last = (np.datetime64(query[name][:10], "D") if name in query else None for name in ("start", "end"))
    rows = [k for k, day in enumerate(grid.dates) if (first is None or day >= first) and (last is None or day <= last)]
    hours = [pd.DatetimeIndex(side[rows]).tz_localize("UTC").tz_convert(NEW_YORK) for side in (grid.opens, grid.closes)]
    days = zip(rows, *hours, strict=True)
    return [{"date": str(grid.dates[k]), "open": f"{opens:%H:%M}", "close": f"{closes:%H:%M}"} for k, opens, closes in days]


def _halves(bars: list[Answer]) -> list[Answer]:
    """Hourly bars as half-hours that make them again; the second trades at the close. The hour before a close is one half."""
    grid, found = stock_grid(), []
    for bar in bars:
        begins = np.datetime64(bar["t"][:-1], "ns")
        k = int(np.searchsorted(grid.starts, begins))
        if grid.starts[k] == begins and grid.ends[k] <= begins + HALF:
            found.append(bar)
            continue
        early, close = float(np.floor(bar["v"] / 2)), bar["c"]
        late = {"t": stamp(begins + HALF), "o": close, "h": close, "l": close, "v": bar["v"] - early}
        found += [{**bar, "v": early}, {**bar, **late}]
    return found


def _days(bars: list[Answer]) -> list[Answer]:
    """Hourly bars as one a New York day."""
    if not bars:
        return []
    frame = pd.DataFrame(bars)
    days = pd.DatetimeIndex(frame["t"]).tz_convert(NEW_YORK).normalize().tz_convert("UTC")
    grouped = frame.groupby(days).agg({"o": "first", "h": "max", "l": "min", "c": "last", "v": "sum", "n": "sum", "vw": "last"})
    rows: list[Answer] = json.loads(grouped.to_json(orient="records", double_precision=15))
    return [{"t": f"{at:%Y-%m-%dT%H:%M:%SZ}", **row} for at, row in zip(grouped.index, rows, strict=True)]


FRAMES: Mapping[str, Callable[[list[Answer]], list[Answer]]] = {"30Min": _halves, "1Hour": list, "1Day": _days}
