"""The cut for the night of what nothing has sized.

The overnight ceiling is the broker's, not the model's: it holds for stocks without a forecast too.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import numpy as np

from execution.beliefs import Belief
from execution.decision import Choice
from execution.orders import Account
from sizing.limits import kept_share
from sizing.quantity import target_quantity
from trainingdata.bars import Bars
from trainingdata.instruments import Kind, is_coin

_NOTHING = Decimal(0)


def cut_for_the_night(
    choices: tuple[Choice, ...],
    bars: Bars,
    account: Account,
    belief: Belief,
    ceiling: float,
    cost: Mapping[Kind, float],
) -> tuple[Choice, ...]:
    """The choices, with those that bring the rest of the book under the ceilings of the night.

    Stocks that nothing has sized (no forecast, a bar that is missing, a solver that failed) each
    keep the same share of what is held; an account without equity keeps none.

    Parameters
    ----------
    choices: of what has been decided.
    bars: the panel; what is held outside it is never traded.
    account: what is held and open.
    belief: of the instant.
    ceiling: stock gross allowed, in multiples of equity.
    cost: of trading one USD, by class.
    """
    exposure = account.exposure
    equity = account.equity
    sized = {c.symbol: c.target for c in choices if "failed" not in c.binding}
    if all(symbol in sized for symbol in exposure):
        return choices
    symbols = (*belief.symbols, *(s for s in exposure if s not in belief.symbols))
    # Without equity there are no weights. What is held is then counted in USD, since it only
    # matters what is not zero: all of it is closed.
    unit = equity if equity > 0 else 1.0
    values = [_value(account, exposure, symbol) for symbol in symbols]
    held = np.array(values) / unit
    crypto = np.array([is_coin(symbol) for symbol in symbols])
    loose = np.array([symbol not in sized for symbol in symbols]) & ~crypto & (held != 0.0)
    # What the venue takes no orders for cannot be cut; what is outside the panel is never traded.
    loose[: len(bars.symbols)] &= bars.tradable
    loose[len(bars.symbols) :] = False
    weights = [sized.get(s, weight) for s, weight in zip(symbols, held.tolist(), strict=True)]
    share = kept_share(np.array(weights), crypto, loose, ceiling) if equity > 0 else 0.0
    if share == 1.0:
        return choices
    by_symbol = {choice.symbol: choice for choice in choices}
    for s in np.flatnonzero(loose).tolist():
        item = bars.instruments[s]
        quantity = exposure.get(item.symbol, _NOTHING)
        price = account.prices[item.symbol]
        weight = float("nan")
        target = 0.0
        kept = _NOTHING
        if equity > 0:
            weight = float(held[s])
            target = float(held[s] * share)
            kept = target_quantity(target, weight, quantity, equity, price, item.increment)
        earlier = by_symbol.get(item.symbol)
        by_symbol[item.symbol] = Choice(
            symbol=item.symbol,
            mu=float(belief.mu[0, s]),
            sigma=float(belief.sigma[0, s]),
            kelly=float("nan"),
            held=weight,
            target=target,
            qty=kept - quantity,
            price=price,
            binding={**(earlier.binding if earlier else {}), "overnight": float("nan")},
            cost=cost[item.kind],
        )
    return tuple(by_symbol[symbol] for symbol in symbols if symbol in by_symbol)


def _value(account: Account, exposure: Mapping[str, Decimal], symbol: str) -> float:
    """USD of what is held and open; 0 where it has no price."""
    quantity = exposure.get(symbol)
    if not quantity or symbol not in account.prices:
        return 0.0
    return float(quantity) * account.prices[symbol]
