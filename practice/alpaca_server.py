"""Alpaca practice server: Alpaca's HTTP API over the simulator, on given or synthetic bars.

    python -m practice.alpaca_server --data-dir DIR … --symbols NVDA BTCUSD
        --start 2024-10-01 [--end D] [--speed wait|N] [--port 8000] [--capital 100000]
        [--faults FILE] [options.vix=VIX.parquet] [key=value …]

--data-dir DIR …     folders of bar files; none: synthetic bars
--symbols SYMBOL …   none: every symbol the data holds
--start, --end       New York dates, inclusive, or timestamps with a time zone
--speed wait|N       wait for a client, or run N times as fast as real time
--host, --port       address to listen on: 127.0.0.1 and 8000 by default; port 0: a free port
--capital N          USD, 100,000 by default
--faults FILE        transcript of a probe; its `faults` are injected from the start

The real `alpaca-py` clients work against it with `url_override=http://127.0.0.1:8000`. With
`--speed wait` its clock stands still until a client moves it (POST /control/advance). With a number
it runs that many times as fast as real time. POST /control/faults injects faults.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("practice.alpaca_server")

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from foundation.compose import compose_config, flags_to_overrides
from practice.alpaca.entry_prices import trading_day
from practice.alpaca.market_data import (
    bars_page_response,
    latest_bars_response,
    latest_trades_response,
)
from practice.alpaca.options import contracts_response
from practice.alpaca.stocks import ASSET_PERMISSIONS, NEVER, Venue
from practice.alpaca.tickets import derive_venue_id, format_quantity, format_timestamp
from practice.faults import FaultKind, InjectedFault, read_faults
from practice.request import (
    Request,
    RequestRefused,
    ResponseBody,
    Route,
    parse_query_choice,
    parse_query_integer,
    refuse_unknown_keys,
)
from practice.server import PracticeServer
from practice.serving import ServerArgumentParser, ServerOptions, serve
from practice.settings import PracticeSettings
from trainingdata.instants import (
    format_time_of_day,
    new_york_midnight,
    new_york_minutes_of_day,
    parse_date,
    parse_instant,
)
from trainingdata.instruments import instrument, is_crypto, venue_spelling
from trainingdata.market import Market
from trainingdata.sessions import exchange_calendar, is_in_session, session_on

MAX_ORDERS_LISTED = 500  # orders in one response
ASSET_CLASSES = ("us_equity", "us_option", "crypto")
BOOLEAN_VALUES = ("true", "false", "True", "False")
MAX_PASSED_SECONDS = 86_400.0  # maximum seconds of one request to move the clock
ZERO_DURATION: np.timedelta64 = np.timedelta64(0, "ns")
ONE_SECOND = np.timedelta64(1, "s")
SLOW_ORDER_FAULTS: tuple[FaultKind, ...] = (
    "partial_rests",
    "elected_rests",
    "converted_stop",
    "stale_positions",
)
WARM_UP_INSTANTS = 9  # instants of the warm-up: a session with its end


class AlpacaServer(PracticeServer):
    """HTTP server with Alpaca's API over the practice venue."""

    def __init__(self, venue: Venue, speed: float | None = None) -> None:
        super().__init__(speed)
        self.venue = venue
        venue.record.running = self.now
        self._passed: np.timedelta64 = ZERO_DURATION

    def routes(self) -> list[Route]:
        """Return the API's routes: account, orders, positions, assets, calendar and prices."""
        venue = self.venue
        return [
            Route(
                "GET",
                "/v2/account",
                lambda asked: account_response(venue, self._price_factor(asked)),
            ),
            Route(
                "GET",
                "/v2/account/activities",
                lambda asked: activities_response(venue, asked.query),
            ),
            Route("GET", "/v2/account/configurations", lambda _: configurations_response(venue)),
            Route(
                "GET",
                "/v2/account/portfolio/history",
                lambda asked: portfolio_history_response(venue, asked.query),
            ),
            Route(
                "GET",
                "/v2/positions",
                lambda asked: positions_response(venue, self._price_factor(asked)),
            ),
            Route("GET", "/v2/clock", self._clock),
            Route("GET", "/v2/calendar", lambda asked: calendar_response(asked.query)),
            Route(
                "GET",
                "/v2/options/contracts",
                lambda asked: contracts_response(
                    venue.options.listed_options(), venue.now, asked.query
                ),
            ),
            Route("GET", "/v2/assets", self._assets),
            Route("GET", "/v2/assets/{symbol:.+}", self._asset),
            Route("GET", "/v2/orders", self._orders),
            Route("POST", "/v2/orders", self._submit),
            Route("GET", "/v2/orders:by_client_order_id", self._get_order_by_client_id),
            Route("GET", "/v2/orders/{number}", self._order),
            Route("DELETE", "/v2/orders/{number}", self._cancel, success_status=204),
            Route("GET", "/v1beta1/options/quotes/latest", self._get_option_quotes),
            *self._prices("/v2/stocks/bars", "/v2/stocks/bars/latest", "/v2/stocks/trades/latest"),
            *self._prices(
                "/v1beta3/crypto/us/bars",
                "/v1beta3/crypto/us/latest/bars",
                "/v1beta3/crypto/us/latest/trades",
            ),
        ]

    def control_routes(self) -> list[Route]:
        """Return the control routes for the clock, delayed activities and asset permissions."""
        return [
            Route("POST", "pass", self._pass_seconds),
            Route("POST", "activities", self._delay_activities),
            Route("POST", "assets", self._set_asset_flags),
        ]

    def authentication_failure(self, request: Request) -> str | None:
        """Return why a request is not authenticated, or None if it is.

        Requests for crypto prices need no keys.
        """
        keyless = request.path.startswith("/v1beta3") or request.headers.get("APCA-API-KEY-ID")
        return None if keyless else "request is not authorized"

    def error_response(self, status: int, code: int | str | None, message: str) -> ResponseBody:
        """Return an error response in Alpaca's format; its code starts with the HTTP status."""
        return {"code": code or status * 100_000 + 10_000, "message": message}

    def clock_state(self) -> ResponseBody:
        """Return the response of `GET /v2/clock`, with the number of remaining instants."""
        left = len(self.venue.stops) - 1 - self.venue.stop
        return {**clock_response(self.now()), "left": left}

    @property
    def current_instant(self) -> np.datetime64:
        return self.venue.now

    @property
    def next_instant(self) -> np.datetime64 | None:
        return None if self.venue.is_over else self.venue.stops[self.venue.stop + 1]

    @property
    def step_count(self) -> int:
        return self.venue.stop

    def now(self) -> np.datetime64:
        """Return the time on the clock, including the seconds that a client has let pass."""
        return super().now() + self._passed

    def step(self) -> None:
        self._passed = ZERO_DURATION
        self.venue.step()

    def execute_request(
        self, route: Route, asked: Request, invalid_request_status: int
    ) -> tuple[int, Any]:
        """Complete the cancellations that are due on the clock, then execute a request."""
        self.venue.end_due_cancellations(self.now())
        return super().execute_request(route, asked, invalid_request_status)

    def clear_faults(self, asked: Request) -> None:
        """Remove the faults, and complete all pending cancellations."""
        super().clear_faults(asked)
        self.venue.end_due_cancellations(NEVER)

    def _pass_seconds(self, asked: Request) -> ResponseBody:
        """Move a waiting clock by {"seconds": N}, at most to a second before its next instant."""
        self.refuse_running_clock()
        seconds: Any = asked.json_object().get("seconds")
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not is_number or not 0 < seconds <= MAX_PASSED_SECONDS:
            raise RequestRefused(
                422,
                None,
                f"seconds: {seconds!r} is not a number above 0 and at most {MAX_PASSED_SECONDS:g}",
            )
        self._passed += np.timedelta64(round(seconds * 1e9), "ns")
        if (following := self.next_instant) is not None:
            self._passed = min(self._passed, following - ONE_SECOND - self.current_instant)
        self.venue.end_due_cancellations(self.now())
        return self.clock_state()

    def _price_factor(self, asked: Request) -> float:
        """Return the factor by which the response multiplies the true prices."""
        fault = self.faults.consume_fault(asked, "wrong_marks")
        return 1.0 if fault is None else fault.factor

    def _prices(self, bars: str, latest: str, trades: str) -> list[Route]:
        """Return the routes for bars, latest bars and trades, of either stocks or crypto.

        bars, latest, trades: paths of the routes.
        """
        return [
            Route("GET", bars, lambda asked: bars_page_response(self.venue, asked.query)),
            Route("GET", latest, lambda asked: latest_bars_response(self.venue, asked.query)),
            Route(
                "GET",
                trades,
                lambda asked: latest_trades_response(self.venue, self.now(), asked.query),
            ),
        ]

    def _clock(self, asked: Request) -> ResponseBody:
        skew = self.faults.consume_fault(asked, "skew")
        return clock_response(
            self.now() + np.timedelta64(int(skew.delay_seconds) if skew else 0, "s")
        )

    def _assets(self, asked: Request) -> list[ResponseBody]:
        """Return the assets of the requested class, by default stocks."""
        refuse_unknown_keys(asked.query, "status", "asset_class")
        parse_query_choice(asked.query, "status", ("active",))
        wanted = parse_query_choice(asked.query, "asset_class", ASSET_CLASSES, ASSET_CLASSES[0])
        answers = [asset_response(self.venue, each) for each in self.venue.market.bars.symbols]
        return [answer for answer in answers if answer["class"] == wanted]

    def _asset(self, asked: Request) -> ResponseBody:
        symbol = instrument(asked.path_parameters["symbol"]).symbol
        if symbol not in self.venue.market.bars.symbols:
            raise RequestRefused(404, None, f"asset not found for {symbol}")
        return asset_response(self.venue, symbol)

    def _orders(self, asked: Request) -> list[ResponseBody]:
        """Return the orders that match a query, newest first."""
        query = asked.query
        refuse_unknown_keys(query, "status", "limit", "nested")
        status = parse_query_choice(query, "status", ("open", "closed", "all"), "open")
        nested = _is_nested(asked)
        chosen = [
            order
            for order in self.venue.record.orders.values()
            if status == "all" or order.is_open == (status == "open")
        ]
        newest = chosen[::-1][: parse_query_integer(query, "limit", 50, 1, MAX_ORDERS_LISTED)]
        return [order.to_response(nested=nested) for order in newest]

    def _submit(self, asked: Request) -> ResponseBody:
        request = asked.json_object()
        faults = self.consume_order_faults(asked)
        slow = {
            kind: fault
            for kind in SLOW_ORDER_FAULTS
            if (fault := self.faults.consume_fault(asked, kind)) is not None
        }
        return self.apply_state_fault(self.venue.submit(request, **faults, slow=slow), asked)

    def _cancel(self, asked: Request) -> None:
        order = self.venue.record.order_by_venue_order_id(asked.path_parameters["number"])
        fault = self.faults.consume_fault(asked, "slow_cancel", order=order.to_response())
        self.venue.cancel(order, fault.delay_seconds if fault else 0.0)

    def _get_order_by_client_id(self, asked: Request) -> ResponseBody:
        order = self.venue.record.order_by_client_id(asked.query.get("client_order_id", ""))
        return self.apply_state_fault(order.to_response(), asked)

    def _order(self, asked: Request) -> ResponseBody:
        order = self.venue.record.order_by_venue_order_id(asked.path_parameters["number"])
        return self.apply_state_fault(order.to_response(nested=_is_nested(asked)), asked)

    def _get_option_quotes(self, asked: Request) -> ResponseBody:
        refuse_unknown_keys(asked.query, "symbols", "feed")
        parse_query_choice(asked.query, "feed", ("indicative", "opra"))
        names = [name for name in asked.query.get("symbols", "").split(",") if name]
        return {"quotes": self.venue.options.quotes(names, self.now())}

    def _delay_activities(self, asked: Request) -> None:
        """Delay the listing of kinds of activities: {"late": ["OPEXP", "SPLIT"]}.

        Later activities of these kinds are listed from the next session open on. An empty list ends
        all delays.
        """
        kinds = asked.json_object().get("late")
        if not (isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds)):
            raise RequestRefused(
                422, None, 'late: expected a list of activity types, such as ["OPEXP"]'
            )
        self.venue.record.delay_activity_listing(kinds)

    def _set_asset_flags(self, asked: Request) -> None:
        """Set an asset's permissions: {"symbol": "NVDA", "tradable": false, "shortable": false, …}.

        "halted": true halts trading in the asset, so that its orders wait.
        """
        body = asked.json_object()
        symbol = instrument(str(body.get("symbol"))).symbol
        flags = {key: value for key, value in body.items() if key != "symbol"}
        served = symbol in self.venue.market.bars.symbols and not set(flags) - {
            *ASSET_PERMISSIONS,
            "halted",
        }
        if not served or not all(isinstance(value, bool) for value in flags.values()):
            names = ", ".join(ASSET_PERMISSIONS)
            needed = (
                f"expected a symbol of this venue, and true or false for any of {names}, halted"
            )
            raise RequestRefused(422, None, needed)
        if "halted" in flags:
            self.venue.set_halted(symbol, flags.pop("halted"))
        self.venue.flags[symbol] = {**self.venue.flags.get(symbol, {}), **flags}


