"""The two accounts that drift compares, each with what it held, traded, paid and was worth; and the
account that a journaled decision was made for, as far as the journal says it.

The venue says what has not settled and what shorts were sold for; the journal does not. Both follow
from the trades since the first decision, by the rules of the simulated account: stocks settle when
the next session opens, and a short that is bought back in part keeps its share of the proceeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np

from execution.journal.decisions import DecisionRow
from execution.journal_record import JournalRecord, Reading
from execution.lending import proceeds_of_short
from execution.orders import Account, strategy_of
from execution.records import BookingKind, Run, is_trade
from execution.settings import TradingSettings
from foundation.decimals import ZERO, as_written
from marketsimulator.results.drift_orders import fill_name
from marketsimulator.results.drift_terms import Flow, Side, Term, Trade
from trainingdata.instruments import is_stock
from trainingdata.sessions import calendar

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


def journaled_account(
    record: JournalRecord,
    decision: DecisionRow,
    settings: TradingSettings,
    closes: Mapping[str, float],
) -> Account:
    """The account of a decision.

    closes: USD by symbol, of what the journal does not price then.
    """
    reading = record.reading(decision)
    proceeds, fresh, net = _shorts(record, decision)
    margin = settings.margin
    lends = decision.equity >= margin.margin_equity
    open_orders = [replace(record.order(name), qty=left) for name, left in decision.cancels.items()]
    prices = {symbol: float(price) for symbol, price in reading.prices.items()}
    account = Account(
        cash=float(reading.cash),
        positions={symbol: held for symbol, held in decision.positions.items() if held},
        prices={**closes, **prices},
        as_of=decision.at,
        open_orders=tuple(open_orders),
        unsettled=float(net - fresh),
        short_proceeds=float(proceeds),
        leverage=margin.leverage if lends else min(margin.leverage, 1.0),
        shorting=lends,
    )
    # Equity is a float that was added up in another order: the cash takes the last digit.
    return replace(account, cash=account.cash + (decision.equity - account.equity))


def _shorts(record: JournalRecord, decision: DecisionRow) -> tuple[Fraction, Fraction, Fraction]:
    """What open shorts were sold for, the part of it from this session, and what has not settled.

    Shorts that the first decision met count as sold at their price then. USD.
    """
    start = record.beginning()
    held = dict(start.positions)
    sold = {s: -held[s] * start.prices[s] for s in held if held[s] < 0 and is_stock(s)}
    fresh: dict[str, Fraction] = {}
    net = ZERO
    opened: np.datetime64 | None = None
    for fill in record.fills_between(start.at, decision.decided_at):
        symbol = fill.symbol
        before = held.get(symbol, ZERO)
        quantity = as_written(fill.quantity)
        value = quantity * as_written(fill.price)
        held[symbol] = before + quantity
        if not is_stock(symbol):
            continue
        session = _session_opened(fill.at)
        if session != opened:
            opened = session
            fresh = {}
            net = ZERO
        net -= value
        for part in (sold, fresh):
            part[symbol] = proceeds_of_short(part.get(symbol, ZERO), before, quantity, value)
    if opened != _session_opened(decision.at):
        return sum(sold.values(), ZERO), ZERO, ZERO
    return sum(sold.values(), ZERO), sum(fresh.values(), ZERO), net


def _session_opened(at: np.datetime64) -> np.datetime64:
    """When the session that opened last by an instant did."""
    opens = calendar().opens
    return np.datetime64(opens[np.searchsorted(opens, at, side="right") - 1])
