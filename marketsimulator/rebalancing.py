"""Towards target quantities at the opens that come now, compiled: what `rebalance` and `place` do with orders.

Reductions first, by symbol; then, once all of them have filled whole, coin purchases and the rest. A change of sign is a
close and an opening. What is traded is in whole increments, unless it closes a position.
"""

from __future__ import annotations

import numpy as np

from marketsimulator.book import BY_ORDER, NOBODY, Array, Record, Records
from marketsimulator.settlement import on_grid, trade
from sizing.quantity import whole_steps
from trainingdata.compiled import inlined


@inlined
def move(
    account: Record,
    holding: Records,
    day: Record,
    tape: Records,
    at: int,
    targets: Array,
    opens: Array,
    volumes: Array,
    volatility: Array,
) -> None:
    """Trade every symbol [S] towards its target; opens [S]: NaN where no bar starts."""
    done, coins = True, False
    for s in range(len(targets)):
        held = holding[s]
        change = targets[s] - held.quantity
        if held.quantity * change < 0.0:
            wanted = whole_quantity(change, held.increment) if targets[s] * held.quantity > 0.0 else -held.quantity
            filled = 0.0
            if not np.isnan(opens[s]) and wanted != 0.0:
                filled = trade(account, held, day, tape, at, NOBODY, BY_ORDER, s, wanted, opens[s], volumes[s], volatility[s])
            done = done and abs(filled - wanted) < 1e-9
        coins = coins or held.crypto == 1
    for kind in range(1 if coins else 0, -1, -1):
        for s in range(len(targets)):
            held = holding[s]
            if not done or held.crypto != kind or targets[s] == held.quantity or np.isnan(opens[s]):
                continue
            wanted = whole_quantity(targets[s] - held.quantity, held.increment)
            if wanted != 0.0 and held.quantity * wanted >= 0.0:
                trade(account, held, day, tape, at, NOBODY, BY_ORDER, s, wanted, opens[s], volumes[s], volatility[s])


@inlined
def whole_quantity(quantity: float, step: float) -> float:
    """The largest multiple of `step` that is no further from zero than `quantity`, on the grid of quantities."""
    return on_grid(whole_steps(quantity, step) * step)
