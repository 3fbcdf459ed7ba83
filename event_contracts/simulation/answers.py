"""What Kalshi's REST API says of an account and of markets, in its fields.

As documented in autumn 2026: orders, fills, positions, settlements, balance,
`price_ranges`. Assumed, because nothing that was read says so:

- `balance` has what resting orders may take still in it.
- Lists are newest first; a `cursor` is good for the same query alone.
- A list of orders knows no `client_order_id`: who looks for his own id pages through the list.
- A cancelled order that has ended before answers 404.
- Errors are `{"code", "message", "details"}`; the codes are this server's own words.
- A market's quote leaves the account's own orders out, as the simulated book does.
- A market that is paused takes no orders; those that wait go on waiting, at the end of the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import TypeVar

import numpy as np

from event_contracts.simulation.exchange import Listing
from event_contracts.simulation.tickets import (
    SELF_TRADE,
    Answer,
    Refused,
    Ticket,
    Trade,
    counted,
    dollars,
    milliseconds,
    written,
)
from event_contracts.simulation.venue import KalshiVenue, Payment
from event_contracts.trading.fees import NOTHING, FeeRules
from event_contracts.trading.orders import FLAT, PAYOUT
from foundation.cents import CENT
from marketsimulator.venue.request_values import whole_number

Row = TypeVar("Row")

LONGEST_PAGE = 1000
PAGE = 100
CENTS = 100
_OPEN_STATUSES = {  # what a filter by status means
    "unopened": ("initialized",),
    "open": ("active",),
    "closed": ("closed", "determined"),
    "settled": ("finalized",),
}
_USER = "practice"


def balance_answer(venue: KalshiVenue) -> Answer:
    """`GET /portfolio/balance`."""
    cash = venue.cash
    return {
        "balance": int(cash * CENTS // 1),
        "balance_dollars": dollars(cash),
        "portfolio_value": int(_worth(venue) * CENTS // 1),
        "updated_ts": milliseconds(venue.now) // 1000,
    }


def order_answer(ticket: Ticket) -> Answer:
    """One order."""
    taken = [trade for trade in ticket.trades if trade.taker]
    made = [trade for trade in ticket.trades if not trade.taker]
    request = ticket.request
    return {
        "order_id": ticket.order_id,
        "user_id": _USER,
        "client_order_id": ticket.client_order_id,
        "ticker": request.ticker,
        "side": request.outcome.lower(),
        "action": request.verb.lower(),
        "outcome_side": "yes" if request.side == "bid" else "no",
        "book_side": request.side,
        "type": "limit",
        "status": ticket.status,
        "yes_price_dollars": dollars(request.price),
        "no_price_dollars": dollars(PAYOUT - request.price),
        "fill_count_fp": counted(ticket.filled),
        "remaining_count_fp": counted(ticket.waiting),
        "initial_count_fp": counted(ticket.count),
        "taker_fill_cost_dollars": dollars(_cost(taken)),
        "maker_fill_cost_dollars": dollars(_cost(made)),
        "taker_fees_dollars": dollars(_fees(taken)),
        "maker_fees_dollars": dollars(_fees(made)),
        "expiration_time": None if request.expires is None else written(request.expires),
        "created_time": written(ticket.at),
        "last_update_time": written(ticket.changed),
        "self_trade_prevention_type": SELF_TRADE,
        "order_group_id": None,
        "cancel_order_on_pause": False,
        "exchange_index": 0,
    }


def receipt_answer(ticket: Ticket, now: np.datetime64) -> Answer:
    """What a new order is answered with."""
    answer: Answer = {
        "order_id": ticket.order_id,
        "client_order_id": ticket.client_order_id,
        "fill_count": counted(ticket.filled),
        "remaining_count": counted(ticket.waiting),
        "ts_ms": milliseconds(now),
    }
    if ticket.trades:
        answer["average_fill_price"] = dollars(_cost(ticket.trades) / ticket.filled)
        answer["average_fee_paid"] = dollars(_fees(ticket.trades) / ticket.filled)
    return answer


def orders_answer(venue: KalshiVenue, query: Mapping[str, str], hidden: int = 0) -> Answer:
    """`GET /portfolio/orders`; hidden: so many of the newest are left out."""
    status = query.get("status")
    if status not in (None, "resting", "canceled", "executed"):
        raise Refused(400, "invalid_parameters", "status must be resting, canceled or executed")
    tickets = list(venue.tickets.values())
    rows = [
        ticket
        for ticket in tickets[: len(tickets) - hidden]
        if status in (None, ticket.status)
        and query.get("ticker") in (None, ticket.request.ticker)
        and _within(query, ticket.at)
    ]
    return _page("orders", rows, query, lambda ticket: ticket.number, order_answer)


def fill_answer(trade: Trade) -> Answer:
    """One fill; it does not say the client's id."""
    return {
        "fill_id": trade.trade_id,
        "trade_id": trade.trade_id,
        "order_id": trade.order_id,
        "ticker": trade.ticker,
        "market_ticker": trade.ticker,
        "side": trade.outcome.lower(),
        "action": trade.verb.lower(),
        "outcome_side": "yes" if trade.side == "bid" else "no",
        "book_side": trade.side,
        "count_fp": counted(trade.count),
        "yes_price_dollars": dollars(trade.price),
        "no_price_dollars": dollars(PAYOUT - trade.price),
        "is_taker": trade.taker,
        "fee_cost": dollars(trade.fee),
        "created_time": written(trade.at),
        "ts": milliseconds(trade.at) // 1000,
    }