def warm_up_venue(settings: PracticeSettings, market: Market) -> None:
    """Compile the venue's functions by making a few trades on a temporary venue.

    Without this, a client's first request would time out, because compilation takes a minute.
    """
    venue = Venue(settings, market)
    shared = {"side": "buy", "qty": "1", "type": "market", "time_in_force": "gtc"}
    for symbol in market.bars.symbols:
        # A refused order compiles the checks.
        with suppress(RequestRefused):
            venue.submit({"symbol": venue_spelling(symbol), **shared})
    venue.advance(market.start_row + WARM_UP_INSTANTS)


def account_response(venue: Venue, factor: float = 1.0) -> ResponseBody:
    """Return the response of `GET /v2/account`.

    factor: multiple of the true prices of positions, options excluded.
    """
    account = venue.broker.account()
    values = {s: float(q) * account.prices[s] * factor for s, q in account.positions.items()}
    error = sum(values.values()) * (1 - 1 / factor)
    crypto = sum(v for s, v in values.items() if is_crypto(s))
    stocks = sum(abs(v) for s, v in values.items() if not is_crypto(s))
    # At Alpaca equity is cash plus the value of all positions, including options.
    options = [float(position["market_value"]) for position in venue.options.positions()]
    worth = [*values.values(), *options]
    equity = venue.equity + error
    # Crypto is not collateral for a loan: only equity without crypto is multiplied. Crypto and
    # options are bought with unborrowed cash.
    marginable = account.equity + error - crypto
    return {
        "id": venue.record.account_id,
        "account_number": "SIMULATED",
        "status": "ACTIVE",
        "crypto_status": "ACTIVE",
        "currency": "USD",
        "cash": repr(account.cash + venue.options.reserved_cash),
        "equity": repr(equity),
        "portfolio_value": repr(equity),
        "buying_power": repr(max(account.max_leverage * marginable - stocks, 0.0)),
        "non_marginable_buying_power": repr(account.unborrowed_cash),
        "options_buying_power": repr(max(account.unborrowed_cash, 0.0)),
        "options_approved_level": options_level(venue),
        "long_market_value": repr(sum(v for v in worth if v > 0)),
        "short_market_value": repr(sum(v for v in worth if not v > 0)),
        "multiplier": f"{account.max_leverage:g}",
        "shorting_enabled": equity >= venue.settings.margin.margin_equity,
        "trading_blocked": False,
        "account_blocked": False,
        "trade_suspended_by_user": False,
    }


