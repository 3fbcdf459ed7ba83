"""Requests and responses of the practice venue, in the format of Kalshi's REST API.

There is one book, of YES: a bid buys YES or sells NO, an ask sells YES or buys NO, at the price of
YES. With `reduce_only`, allowed on immediate-or-cancel orders only, an order sells the position.
Without it, an order buys; pairs of a YES and a NO are then paid out. An order that crosses the book
shown fills at once, as a taker at the book's price, and the book shows correspondingly less until
the next tick. The remainder rests, or is cancelled if the order is immediate. Public repositories
report the following of production (2025 to 2026): a fill-or-kill order that the book cannot fill
gets 409 `fill_or_kill_insufficient_resting_volume` and leaves no order; a `post_only` order that
crosses gets 400 `invalid_order`, "post only cross".

This module serves orders and the account's money, `catalog` serves markets. Settlements follow
production (three public repositories, 2026), not the documentation: a position that was closed
early lists the purchases of both sides. Its pairs were paid when they were made, so `revenue` pays
only for the difference of the two counts.

Responses have every field that Kalshi's client 3.34 requires, and no field that Kalshi has
deprecated. A filter that is not served is refused. Assumptions, without a source:

- `balance` includes the cash that resting orders may use.
- Lists are newest first; a `cursor` is valid for the same query only.
- Lists of orders have no `client_order_id` filter: a client finds its id by paging through them.
- Cancelling an order that has ended gets 404.
- Errors are `{"code", "message", "details"}`, with codes of this server.
- A market's quote excludes the account's own orders, as the simulated book does.
- Contracts that close a position need no cash; earlier resting orders close first.
- An order with `reduce_only` and nothing to reduce is accepted, and cancelled at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import ConfigDict, Field, PlainValidator, Strict, TypeAdapter, ValidationError

from event_contracts.simulation.exchange import (
    Exchange,
    PlacedOrder,
    SimulatedListing,
    SimulatedSettlement,
)
from event_contracts.trading.fees import ZERO
from event_contracts.trading.orders import (
    CONTRACT_PAYOUT_USD,
    ContractFill,
    ContractTimeInForce,
    EventContractOrder,
)
from event_contracts.trading.venue_orders import (
    FILL_OR_KILL_FAILED_CODE,
    BookSide,
    SelfTradePrevention,
    book_side,
    convert_side_price,
    parse_order_price,
    parse_traded_count,
    to_action_and_side,
)
from execution.orders.average_cost import average_cost
from foundation.errors import OrderRejected
from practice.request import (
    QueryParameters,
    RequestRefused,
    ResponseBody,
    parse_query_integer,
    refuse_unknown_keys,
)

MAX_ID_LENGTH = 64  # characters of a client_order_id
MAX_REQUESTED_CONTRACTS = 10**9  # contracts of an order


def _parse_whole_count(value: object) -> Decimal:
    """Parse a positive whole number of contracts."""
    count = parse_traded_count(value)
    if count > MAX_REQUESTED_CONTRACTS or count % 1:
        raise ValueError(
            f"{value} is not an integer number of contracts from 1 to {MAX_REQUESTED_CONTRACTS}"
        )
    return count


def _parse_expiration_time(seconds: object) -> np.datetime64 | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 < seconds < 2**33:
        raise ValueError("expected whole seconds since 1970")
    return np.datetime64(seconds * 10**9, "ns")


def _refuse_unsimulated(value: object) -> None:
    """Raise `ValueError` for a value that differs in effect from leaving the field out.

    null, false and 0 are accepted.
    """
    if value is None or value is False or (type(value) is int and value == 0):
        return
    raise ValueError(f"{value!r} is not supported by this practice venue; omit the field")


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """A client's order request, validated except for its market; fields have the API's names.

    side: side in the book of YES.
    price: USD of YES.
    self_trade_prevention_type: the order that is cancelled when this order meets a resting one of
        the account: this order (`taker_at_cross`) or the resting one (`maker`).
    client_order_id: id of the client; None if the client sent none.
    reduce_only: true if the order may only sell the position.
    expiration_time: UTC, instant of the order's expiry; None without one.
    post_only: true if the order is refused when it would trade at once.
    exchange_index: index of the venue's shard: 0, the only one, or -1 for automatic choice.

    The last three fields are not simulated: they accept only values that have no effect.
    """

    ticker: Annotated[str, Field(strict=True, min_length=1)]
    side: BookSide
    price: Annotated[Decimal, PlainValidator(parse_order_price)]
    count: Annotated[Decimal, PlainValidator(_parse_whole_count)]
    time_in_force: ContractTimeInForce
    self_trade_prevention_type: SelfTradePrevention
    client_order_id: Annotated[str, Field(strict=True, max_length=MAX_ID_LENGTH)] | None = None
    reduce_only: Annotated[bool, Strict()] | None = None
    expiration_time: Annotated[np.datetime64 | None, PlainValidator(_parse_expiration_time)] = None
    post_only: Annotated[bool, Strict()] | None = None
    exchange_index: Literal[0, -1] | None = None
    subaccount: Annotated[int | None, PlainValidator(_refuse_unsimulated)] = None
    cancel_order_on_pause: Annotated[bool | None, PlainValidator(_refuse_unsimulated)] = None
    order_group_id: Annotated[str | None, PlainValidator(_refuse_unsimulated)] = None

    # An unknown field would change the meaning of the order.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> OrderRequest:
        """Parse a JSON object as an order request. Raises `RequestRefused` for an invalid field."""
        try:
            request = TypeAdapter(cls).validate_python(body)
        except ValidationError as error:
            problem = error.errors()[0]
            why = str(problem["msg"]).removeprefix("Value error, ")
            message = f"{problem['loc'][0]}: {why}"
            raise RequestRefused(400, "invalid_parameters", message) from None
        # The first is in the venue's own words of August 2026; the second as documented.
        if request.reduce_only and request.time_in_force != "immediate_or_cancel":
            raise RequestRefused(
                400, "invalid_order", "reduce_only can only be used with IoC orders"
            )
        if request.expiration_time and request.time_in_force != "good_till_canceled":
            message = f"{request.time_in_force} cannot be combined with expiration_time"
            raise RequestRefused(400, "invalid_order", message)
        return request

    def to_limit_order(self, client_order_id: str, count: Decimal) -> EventContractOrder:
        """Return the order of this request.

        client_order_id: client_order_id of the order.
        count: contracts of the order.
        """
        action, side = to_action_and_side(self.side, bool(self.reduce_only))
        terms = action, side, convert_side_price(side, self.price), count
        return EventContractOrder(
            client_order_id, self.ticker, *terms, time_in_force=self.time_in_force
        )


def accept_order(
    exchange: Exchange,
    request: OrderRequest,
    *,
    reused_ids_refused: bool = True,
    fills_half: bool = False,
    reject: bool = False,
) -> PlacedOrder:
    """Submit the order of a request to the exchange, and return the accepted order.

    Raises `RequestRefused` with the status and code of the API if the order is not accepted.

    reused_ids_refused: true to refuse a client_order_id that was used before.
    fills_half: injected fault: half of the order may trade, the other half never does.
    reject: injected fault: the order trades nothing and ends before the next tick.
    """
    market = get_listing(exchange, request.ticker)
    if exchange.market_state(market.ticker) != "active":
        raise RequestRefused(409, "market_closed", f"{market.ticker} is not trading")
    name = request.client_order_id or f"venue-{len(exchange.orders) + 1}"
    used = any(placed.client_order_id == name for placed in exchange.orders.values())
    if used and reused_ids_refused:
        raise RequestRefused(409, "order_already_exists", "client_order_id has been used")
    if request.expiration_time is not None and request.expiration_time <= exchange.now:
        raise RequestRefused(400, "invalid_parameters", "expiration_time has passed")
    covered = _cap_at_position(exchange, request)
    count = covered or request.count
    traded = max(count // 2, Decimal(1)) if fills_half else count
    order = request.to_limit_order(name, traded)
    rejects_later = reject or not covered
    depth, own = exchange.depth_within_limit(order)
    stops = own is not None and request.self_trade_prevention_type == "taker_at_cross"
    if request.post_only and (depth or own is not None):
        raise RequestRefused(400, "invalid_order", "post only cross")
    found = min(depth, own) if own is not None and stops else depth
    if request.time_in_force == "fill_or_kill" and found < request.count:
        raise RequestRefused(
            409, FILL_OR_KILL_FAILED_CODE, FILL_OR_KILL_FAILED_CODE.replace("_", " ")
        )
    try:
        placed = exchange.submit(
            order,
            self_trade=request.self_trade_prevention_type,
            withheld_count=count - traded,
            rejects_later=rejects_later,
        )
    except OrderRejected as error:
        raise RequestRefused(400, "order_not_admitted", str(error)) from error
    placed.expires_at = request.expiration_time
    return placed


def get_listing(exchange: Exchange, ticker: str) -> SimulatedListing:
    """Return the listing of a market. Raises `RequestRefused` (404) if the ticker is unknown."""
    if ticker not in exchange.listings:
        raise RequestRefused(404, "not_found", f"market {ticker} not found")
    return exchange.listings[ticker]


def event_ticker_of(listing: SimulatedListing) -> str:
    """Return the ticker of a market's event; for a market without an event, the market's ticker."""
    return listing.event_ticker or listing.ticker


def get_placed_order(exchange: Exchange, order_id: str) -> PlacedOrder:
    """Return the order with an id. Raises `RequestRefused` (404) if the id is unknown."""
    if order_id not in exchange.orders:
        raise RequestRefused(404, "not_found", f"order {order_id} not found")
    return exchange.orders[order_id]


def _cap_at_position(exchange: Exchange, request: OrderRequest) -> Decimal:
    """Return the number of contracts to submit; a `reduce_only` order is capped at the position."""
    if not request.reduce_only:
        return request.count
    _, side = to_action_and_side(request.side, reduces=True)
    return min(request.count, exchange.view(request.ticker).held_count(side))


Row = TypeVar("Row")
MAX_PAGE_SIZE = 1000
DEFAULT_PAGE_SIZE = 100
PAGE_PARAMETERS = ("limit", "cursor")  # filters of every list
TIME_PARAMETER = "min_ts"  # filter of a list with instants, epoch seconds
USER_ID = "practice"  # the venue's id of the account's owner
EXCHANGE_INDEX = 0  # the exchange has one shard, Kalshi's default
CENTS_PER_DOLLAR = 100


def order_response(exchange: Exchange, placed: PlacedOrder) -> ResponseBody:
    """Return an order in the API's format, without the deprecated `side` and `action`."""
    last = max([placed.placed_tick, *(fill.exchange_tick for fill in placed.fills)])
    return {
        **_build_id_fields(placed),
        **build_order_fields(placed.order),
        "user_id": USER_ID,
        "type": "limit",
        "status": placed.state,
        "fill_count_fp": format_contracts(placed.filled_count),
        "remaining_count_fp": format_contracts(placed.open_count),
        "initial_count_fp": format_contracts(placed.count),
        **_build_cost_fields("taker", [fill for fill in placed.fills if not fill.is_maker]),
        **_build_cost_fields("maker", [fill for fill in placed.fills if fill.is_maker]),
        "expiration_time": None
        if placed.expires_at is None
        else format_timestamp(placed.expires_at),
        "created_time": format_timestamp(exchange.instant_of(placed.placed_tick)),
        "last_update_time": format_timestamp(exchange.instant_of(last)),
        "subaccount_number": 0,
        "exchange_index": EXCHANGE_INDEX,
    }