def fills_answer(venue: KalshiVenue, query: Mapping[str, str], hidden: int = 0) -> Answer:
    """`GET /portfolio/fills`; hidden: so many of the newest are left out."""
    rows = [
        trade
        for trade in venue.trades[: len(venue.trades) - hidden]
        if query.get("ticker") in (None, trade.ticker)
        and query.get("order_id") in (None, trade.order_id)
        and _within(query, trade.at)
    ]
    return _page("fills", rows, query, lambda trade: trade.number, fill_answer)


def positions_answer(venue: KalshiVenue, query: Mapping[str, str]) -> Answer:
    """`GET /portfolio/positions`: markets that were traded and have not paid."""
    paid = {payment.settlement.market for payment in venue.payments}
    tickers = [name for name in venue.exchange.listings if name not in paid]
    traded = [
        (number, ticker)
        for number, ticker in enumerate(tickers, start=1)
        if query.get("ticker") in (None, ticker)
        and any(trade.ticker == ticker for trade in venue.trades)
    ]

    def row(entry: tuple[int, str]) -> Answer:
        return _position_answer(venue, entry[1])

    answer = _page("market_positions", traded, query, lambda entry: entry[0], row)
    return {**answer, "event_positions": []}


def settlements_answer(venue: KalshiVenue, query: Mapping[str, str]) -> Answer:
    """`GET /portfolio/settlements`: markets that paid while something of them was held."""
    rows = [
        payment
        for payment in venue.payments
        if query.get("ticker") in (None, payment.settlement.market)
        and payment.settlement.held != FLAT
        and _within(query, payment.at)
    ]

    def row(payment: Payment) -> Answer:
        return _settlement_answer(venue, payment)

    return _page("settlements", rows, query, lambda payment: payment.number, row)


def market_answer(venue: KalshiVenue, ticker: str) -> Answer:
    """One market."""
    listing = venue.listing(ticker)
    bid, bid_size = venue.best_bid(ticker)
    ask, ask_size = venue.best_ask(ticker)
    outcome = venue.outcome(ticker)
    paid = [each.at for each in venue.payments if each.settlement.market == ticker]
    exchange = venue.exchange
    ends = listing.first + len(listing.tape) - 1
    closes = written(exchange.begins + ends * exchange.interval)
    own = [trade for trade in venue.trades if trade.ticker == ticker]
    tick = Decimal(int(exchange.settings.terms()["tick"][0])) / 10_000
    return {
        "ticker": ticker,
        "event_ticker": event_of(listing),
        "market_type": "binary",
        "title": ticker,
        "status": venue.status(ticker),
        "open_time": written(exchange.begins + listing.first * exchange.interval),
        "close_time": closes,
        "latest_expiration_time": closes,
        "can_close_early": False,
        "settlement_timer_seconds": venue.settings.settlement * venue.settings.interval,
        "yes_bid_dollars": dollars(bid),
        "yes_ask_dollars": dollars(ask),
        "yes_bid_size_fp": counted(bid_size),
        "yes_ask_size_fp": counted(ask_size),
        "no_bid_dollars": dollars(PAYOUT - ask),
        "no_ask_dollars": dollars(PAYOUT - bid),
        "last_price_dollars": dollars(own[-1].price if own else NOTHING),
        "volume_fp": counted(sum((trade.count for trade in own), NOTHING)),
        "notional_value_dollars": dollars(PAYOUT),
        "price_level_structure": "linear_cent" if tick == CENT else "deci_cent",
        "price_ranges": [{"start": "0.0000", "end": "1.0000", "step": dollars(tick)}],
        "fractional_trading_enabled": False,
        "result": "" if outcome is None else outcome.lower(),
        "settlement_value_dollars": (
            None if outcome is None else dollars(PAYOUT if outcome == "YES" else NOTHING)
        ),
        "settlement_ts": written(paid[0]) if paid else None,
        "fee_waiver_expiration_time": None,
    }