def positions_response(venue: Venue, factor: float = 1.0) -> list[ResponseBody]:
    """Return the response of `GET /v2/positions`.

    factor: multiple of the true prices of positions, options excluded.
    """
    account = venue.broker.account()
    short_proceeds = venue.broker.short_proceeds()
    positions = []
    for symbol, quantity in venue.shown_positions().items():
        coin = is_crypto(symbol)
        price = account.prices[symbol] * factor
        # Settlement records the proceeds of a short.
        is_current = quantity == account.positions.get(symbol)
        entry = short_proceeds[symbol] / float(-quantity) if quantity < 0 and is_current else None
        # The quantity of an open closing order is not available to a second one.
        closing_side = "buy" if quantity < 0 else "sell"
        closing = sum(
            (o.qty for o in account.open_orders if o.symbol == symbol and o.side == closing_side),
            Decimal(0),
        )
        available = (abs(quantity) - closing) * (1 if quantity > 0 else -1)
        positions.append(
            {
                "asset_id": derive_venue_id(symbol),
                # Alpaca writes a crypto position without the slash of its orders.
                "symbol": symbol,
                "exchange": listing_exchange(symbol),
                "asset_class": "crypto" if coin else "us_equity",
                "asset_marginable": not coin,
                "qty": format_quantity(quantity),
                "qty_available": format_quantity(available),
                "side": "long" if quantity > 0 else "short",
                "current_price": repr(price),
                **venue.entries.profit_fields(symbol, float(quantity), price, entry),
            }
        )
    return [*positions, *venue.options.positions()]