def _build_cost_fields(kind: str, fills: Sequence[ContractFill]) -> ResponseBody:
    """Return the API fields with cost and fees of an order's taker or maker fills, USD.

    kind: `taker` or `maker`, the start of the fields' names.
    """
    cost = sum((fill.price * fill.count for fill in fills), ZERO)
    fees = sum((fill.fee for fill in fills), ZERO)
    return {
        f"{kind}_fill_cost_dollars": format_dollars(cost),
        f"{kind}_fees_dollars": format_dollars(fees),
    }


def submission_response(placed: PlacedOrder, now: np.datetime64) -> ResponseBody:
    """Return the response to a new order, with the contracts filled at once and resting."""
    counts = {
        "fill_count": format_contracts(placed.filled_count),
        "remaining_count": format_contracts(placed.open_count),
    }
    return {**_build_id_fields(placed), **counts, "ts_ms": epoch_milliseconds(now)}


def cancellation_response(
    placed: PlacedOrder, cancelled_count: Decimal, now: np.datetime64
) -> ResponseBody:
    """Return the response to the cancellation of an order.

    cancelled_count: resting contracts that were cancelled.
    """
    return {
        **_build_id_fields(placed),
        "reduced_by": format_contracts(cancelled_count),
        "ts_ms": epoch_milliseconds(now),
    }


