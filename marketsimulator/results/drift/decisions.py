"""Comparison of journaled decisions with replayed ones: differences and their causes.

A decision is replayed on the account that it was based on, which `rebuild_account` rebuilds. The
venue reports unsettled cash and short proceeds, but the journal does not contain them. Both are
computed from the trades since the first decision, by the rules of the simulated account: stock
trades settle when the next session opens, and when part of a short is closed, the rest keeps its
share of the proceeds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np

from execution.decision.choice import Choice
from execution.decision.decision import Decision
from execution.decision.settings import TradingSettings
from execution.journal.activities import EPOCH
from execution.journal.cooldown import cooling_symbols_after
from execution.journal.decisions import DecisionRow
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.lending import short_proceeds_after_trade
from foundation.decimals import ZERO_FRACTION, to_fraction
from marketsimulator.results.drift.orders import DeadlineFunction, missed_decision_reason
from marketsimulator.results.journal_record import JournalRecord
from trainingdata.instruments import is_stock
from trainingdata.sessions import exchange_calendar

DifferenceCause = Literal["undecided", "bars", "forecast", "sizing"]
DIFFERENCE_CAUSE_MEANINGS: Mapping[DifferenceCause, str] = {
    "undecided": "no live cycle made a decision",
    "bars": "different bars, or different trading permissions at the venue",
    "forecast": (
        "different forecast at the same price: different earlier bars, or a different forecaster"
    ),
    "sizing": "different settings or a different version of the code",
}
# A belief that is computed for all instants at once differs in the last digits of a float.
REL_TOL = 1e-9
COMPARED_FIELDS = (
    "mu",
    "sigma",
    "price",
    "held_weight",
    "kelly",
    "target_weight",
    "qty",
)  # compared in this order


@dataclass(frozen=True, slots=True)
class DecisionDifference:
    """A difference between a live and a simulated decision.

    at: instant of the decision.
    symbol: symbol; empty if only one of live and simulation made a decision.
    field: first field of the choice that differs; empty if only one of them made a decision.
    live, simulated: value of that field in the live account and in the simulation, as text.
    cause: most likely cause according to the journal.
    why: details of the cause.
    """

    at: np.datetime64
    symbol: str
    field: str
    live: str
    simulated: str
    cause: DifferenceCause
    why: str


@dataclass(frozen=True, slots=True)
class DecisionComparison:
    """Result of comparing live decisions with simulated ones.

    compared_instant_count: number of instants at which the live account or the simulation decided.
    equal_instant_count: number of these instants at which the choices of all symbols are equal.
    differences: differences in time order, at most one per symbol and instant.
    """

    compared_instant_count: int
    equal_instant_count: int
    differences: tuple[DecisionDifference, ...]

    @property
    def counts_by_cause(self) -> dict[DifferenceCause, int]:
        return dict(Counter(each.cause for each in self.differences))


def compare_decisions(
    record: JournalRecord,
    replayed_decisions: Mapping[np.datetime64, Decision | None],
    closes: Mapping[np.datetime64, Mapping[str, float]],
    simulated_decisions: Iterable[Decision],
    deadline_of: DeadlineFunction,
) -> DecisionComparison:
    """Compare journaled decisions with decisions replayed on the journaled accounts.

    A decision that only the simulation made is listed as a difference with the cause `undecided`.

    replayed_decisions: replayed decision for each compared journaled decision, by instant.
    closes: last closes at each of these instants, USD by symbol.
    simulated_decisions: decisions of the simulation that starts with the first live account.
    deadline_of: function that returns the deadline of the decision at an instant.
    """
    mine = {decision.at: decision for decision in record.decisions}
    missed = [decision.at for decision in simulated_decisions if decision.at not in mine]
    differences: list[DecisionDifference] = []
    equal = 0
    for at in sorted({*replayed_decisions, *missed}):
        if at in replayed_decisions:
            found = _differences_at(at, mine[at], replayed_decisions[at], closes[at])
        else:
            why = missed_decision_reason(record.cycles, at, deadline_of(at))
            found = [DecisionDifference(at, "", "", "not decided", "decided", "undecided", why)]
        differences += found
        equal += not found
    return DecisionComparison(len({*replayed_decisions, *missed}), equal, tuple(differences))


def _differences_at(
    at: np.datetime64, mine: DecisionRow, other: Decision | None, closes: Mapping[str, float]
) -> list[DecisionDifference]:
    if other is None:
        why = "the simulation has no bar of an open market that ends at this time"
        return [DecisionDifference(at, "", "", "decided", "not decided", "bars", why)]
    choices = {choice.symbol: choice for choice in other.choices}
    differences = []
    for symbol in dict.fromkeys([*mine.choices, *choices]):
        one = mine.choices.get(symbol)
        two = choices.get(symbol)
        if one is None or two is None:
            there, here = _decided_label(one), _decided_label(two)
            why = (
                "only one of live and simulation had a bar of the symbol, or the venue did"
                " not allow orders in it"
            )
            differences.append(DecisionDifference(at, symbol, "", there, here, "bars", why))
        elif field := next((name for name in COMPARED_FIELDS if not _is_close(one, two, name)), ""):
            cause: DifferenceCause = "sizing"
            if field in ("mu", "sigma"):
                same_bar = math.isclose(one.price, closes.get(symbol, two.price), rel_tol=REL_TOL)
                cause = "forecast" if same_bar else "bars"
            there, here = _format_value(getattr(one, field)), _format_value(getattr(two, field))
            differences.append(
                DecisionDifference(
                    at, symbol, field, there, here, cause, DIFFERENCE_CAUSE_MEANINGS[cause]
                )
            )
    return differences


def _is_close(one: Choice, two: Choice, name: str) -> bool:
    first = getattr(one, name)
    second = getattr(two, name)
    if name == "qty":
        return bool(first == second)
    if math.isnan(first) or math.isnan(second):
        return math.isnan(first) and math.isnan(second)
    return math.isclose(first, second, rel_tol=REL_TOL, abs_tol=REL_TOL * 1e-3)


def _decided_label(choice: Choice | None) -> str:
    return "not decided" if choice is None else "decided"


def _format_value(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def rebuild_account(
    record: JournalRecord,
    decision: DecisionRow,
    settings: TradingSettings,
    closes: Mapping[str, float],
) -> AccountSnapshot:
    """Rebuild the account on which a journaled decision was based.

    settings: trading settings with the lending terms of the account.
    closes: last closes for symbols without a price in the journal, USD by symbol.
    """
    reading = record.account_at_decision(decision)
    proceeds, fresh, net = _short_proceeds_and_cash(record, decision)
    margin = settings.margin
    lends = decision.equity >= margin.margin_equity
    open_orders = [
        replace(record.order_by_id(name), qty=left)
        for name, left in decision.cancelled_quantities.items()
    ]
    prices = {symbol: float(price) for symbol, price in reading.prices.items()}
    account = AccountSnapshot(
        cash=float(reading.cash),
        positions={symbol: held for symbol, held in decision.positions.items() if held},
        prices={**closes, **prices},
        as_of=decision.at,
        open_orders=tuple(open_orders),
        unsettled_proceeds=float(net - fresh),
        short_proceeds=float(proceeds),
        max_leverage=margin.leverage if lends else min(margin.leverage, 1.0),
        is_shorting_enabled=lends,
        cooling_symbols=cooling_symbols_after(
            record.fills_between(EPOCH, decision.decided_at), settings.protect, decision.decided_at
        ),
    )
    # Equity is a float that was added up in another order: the cash takes the last digit.
    return replace(account, cash=account.cash + (decision.equity - account.equity))


def _short_proceeds_and_cash(
    record: JournalRecord, decision: DecisionRow
) -> tuple[Fraction, Fraction, Fraction]:
    """Return three amounts of the account at a decision, USD.

    They are the proceeds of open shorts, the part of them from the present session, and the
    unsettled proceeds of all stock trades. Short positions at the first decision count as sold at
    the prices of that decision.
    """
    start = record.first_account_snapshot()
    held = dict(start.positions)
    sold = {s: -held[s] * start.prices[s] for s in held if held[s] < 0 and is_stock(s)}
    fresh: dict[str, Fraction] = {}
    net = ZERO_FRACTION
    opened: np.datetime64 | None = None
    for fill in record.fills_between(start.observed_at, decision.decided_at):
        symbol = fill.symbol
        before = held.get(symbol, ZERO_FRACTION)
        quantity = to_fraction(fill.quantity)
        value = quantity * to_fraction(fill.price)
        held[symbol] = before + quantity
        if not is_stock(symbol):
            continue
        session = _last_session_open(fill.at)
        if session != opened:
            opened = session
            fresh = {}
            net = ZERO_FRACTION
        net -= value
        for part in (sold, fresh):
            part[symbol] = short_proceeds_after_trade(
                part.get(symbol, ZERO_FRACTION), before, quantity, value
            )
    if opened != _last_session_open(decision.at):
        return sum(sold.values(), ZERO_FRACTION), ZERO_FRACTION, ZERO_FRACTION
    return sum(sold.values(), ZERO_FRACTION), sum(fresh.values(), ZERO_FRACTION), net


def _last_session_open(at: np.datetime64) -> np.datetime64:
    """Return the opening time of the last session that opened at or before an instant."""
    opens = exchange_calendar().opens
    return np.datetime64(opens[np.searchsorted(opens, at, side="right") - 1])
