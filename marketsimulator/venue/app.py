"""Alpaca's HTTP over a `Venue`: routes, keys, faults on demand, the clock."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
from aiohttp import web

from marketsimulator.venue.answers import (
    account_answer,
    activities_answer,
    asset_answer,
    clock_answer,
    find_asset,
)
from marketsimulator.venue.door import foreign_page
from marketsimulator.venue.failing import NO_ORDER, FailingRequests, Handler, plain
from marketsimulator.venue.faults import FaultPlan
from marketsimulator.venue.market_data import bars_page, latest_bars, latest_trades
from marketsimulator.venue.order_entry import OrderEntry
from marketsimulator.venue.request_values import json_object
from marketsimulator.venue.stocks import FLAGS, Venue
from marketsimulator.venue.tickets import Answer, Refused
from trainingdata.instants import instant
from trainingdata.instruments import instrument


class Server:
    """The venue behind HTTP.

    speed: simulated seconds a second; None: the clock waits for a client.
    """

    def __init__(self, venue: Venue, speed: float | None = None) -> None:
        self.venue = venue
        self.speed = speed
        self.faults = FaultPlan()
        self._entry = OrderEntry(venue, self.faults)
        self._began = (time.monotonic(), venue.now)
        self._requests = FailingRequests(self.faults, _answered, _another_order)

    def app(self) -> web.Application:
        """The application."""
        app = web.Application(middlewares=[self._guard])
        app.add_routes(self._trading_routes())
        app.add_routes(self._data_routes())
        app.add_routes(self._control_routes())
        if self.speed is not None:
            app.on_startup.append(self._start_clock)
            app.on_cleanup.append(self._stop_clock)
        return app

    def _trading_routes(self) -> list[web.RouteDef]:
        """The account, its orders and positions, and what may be traded when."""
        get = web.get
        post = web.post
        delete = web.delete
        entry = self._entry
        return [
            get("/v2/account", plain(lambda _: account_answer(self.venue))),
            get("/v2/account/activities", plain(self._activities)),
            get("/v2/account/activities/{kind}", plain(self._activities)),
            get("/v2/positions", plain(entry.positions)),
            get("/v2/positions/{symbol}", plain(entry.position)),
            get("/v2/orders", plain(entry.orders)),
            post("/v2/orders", entry.submit),
            delete("/v2/orders", plain(entry.cancel_all, status=207)),
            get("/v2/orders:by_client_order_id", plain(entry.by_client_order_id)),
            get("/v2/orders/{number}", plain(entry.by_number)),
            web.patch("/v2/orders/{number}", entry.change),
            delete("/v2/orders/{number}", entry.cancel),
            get("/v2/clock", plain(self._clock)),
            get("/v2/assets", plain(self._assets)),
            get("/v2/assets/{symbol:.+}", plain(self._asset)),
        ]

    def _data_routes(self) -> list[web.RouteDef]:
        """Prices of stocks, coins and options."""
        bars = plain(lambda request: bars_page(self.venue, request.query))
        latest = plain(lambda request: latest_bars(self.venue, request.query))
        trades = plain(lambda request: latest_trades(self.venue, self._now(), request.query))
        return [
            web.get("/v2/stocks/bars", bars),
            web.get("/v2/stocks/bars/latest", latest),
            web.get("/v2/stocks/trades/latest", trades),
            web.get("/v1beta1/options/quotes/latest", plain(self._option_quotes)),
            web.get("/v1beta3/crypto/us/bars", bars),
            web.get("/v1beta3/crypto/us/latest/bars", latest),
            web.get("/v1beta3/crypto/us/latest/trades", trades),
        ]

    def _control_routes(self) -> list[web.RouteDef]:
        """What Alpaca does not have: the clock, faults, late activities, flags of assets."""
        return [
            web.post("/control/advance", self._advance),
            web.post("/control/activities", self._list_activities_late),
            web.post("/control/assets", self._flag_asset),
            *self._requests.routes(),
        ]

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Keys, faults, and refusals in Alpaca's words."""
        path = request.path
        control = path.startswith("/control")
        # Alpaca gives prices of coins without keys.
        keyless = control or path.startswith("/v1beta3")
        if not keyless and not request.headers.get("APCA-API-KEY-ID"):
            body = {"code": 40110000, "message": "request is not authorized"}
            return web.json_response(body, status=401)
        # Faults leave the control routes alone: otherwise nobody could clear them.
        if control:
            foreign = foreign_page(request)
            if foreign is not None:
                return web.json_response({"code": 40310000, "message": foreign}, status=403)
            return await _answered(request, handler)
        return await self._requests.answer(request, handler)

    def _activities(self, request: web.Request) -> list[Answer]:
        kinds = request.match_info.get("kind") or request.query.get("activity_types")
        return activities_answer(self.venue, request.query, kinds)

    def _clock(self, _: web.Request) -> Answer:
        skew = self.faults.take(("skew",))
        ahead = np.timedelta64(int(skew.seconds) if skew else 0, "s")
        return clock_answer(self._now() + ahead)

    def _assets(self, request: web.Request) -> list[Answer]:
        asset_class = request.query.get("asset_class")
        assets = [asset_answer(self.venue, symbol) for symbol in self.venue.bars.symbols]
        return [asset for asset in assets if asset_class in (None, asset["class"])]

    def _asset(self, request: web.Request) -> Answer:
        return find_asset(self.venue, request.match_info["symbol"])

    def _option_quotes(self, request: web.Request) -> Answer:
        names = [name for name in request.query.get("symbols", "").split(",") if name]
        return {"quotes": self.venue.options.quotes(names, self._now())}

    async def _advance(self, request: web.Request) -> web.StreamResponse:
        """Move a waiting clock by {"steps": 1} instants, or to the last one not after `to`.

        The answer says whether it moved, how many instants are left, and how many it has gone
        through since the server began.
        """
        if self.speed is not None:
            raise Refused(409, 40910000, "this clock runs by itself")
        command = await json_object(request)
        if len(command) > 1 or set(command) - {"to", "steps"}:
            raise Refused(422, 42210000, 'one of {"steps": 1} and {"to": "2024-03-18T14:30Z"}')
        before = self.venue.index
        steps = command.get("steps", 1)
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise Refused(422, 42210000, f"steps: {steps!r} is no whole number above 0")
        index = min(before + steps, len(self.venue.bars.times))
        if "to" in command:
            index = self._last_index(instant(command["to"], name="to"))
        self.venue.advance(index)
        progress = {
            "moved": self.venue.index > before,
            "left": len(self.venue.bars.times) - 1 - self.venue.index,
            "passed": self.venue.index - self.venue.first,
        }
        return web.json_response({**clock_answer(self.venue.now), **progress})

    async def _list_activities_late(self, request: web.Request) -> web.StreamResponse:
        """List kinds of activities only once the next session opens: {"late": ["OPEXP", "SPLIT"]}.

        [] lists everything at once.
        """
        kinds = (await json_object(request)).get("late")
        if not (isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds)):
            raise Refused(422, 42210000, "late: a list of kinds of activities, as OPEXP, is needed")
        self.venue.record.list_late(kinds)
        return web.json_response({})

    async def _flag_asset(self, request: web.Request) -> web.StreamResponse:
        """Set what an asset allows: {"symbol": "NVDA", "tradable": false, "shortable": false, …}.

        "halted": orders wait.
        """
        body = await json_object(request)
        symbol = instrument(str(body.get("symbol"))).symbol
        flags = {key: value for key, value in body.items() if key != "symbol"}
        served = symbol in self.venue.bars.symbols and not set(flags) - {*FLAGS, "halted"}
        if not served or not all(isinstance(value, bool) for value in flags.values()):
            names = ", ".join(FLAGS)
            raise Refused(
                422,
                42210000,
                f"a symbol of this venue with {names} or halted, true or false, is needed",
            )
        if "halted" in flags:
            self.venue.halt(symbol, flags.pop("halted"))
        self.venue.flags[symbol] = {**self.venue.flags.get(symbol, {}), **flags}
        return web.json_response({})

    async def _start_clock(self, _: web.Application) -> None:
        # A server may be built long before it is started: time passes from here on.
        self._began = (time.monotonic(), self.venue.now)
        self.venue.record.running = self._now
        self._clockwork = asyncio.get_running_loop().create_task(self._run_clock())

    async def _stop_clock(self, _: web.Application) -> None:
        self._clockwork.cancel()

    async def _run_clock(self) -> None:
        """Let simulated time pass."""
        while not self.venue.over:
            self.venue.advance(self._last_index(self._now()))
            # At high speed it looks every quarter of a simulated hour: instants of the panel are
            # half an hour apart at least.
            await asyncio.sleep(min(0.05, 900 / (self.speed or 1.0)))

    def _now(self) -> np.datetime64:
        """What the clock says: where it runs by itself, what has passed since it was started."""
        if self.speed is None or self.venue.over:
            return self.venue.now
        seconds = (time.monotonic() - self._began[0]) * self.speed
        return self._began[1] + np.timedelta64(int(seconds * 1e9), "ns")

    def _last_index(self, at: np.datetime64) -> int:
        """The number of the panel's last instant not after one."""
        return int(np.searchsorted(self.venue.bars.times, at, side="right")) - 1


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What a handler answers, its refusals in Alpaca's words."""
    try:
        return await handler(request)
    except Refused as refused:
        body = {"code": refused.code, "message": str(refused)}
        return web.json_response(body, status=refused.status)
    except ValueError as error:  # a symbol, instant, number or JSON that is none
        return web.json_response({"code": 42210000, "message": str(error)}, status=422)


def _another_order(content: Any) -> Any:
    """An answer as if another order had been meant."""
    if isinstance(content, dict) and "client_order_id" in content:
        return {**content, "id": NO_ORDER, "client_order_id": "another"}
    return content
