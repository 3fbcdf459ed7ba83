"""Alpaca's HTTP over a `Venue`: what its clients ask for, in its words."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from marketsimulator.settings import VenueSettings
from marketsimulator.venue.asked import (
    Asked,
    Refused,
    Response,
    Route,
    refuse_other_keys,
    whole_number,
)
from marketsimulator.venue.market_data import bars_page, latest_bars, latest_trades
from marketsimulator.venue.option_listing import option_contracts
from marketsimulator.venue.portfolio_history import portfolio_history
from marketsimulator.venue.responses import (
    account_response,
    activities_answer,
    asset_answer,
    calendar_answer,
    clock_answer,
    configurations_answer,
    positions_response,
)
from marketsimulator.venue.server import PracticeServer
from marketsimulator.venue.stocks import FLAGS, Venue
from trainingdata.instruments import instrument, venue_spelling
from trainingdata.market import Market

MOST_ORDERS = 500  # an answer holds
INSTANTS = 9  # that a rehearsal goes through: a session with its end


class AlpacaServer(PracticeServer):
    """The venue behind HTTP."""

    def __init__(self, venue: Venue, speed: float | None = None) -> None:
        super().__init__(speed)
        self.venue = venue
        venue.record.running = self.now

    def routes(self) -> list[Route]:
        """The account, its orders and positions, what may be traded when, and prices."""
        venue = self.venue
        find = venue.record.order
        return [
            Route("GET", "/v2/account", lambda _: account_response(venue)),
            Route(
                "GET", "/v2/account/activities", lambda asked: activities_answer(venue, asked.query)
            ),
            Route("GET", "/v2/account/configurations", lambda _: configurations_answer(venue)),
            Route("GET", "/v2/account/portfolio/history", self._portfolio_history),
            Route("GET", "/v2/positions", lambda _: positions_response(venue)),
            Route("GET", "/v2/positions/{symbol:.+}", self._position),
            Route("GET", "/v2/clock", self._clock),
            Route("GET", "/v2/calendar", lambda asked: calendar_answer(asked.query)),
            Route(
                "GET",
                "/v2/options/contracts",
                lambda asked: option_contracts(venue.options.listed(), venue.now, asked.query),
            ),
            Route("GET", "/v2/assets", self._assets),
            Route("GET", "/v2/assets/{symbol:.+}", self._asset),
            Route("GET", "/v2/orders", self._orders),
            Route("POST", "/v2/orders", self._submit),
            Route("GET", "/v2/orders:by_client_order_id", self._order_of_client),
            Route("GET", "/v2/orders/{number}", self._order),
            Route(
                "DELETE",
                "/v2/orders/{number}",
                lambda asked: venue.cancel(find(asked.names["number"])),
                status=204,
            ),
            Route("GET", "/v1beta1/options/quotes/latest", self._option_quotes),
            *self._prices("/v2/stocks/bars", "/v2/stocks/bars/latest", "/v2/stocks/trades/latest"),
            *self._prices(
                "/v1beta3/crypto/us/bars",
                "/v1beta3/crypto/us/latest/bars",
                "/v1beta3/crypto/us/latest/trades",
            ),
        ]

    def controls(self) -> list[Route]:
        """Late activities, flags of assets."""
        return [
            Route("POST", "activities", self._list_activities_late),
            Route("POST", "assets", self._flag_asset),
        ]

    def why_unsigned(self, asked: Asked) -> str | None:
        """Alpaca gives prices of coins without keys."""
        keyless = asked.path.startswith("/v1beta3") or asked.headers.get("APCA-API-KEY-ID")
        return None if keyless else "request is not authorized"

    def refusal(self, status: int, code: int | str | None, message: str) -> Response:
        """Its code has the status in front."""
        return {"code": code or status * 100_000 + 10_000, "message": message}

    def clock(self) -> Response:
        """As Alpaca's clock, and how many instants are left."""
        left = len(self.venue.stops) - 1 - self.venue.stop
        return {**clock_answer(self.venue.now), "left": left}

    @property
    def stands_at(self) -> np.datetime64:
        return self.venue.now

    @property
    def next_at(self) -> np.datetime64 | None:
        return None if self.venue.over else self.venue.stops[self.venue.stop + 1]

    @property
    def passed(self) -> int:
        return self.venue.stop

    def step(self) -> None:
        self.venue.step()

    def _prices(self, bars: str, latest: str, trades: str) -> list[Route]:
        """Those of stocks, or of coins."""
        return [
            Route("GET", bars, lambda asked: bars_page(self.venue, asked.query)),
            Route("GET", latest, lambda asked: latest_bars(self.venue, asked.query)),
            Route("GET", trades, lambda asked: latest_trades(self.venue, self.now(), asked.query)),
        ]

    def _clock(self, asked: Asked) -> Response:
        skew = self.faults.take(asked, "skew")
        return clock_answer(self.now() + np.timedelta64(int(skew.seconds) if skew else 0, "s"))

    def _position(self, asked: Asked) -> Response:
        name = asked.names["symbol"].replace("/", "")
        for position in positions_response(self.venue):
            if name in (position["symbol"], position["asset_id"]):
                return position
        raise Refused(404, None, f"position does not exist for {name[:40]}")

    def _portfolio_history(self, asked: Asked) -> Response:
        venue = self.venue
        equities = [*venue.equities, (venue.now, venue.equity)]
        return portfolio_history(equities, venue.settings.capital, asked.query)

    def _assets(self, asked: Asked) -> list[Response]:
        """Those of a class, stocks where none is named."""
        refuse_other_keys(asked.query, "status", "asset_class")
        wanted = asked.query.get("asset_class", "us_equity")
        answers = [asset_answer(self.venue, each) for each in self.venue.market.bars.symbols]
        return [answer for answer in answers if answer["class"] == wanted]

    def _asset(self, asked: Asked) -> Response:
        symbol = instrument(asked.names["symbol"]).symbol
        if symbol not in self.venue.market.bars.symbols:
            raise Refused(404, None, f"asset not found for {symbol}")
        return asset_answer(self.venue, symbol)

    def _orders(self, asked: Asked) -> list[Response]:
        """The newest first; they are kept in the order they came."""
        query = asked.query
        refuse_other_keys(query, "status", "limit", "nested")
        status = query.get("status", "open")
        chosen = [
            order
            for order in self.venue.record.orders.values()
            if status == "all" or order.open == (status == "open")
        ]
        newest = chosen[::-1][: whole_number(query, "limit", 50, 1, MOST_ORDERS)]
        return [order.answer(nested=_is_nested(asked)) for order in newest]

    def _submit(self, asked: Asked) -> Response:
        request = asked.json_object()
        return self.in_fault(self.venue.submit(request, **self.order_faults(asked)), asked)

    def _order_of_client(self, asked: Asked) -> Response:
        order = self.venue.record.order_of_client(asked.query.get("client_order_id", ""))
        return self.in_fault(order.answer(), asked)

    def _order(self, asked: Asked) -> Response:
        order = self.venue.record.order(asked.names["number"])
        return self.in_fault(order.answer(nested=_is_nested(asked)), asked)

    def _option_quotes(self, asked: Asked) -> Response:
        names = [name for name in asked.query.get("symbols", "").split(",") if name]
        return {"quotes": self.venue.options.quotes(names, self.now())}

    def _list_activities_late(self, asked: Asked) -> None:
        """List kinds of activities only once the next session opens: {"late": ["OPEXP", "SPLIT"]}.

        [] lists everything at once.
        """
        kinds = asked.json_object().get("late")
        if not (isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds)):
            raise Refused(422, None, "late: a list of kinds of activities, as OPEXP, is needed")
        self.venue.record.list_late(kinds)

    def _flag_asset(self, asked: Asked) -> None:
        """Set what an asset allows: {"symbol": "NVDA", "tradable": false, "shortable": false, …}.

        "halted": orders wait.
        """
        body = asked.json_object()
        symbol = instrument(str(body.get("symbol"))).symbol
        flags = {key: value for key, value in body.items() if key != "symbol"}
        served = symbol in self.venue.market.bars.symbols and not set(flags) - {*FLAGS, "halted"}
        if not served or not all(isinstance(value, bool) for value in flags.values()):
            names = ", ".join(FLAGS)
            needed = f"a symbol of this venue with {names} or halted, true or false, is needed"
            raise Refused(422, None, needed)
        if "halted" in flags:
            self.venue.halt(symbol, flags.pop("halted"))
        self.venue.flags[symbol] = {**self.venue.flags.get(symbol, {}), **flags}


def warm_up(settings: VenueSettings, market: Market) -> None:
    """Trade a little on a venue of its own, and throw it away.

    Whatever a venue needs is compiled then, which takes a minute after an installation: a client's
    first request would wait for that longer than it waits for any.
    """
    venue = Venue(settings, market)
    shared = {"side": "buy", "qty": "1", "type": "market", "time_in_force": "gtc"}
    for symbol in market.bars.symbols:
        # What the venue would refuse compiles what refuses it.
        with suppress(Refused):
            venue.submit({"symbol": venue_spelling(symbol), **shared})
    venue.advance(market.first + INSTANTS)


def _is_nested(asked: Asked) -> bool:
    return asked.query.get("nested") in ("true", "True")