def activities_response(venue: Venue, query: Mapping[str, str]) -> list[ResponseBody]:
    """Return a page of `GET /v2/account/activities`, newest first unless `direction` is `asc`."""
    refuse_unknown_keys(query, "after", "direction", "page_size", "page_token")
    activities = venue.record.listed_activities()
    if "after" in query:
        since = format_timestamp(parse_instant(query["after"], name="after"))
        # Trades have an instant and all other activities a date: as texts they compare in time
        # order.
        activities = [
            each
            for each in activities
            if str(each.get("transaction_time", each.get("date"))) > since
        ]
    if parse_query_choice(query, "direction", ("asc", "desc"), "desc") == "desc":
        activities = activities[::-1]
    token = query.get("page_token")
    begin = next((k + 1 for k, each in enumerate(activities) if each["id"] == token), 0)
    return activities[begin : begin + parse_query_integer(query, "page_size", 100, 1, 100)]


def clock_response(now: np.datetime64) -> ResponseBody:
    """Return the response of `GET /v2/clock`."""
    days = exchange_calendar()
    current = int(np.searchsorted(days.closes, now, side="right"))
    opened = bool(is_in_session(np.array([now]))[0])
    following = current + 1 if opened else current
    return {
        "timestamp": format_timestamp(now),
        "is_open": opened,
        "next_open": format_timestamp(days.opens[following]),
        "next_close": format_timestamp(days.closes[current]),
    }


