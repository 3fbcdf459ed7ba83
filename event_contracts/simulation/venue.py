"""Requests and answers of the practice venue, in the words of Kalshi's REST API.

There is one book, of YES: a bid buys YES or sells NO, an ask sells YES or buys NO, at the price of
YES. With `reduce_only`, which immediate-or-cancel orders alone may have, an order sells what is
held; without it, it buys, and pairs with what is held of the other side are paid out. An order that
rests waits until the clock's next tick and meets that: the answer to it says that nothing has
filled. The answer to an immediate order is final.

What it says is as documented in autumn 2026, of the fields those that tell orders, fills,
positions, settlements, money and markets. Assumed, because nothing that was read says so:

- `balance` has what resting orders may take still in it.
- Lists are newest first; a `cursor` is good for the same query alone.
- A list of orders knows no `client_order_id`: who looks for his own id pages through the list.
- A cancelled order that has ended before answers 404.
- Errors are `{"code", "message", "details"}`; the codes are this server's own words.
- A market's quote leaves the account's own orders out, as the simulated book does.
- An order takes no cash for contracts that close a position, resting ones before it taken off.
- An order with `reduce_only` and nothing to reduce is taken, and cancelled at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import ConfigDict, Field, PlainValidator, Strict, TypeAdapter, ValidationError

from event_contracts.simulation.exchange import Exchange, Listing, PlacedOrder, Settlement
from event_contracts.trading.fees import NOTHING, FeeRules
from event_contracts.trading.orders import PAYOUT, Fill, LimitOrder, TimeInForce
from event_contracts.trading.venue_orders import (
    BookSide,
    a_traded_count,
    an_order_price,
    book_side,
    own_terms,
    yes_price,
)
from foundation.errors import OrderRejected
from marketsimulator.venue.asked import Refused, Response, whole_number

LONGEST_ID = 64  # characters of a client_order_id
LARGEST = 10**9  # contracts of an order


def _count(value: object) -> Decimal:
    """The markets here trade whole contracts."""
    count = a_traded_count(value)
    if count > LARGEST or count % 1:
        raise ValueError(f"{value} is no whole number of contracts from 1 to {LARGEST}")
    return count


def _instant(seconds: object) -> np.datetime64 | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 < seconds < 2**33:
        raise ValueError("whole seconds since 1970 are required")
    return np.datetime64(seconds * 10**9, "ns")


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """What a client asked for, checked as far as no market has to be known; by the API's names.

    side: of the book of YES.
    price: USD of YES.
    self_trade_prevention_type: without effect, as orders of one account never meet here.
    client_order_id: the client's; none where he gave none.
    reduce_only: whether it may only sell what is held.
    expiration_time: UTC, when it ends by itself; none where it does not.
    exchange_index: the venue's shard; there is one here, and -1 looks it up.

    The last four are known to the venue and not simulated: they take the values that change
    nothing.
    """

    ticker: Annotated[str, Field(strict=True, min_length=1)]
    side: BookSide
    price: Annotated[Decimal, PlainValidator(an_order_price)]
    count: Annotated[Decimal, PlainValidator(_count)]
    time_in_force: TimeInForce
    self_trade_prevention_type: Literal["taker_at_cross", "maker"]
    client_order_id: Annotated[str, Field(strict=True, max_length=LONGEST_ID)] | None = None
    reduce_only: Annotated[bool, Strict()] | None = None
    expiration_time: Annotated[np.datetime64 | None, PlainValidator(_instant)] = None
    exchange_index: Literal[0, -1] | None = None
    subaccount: Literal[0] | None = None
    post_only: Literal[False] | None = None
    cancel_order_on_pause: Literal[False] | None = None
    order_group_id: None = None

    # A field that is not known here would change what the order means.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> OrderRequest:
        """The request of a JSON object; `Refused` names the field that makes no sense."""
        try:
            request = TypeAdapter(cls).validate_python(body)
        except ValidationError as error:
            problem = error.errors()[0]
            message = f"{problem['loc'][0]}: {problem['msg']}"
            raise Refused(400, "invalid_parameters", message) from None
        # The first in the venue's own words, of August 2026; the second as it documents it.
        if request.reduce_only and request.time_in_force != "immediate_or_cancel":
            raise Refused(400, "invalid_order", "reduce_only can only be used with IoC orders")
        if request.expiration_time and request.time_in_force != "good_till_canceled":
            message = f"{request.time_in_force} cannot be combined with expiration_time"
            raise Refused(400, "invalid_order", message)
        return request

    def limit_order(self, name: str, count: Decimal) -> LimitOrder:
        """The order in our words, under our id of it."""
        action, side = own_terms(self.side, bool(self.reduce_only))
        terms = action, side, yes_price(side, self.price), count
        return LimitOrder(name, self.ticker, *terms, time_in_force=self.time_in_force)


def take(
    exchange: Exchange,
    request: OrderRequest,
    *,
    reused_ids_refused: bool = True,
    partial: bool = False,
    reject: bool = False,
) -> PlacedOrder:
    """Take an order.

    partial: half of it may trade, the rest is cancelled. reject: it ends at the next tick.
    """
    market = listing_of(exchange, request.ticker)
    if exchange.market_state(market.ticker) != "active":
        raise Refused(409, "market_closed", f"{market.ticker} is not trading")
    name = request.client_order_id or f"venue-{len(exchange.orders) + 1}"
    used = any(placed.client_order_id == name for placed in exchange.orders.values())
    if used and reused_ids_refused:
        raise Refused(409, "order_already_exists", "client_order_id has been used")
    if request.expiration_time is not None and request.expiration_time <= exchange.now:
        raise Refused(400, "invalid_parameters", "expiration_time has passed")
    covered = _covered_count(exchange, request)
    count = covered or request.count
    traded = max(count // 2, Decimal(1)) if partial else count
    order = request.limit_order(name, traded)
    try:
        placed = exchange.submit(order, held_back=count - traded, doomed=reject or not covered)
    except OrderRejected as error:
        raise Refused(400, "order_not_admitted", str(error)) from error
    placed.expires = request.expiration_time
    return placed


def listing_of(exchange: Exchange, ticker: str) -> Listing:
    """A market, which `Refused` says is not there."""
    if ticker not in exchange.listings:
        raise Refused(404, "not_found", f"market {ticker} not found")
    return exchange.listings[ticker]


def placed_of(exchange: Exchange, order_id: str) -> PlacedOrder:
    """An order, which `Refused` says is not there."""
    if order_id not in exchange.orders:
        raise Refused(404, "not_found", f"order {order_id} not found")
    return exchange.orders[order_id]


def _covered_count(exchange: Exchange, request: OrderRequest) -> Decimal:
    """Contracts of an order; one that may only reduce is cut to what is held."""
    if not request.reduce_only:
        return request.count
    _, side = own_terms(request.side, reduces=True)
    return min(request.count, exchange.view(request.ticker).held(side))


Row = TypeVar("Row")
Query = Mapping[str, str]

LONGEST_PAGE = 1000
PAGE = 100
CENTS = 100


def balance(exchange: Exchange) -> Response:
    cash = exchange.cash
    return {"balance": int(cash * CENTS // 1), "balance_dollars": dollars(cash)}


def order(exchange: Exchange, placed: PlacedOrder) -> Response:
    return {
        **_ids(placed),
        **_terms(placed.order),
        "status": placed.state,
        "fill_count_fp": counted(placed.filled),
        "remaining_count_fp": counted(placed.waiting),
        "initial_count_fp": counted(placed.count),
        "expiration_time": None if placed.expires is None else written(placed.expires),
        "created_time": written(exchange.at(placed.placed)),
    }


def receipt(placed: PlacedOrder, now: np.datetime64) -> Response:
    """What a new order is answered with: it has yet to meet a tick."""
    counts = {"fill_count": counted(placed.filled), "remaining_count": counted(placed.waiting)}
    return {**_ids(placed), **counts, "ts_ms": milliseconds(now)}


def cancellation(placed: PlacedOrder, reduced: Decimal, now: np.datetime64) -> Response:
    """What `DELETE` of an order is answered with; reduced: contracts that waited."""
    return {**_ids(placed), "reduced_by": counted(reduced), "ts_ms": milliseconds(now)}


def orders(exchange: Exchange, query: Query, hidden: int = 0) -> Response:
    status = query.get("status")
    if status not in (None, "resting", "canceled", "executed"):
        raise Refused(400, None, "status must be resting, canceled or executed")
    rows = {
        number: order(exchange, placed)
        for number, placed in _numbered(exchange.orders.values(), hidden)
        if _is_asked_for(query, status=placed.state, ticker=placed.order.market)
        and _within(query, exchange.at(placed.placed))
    }
    return _page("orders", rows, query)


def fills(exchange: Exchange, query: Query, hidden: int = 0) -> Response:
    """`GET /portfolio/fills`; hidden: so many of the newest are left out."""
    rows = {
        number: _fill_answer(exchange, number, fill)
        for number, fill in _numbered(exchange.fills, hidden)
        if _is_asked_for(query, ticker=fill.market, order_id=fill.order_id)
        and _within(query, exchange.at(fill.tick))
    }
    return _page("fills", rows, query)


def positions(exchange: Exchange, query: Query) -> Response:
    """`GET /portfolio/positions`: markets that were traded and have not paid."""
    paid = {settlement.market for settlement in exchange.payments}
    traded = {fill.market for fill in exchange.fills} - paid
    rows = {}
    for number, ticker in _numbered(exchange.listings):
        if ticker in traded and _is_asked_for(query, ticker=ticker):
            held = exchange.position(ticker)
            rows[number] = {"ticker": ticker, "position_fp": counted(held)}
    return _page("market_positions", rows, query)


def settlements(exchange: Exchange, query: Query) -> Response:
    """`GET /portfolio/settlements`: markets that paid while something of them was held."""
    rows = {
        number: _settlement_answer(exchange, settlement)
        for number, settlement in _numbered(exchange.payments)
        if _is_asked_for(query, ticker=settlement.market)
        and settlement.held
        and _within(query, exchange.at(settlement.pays))
    }
    return _page("settlements", rows, query)


def markets(exchange: Exchange, query: Query) -> Response:
    wanted = [name for name in query.get("tickers", "").split(",") if name]
    rows = {
        number: market(exchange, ticker)
        for number, ticker in _numbered(exchange.listings)
        if not wanted or ticker in wanted
    }
    return _page("markets", rows, query)


def market(exchange: Exchange, ticker: str) -> Response:
    """One market; where nobody bids or offers, and once it has closed, it quotes $0 and $1."""
    listing = listing_of(exchange, ticker)
    status = exchange.market_state(ticker)
    outcome = exchange.outcome(ticker)
    (bid, bid_size), (ask, ask_size) = (NOTHING, NOTHING), (PAYOUT, NOTHING)
    if status == "active":
        quote, tick = exchange.quote(ticker), exchange.shown(ticker)
        if quote.yes_bid > 0 and tick["bid_size"]:
            bid, bid_size = quote.yes_bid, Decimal(int(tick["bid_size"]))
        if quote.yes_ask < PAYOUT and tick["ask_size"]:
            ask, ask_size = quote.yes_ask, Decimal(int(tick["ask_size"]))
    step = Decimal(str(exchange.settings.market.tick))
    return {
        "ticker": ticker,
        "event_ticker": event_of(listing),
        "status": status,
        "open_time": written(exchange.at(listing.first)),
        "close_time": written(exchange.at(listing.first + len(listing.tape) - 1)),
        "yes_bid_dollars": dollars(bid),
        "yes_ask_dollars": dollars(ask),
        "yes_bid_size_fp": counted(bid_size),
        "yes_ask_size_fp": counted(ask_size),
        "price_ranges": [{"start": "0.0000", "end": "1.0000", "step": dollars(step)}],
        "result": "" if outcome is None else outcome.lower(),
        "settlement_value_dollars": (
            None if outcome is None else dollars(PAYOUT if outcome == "YES" else NOTHING)
        ),
    }


def series(exchange: Exchange, ticker: str) -> Response:
    """`GET /series/{series_ticker}`: what its fees are."""
    if ticker not in {series_of(each) for each in exchange.listings.values()}:
        raise Refused(404, None, f"series {ticker} not found")
    fees = exchange.space.fees
    kind = "quadratic_with_maker_fees" if fees.maker > 0 else "quadratic"
    multiplier = float(fees.taker / FeeRules().taker)
    series = {"ticker": ticker, "title": ticker, "fee_type": kind, "fee_multiplier": multiplier}
    return {"series": series}


def event(exchange: Exchange, ticker: str) -> Response:
    """`GET /events/{event_ticker}`: which series it is one of."""
    for listing in exchange.listings.values():
        if event_of(listing) == ticker:
            event = {"event_ticker": ticker, "series_ticker": series_of(listing), "title": ticker}
            return {"event": event}
    raise Refused(404, None, f"event {ticker} not found")


def event_of(listing: Listing) -> str:
    return listing.event or listing.ticker


def series_of(listing: Listing) -> str:
    return event_of(listing).split("-")[0]


def _fill_answer(exchange: Exchange, number: int, fill: Fill) -> Response:
    at = exchange.at(fill.tick)
    return {
        "fill_id": f"trade-{number:06d}",
        "order_id": fill.order_id,
        **_terms(fill),
        "count_fp": counted(fill.count),
        "is_taker": not fill.maker,
        "fee_cost": dollars(fill.fee),
        "created_time": written(at),
        "ts": milliseconds(at) // 1000,
    }


def _settlement_answer(exchange: Exchange, settlement: Settlement) -> Response:
    return {
        "ticker": settlement.market,
        "event_ticker": event_of(exchange.listings[settlement.market]),
        "market_result": settlement.outcome.lower(),
        "yes_count_fp": counted(max(settlement.held, NOTHING)),
        "no_count_fp": counted(max(-settlement.held, NOTHING)),
        "revenue": int(settlement.payout * CENTS),
        "settled_time": written(exchange.at(settlement.pays)),
        "value": CENTS if settlement.outcome == "YES" else 0,
    }


def _terms(order: LimitOrder | Fill) -> Response:
    """What an order or a fill does in the book of YES."""
    return {
        "ticker": order.market,
        "book_side": book_side(order.action, order.side),
        "yes_price_dollars": dollars(yes_price(order.side, order.price)),
    }


def _ids(placed: PlacedOrder) -> Response:
    return {"order_id": placed.order_id, "client_order_id": placed.client_order_id}


def _numbered(rows: Collection[Row], hidden: int = 0) -> Iterator[tuple[int, Row]]:
    """Rows by their numbers, counted from 1; hidden: so many of the newest are left out."""
    return enumerate(islice(rows, len(rows) - hidden), start=1)


def _is_asked_for(query: Query, **said: str) -> bool:
    """Whether a row that says this of itself is one that a query asks for."""
    return all(query.get(name) in (None, value) for name, value in said.items())


def _within(query: Query, at: np.datetime64) -> bool:
    """Whether an instant is between `min_ts` and `max_ts`, seconds, both included."""
    seconds = milliseconds(at) // 1000
    first = whole_number(query, "min_ts", 0)
    last = whole_number(query, "max_ts", 2**62)
    return first <= seconds <= last


def _page(name: str, rows: Mapping[int, Response], query: Query) -> Response:
    """The newest rows before the cursor, and the cursor of those before them; rows: by number."""
    limit = whole_number(query, "limit", PAGE, 1, LONGEST_PAGE)
    before = whole_number(query, "cursor", 2**62)
    earlier = [number for number in rows if number < before][::-1]
    shown = earlier[:limit]
    cursor = str(shown[-1]) if len(earlier) > limit else ""
    return {name: [rows[number] for number in shown], "cursor": cursor}


def dollars(amount: Decimal) -> str:
    """USD as the API writes it, with 4 decimals and more where it needs them, up to 6."""
    text = f"{amount:.6f}"
    return text[:-2] if text.endswith("00") else text


def counted(contracts: Decimal) -> str:
    return f"{contracts:.2f}"


def milliseconds(at: np.datetime64) -> int:
    """Since 1970."""
    return int(at.astype("datetime64[ms]").astype(np.int64))


def written(at: np.datetime64) -> str:
    return f"{np.datetime_as_string(at, unit='ms')}Z"
