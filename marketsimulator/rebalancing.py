"""Towards target quantities at the opens that come now, compiled: what `rebalance` and `place` do with orders.

Reductions first, by symbol; then, once all of them have filled whole, coin purchases and the rest. A change of sign is a
close and an opening. What is traded is in whole increments, unless it closes a position. Large coin orders go out in parts.
"""

from __future__ import annotations

import numpy as np

from execution.broker import WHOLE
from marketsimulator.book import BY_ORDER, NOBODY, Array, Record, Records
from marketsimulator.settlement import on_grid, trade
from sizing.quantity import part_count, part_steps, whole_steps
from trainingdata.compiled import inlined


@inlined
def move(
    account: Record,
    holding: Records,
    day: Record,
    tape: Records,
    at: int,
    before: Array,
    targets: Array,
    opens: Array,
    volumes: Array,
    volatility: Array,
    largest: float,
) -> None:
    """Send what brings every symbol [S] from what was held when it was decided to its target.

    before [S]: held then; what the broker has closed since does not change the orders. opens [S]: NaN where no bar starts.
    largest: USD of one coin order at most.
    """
    done, coins = True, False
    for s in range(len(targets)):
        held = holding[s]
        change = targets[s] - before[s]
        if before[s] * change < 0.0:
            wanted = whole_quantity(change, held.increment) if targets[s] * before[s] > 0.0 else -before[s]
            filled = 0.0
            if not np.isnan(opens[s]) and wanted != 0.0 and held.quantity * wanted < 0.0:
                filled = _in_parts(account, held, day, tape, at, s, wanted, opens[s], volumes[s], volatility[s], largest)
            done = done and abs(filled) >= abs(wanted) * WHOLE
        coins = coins or held.crypto == 1
    for kind in range(1 if coins else 0, -1, -1):
        for s in range(len(targets)):
            held = holding[s]
            if not done or held.crypto != kind or targets[s] == before[s] or np.isnan(opens[s]):
                continue
            start = 0.0 if targets[s] * before[s] < 0.0 else before[s]
            wanted = whole_quantity(targets[s] - start, held.increment)
            if wanted != 0.0 and start * wanted >= 0.0:
                _in_parts(account, held, day, tape, at, s, wanted, opens[s], volumes[s], volatility[s], largest)


@inlined
def fills_at_most(holding: Records, targets: Array, largest: float) -> int:
    """How many fills `move` can write: two a stock; for every part of a coin order itself and its fee in coin.

    Whole increments make parts smaller than `largest`, but never as small as half of it.
    """
    count = 4.0 * len(targets)
    for s in range(len(targets)):
        if holding[s].crypto and not np.isnan(holding[s].mark):
            worth = abs(targets[s] - holding[s].quantity) * holding[s].mark
            count += 4.0 * np.ceil(worth / largest)
    return int(count)


@inlined
def with_room(tape: Records, written: int, more: int) -> Records:
    """The tape, or a longer one that begins with what is written, with room for so many more fills."""
    if written + more <= len(tape):
        return tape
    longer = np.zeros(2 * (written + more), tape.dtype)
    longer[:written] = tape[:written]
    return longer


@inlined
def _in_parts(
    account: Record,
    held: Record,
    day: Record,
    tape: Records,
    at: int,
    s: int,
    wanted: float,
    open_: float,
    volume: float,
    volatility: float,
    largest: float,
) -> float:
    """One order, or the parts of a coin order that is worth more than `largest` USD; the signed quantity that filled."""
    if not held.crypto or abs(wanted) <= largest / held.mark:
        return trade(account, held, day, tape, at, NOBODY, BY_ORDER, s, wanted, open_, volume, volatility)
    step, filled = held.increment, 0.0
    steps = abs(whole_steps(wanted, step))
    rest = on_grid(abs(wanted) - steps * step)
    count = part_count(steps, rest, largest / held.mark, step)
    for k in range(count):
        part = on_grid(part_steps(steps, count, k) * step + (rest if k == count - 1 else 0.0))
        if part > 0.0:
            signed = part if wanted > 0 else -part
            filled += trade(account, held, day, tape, at, NOBODY, BY_ORDER, s, signed, open_, volume, volatility)
    return filled


@inlined
def whole_quantity(quantity: float, step: float) -> float:
    """The largest multiple of `step` that is no further from zero than `quantity`, on the grid of quantities."""
    steps = whole_steps(quantity, step)
    return steps if step == 1.0 else on_grid(steps * step)
