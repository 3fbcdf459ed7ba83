"""The two accounts that drift compares, each with what it held, traded, paid and was worth."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from execution.journal_record import Reading
from execution.orders import Account, strategy_of
from execution.records import BookingKind, Run, is_trade
from foundation.decimals import ZERO, as_written
from marketsimulator.results.drift_orders import fill_name
from marketsimulator.results.drift_terms import Flow, Side, Term, Trade

# Spread and slippage are in the prices of fills.
_BOOKED: Mapping[BookingKind, Term] = {
    "rounding": "fees",
    "interest": "interest",
    "cash_interest": "interest",
    "dividend": "dividends",
    "split": "splits",
    "borrow": "other",
    "other": "other",
}
_IN_KIND: Mapping[str, Term] = {
    "split": "splits",
    **dict.fromkeys(("option", "share_transfer", "other", "ended"), "other"),
}


def reading_of(account: Account) -> Reading:
    """A simulated account as a live one is read."""
    prices = {symbol: as_written(price) for symbol, price in account.prices.items()}
    positions = {symbol: as_written(held) for symbol, held in account.positions.items()}
    worth = (held * prices[symbol] for symbol, held in positions.items())
    equity = as_written(account.cash) + sum(worth, ZERO)
    return Reading(account.as_of, equity, positions, prices)


def side_of(
    run: Run,
    start: Reading,
    end: Reading,
    marks: Mapping[str, Fraction] | None = None,
    transfers: Fraction = ZERO,
) -> Side:
    """What a run did between two readings of its account.

    marks: prices at the end of what that reading does not price, as what was sold.
    """
    trades: dict[str, Trade] = {}
    flows = [Flow("fees", -as_written(row.fees)) for row in run.rows if row.fees]
    for fill in run.fills:
        quantity, price = as_written(fill.qty), as_written(fill.price)
        if is_trade(fill):
            name = fill_name(fill)
            before = trades.get(name, Trade(fill.symbol, ZERO, ZERO))
            after = before.quantity + quantity, before.value + quantity * price
            trades[name] = Trade(fill.symbol, *after)
        else:
            term = _IN_KIND.get(strategy_of(fill.client_order_id), "coin_fees")
            flows.append(Flow(term, -quantity * price, fill.symbol, quantity))
    flows += [
        Flow(_BOOKED[booking.kind], as_written(booking.usd))
        for booking in run.bookings
        if booking.kind in _BOOKED
    ]
    return Side(
        start=start.positions,
        start_marks=start.prices,
        end_marks={**(marks or {}), **end.prices},
        start_equity=start.equity,
        end_equity=end.equity,
        trades=trades,
        flows=tuple(flows),
        transfers=transfers,
    )