def get_orders(exchange: Exchange, query: QueryParameters, hidden_count: int = 0) -> ResponseBody:
    refuse_unknown_keys(query, *PAGE_PARAMETERS, TIME_PARAMETER, "ticker", "status")
    status = query.get("status")
    if status not in (None, "resting", "canceled", "executed"):
        raise RequestRefused(400, None, "status must be resting, canceled or executed")
    rows = {
        number: order_response(exchange, placed)
        for number, placed in enumerate_rows(exchange.orders.values(), hidden_count)
        if matches_filters(query, status=placed.state, ticker=placed.order.market)
        and is_within_time_filter(query, exchange.instant_of(placed.placed_tick))
    }
    return paginate("orders", rows, query)


def build_order_fields(order: EventContractOrder | ContractFill) -> ResponseBody:
    """Return API fields of an order or fill: ticker, sides and prices, in the book of YES."""
    side = book_side(order.action, order.side)
    price = convert_side_price(order.side, order.price)
    return {
        "ticker": order.market,
        "book_side": side,
        # Kalshi, "Order direction": a bid is positioned for YES whether it buys YES or sells NO.
        "outcome_side": "yes" if side == "bid" else "no",
        "yes_price_dollars": format_dollars(price),
        "no_price_dollars": format_dollars(CONTRACT_PAYOUT_USD - price),
    }


