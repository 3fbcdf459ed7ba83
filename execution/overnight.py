"""What no forecast sized is cut for the night all the same: the overnight ceiling is the
broker's, not the model's.
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
from trainingdata.instruments import Kind, instrument

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
    keep the same share of what is held; an account without equity keeps none. cost: of trading one
    USD, by class.
    """
    exposure = account.exposure
    equity = account.equity
    sized = {c.symbol: c.target for c in choices if "failed" not in c.binding}
    if all(s in sized for s in exposure):
        return choices
    symbols = (*belief.symbols, *(s for s in exposure if s not in belief.symbols))
    unit = equity if equity > 0 else 1.0
    worth = (
        float(exposure[s]) * account.prices[s] if exposure.get(s) and s in account.prices else 0.0
        for s in symbols
    )
    held = np.array(list(worth)) / unit
    weights = np.array([sized.get(s, w) for s, w in zip(symbols, held.tolist(), strict=True)])
    crypto = np.array([instrument(s).kind is Kind.CRYPTO for s in symbols])
    loose = np.array([s not in sized for s in symbols]) & ~crypto & (held != 0.0)
    loose[: len(bars.symbols)] &= bars.tradable
    loose[len(bars.symbols) :] = False
    share = kept_share(weights, crypto, loose, ceiling) if equity > 0 else 0.0
    if share == 1.0:
        return choices
    found = {c.symbol: c for c in choices}
    for s in np.flatnonzero(loose).tolist():
        item = bars.instruments[s]
        price = account.prices[symbols[s]]
        quantity = exposure.get(symbols[s], _NOTHING)
        target, weight = (held[s] * share, held[s]) if equity > 0 else (0.0, float("nan"))
        change = (
            target_quantity(target, weight, quantity, equity, price, item.increment)
            if equity > 0
            else _NOTHING
        )
        found[item.symbol] = Choice(
            symbol=item.symbol,
            mu=float(belief.mu[0, s]),
            sigma=float(belief.sigma[0, s]),
            kelly=float("nan"),
            held=float(weight),
            target=float(target),
            qty=change - quantity,
            price=price,
            binding={
                **(found[item.symbol].binding if item.symbol in found else {}),
                "overnight": float("nan"),
            },
            cost=cost[item.kind],
        )
    return tuple(found[s] for s in symbols if s in found)
