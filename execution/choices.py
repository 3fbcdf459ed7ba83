"""What sizing answers for each symbol that decides, and the targets that follow from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

import numpy as np

from execution.beliefs import Belief
from execution.decision import NO_BASIS, Basis, Choice, ClassRule, OrderReason
from execution.orders import Account, OrderTerms
from execution.problem import Settled
from execution.rebalancing import Target
from foundation.arrays import Array
from sizing.allocation import Allocation, Strategy
from sizing.problem import Problem
from trainingdata.bars import Bars
from trainingdata.instants import DAY, HOUR
from trainingdata.instruments import Kind

_NOTHING = Decimal(0)
_NAN = float("nan")


def choices_of(
    bars: Bars,
    account: Account,
    belief: Belief,
    problem: Problem,
    after: Settled,
    allocation: Allocation | None,
    basis: Sequence[Basis],
) -> tuple[Choice, ...]:
    """What was decided for each symbol that decides or that the night cuts.

    problem, after: of the panel's symbols, then of what stands beside them.
    allocation: what the strategy answered; none where nothing was sized.
    basis: of the panel's symbols; empty without an allocation.
    """
    exposure = account.exposure
    deciding = belief.deciding.tolist()
    mu = belief.mu[0].tolist()
    sigma = belief.sigma[0].tolist()
    held = problem.account.held.tolist()
    cost = problem.costs.change[0].tolist()
    target = after.target.tolist()
    steps = after.steps.tolist()
    cut = after.cut.tolist()
    choices = []
    for s in np.flatnonzero(belief.deciding | after.cut[: len(deciding)]).tolist():
        item = bars.instruments[s]
        before = exposure.get(item.symbol, _NOTHING)
        kept = before if math.isnan(steps[s]) else int(steps[s]) * item.increment
        kelly = _NAN
        binding: Mapping[str, float]
        rests_on = NO_BASIS
        if allocation is not None and deciding[s]:
            kelly = float(allocation.unlimited[s])
            binding = allocation.binding[s]
            if target[s] != allocation.target[s]:
                binding = {**binding, "unborrowed_cash": _NAN}
            rests_on = basis[s]
        else:
            binding = {"failed": _NAN} if deciding[s] else {}
            if cut[s]:
                binding = {**binding, "overnight": _NAN}
            else:
                cost[s] = _NAN
        choice = Choice(
            symbol=item.symbol,
            mu=mu[s],
            sigma=sigma[s],
            kelly=kelly,
            held=held[s],
            target=target[s],
            qty=kept - before,
            price=account.prices[item.symbol],
            binding=binding,
            cost=cost[s],
            basis=rests_on,
        )
        choices.append(choice)
    return tuple(choices)


def basis_of(belief: Belief, allocation: Allocation, sharpe: Array, forecast: bool) -> list[Basis]:
    """[S] what targets rest on: the blocks that the allocation names, else the whole plan.

    sharpe [S]: the stated Sharpe ratio that the strategy goes by. forecast: whether it goes by the
    forecast.
    """
    symbols = np.arange(len(sharpe))
    last = allocation.blocks[: len(symbols)] - 1
    of_premium = allocation.premium[: len(symbols)]
    of_forecast = allocation.forecast[: len(symbols)]
    days = (belief.ends[last] - belief.at) / DAY
    premium = belief.premium * sharpe
    earned = premium * belief.years.cumsum(axis=0)[last, symbols]
    expected = np.zeros(len(premium))
    if forecast:
        expected = belief.mu.cumsum(axis=0)[last, symbols]
    deviation = np.sqrt((belief.sigma**2).cumsum(axis=0)[last, symbols])
    worth = [None if math.isnan(value) else value for value in belief.worth.tolist()]
    columns = (
        days.tolist(),
        sharpe.tolist(),
        premium.tolist(),
        earned.tolist(),
        expected.tolist(),
        worth,
        deviation.tolist(),
        of_premium.tolist(),
        of_forecast.tolist(),
    )
    return [Basis(*row) for row in zip(*columns, strict=True)]


def class_rules(
    bars: Bars, belief: Belief, strategy: Strategy, leverage: float
) -> tuple[ClassRule, ...]:
    """The rule that sized the deciding symbols, by asset class; leverage: granted to stocks."""
    rules = []
    deciding = [bars.instruments[s] for s in belief.deciding.nonzero()[0].tolist()]
    for kind in Kind:
        symbols = tuple(item.symbol for item in deciding if item.kind is kind)
        if symbols:
            rules.append(ClassRule(kind, strategy.phrase(kind, leverage), symbols))
    return tuple(rules)


def targets_of(
    choices: Sequence[Choice],
    bars: Bars,
    account: Account,
    belief: Belief,
    terms: OrderTerms,
    failure: str,
    *,
    legacy: bool,
) -> Iterator[Target]:
    """The targets of the choices that change anything.

    failure, legacy: as the order's reason has them.
    """
    instruments = dict(zip(belief.symbols, bars.instruments, strict=True))
    exposure = account.exposure
    hours = float((belief.until - belief.at) / HOUR)
    for choice in choices:
        if choice.qty:
            item = instruments[choice.symbol]
            held = exposure.get(choice.symbol, _NOTHING)
            largest = terms.largest_quantity(item, choice.price)
            reason = OrderReason(choice, hours, failure, legacy)
            yield Target(item, held, held + choice.qty, largest, reason)