def _build_id_fields(placed: PlacedOrder) -> ResponseBody:
    return {"order_id": placed.order_id, "client_order_id": placed.client_order_id}


def enumerate_rows(rows: Collection[Row], hidden_count: int = 0) -> Iterator[tuple[int, Row]]:
    """Yield each row with its number, from 1; the API's cursors are such numbers.

    hidden_count: number of the newest rows to skip.
    """
    return enumerate(islice(rows, len(rows) - hidden_count), start=1)


def matches_filters(query: QueryParameters, **row_values: str) -> bool:
    """Return whether a row passes the filters of a query.

    row_values: the row's value for each filter, by the filter's name.
    """
    return all(query.get(name) in (None, value) for name, value in row_values.items())


def is_within_time_filter(query: QueryParameters, at: np.datetime64) -> bool:
    """Return whether an instant is at or after the query's `min_ts`."""
    return epoch_milliseconds(at) // 1000 >= parse_query_integer(query, TIME_PARAMETER, 0)


def paginate(name: str, rows: Mapping[int, ResponseBody], query: QueryParameters) -> ResponseBody:
    """Return one page of a list: the newest rows before the cursor, and the next cursor.

    name: key of the list in the response.
    rows: all rows of the list by number.
    """
    limit = parse_query_integer(query, "limit", DEFAULT_PAGE_SIZE, 1, MAX_PAGE_SIZE)
    before = parse_query_integer(query, "cursor", 2**62)
    earlier = [number for number in rows if number < before][::-1]
    shown = earlier[:limit]
    cursor = str(shown[-1]) if len(earlier) > limit else ""
    return {name: [rows[number] for number in shown], "cursor": cursor}


def format_dollars(amount: Decimal) -> str:
    """Return USD in the API's format, with 4 to 6 decimals."""
    text = f"{amount:.6f}"
    return text[:-2] if text.endswith("00") else text


def format_contracts(contracts: Decimal) -> str:
    return f"{contracts:.2f}"


def epoch_milliseconds(at: np.datetime64) -> int:
    """Return an instant as epoch milliseconds."""
    return int(at.astype("datetime64[ms]").astype(np.int64))


def format_timestamp(at: np.datetime64) -> str:
    return f"{np.datetime_as_string(at, unit='ms')}Z"


