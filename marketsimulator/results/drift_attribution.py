"""Where the money of the two accounts that drift compares came from, in the same seven parts.

Both are valued at the same closes from instant to instant, and at their own prices at the ends.
What a live fill paid within its price is reckoned from the open of the bar that it met. Fees in USD
are the account's, unless the venue says of which symbol; they count when they are listed. What an
account is worth beyond all that is listed stands under `unlisted`, as financing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from execution.alpaca.activities import COIN_FEE, SHARES_OF_AN_OPTION, TRANSFERS
from execution.decision import Choice
from execution.orders import strategy_of
from execution.records import Booking
from execution.spreads.orders import is_option
from foundation.arrays import Array, Instants
from foundation.cents import cents_that_add_up, table_that_adds_up
from marketsimulator.results.attribution import (
    PARTS,
    Attribution,
    History,
    Part,
    attribution,
    hours_of,
    marks_of,
    plans_of,
)
from marketsimulator.results.attribution_tables import Cents, part_totals
from marketsimulator.results.drift_journal import (
    JournaledActivity,
    JournaledFill,
    LiveRecord,
    Reading,
)
from marketsimulator.results.drift_orders import SPLIT
from marketsimulator.results.drift_sides import SimulatedHours
from marketsimulator.results.drift_terms import ZERO, Side
from trainingdata.actions import Action
from trainingdata.bars import OPEN, Bars
from trainingdata.sessions import started_at

UNLISTED = "unlisted"
DUST = 1e-6  # USD that sums of floats are off


@dataclass(frozen=True, eq=False, slots=True)
class Hours:
    """The instants that both accounts are valued at.

    at: [N] at which bars became known; the last one is that of the last reading.
    bars: the panel.
    actions: in its prices.
    """

    at: Instants
    bars: Bars
    actions: Sequence[Action]

    def row(self, at: np.datetime64) -> int:
        """The number of the instant by which something has happened."""
        return max(int(np.searchsorted(self.at, at, side="right")) - 1, 0)

    def open_met(self, symbol: str, at: np.datetime64) -> float | None:
        """Open of the bar in which something traded, USD; None where none is there."""
        if symbol not in self.bars.symbols:
            return None
        s = self.bars.symbols.index(symbol)
        times, values = self.bars.real_bars(s)
        k = int(np.searchsorted(times, at, side="right"))
        if k == len(times):
            return None
        started = started_at(self.bars.instruments[s].kind, times[k : k + 1])[0]
        return float(values[k, OPEN]) if started <= at else None


@dataclass(frozen=True, eq=False, slots=True)
class Origins:
    """Where the money of both accounts came from.

    live, simulated: the accounts.
    unstated: journaled choices that were sized and do not say what premium and forecast wanted.
    """

    live: Attribution
    simulated: Attribution
    unstated: int = 0


def hours_between(bars: Bars, first: int, end: Reading, actions: Sequence[Action]) -> Hours:
    """From instant number `first` of the panel to the last reading of the live account."""
    times = bars.times[first:]
    return Hours(np.append(times[times < end.at], end.at), bars, actions)


def live_origins(record: LiveRecord, start: Reading, hours: Hours, side: Side) -> Attribution:
    """Of the live account. side: the same account, as drift compares it."""
    end = hours.at[-1]
    books = _Books(hours, side)
    fills = record.fills_between(start.at, end)
    for fill in fills:
        k = hours.row(fill.at)
        own = books.of(fill.symbol)
        units = SHARES_OF_AN_OPTION if is_option(fill.symbol) else 1
        quantity, price = float(fill.quantity), float(fill.price)
        own.changes[k] += quantity
        own.paid[k] += quantity * price * units
        met = hours.open_met(fill.symbol, fill.at)
        if met is not None:
            own.in_prices[k] += quantity * (price - met)
    for each in record.activities:
        if each.kind in TRANSFERS or not start.at < each.listed_at <= end:
            continue
        k = hours.row(each.listed_at)
        own = books.of(each.symbol)
        own.changes[k] += float(each.quantity)
        if each.kind == COIN_FEE:
            own.in_coin[k] -= float(each.quantity) * _bought_at(fills, each)
        if each.kind in ("FEE", COIN_FEE):
            own.charges[k] -= float(each.amount)
        else:
            own.financing[k] += float(each.amount)
    return books.attribution(
        (decision.at, decision.choices.values(), decision.equity) for decision in record.decisions
    )


def unstated_choices(record: LiveRecord, end: np.datetime64) -> int:
    """How many choices of a journal, up to an instant, do not say what premium and forecast wanted.

    Earlier versions did not write it, and a strategy of a user's own need not say it.
    """
    return sum(
        math.isfinite(choice.kelly) and not math.isfinite(choice.basis.premium_weight)
        for decision in record.decisions
        if decision.at <= end
        for choice in decision.choices.values()
    )


def simulated_origins(
    simulated: SimulatedHours, bookings: Iterable[Booking], hours: Hours, side: Side
) -> Attribution:
    """Of the simulated account. bookings: of its whole run."""
    # What is charged as its last instant comes, or for the fills of it, no venue has listed by
    # then.
    last = simulated.ends.as_of
    books = _Books(hours, side)
    bought = 0.0
    filled = set()
    for fill in simulated.fills:
        k = hours.row(fill.at)
        own = books.of(fill.symbol)
        quantity = float(fill.qty)
        own.changes[k] += quantity
        own.paid[k] += quantity * fill.price
        filled.add(fill.at)
        if fill.price > 0:
            bought = fill.price
        elif strategy_of(fill.client_order_id) != SPLIT:
            own.in_coin[k] -= quantity * bought
        if fill.at < last:
            books.of("").charges[k] += fill.fee
    for booking in bookings:
        k = hours.row(booking.at)
        own = books.of(booking.symbol)
        if booking.kind in ("spread", "slippage"):
            if booking.at in filled:
                own.in_prices[k] -= booking.usd
        elif booking.at < last:
            if booking.kind == "rounding":
                own.charges[k] -= booking.usd
            else:
                own.financing[k] += booking.usd
    return books.attribution(
        (decision.at, decision.choices, decision.equity) for decision in simulated.decisions
    )


def _bought_at(fills: Iterable[JournaledFill], fee: JournaledActivity) -> float:
    """The price of the last purchase before a fee in coin was listed, USD; 0 where none is."""
    price = 0.0
    for fill in fills:
        if fill.symbol == fee.symbol and fill.quantity > 0 and fill.at <= fee.listed_at:
            price = float(fill.price)
    return price


class _Books:
    """The histories of an account's symbols, into which is written what happened."""

    def __init__(self, hours: Hours, side: Side) -> None:
        self._hours = hours
        self._side = side
        self._histories: dict[str, History] = {}
        for symbol in sorted({*hours.bars.symbols, *side.start}):
            self.of(symbol)

    def of(self, symbol: str) -> History:
        """That of a symbol; of the account where it is empty."""
        if symbol not in self._histories:
            self._histories[symbol] = _history(self._hours, self._side, symbol)
        return self._histories[symbol]

    def attribution(
        self, decisions: Iterable[tuple[np.datetime64, Iterable[Choice], float]]
    ) -> Attribution:
        """The parts of the profit, and what the account is worth beyond them.

        decisions: (instant, choices, equity) in time order.
        """
        at = self._hours.at
        decided: dict[str, list[tuple[int, Choice, float]]] = {}
        for instant, choices, equity in decisions:
            if instant <= at[-1]:
                for choice in choices:
                    row = (self._hours.row(instant), choice, equity)
                    decided.setdefault(choice.symbol, []).append(row)
        plans = {symbol: plans_of(own) for symbol, own in decided.items()}
        account = self._histories.pop("", _history(self._hours, self._side, ""))
        of_account: dict[Part, Array] = {
            "costs": -account.charges,
            "financing": account.financing,
        }
        found = attribution(at, self._histories, plans, of_account)
        left = float(self._side.profit) - found.profit
        beyond = np.zeros((1, len(found.hours), len(PARTS)))
        if abs(left) > DUST:
            beyond[0, hours_of(at)[0][-1], PARTS.index("financing")] = left
        usd = np.concatenate([found.usd, beyond])
        return Attribution((*found.symbols, UNLISTED), found.hours, usd)


