"""What sizing answers for each symbol that decides, as columns, and the targets that follow.

A row is an instant: live decides one, a backtest all of its history. The objects that say why an
order exists are made of a row when somebody reads it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, cast

import numpy as np

from execution.decision.beliefs import BeliefTable
from execution.decision.decision import (
    NO_RATIONALE,
    UNIVERSE,
    Choice,
    ClassRule,
    OrderReason,
    Rationale,
)
from execution.decision.problem import Settled
from execution.decision.rebalancing import Target
from execution.orders.orders import Account, Order, OrderTerms, strategy_of
from foundation.arrays import Array, Index, Mask
from foundation.compiled import AnyArray
from sizing.allocation import Allocation, Strategy
from sizing.binding import (
    BINDING,
    FINANCING,
    FIRST_CEILING,
    FIRST_ROW,
    LIMITS,
    Bound,
    names_of,
    with_rows,
)
from sizing.limits import CEILINGS, priced_count
from sizing.problem import Problem
from trainingdata.instants import DAY, HOUR
from trainingdata.instruments import Instrument, Kind
from trainingdata.universe import RULES

UNSENT = ("smallest_order", "dust")  # in the order of `TOO_SMALL` and `DUST`
# What can hold a target where it is: a limit, the venue's check of cash, a program without an
# answer, the night, a rule of the universe that it has left, the venue's smallest order.
NAMES = (
    *BINDING,
    "unborrowed_cash",
    "failed",
    "overnight",
    *(f"{UNIVERSE}{rule}" for rule in RULES[1:]),
    *UNSENT,
)
CHECKED, FAILED, OVERNIGHT = range(len(BINDING), len(BINDING) + 3)
FIRST_UNSENT = len(NAMES) - len(UNSENT)
NO_LIMITS = ("", "cost", "failed", "overnight")  # what holds a target and is no limit; "" nothing

_NOTHING = Decimal(0)


class Answers(NamedTuple):
    """What R instants answer for S symbols, [R, S] unless it says otherwise.

    sized: [R] whether a strategy has answered; where none has, all from `unlimited` on is NaN or 0.
    held, target: weights before and after.
    steps, cut, unsent: as of `Settled`.
    price: USD, as sized.
    cost: of trading one USD, one way.
    unlimited, allocated, limits_met, own_price, periods, premium, forecast: of the `Allocation`.
    prices: [R, 4 + G + K] as of `Bound`, G limits on groups.
    gap: [R] as of `Allocation`.
    """

    sized: Mask
    held: Array
    target: Array
    steps: Array
    cut: Mask
    unsent: Index
    price: Array
    cost: Array
    unlimited: Array
    allocated: Array
    limits_met: Index
    own_price: Array
    periods: Index
    premium: Array
    forecast: Array
    prices: Array
    gap: Array

    @classmethod
    def room(cls, rows: int, size: int, priced: int) -> Answers:
        """Room for those of R instants and S symbols, of which nothing is held or wanted yet.

        priced: 4 + G + K.
        """
        columns: dict[str, Any] = {
            name: np.full((rows, size), np.nan) for name in cls._fields if name != "prices"
        }
        for name in ("held", "target"):
            columns[name] = np.zeros((rows, size))
        for name in ("limits_met", "periods", "unsent"):
            columns[name] = np.zeros((rows, size), dtype=np.int64)
        return cls(
            **columns
            | {
                "sized": np.zeros(rows, dtype=bool),
                "cut": np.zeros((rows, size), dtype=bool),
                "prices": np.full((rows, priced), np.nan),
                "gap": np.zeros(rows),
            }
        )

    def write(self, row: int, chosen: Index, answer: Answers) -> None:
        """Write one instant's answer for those chosen [m] of the symbols."""
        for name, column, values in zip(self._fields, self, answer, strict=True):
            place = row if name in ("sized", "prices", "gap") else (row, chosen)
            column[place] = values[0]


