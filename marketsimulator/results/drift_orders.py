"""Orders of a live account beside those of its re-simulation: what filled, at what, and why not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

import numpy as np

from execution.decision import Decision
from execution.fees import BASIS_POINT, TradingCosts
from execution.journal.cycles import CycleRow
from execution.journal.order_store import UNSENT, OrderIntent
from execution.journal_record import JournalRecord
from execution.orders import Order
from marketsimulator.results.drift_terms import Term, Trade
from trainingdata.instruments import is_coin

Outcome = Literal["same"] | Term
Deadline = Callable[[np.datetime64], np.datetime64]  # of an instant: until when it may be decided


@dataclass(frozen=True, slots=True)
class OrderComparison:
    """One order there and here.

    name: its id; symbol and instant for a trade that no order of ours made.
    live, simulated: none where there was no such order.
    outcome: `same`, or the term under which the difference counts.
    why: what the journal says about it.
    """

    name: str
    symbol: str
    live: Trade | None
    simulated: Trade | None
    outcome: Outcome
    why: str

    @property
    def lag(self) -> float | None:
        """Seconds by which the live order filled later; none where one did not fill."""
        if not (self.live and self.simulated) or self.live.at is None or self.simulated.at is None:
            return None
        return float((self.live.at - self.simulated.at) / np.timedelta64(1, "s"))


@dataclass(frozen=True, slots=True)
class Slippage:
    """What fills of a symbol cost against the price that their decision was sized at.

    All in basis points of value, above 0 where it was paid.

    fills: orders that filled.
    charged: half-spread and slippage that the simulator adds to the price at which a bar opens.
    simulated: mean of the simulated fills, what the price did until the bar opened included.
    realised: mean of the live fills.
    error: standard error of that mean; none of one fill.
    """

    symbol: str
    fills: int
    charged: float
    simulated: float | None
    realised: float
    error: float | None

    @property
    def points(self) -> tuple[float | None, ...]:
        """What is charged, simulated and realised, and the error."""
        return self.charged, self.simulated, self.realised, self.error


def meant_orders(
    record: JournalRecord, job: str, since: np.datetime64, until: np.datetime64
) -> list[Order]:
    """Orders of a job that were planned between two readings.

    What was planned by a decision that was taken back, and never sent, is no order.
    """
    standing = {decision.name for decision in record.decisions}
    orders = []
    for intent in record.intents.values():
        meant = intent.part == "night" or intent.decision in standing
        taken_back = not meant and intent.state in UNSENT
        if intent.job == job and since <= intent.sent_at < until and not taken_back:
            orders.append(intent.single)
    return orders


def compare_orders(
    live: Mapping[str, Trade],
    simulated: Mapping[str, Trade],
    record: JournalRecord,
    decided_at: Mapping[str, np.datetime64],
    until: Deadline,
) -> tuple[OrderComparison, ...]:
    """Every order of either side, in the order of their names' instants.

    decided_at: the instant that each simulated order was decided at.
    until: from when on an instant cannot be decided any more.
    """
    compared = []
    for name, either in {**live, **simulated}.items():
        mine, other, intent = live.get(name), simulated.get(name), record.intents.get(name)
        outcome, why = _outcome(mine, other, intent, record, decided_at.get(name), until)
        compared.append(OrderComparison(name, either.symbol, mine, other, outcome, why))
    return tuple(compared)


def _outcome(
    mine: Trade | None,
    other: Trade | None,
    intent: OrderIntent | None,
    record: JournalRecord,
    decided_at: np.datetime64 | None,
    until: Deadline,
) -> tuple[Outcome, str]:
    """Under which term the difference of an order counts, and why there is one."""
    if mine is not None and intent is None:
        if other is None:
            return "by_hand", "no order of ours traded it"
        return _fill_outcome(mine, other, "liquidation", "the broker closed it")
    if intent is not None and intent.part == "night":
        return "cuts", str(intent.order.reason)
    if mine is None:
        if decided_at is None:
            return "liquidation", "the simulated broker closed it"
        if any(decision.at == decided_at for decision in record.decisions):
            return "decided", "only the simulation ordered it"
        return why_not_decided(record.cycles, decided_at, until(decided_at))
    why = "" if intent is None else intent.why or intent.state
    if intent is not None and not mine.quantity and intent.state in UNSENT:
        return ("rejected" if intent.state in ("rejected", "never_taken") else "withheld"), why
    if other is None:
        return "decided", "the simulation ordered nothing"
    if mine.ordered != other.ordered:
        return "decided", "other quantities were ordered"
    return _fill_outcome(mine, other, "unfilled", why)


def _fill_outcome(mine: Trade, other: Trade, cause: Term, why: str) -> tuple[Outcome, str]:
    if mine.quantity != other.quantity:
        return cause, why
    if mine.value != other.value:
        return "prices", ""
    return "same", ""


def why_not_decided(
    cycles: Iterable[CycleRow], at: np.datetime64, until: np.datetime64
) -> tuple[Term, str]:
    """Why the live loop did not decide an instant: `missed` without a cycle, else `halted`.

    until: from when on it could not be decided any more.
    """
    met = [each for each in cycles if at <= each.began_at < until]
    said = [each.failed or each.idle for each in met if each.failed or each.idle]
    if said:
        return "halted", said[0]
    if met:
        return "halted", "the cycle was not ended"
    return "missed", "no cycle was made then"


def slippage(
    orders: Iterable[OrderComparison],
    record: JournalRecord,
    decisions: Iterable[Decision],
    costs: TradingCosts,
) -> tuple[Slippage, ...]:
    """By symbol, of orders that follow from a decision; sorted."""
    live_prices = {}
    for journaled in record.decisions:
        for symbol, choice in journaled.choices.items():
            live_prices[journaled.name, symbol] = choice.price
    sized_at = {}
    for decision in decisions:
        sized = {choice.symbol: choice.price for choice in decision.choices}
        for sent in decision.orders:
            sized_at[sent.client_order_id] = sized[sent.symbol]
    realised: dict[str, list[float]] = {}
    simulated: dict[str, list[float]] = {}
    for order in orders:
        intent = record.intents.get(order.name)
        if intent is not None and order.live is not None:
            price = live_prices.get((intent.decision, order.symbol))
            if price is not None and order.live.quantity:
                realised.setdefault(order.symbol, []).append(_paid(order.live, price))
        if order.simulated is not None and order.simulated.quantity and order.name in sized_at:
            paid = _paid(order.simulated, sized_at[order.name])
            simulated.setdefault(order.symbol, []).append(paid)
    return tuple(
        Slippage(
            symbol=symbol,
            fills=len(values),
            charged=_charged(symbol, costs),
            simulated=fmean(simulated[symbol]) if symbol in simulated else None,
            realised=fmean(values),
            error=stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None,
        )
        for symbol, values in sorted(realised.items())
    )


def _paid(order: Trade, sized: float) -> float:
    """Basis points of value by which the fill was worse than the price it was sized at."""
    side = 1 if order.quantity > 0 else -1
    price = float(order.value / order.quantity)
    return side * (price / sized - 1.0) / BASIS_POINT


def _charged(symbol: str, costs: TradingCosts) -> float:
    crypto = np.array([is_coin(symbol)])
    share = float(costs.half_spread(crypto)[0] + costs.slippage(crypto)[0])
    return share / BASIS_POINT