@dataclass(frozen=True, slots=True)
class PositionCost:
    """Cost basis of one market from its fills, by the average-cost method.

    position: contracts, YES positive and NO negative.
    average_price: mean entry price, USD of YES; a NO cost 1 − price.
    traded_usd: price times contracts of all fills, USD.
    realized_pnl: realised profit before fees, USD.
    fees: fees of all fills, USD.
    last_fill_tick: tick of the exchange at the last fill.
    yes_count_and_cost, no_count_and_cost: contracts bought and their cost in USD. A sale of YES
        counts as a purchase of NO, and vice versa.
    """

    position: Decimal = ZERO
    average_price: Decimal = ZERO
    traded_usd: Decimal = ZERO
    realized_pnl: Decimal = ZERO
    fees: Decimal = ZERO
    last_fill_tick: int = 0
    yes_count_and_cost: tuple[Decimal, Decimal] = (ZERO, ZERO)
    no_count_and_cost: tuple[Decimal, Decimal] = (ZERO, ZERO)

    @property
    def exposure(self) -> Decimal:
        """Return the cost at which the position was bought, USD."""
        return abs(self.position) * (
            self.average_price if self.position > 0 else CONTRACT_PAYOUT_USD - self.average_price
        )

    def with_fill(self, fill: ContractFill) -> PositionCost:
        """Return the cost basis after one more fill."""
        price = convert_side_price(fill.side, fill.price)
        is_bid = book_side(fill.action, fill.side) == "bid"
        change = fill.count if is_bid else -fill.count
        mean, realized = average_cost(self.position, self.average_price, change, price)
        (yes, yes_cost), (no, no_cost) = self.yes_count_and_cost, self.no_count_and_cost
        if is_bid:
            yes, yes_cost = yes + fill.count, yes_cost + fill.count * price
        else:
            no, no_cost = no + fill.count, no_cost + fill.count * (CONTRACT_PAYOUT_USD - price)
        return replace(
            self,
            position=self.position + change,
            average_price=mean,
            traded_usd=self.traded_usd + fill.price * fill.count,
            realized_pnl=self.realized_pnl + realized,
            fees=self.fees + fill.fee,
            last_fill_tick=fill.exchange_tick,
            yes_count_and_cost=(yes, yes_cost),
            no_count_and_cost=(no, no_cost),
        )


def compute_position_costs(fills: Iterable[ContractFill]) -> dict[str, PositionCost]:
    """Return the cost basis of each traded market, by ticker.

    fills: fills in booking order.
    """
    costs: dict[str, PositionCost] = defaultdict(PositionCost)
    for fill in fills:
        costs[fill.market] = costs[fill.market].with_fill(fill)
    return dict(costs)


