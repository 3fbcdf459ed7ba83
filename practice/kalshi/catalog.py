"""Market data of the practice venue, in Kalshi's format: markets, events, series, status."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import numpy as np

from event_contracts.simulation.exchange import Exchange, SimulatedListing
from event_contracts.trading.endpoint import EXCHANGE_PAUSED_CODE
from event_contracts.trading.event_risk import format_strike_fields
from event_contracts.trading.fees import ZERO, FeeRules
from event_contracts.trading.orders import CONTRACT_PAYOUT_USD
from event_contracts.trading.records import PRICE_UNITS_PER_DOLLAR, price_to_usd
from foundation.arrays import StructuredArray
from practice.kalshi.orders import (
    EXCHANGE_INDEX,
    PAGE_PARAMETERS,
    enumerate_rows,
    event_ticker_of,
    format_contracts,
    format_dollars,
    format_timestamp,
    get_listing,
    paginate,
)
from practice.request import (
    QueryParameters,
    RequestRefused,
    ResponseBody,
    parse_query_integer,
    refuse_unknown_keys,
)

MAX_DEPTH_LEVELS = 100  # levels of a book in one response
DAY = np.timedelta64(1, "D")
SERIES_CATEGORY = "Practice"  # category of every series
# Kalshi's names of the steps between prices; the server invents a name for any other step.
PRICE_STRUCTURE_BY_STEP_USD = {Decimal("0.01"): "linear_cent", Decimal("0.001"): "deci_cent"}


class TopOfBook(NamedTuple):
    """The best bid and ask of a market, USD of YES, and the contracts at these prices.

    Without a bid its price is 0, without an ask its price is 1. The contracts are then 0.
    """

    bid: Decimal = ZERO
    bid_size: Decimal = ZERO
    ask: Decimal = CONTRACT_PAYOUT_USD
    ask_size: Decimal = ZERO

    def to_api_fields(self, prefix: str = "") -> ResponseBody:
        """Return bid and ask as fields of the API.

        prefix: text before `yes_bid_dollars` and `yes_ask_dollars` in the names of the fields.
        """
        return {
            f"{prefix}yes_bid_dollars": format_dollars(self.bid),
            f"{prefix}yes_ask_dollars": format_dollars(self.ask),
        }


def get_markets(exchange: Exchange, query: QueryParameters) -> ResponseBody:
    """Return the response to `GET /markets`: all markets, or those that the query names."""
    refuse_unknown_keys(query, *PAGE_PARAMETERS, "tickers")
    wanted = [name for name in query.get("tickers", "").split(",") if name]
    rows = {
        number: get_market(exchange, ticker)
        for number, ticker in enumerate_rows(exchange.listings)
        if not wanted or ticker in wanted
    }
    return paginate("markets", rows, query)


def get_market(exchange: Exchange, ticker: str) -> ResponseBody:
    """Return one market in the API's format.

    A side without orders quotes $0 (bid) or $1 (ask); so do both sides if the market does not
    trade.
    """
    listing = get_listing(exchange, ticker)
    outcome = exchange.outcome(ticker)
    opens, closes = listing.first_tick, listing.first_tick + len(listing.tick_records) - 1
    top = _find_top_of_book(exchange, ticker)
    step = Decimal(str(exchange.settings.market.tick))
    rows = listing.tick_records[: max(exchange.tick - opens + 1, 0)]
    day = int(DAY / exchange.interval)
    pays = exchange.instant_of(closes) + exchange.settlement_timer
    return {
        "ticker": ticker,
        "event_ticker": event_ticker_of(listing),
        **format_strike_fields(listing.strike),
        "market_type": "binary",
        "title": ticker,
        "yes_sub_title": "Yes",
        "no_sub_title": "No",
        "created_time": format_timestamp(exchange.start),
        "updated_time": format_timestamp(exchange.start),
        "open_time": format_timestamp(exchange.instant_of(opens)),
        "close_time": format_timestamp(exchange.instant_of(closes)),
        "expected_expiration_time": format_timestamp(exchange.instant_of(closes)),
        "latest_expiration_time": format_timestamp(exchange.instant_of(closes)),
        "settlement_timer_seconds": int(exchange.settlement_timer / np.timedelta64(1, "s")),
        "status": exchange.market_state(ticker),
        **top.to_api_fields(),
        "yes_bid_size_fp": format_contracts(top.bid_size),
        "yes_ask_size_fp": format_contracts(top.ask_size),
        "no_bid_dollars": format_dollars(CONTRACT_PAYOUT_USD - top.ask),
        "no_ask_dollars": format_dollars(CONTRACT_PAYOUT_USD - top.bid),
        "last_price_dollars": format_dollars(_last_trade_price(rows)),
        "volume_fp": format_contracts(_sum_traded_contracts(rows)),
        "volume_24h_fp": format_contracts(_sum_traded_contracts(rows[-day:])),
        "open_interest_fp": format_contracts(abs(exchange.position(ticker))),
        "notional_value_dollars": format_dollars(CONTRACT_PAYOUT_USD),
        **_last_top_of_book(rows[:-day]).to_api_fields("previous_"),
        "previous_price_dollars": format_dollars(_last_trade_price(rows[:-day])),
        "price_level_structure": PRICE_STRUCTURE_BY_STEP_USD.get(step, f"linear_{step}"),
        "price_ranges": [{"start": "0.0000", "end": "1.0000", "step": format_dollars(step)}],
        "can_close_early": False,
        "rules_primary": "A simulated market.",
        "rules_secondary": "",
        "result": "" if outcome is None else outcome.lower(),
        "expiration_value": "",
        "settlement_bounds_type": "default",
        "settlement_value_dollars": (
            None
            if outcome is None
            else format_dollars(CONTRACT_PAYOUT_USD if outcome == "YES" else ZERO)
        ),
        "settlement_ts": format_timestamp(pays) if pays <= exchange.now else None,
        "exchange_index": EXCHANGE_INDEX,
    }


def get_orderbook(exchange: Exchange, ticker: str, query: QueryParameters) -> ResponseBody:
    """Return the response to `GET /markets/{ticker}/orderbook`: the best bids of YES and of NO."""
    refuse_unknown_keys(query, "depth")
    parse_query_integer(query, "depth", 0, 0, MAX_DEPTH_LEVELS)
    get_listing(exchange, ticker)
    top = _find_top_of_book(exchange, ticker)
    yes = [[format_dollars(top.bid), format_contracts(top.bid_size)]] if top.bid_size else []
    no = (
        [[format_dollars(CONTRACT_PAYOUT_USD - top.ask), format_contracts(top.ask_size)]]
        if top.ask_size
        else []
    )
    return {"orderbook_fp": {"yes_dollars": yes, "no_dollars": no}}


def get_series(exchange: Exchange, ticker: str) -> ResponseBody:
    """Return the response to `GET /series/{series_ticker}`: a series with its fee terms."""
    if ticker not in {series_ticker_of(each) for each in exchange.listings.values()}:
        raise RequestRefused(404, None, f"series {ticker} not found")
    fees = exchange.space.fees
    kind = "quadratic_with_maker_fees" if fees.maker > 0 else "quadratic"
    series = {
        "ticker": ticker,
        "title": ticker,
        "frequency": "custom",
        "category": SERIES_CATEGORY,
        "categories": [SERIES_CATEGORY],
        "tags": None,
        "settlement_sources": None,
        "contract_url": "",
        "contract_terms_url": "",
        "fee_type": kind,
        "fee_multiplier": float(fees.taker / FeeRules().taker),
        "additional_prohibitions": None,
        "exchange_index": EXCHANGE_INDEX,
    }
    return {"series": series}


def get_event(exchange: Exchange, ticker: str) -> ResponseBody:
    """Return the response to `GET /events/{event_ticker}`: an event with its markets."""
    listings = exchange.listings.values()
    members = [listing for listing in listings if event_ticker_of(listing) == ticker]
    if not members:
        raise RequestRefused(404, None, f"event {ticker} not found")
    return {
        "event": {
            "event_ticker": ticker,
            "series_ticker": series_ticker_of(members[0]),
            "title": ticker,
            "sub_title": "",
            "collateral_return_type": "MECNET" if members[0].is_mutually_exclusive else "",
            "mutually_exclusive": members[0].is_mutually_exclusive,
            "settlement_sources": None,
            "exchange_index": EXCHANGE_INDEX,
        },
        "markets": [get_market(exchange, each.ticker) for each in members],
    }


def series_ticker_of(listing: SimulatedListing) -> str:
    return event_ticker_of(listing).split("-")[0]


def get_exchange_status(pause: str = "", resumes_at: str | None = None) -> ResponseBody:
    """Return the response to `GET /exchange/status`.

    pause: error code of the current pause; empty while trading is open.
    resumes_at: expected end of the pause, an instant as text; None if unknown.
    """
    is_active, is_trading = pause != EXCHANGE_PAUSED_CODE, not pause
    return {
        "exchange_active": is_active,
        "trading_active": is_trading,
        "intra_exchange_transfers_active": False,
        "exchange_estimated_resume_time": resumes_at,
        "exchange_index_statuses": [
            {
                "exchange_index": EXCHANGE_INDEX,
                "description": "practice",
                "exchange_active": is_active,
                "trading_active": is_trading,
                "intra_exchange_transfers_active": False,
            }
        ],
    }


def _find_top_of_book(exchange: Exchange, ticker: str) -> TopOfBook:
    """Return the best prices that a market shows now; no prices if the market does not trade."""
    if exchange.market_state(ticker) != "active":
        return TopOfBook()
    row = exchange.current_tick(ticker)
    return _build_top_of_book(row["bid"], row["ask"], *exchange.bid_and_ask_depth(ticker))


def _last_top_of_book(rows: StructuredArray) -> TopOfBook:
    """Return the best prices in the last of these rows of a tape; no prices without a row."""
    if not len(rows):
        return TopOfBook()
    row = rows[-1]
    sizes = Decimal(int(row["bid_size"])), Decimal(int(row["ask_size"]))
    return _build_top_of_book(row["bid"], row["ask"], *sizes)


def _build_top_of_book(bid: int, ask: int, bid_size: Decimal, ask_size: Decimal) -> TopOfBook:
    """Convert a quote to best prices; a side without contracts has no price.

    bid, ask: ten-thousandths of a USD.
    """
    bids = (price_to_usd(bid), bid_size) if bid > 0 and bid_size else (ZERO, ZERO)
    asks = (
        (price_to_usd(ask), ask_size)
        if ask < PRICE_UNITS_PER_DOLLAR and ask_size
        else (CONTRACT_PAYOUT_USD, ZERO)
    )
    return TopOfBook(*bids, *asks)


def _sum_traded_contracts(rows: StructuredArray) -> Decimal:
    """Return the contracts that other traders bought or sold in these rows of a tape."""
    return Decimal(int(rows["sold"].sum() + rows["bought"].sum()))


def _last_trade_price(rows: StructuredArray) -> Decimal:
    """Return the price of the last trade in these rows, USD of YES; 0 if there is none.

    Purchases trade at the ask of their row, sales at the bid.
    """
    traded = np.flatnonzero(rows["sold"] + rows["bought"])
    if not len(traded):
        return ZERO
    row = rows[traded[-1]]
    return price_to_usd(row["ask"] if row["bought"] else row["bid"])