def listing_exchange(symbol: str) -> str:
    """Return a symbol's exchange, according to Alpaca's list of 2026-06-29.

    Crypto has no exchange in that list and is reported as over the counter (OTC).
    """
    return "OTC" if is_crypto(symbol) else "NASDAQ"


def calendar_response(query: Mapping[str, str]) -> list[ResponseBody]:
    """Return the response of `GET /v2/calendar`: sessions, extended hours and settlement dates."""
    refuse_unknown_keys(query, "start", "end")
    # This account settles trades with the next session (T+1) on every date, so the last session
    # has no settlement.
    days = exchange_calendar()
    dates = days.dates
    first, last = (
        parse_date(query[name][:10]) if name in query else dates[k]
        for name, k in (("start", 0), ("end", -2))
    )
    rows = np.flatnonzero((dates[:-1] >= first) & (dates[:-1] <= last))
    opens, closes = (
        map(format_time_of_day, new_york_minutes_of_day(each[rows]).tolist())
        for each in (days.opens, days.closes)
    )
    return [
        {
            "date": str(date),
            "open": opened,
            "close": closed,
            "session_open": "0400",
            "session_close": "2000" if closed == "16:00" else "1700",
            "settlement_date": str(settled),
        }
        for date, opened, closed, settled in zip(
            dates[rows], opens, closes, dates[rows + 1], strict=True
        )
    ]


def portfolio_history_response(venue: Venue, query: Mapping[str, str]) -> ResponseBody:
    """Return the response of `GET /v2/account/portfolio/history`: equity of each session so far.

    Profit is measured from the starting capital.
    """
    refuse_unknown_keys(query, "timeframe")
    timeframe = parse_query_choice(query, "timeframe", ("1D",), "1D")
    by_day = {**venue.equities, trading_day(venue.now): venue.equity}
    days = [day for day in by_day if session_on(day) is not None]
    equity = np.array([by_day[day] for day in days])
    capital = venue.settings.capital
    midnights = new_york_midnight(np.array(days, dtype="datetime64[D]"))
    return {
        "timestamp": midnights.astype("datetime64[s]").astype(np.int64).tolist(),
        "equity": equity.tolist(),
        "profit_loss": (equity - capital).tolist(),
        "profit_loss_pct": (equity / capital - 1).tolist(),
        "base_value": capital,
        "timeframe": timeframe,
    }


