"""What sizing answers for each symbol that decides, and the targets that follow from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from decimal import Decimal

import numpy as np

from execution.beliefs import Belief
from execution.decision import Basis, Choice, ClassRule, OrderReason
from execution.orders import Account, OrderTerms
from execution.rebalancing import Target
from foundation.arrays import Array
from sizing.allocation import Allocation, Strategy
from sizing.quantity import target_quantity
from sizing.situation import Situation
from sizing.spans import SpannedAllocation
from trainingdata.bars import Bars
from trainingdata.instants import DAY, HOUR
from trainingdata.instruments import Kind

_NOTHING = Decimal(0)


def sized_choices(
    bars: Bars,
    account: Account,
    belief: Belief,
    situation: Situation,
    allocation: Allocation,
    basis: Sequence[Basis],
) -> tuple[Choice, ...]:
    """What an allocation means for each symbol that decides. basis: of the panel's symbols."""
    mu = belief.mu[0].tolist()
    sigma = belief.sigma[0].tolist()
    cost = situation.cost.tolist()
    kelly = allocation.unlimited.tolist()
    target = allocation.target.tolist()
    weight = situation.held.tolist()
    binding = allocation.binding
    exposure = account.exposure
    equity = situation.equity
    choices = []
    for s in belief.deciding.nonzero()[0].tolist():
        item = bars.instruments[s]
        symbol = item.symbol
        held = exposure.get(symbol, _NOTHING)
        price = account.prices[symbol]
        quantity = target_quantity(target[s], weight[s], held, equity, price, item.increment)
        weights = kelly[s], weight[s], target[s]
        reasons = binding[s], cost[s], basis[s]
        choices.append(Choice(symbol, mu[s], sigma[s], *weights, quantity - held, price, *reasons))
    return tuple(choices)


def unsized_choices(account: Account, belief: Belief) -> tuple[Choice, ...]:
    """No new risk: what decides stays as it is; it is closed where there is no equity."""
    # No number is made up: without a sized weight what is held stays. An account without equity has
    # nothing to carry it with.
    exposure = account.exposure
    equity = account.equity
    nan = float("nan")
    choices = []
    for s in belief.deciding.nonzero()[0].tolist():
        symbol = belief.symbols[s]
        price = account.prices[symbol]
        held = exposure.get(symbol, _NOTHING)
        weight = float(held) * price / equity if equity > 0 else nan
        choice = Choice(
            symbol=symbol,
            mu=float(belief.mu[0, s]),
            sigma=float(belief.sigma[0, s]),
            kelly=nan,
            held=weight,
            target=weight if equity > 0 else 0.0,
            qty=_NOTHING if equity > 0 else -held,
            price=price,
            binding={"failed": nan},
            cost=nan,
        )
        choices.append(choice)
    return tuple(choices)


def basis_of(belief: Belief, allocation: Allocation, sharpe: Array, forecast: bool) -> list[Basis]:
    """[S] what targets rest on: the blocks that the allocation names, else the whole plan.

    sharpe [S]: the stated Sharpe ratio that the strategy goes by. forecast: whether it goes by the
    forecast.
    """
    symbols = np.arange(len(sharpe))
    last = np.full(len(symbols), len(belief.ends) - 1)
    of_premium = of_forecast = np.full(len(symbols), np.nan)
    if isinstance(allocation, SpannedAllocation):
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