class Choices(NamedTuple):
    """The N choices of R instants; the fields are those of `Choice`, [N] unless it says otherwise.

    row, symbol: numbers of the instant and of the symbol, in this order.
    steps: whole increments that are to be held, signed; NaN for what stays as it is.
    holds: which of NAMES and `rows` hold the target, a bit each.
    own_price: shadow price of a bound of the symbol's own.
    prices: [R, 5 + G] shadow prices of the CEILINGS, of what is borrowed, and of `rows`.
    rationale: of columns.
    rows: [G] names of the limits on groups.
    """

    row: Index
    symbol: Index
    mu: Array
    sigma: Array
    kelly: Array
    held: Array
    target: Array
    steps: Array
    price: Array
    cost: Array
    holds: Index
    own_price: Array
    prices: Array
    rationale: tuple[Array, ...]
    rows: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of whatever can hold a target, each in the place of its bit."""
        return with_rows(NAMES, self.rows)

    def choice(self, i: int, item: Instrument, before: Decimal) -> Choice:
        """The object of one; item: its symbol. before: quantity held and open then."""
        steps = self.steps[i]
        kept = before if np.isnan(steps) else int(steps) * item.increment
        own = float(self.own_price[i])
        prices = self.prices[self.row[i]].tolist()
        fixed = len(CEILINGS) + 1
        nothing = (math.nan,) * (FIRST_ROW - FINANCING - 1)
        worth = (own, own, *prices[:fixed], *nothing, *prices[fixed:])
        rests_on = Rationale(*[float(column[i]) for column in self.rationale])
        if math.isnan(rests_on.days):
            rests_on = NO_RATIONALE
        elif math.isnan(rests_on.shrinkage or 0.0):
            rests_on = rests_on._replace(shrinkage=None)
        return Choice(
            symbol=item.symbol,
            mu=float(self.mu[i]),
            sigma=float(self.sigma[i]),
            kelly=float(self.kelly[i]),
            held=float(self.held[i]),
            target=float(self.target[i]),
            qty=kept - before,
            price=float(self.price[i]),
            # The last place of a name counts.
            binding={name: worth[k] for k, name in names_of(int(self.holds[i]), self.names)},
            cost=float(self.cost[i]),
            rationale=rests_on,
        )

    def shadow_prices(self) -> dict[str, Array]:
        """[N] of each limit that has a price, 0 where it does not bind."""
        prices: dict[str, Array] = {}
        for k, name in enumerate(LIMITS):
            own = k < FIRST_CEILING
            price = self.own_price if own else self.prices[self.row, k - FIRST_CEILING]
            prices[name] = np.where(self.holds >> k & 1, price, 0.0)
        for g, name in enumerate(self.rows):
            held = self.holds >> (FIRST_ROW + g) & 1
            prices[name] = np.where(held, self.prices[self.row, len(CEILINGS) + 1 + g], 0.0)
        checked = (self.holds >> CHECKED & 1).astype(bool)
        prices["unborrowed_cash"][checked] = np.nan
        return prices


def choices_of(
    believed: BeliefTable,
    answers: Answers,
    class_sharpe: Array,
    *,
    uses_forecast: bool,
    rows: tuple[str, ...] = (),
) -> Choices:
    """Return the choices for symbols that decide, are trimmed overnight, or leave the universe.

    class_sharpe [T, 2]: Sharpe ratios of stocks and crypto, as used by the strategy;
    uses_forecast: whether it sizes by the forecast; rows: names of the limits on groups.
    """
    leaves = believed.leaving & (answers.held != 0.0)
    place = np.nonzero(believed.deciding | answers.cut | leaves)
    row, symbol = place
    deciding, left = believed.deciding[place], leaves[place]
    answered = deciding & answers.sized[row]
    cut = answers.cut[place] & ~answered
    held, target = answers.held[place], answers.target[place]
    holds = np.where(answered, answers.limits_met[place], 0)
    unsent = answers.unsent[place]
    checked = answered & (unsent == 0) & (target != answers.allocated[place])
    holds |= checked.astype(np.int64) << CHECKED
    holds |= np.where(unsent > 0, 1 << (FIRST_UNSENT + unsent - 1), 0)
    holds |= (deciding & ~answered).astype(np.int64) << FAILED
    holds |= cut.astype(np.int64) << OVERNIGHT
    holds |= left.astype(np.int64) << (OVERNIGHT + believed.outside[place].astype(np.int64))
    count = len(CEILINGS)
    last = count + len(rows)
    financing = answers.prices[:, last:].sum(axis=1)
    return Choices(
        row=row,
        symbol=symbol,
        mu=believed.mu[row, 0, symbol],
        sigma=believed.sigma[row, 0, symbol],
        kelly=np.where(answered, answers.unlimited[place], np.nan),
        held=held,
        target=target,
        steps=answers.steps[place],
        price=answers.price[place],
        cost=np.where(answered | cut | left, answers.cost[place], np.nan),
        holds=holds,
        own_price=answers.own_price[place],
        prices=np.column_stack(
            [answers.prices[:, :count], financing, answers.prices[:, count:last]]
        ),
        rationale=_rationale_of(believed, answers, place, answered, class_sharpe, uses_forecast),
        rows=rows,
    )


def _rationale_of(
    believed: BeliefTable,
    answers: Answers,
    place: tuple[Index, ...],
    answered: Mask,
    class_sharpe: Array,
    uses_forecast: bool,
) -> tuple[Array, ...]:
    """The fields of `Rationale`, [N] each: of the periods that explain a target; NaN without one.

    place: rows and symbols [N] of the choices.
    """
    row, symbol = place
    last = np.where(answered, answers.periods[place], 1) - 1

    def over(periods: Array) -> Array:
        """The sum of values [N, K] over the periods that explain."""
        return np.asarray(periods.cumsum(axis=1)[np.arange(len(row)), last])

    sharpe = class_sharpe[row, believed.crypto[symbol].astype(np.intp)]
    premium = believed.premium[place] * sharpe
    columns = (
        (believed.ends[row, last] - believed.at[row]) / DAY,
        sharpe,
        premium,
        premium * over(believed.own_years[row, :, symbol]),
        over(believed.mu[row, :, symbol]) if uses_forecast else np.zeros_like(premium),
        believed.shrinkage[place],
        np.sqrt(over(believed.sigma[row, :, symbol] ** 2)),
        answers.premium[place],
        answers.forecast[place],
    )
    return tuple(np.where(answered, column, np.nan) for column in columns)


def joined_choices(parts: Sequence[Choices], counts: Sequence[int]) -> Choices:
    """Choices of spans of one history that follow each other; counts: of their instants."""
    if len(parts) == 1:
        return parts[0]
    begins = np.cumsum([0, *counts[:-1]])
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in Choices._fields
        if name not in ("row", "rationale", "rows")
    }
    return Choices(
        row=np.concatenate([part.row + at for part, at in zip(parts, begins, strict=True)]),
        rationale=tuple(map(np.concatenate, zip(*[part.rationale for part in parts], strict=True))),
        rows=parts[0].rows,
        **columns,
    )


def answer_of(
    allocation: Allocation | None, problem: Problem, after: Settled, price: Array
) -> Answers:
    """One instant's answer for the S symbols of a panel.

    allocation: what the strategy answered; none where nothing was sized.
    problem, after: of the panel's symbols, then of what stands beside them.
    price: [S] USD.
    """
    size = len(price)

    def row(values: AnyArray) -> AnyArray:
        return cast(AnyArray, values[None, :size])

    given = allocation or _no_allocation(problem)
    return Answers(
        sized=np.array([allocation is not None]),
        held=row(problem.account.held),
        target=row(after.target),
        steps=row(after.steps),
        cut=row(after.cut),
        unsent=row(after.unsent),
        price=row(price),
        cost=row(problem.costs.change[0]),
        unlimited=row(given.unlimited),
        allocated=row(given.target),
        limits_met=row(given.bound.limits_met),
        own_price=row(given.bound.own_price),
        periods=row(given.periods),
        premium=row(given.premium),
        forecast=row(given.forecast),
        prices=given.bound.prices[None],
        gap=np.array([given.gap]),
    )


def _no_allocation(problem: Problem) -> Allocation:
    """What stands in the columns where nothing was sized."""
    size = len(problem.account.held)
    none = np.full(size, np.nan)
    zeros = np.zeros(size, dtype=np.int64)
    bound = Bound(zeros, none, np.full(priced_count(problem), np.nan))
    return Allocation(none, none, bound, zeros, none, none)


def class_rules(
    instruments: Sequence[Instrument], deciding: Mask, strategy: Strategy, leverage: float
) -> tuple[ClassRule, ...]:
    """The rule that sized the deciding symbols, by asset class; leverage: granted to stocks."""
    rules = []
    decided = [instruments[s] for s in np.flatnonzero(deciding).tolist()]
    for kind in Kind:
        symbols = tuple(item.symbol for item in decided if item.kind is kind)
        if symbols:
            rules.append(ClassRule(kind, strategy.phrase(kind, leverage), symbols))
    return tuple(rules)


def targets_of(
    choices: Iterable[Choice],
    instruments: Mapping[str, Instrument],
    exposure: Mapping[str, Decimal],
    hours: float,
    terms: OrderTerms,
    failure: str,
    *,
    legacy: bool,
) -> Iterator[Target]:
    """The targets of the choices that change anything.

    exposure: signed quantity held plus open, by symbol.
    hours: length of the first period.
    failure, legacy: as the order's reason has them.
    """
    for choice in choices:
        if choice.qty:
            item = instruments[choice.symbol]
            held = exposure.get(choice.symbol, _NOTHING)
            largest = terms.largest_quantity(item, choice.price)
            reason = OrderReason(choice, hours, failure, legacy)
            yield Target(item, held, held + choice.qty, largest, reason)


def hours_between(at: np.datetime64, until: np.datetime64) -> float:
    return float((until - at) / HOUR)


def reductions_decided_anew(
    strategy: str, account: Account, belief: BeliefTable
) -> tuple[Order, ...]:
    """The strategy's own open orders that reduce a position of a symbol which decides now."""
    # How much is sold is decided anew, from what is held. Left open, a reduction would go on taking
    # its part of every ceiling beside the new decision.
    deciding = set()
    for symbol, decides in zip(belief.symbols, belief.deciding[0].tolist(), strict=True):
        if decides:
            deciding.add(symbol)
    reductions = []
    for order in account.open_orders:
        if order.symbol not in deciding or strategy_of(order.client_order_id) != strategy:
            continue
        held = account.positions.get(order.symbol, _NOTHING)
        if held * order.signed_qty < 0:
            reductions.append(order)
    return tuple(reductions)


def replaced_orders(
    strategy: str, account: Account, choices: Sequence[Choice]
) -> tuple[Order, ...]:
    """The strategy's own open orders that a new order of their symbol takes the place of."""
    # The venue refuses a new order that the account's own open one would trade with, as a wash
    # trade. What is left of an open reduction becomes part of the new order instead of a second one
    # for the same position.
    changes = {choice.symbol: choice.qty for choice in choices if choice.qty}
    reductions = account.open_reductions
    replaced = []
    for order in account.open_orders:
        if order.symbol not in changes or strategy_of(order.client_order_id) != strategy:
            continue
        opposite = order.signed_qty * changes[order.symbol] < 0
        if opposite or order.symbol in reductions:
            replaced.append(order)
    return tuple(replaced)


def ordered_without(
    choices: Sequence[Choice], account: Account, replaced: Sequence[Order]
) -> tuple[Choice, ...]:
    """The choices of the same targets, ordered from what is held and open without these orders."""
    before = account.exposure
    after = account.without(replaced).exposure
    changed = []
    for choice in choices:
        freed = before.get(choice.symbol, _NOTHING) - after.get(choice.symbol, _NOTHING)
        changed.append(choice._replace(qty=choice.qty + freed) if freed else choice)
    return tuple(changed)