def configurations_response(venue: Venue) -> ResponseBody:
    """Return the response of `GET /v2/account/configurations`: the account's permissions.

    It lacks the fields of the pattern-day-trader rule, because the rule ended on 2026-07-06.
    """
    margin = venue.settings.margin
    return {
        "fractional_trading": True,
        "max_margin_multiplier": f"{margin.leverage:g}",
        "no_shorting": False,
        "suspend_trade": False,
        "trade_confirm_email": "none",
        "ptp_no_exception_entry": False,
        "max_options_trading_level": options_level(venue),
    }


def options_level(venue: Venue) -> int:
    """Return Alpaca's options trading level: 3 (spreads) if the venue trades options, else 0."""
    return 3 if venue.options.desks else 0


def asset_response(venue: Venue, symbol: str) -> ResponseBody:
    """Return the response of `GET /v2/assets/{symbol}` for a symbol of the panel."""
    coin = is_crypto(symbol)
    asset = venue.asset(symbol)
    answer = {
        "id": derive_venue_id(symbol),
        "class": "crypto" if coin else "us_equity",
        "exchange": listing_exchange(symbol),
        "symbol": venue_spelling(symbol),
        "name": symbol,
        "status": "active",
        "tradable": asset.tradable,
        "marginable": not coin,
        "shortable": asset.shortable,
        "easy_to_borrow": asset.easy_to_borrow,
        "fractionable": asset.fractionable,
    }
    if coin:
        # Alpaca states increments for crypto alone.
        answer["min_order_size"] = f"{asset.min_order_qty:f}"
        answer["min_trade_increment"] = f"{asset.increment:f}"
        answer["price_increment"] = "0.000000001"
    return answer


@dataclass(frozen=True, slots=True)
class AlpacaServerSettings:
    """Settings of the practice server: venue, address, clock speed and initial faults."""

    venue_settings: PracticeSettings
    server_options: ServerOptions
    faults: Sequence[InjectedFault] = ()

    def build_server(self) -> tuple[AlpacaServer, str]:
        """Build the server; return it with a description of its market for the log."""
        market = self.venue_settings.load_market()
        warm_up_venue(self.venue_settings, market)
        server = AlpacaServer(Venue(self.venue_settings, market), self.server_options.clock_speed)
        server.faults.plan_faults(self.faults)
        return (
            server,
            f"{', '.join(market.bars.symbols)} starting at"
            f" {format_timestamp(market.initial_history.last_instant)}",
        )


def parse_arguments(words: Sequence[str]) -> tuple[AlpacaServerSettings, None]:
    """Parse the command line; return the settings and None.

    The second element is the output folder of other commands; a server writes none.
    """
    parser = ServerArgumentParser("practice.alpaca_server", port=8000)
    parser.add_argument("--data-dir", nargs="+", default=[])
    parser.add_argument("--symbols", nargs="+", default=[])
    parser.add_argument("--start")
    parser.add_argument("--end")
    parser.add_argument("--capital", type=float)
    parser.add_argument("--faults", type=Path)
    arguments, serving = parser.parse(words)
    flags = {key: getattr(arguments, key) for key in ("start", "end", "capital", "symbols")}
    overrides = flags_to_overrides({**flags, "data.dir": arguments.data_dir})
    config = compose_config("venue", [*overrides, "trials=null", *arguments.overrides])
    faults = read_faults(arguments.faults) if arguments.faults else ()
    venue_settings = PracticeSettings.from_config(config)
    return AlpacaServerSettings(venue_settings, serving, faults), None


def run(settings: AlpacaServerSettings) -> None:
    serve(settings.server_options, settings.build_server)


def _is_nested(asked: Request) -> bool:
    return parse_query_choice(asked.query, "nested", BOOLEAN_VALUES, "false").lower() == "true"
