"""The two accounts that drift compares, each with what it held, traded, paid and was worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from execution.decision import Decision
from execution.journal.activities import Kind
from execution.option_orders import SHARES, is_option
from execution.orders import Account, Fill, strategy_of
from execution.records import Row
from foundation.decimals import as_written
from marketsimulator.results.drift_journal import LiveRecord, Reading
from marketsimulator.results.drift_orders import SPLIT, fill_name, foreign_name
from marketsimulator.results.drift_terms import ZERO, Flow, Side, Term, Trade

_TERM_OF_KIND: Mapping[Kind, Term] = {
    "fee": "fees",
    "coin fee": "coin_fees",
    "interest": "interest",
    "dividend": "dividends",
    "split": "splits",
}


@dataclass(frozen=True, eq=False, slots=True)
class SimulatedHours:
    """A re-simulation, up to the instant at which the live account was read last.

    begins: its account at the first instant.
    ends: its account as the live one was read last.
    fills: all by then.
    rows: the account after the fills of each instant before the last.
    decisions: all, those of the last instant included.
    sent: those of them whose orders were sent by then.
    """

    begins: Account
    ends: Account
    fills: tuple[Fill, ...]
    rows: tuple[Row, ...]
    decisions: tuple[Decision, ...]
    sent: tuple[Decision, ...]


def simulated_side(hours: SimulatedHours) -> Side:
    """The simulated account.

    What it was charged as its last instant came is among its flows as little as it is among those
    that a venue lists by then.
    """
    start = {symbol: as_written(held) for symbol, held in hours.begins.positions.items()}
    trades: dict[str, Trade] = {}
    flows: list[Flow] = []
    for fill in hours.fills:
        if fill.price > 0:
            _add(trades, fill_name(fill), fill.symbol, as_written(fill.qty), as_written(fill.price))
        else:
            term: Term = "splits" if strategy_of(fill.client_order_id) == SPLIT else "coin_fees"
            flows.append(Flow(term, ZERO, fill.symbol, as_written(fill.qty)))
    flows += _flows_of(hours.rows)
    return Side(
        start=start,
        start_marks=_marks(hours.begins),
        end_marks=_marks(hours.ends),
        start_equity=_equity(hours.begins),
        end_equity=_equity(hours.ends),
        trades=trades,
        flows=tuple(flows),
    )


def live_side(
    record: LiveRecord, start: Reading, end: Reading, marks: Mapping[str, Fraction]
) -> Side:
    """The live account between two readings.

    marks: prices at the end of what the live account does not price itself, as what it has sold.
    """
    trades: dict[str, Trade] = {}
    for fill in record.fills_between(start.at, end.at):
        name = fill.order or foreign_name(fill.symbol, fill.at)
        units = SHARES if is_option(fill.symbol) else 1
        _add(trades, name, fill.symbol, as_written(fill.quantity), as_written(fill.price) * units)
    flows: list[Flow] = []
    transfers = ZERO
    for each in record.activities:
        if not start.at < each.listed_at <= end.at:
            continue
        amount = as_written(each.amount)
        if each.kind == "transfer":
            transfers += amount
        else:
            term = _TERM_OF_KIND.get(each.kind, "other")
            flows.append(Flow(term, amount, each.symbol, as_written(each.quantity)))
    return Side(
        start=start.positions,
        start_marks=start.prices,
        end_marks={**marks, **end.prices},
        start_equity=start.equity,
        end_equity=end.equity,
        trades=trades,
        flows=tuple(flows),
        transfers=transfers,
    )


def _add(
    trades: dict[str, Trade], name: str, symbol: str, quantity: Fraction, price: Fraction
) -> None:
    before = trades.get(name, Trade(symbol, ZERO, ZERO))
    trades[name] = Trade(symbol, before.quantity + quantity, before.value + quantity * price)


def _flows_of(rows: Sequence[Row]) -> list[Flow]:
    flows = []
    for row in rows:
        parts: Mapping[Term, Fraction] = {
            "fees": -as_written(row.fees) - as_written(row.rounding),
            "interest": -as_written(row.interest),
            "dividends": as_written(row.dividends),
            # Borrow, interest on idle cash, and the cash for a fraction of a share after a split.
            "other": as_written(row.other) + as_written(row.rounding) - as_written(row.dividends),
        }
        flows += [Flow(term, usd) for term, usd in parts.items() if usd]
    return flows


def _marks(account: Account) -> dict[str, Fraction]:
    return {symbol: as_written(price) for symbol, price in account.prices.items()}


def _equity(account: Account) -> Fraction:
    marks = _marks(account)
    held = (as_written(quantity) * marks[symbol] for symbol, quantity in account.positions.items())
    return as_written(account.cash) + sum(held, ZERO)