def _history(hours: Hours, side: Side, symbol: str) -> History:
    """One symbol to which nothing has happened yet.

    What the panel lacks has no prices but those at the ends.
    """
    count = len(hours.at)
    marks, ratios = np.full(count, float(side.end_mark(symbol))), np.ones(count)
    s = hours.bars.symbols.index(symbol) if symbol in hours.bars.symbols else None
    if s is not None and hours.bars.mask[s].any():
        actions = [action for action in hours.actions if action.symbol == symbol]
        marks, ratios = marks_of(hours.bars, s, hours.at, actions)
        if symbol in side.end_marks:
            marks[-1] = float(side.end_marks[symbol])
    held = float(side.start.get(symbol, ZERO))
    before = float(side.start_mark(symbol)) if held else float(marks[0])
    flows = [np.zeros(count) for _ in range(6)]
    return History(marks, (before, held), ratios, *flows)


def origin_cents(origins: Attribution, profit: Decimal) -> dict[str, dict[str, Cents]]:
    """The parts in whole cents that add up to the profit: of `all`, by `symbols` and by `hours`."""
    tables = origins.as_dict()
    totals = part_totals(tables["symbols"].values(), profit)
    cents: dict[str, dict[str, Cents]] = {"all": {"": totals}}
    for name, rows in tables.items():
        earned = {row: sum(parts.values()) for row, parts in rows.items()}
        cents[name] = {**table_that_adds_up(rows, cents_that_add_up(earned, profit), totals)}
    return cents