def get_balance(exchange: Exchange, query: QueryParameters) -> ResponseBody:
    """Return the response to `GET /portfolio/balance`.

    The balance includes cash that resting orders may use.
    """
    refuse_unknown_keys(query)
    cash = exchange.cash
    return {
        "balance": int(cash * CENTS_PER_DOLLAR // 1),
        "balance_dollars": format_dollars(cash),
        "portfolio_value": int(exchange.position_value * CENTS_PER_DOLLAR // 1),
        "updated_ts": epoch_milliseconds(exchange.now) // 1000,
        "balance_breakdown": [{"exchange_index": EXCHANGE_INDEX, "balance": format_dollars(cash)}],
    }


def get_positions(exchange: Exchange, query: QueryParameters) -> ResponseBody:
    """Return the response to `GET /portfolio/positions`.

    It lists markets in which the account has traded and which have not paid yet.
    """
    refuse_unknown_keys(query, *PAGE_PARAMETERS)
    paid = {settlement.market for settlement in exchange.paid_settlements}
    costs = compute_position_costs(exchange.fills)
    rows = {
        number: _build_position(exchange, ticker, costs[ticker])
        for number, ticker in enumerate_rows(exchange.listings)
        if ticker in costs and ticker not in paid
    }
    shown = paginate("market_positions", rows, query)
    events = dict.fromkeys(
        event_ticker_of(exchange.listings[row["ticker"]]) for row in shown["market_positions"]
    )
    return {**shown, "event_positions": [_build_event_position(exchange, e, costs) for e in events]}


def _build_position(exchange: Exchange, ticker: str, cost: PositionCost) -> ResponseBody:
    return {
        "ticker": ticker,
        "exchange_index": EXCHANGE_INDEX,
        "total_traded_dollars": format_dollars(cost.traded_usd),
        # A closed market that has not paid lists the contracts that it will pay for.
        "position_fp": format_contracts(exchange.position(ticker)),
        "market_exposure_dollars": format_dollars(cost.exposure),
        "realized_pnl_dollars": format_dollars(cost.realized_pnl),
        "fees_paid_dollars": format_dollars(cost.fees),
        "last_updated_ts": format_timestamp(exchange.instant_of(cost.last_fill_tick)),
    }


def _build_event_position(
    exchange: Exchange, event: str, costs: dict[str, PositionCost]
) -> ResponseBody:
    ours = [costs[name] for name in costs if event_ticker_of(exchange.listings[name]) == event]

    def format_total(name: str) -> str:
        return format_dollars(sum((getattr(each, name) for each in ours), ZERO))

    return {
        "event_ticker": event,
        "total_cost_dollars": format_total("traded_usd"),
        "total_cost_shares_fp": format_contracts(
            sum((each.yes_count_and_cost[0] + each.no_count_and_cost[0] for each in ours), ZERO)
        ),
        "event_exposure_dollars": format_total("exposure"),
        "realized_pnl_dollars": format_total("realized_pnl"),
        "fees_paid_dollars": format_total("fees"),
    }


def get_fills(exchange: Exchange, query: QueryParameters, hidden_count: int = 0) -> ResponseBody:
    """Return the response to `GET /portfolio/fills`.

    hidden_count: number of the newest fills to skip.
    """
    refuse_unknown_keys(query, *PAGE_PARAMETERS, TIME_PARAMETER, "ticker")
    rows = {
        number: _build_fill(exchange, number, fill)
        for number, fill in enumerate_rows(exchange.fills, hidden_count)
        if matches_filters(query, ticker=fill.market)
        and is_within_time_filter(query, exchange.instant_of(fill.exchange_tick))
    }
    return paginate("fills", rows, query)


def _build_fill(exchange: Exchange, number: int, fill: ContractFill) -> ResponseBody:
    at = exchange.instant_of(fill.exchange_tick)
    name = f"trade-{number:06d}"
    return {
        "fill_id": name,
        "trade_id": name,
        "order_id": fill.order_id,
        **build_order_fields(fill),
        "market_ticker": fill.market,
        "exchange_index": EXCHANGE_INDEX,
        "count_fp": format_contracts(fill.count),
        "is_taker": not fill.is_maker,
        "fee_cost": format_dollars(fill.fee),
        "created_time": format_timestamp(at),
        "ts": epoch_milliseconds(at) // 1000,
        "subaccount_number": 0,
    }


def get_settlements(exchange: Exchange, query: QueryParameters) -> ResponseBody:
    """Return the response to `GET /portfolio/settlements`.

    It lists markets in which the account has traded and which have paid.
    """
    refuse_unknown_keys(query, *PAGE_PARAMETERS, TIME_PARAMETER)
    costs = compute_position_costs(exchange.fills)
    rows = {
        number: _build_settlement(exchange, settlement, costs[settlement.market])
        for number, settlement in enumerate_rows(exchange.paid_settlements)
        if settlement.market in costs
        and is_within_time_filter(query, exchange.instant_of(settlement.payout_tick))
    }
    return paginate("settlements", rows, query)


def _build_settlement(
    exchange: Exchange, settlement: SimulatedSettlement, cost: PositionCost
) -> ResponseBody:
    yes, yes_cost = cost.yes_count_and_cost
    no, no_cost = cost.no_count_and_cost
    return {
        "ticker": settlement.market,
        "exchange_index": EXCHANGE_INDEX,
        "event_ticker": event_ticker_of(exchange.listings[settlement.market]),
        "market_result": settlement.outcome.lower(),
        "yes_count_fp": format_contracts(yes),
        "yes_total_cost_dollars": format_dollars(yes_cost),
        "no_count_fp": format_contracts(no),
        "no_total_cost_dollars": format_dollars(no_cost),
        "revenue": int(settlement.payout * CENTS_PER_DOLLAR),
        "settled_time": format_timestamp(exchange.instant_of(settlement.payout_tick)),
        "fee_cost": format_dollars(cost.fees),
        "value": CENTS_PER_DOLLAR if settlement.outcome == "YES" else 0,
    }