def markets_answer(venue: KalshiVenue, query: Mapping[str, str]) -> Answer:
    """`GET /markets`."""
    status = query.get("status", "")
    if status and status not in _OPEN_STATUSES:
        names = ", ".join(_OPEN_STATUSES)
        raise Refused(400, "invalid_parameters", f"status must be one of {names}")
    wanted = [name for name in query.get("tickers", "").split(",") if name]
    rows = [
        (number, ticker)
        for number, (ticker, listing) in enumerate(venue.exchange.listings.items(), start=1)
        if (not wanted or ticker in wanted)
        and query.get("event_ticker") in (None, event_of(listing))
        and query.get("series_ticker") in (None, series_of(listing))
        and (not status or venue.status(ticker) in _OPEN_STATUSES[status])
    ]

    def row(entry: tuple[int, str]) -> Answer:
        return market_answer(venue, entry[1])

    return _page("markets", rows, query, lambda entry: entry[0], row)


def series_answer(venue: KalshiVenue, ticker: str) -> Answer:
    """`GET /series/{series_ticker}`: what its fees are."""
    if ticker not in {series_of(each) for each in venue.exchange.listings.values()}:
        raise Refused(404, "not_found", f"series {ticker} not found")
    fees = venue.exchange.space.fees
    kind = "quadratic_with_maker_fees" if fees.maker > 0 else "quadratic"
    multiplier = float(fees.taker / FeeRules().taker)
    series = {"ticker": ticker, "title": ticker, "fee_type": kind, "fee_multiplier": multiplier}
    return {"series": series}


def event_answer(venue: KalshiVenue, ticker: str) -> Answer:
    """`GET /events/{event_ticker}`: which series it is one of."""
    for listing in venue.exchange.listings.values():
        if event_of(listing) == ticker:
            event = {"event_ticker": ticker, "series_ticker": series_of(listing), "title": ticker}
            return {"event": event}
    raise Refused(404, "not_found", f"event {ticker} not found")


def event_of(listing: Listing) -> str:
    """The event that a market is one of."""
    return listing.event or listing.ticker


def series_of(listing: Listing) -> str:
    """The series that a market's event is one of."""
    return event_of(listing).split("-")[0]


def _position_answer(venue: KalshiVenue, ticker: str) -> Answer:
    trades = [trade for trade in venue.trades if trade.ticker == ticker]
    held = venue.holdings.get(ticker, FLAT)
    return {
        "ticker": ticker,
        "exchange_index": 0,
        "position_fp": counted(held.yes - held.no),
        "fees_paid_dollars": dollars(_fees(trades)),
        "last_updated_ts": written(trades[-1].at),
    }


def _settlement_answer(venue: KalshiVenue, payment: Payment) -> Answer:
    settlement = payment.settlement
    return {
        "ticker": settlement.market,
        "exchange_index": 0,
        "event_ticker": event_of(venue.listing(settlement.market)),
        "market_result": settlement.outcome.lower(),
        "yes_count_fp": counted(settlement.held.yes),
        "no_count_fp": counted(settlement.held.no),
        "revenue": int(settlement.payout * CENTS),
        "settled_time": written(payment.at),
        "value": CENTS if settlement.outcome == "YES" else 0,
    }


def _worth(venue: KalshiVenue) -> Decimal:
    """USD that positions are worth: at the middle of the quote, at its value once determined."""
    total = NOTHING
    for ticker, held in venue.holdings.items():
        outcome = venue.outcome(ticker)
        if outcome is not None:
            total += held.of(outcome) * PAYOUT
            continue
        quote = venue.exchange.quote(ticker)
        middle = (quote.yes_bid + quote.yes_ask) / 2
        total += held.yes * middle + held.no * (PAYOUT - middle)
    return total


def _cost(trades: Iterable[Trade]) -> Decimal:
    return sum((trade.price * trade.count for trade in trades), NOTHING)


def _fees(trades: Iterable[Trade]) -> Decimal:
    return sum((trade.fee for trade in trades), NOTHING)


def _within(query: Mapping[str, str], at: np.datetime64) -> bool:
    """Whether an instant is between `min_ts` and `max_ts`, seconds, both included."""
    seconds = milliseconds(at) // 1000
    first = whole_number(query, "min_ts", 0)
    last = whole_number(query, "max_ts", 2**62)
    return first <= seconds <= last


def _page(
    name: str,
    rows: list[Row],
    query: Mapping[str, str],
    number: Callable[[Row], int],
    answer: Callable[[Row], Answer],
) -> Answer:
    """The newest rows before the cursor, and the cursor of those before them."""
    limit = whole_number(query, "limit", PAGE, 1, LONGEST_PAGE)
    before = whole_number(query, "cursor", 2**62)
    earlier = sorted((row for row in rows if number(row) < before), key=number, reverse=True)
    shown = earlier[:limit]
    cursor = str(number(shown[-1])) if len(earlier) > limit else ""
    return {name: [answer(row) for row in shown], "cursor": cursor}
