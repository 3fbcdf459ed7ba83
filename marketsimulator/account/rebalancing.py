"""Towards target quantities at the opens that come now, compiled: what `rebalance` and `place` do
with orders.

Reductions first, by symbol; then, once all of them have filled whole, coin purchases and the rest.
A change of sign is a close and an opening. What is traded is in whole increments, unless it closes
a position. Large coin orders go out in parts.
"""

from __future__ import annotations

import numpy as np

from execution.broker import WHOLE
from foundation.arrays import Array, Index, Records
from foundation.compiled import inlined
from marketsimulator.account.book import BY_ORDER, NOBODY, Record, on_grid
from marketsimulator.account.settlement import trade
from sizing.quantity import most_coins, part_count, part_steps, whole_steps


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
    turn: Index,
) -> None:
    """Send what brings every symbol [S] from what was held when it was decided to its target.

    before [S]: held then; what the broker has closed since does not change the orders. opens [S]:
    NaN where no bar starts. largest: USD of one coin order at most. turn [S]: room to line up the
    symbols whose turn it is.
    """
    done = True
    coins = holding["crypto"].sum()
    for k in range(_line_up_reductions(before, targets, turn)):
        s = turn[k]
        held = holding[s]
        fewer = _change(before[s], targets[s], held.increment)
        wanted = -before[s]
        if targets[s] * before[s] > 0.0:
            wanted = fewer
        filled = 0.0
        if not np.isnan(opens[s]) and wanted != 0.0 and held.quantity * wanted < 0.0:
            filled = _in_parts(
                account,
                held,
                day,
                tape,
                at,
                s,
                wanted,
                opens[s],
                volumes[s],
                volatility[s],
                largest,
            )
        done = done and abs(filled) >= abs(wanted) * WHOLE
    if not done:
        return
    for kind in range(1 if coins else 0, -1, -1):
        for k in range(_line_up_openings(holding, before, targets, opens, kind, turn)):
            s = turn[k]
            held = holding[s]
            start = 0.0 if targets[s] * before[s] < 0.0 else before[s]
            wanted = _change(start, targets[s], held.increment)
            if wanted != 0.0:
                _in_parts(
                    account,
                    held,
                    day,
                    tape,
                    at,
                    s,
                    wanted,
                    opens[s],
                    volumes[s],
                    volatility[s],
                    largest,
                )


@inlined
def _line_up_reductions(before: Array, targets: Array, turn: Index) -> int:
    """How many symbols are held less, or the other way round; their numbers stand in `turn`.

    Which they are is a coin toss to the processor, so it is added up, not branched on; so are the
    openings.
    """
    count = 0
    for s in range(len(targets)):
        turn[count] = s
        count += before[s] * (targets[s] - before[s]) < 0.0
    return count


@inlined
def _line_up_openings(
    holding: Records, before: Array, targets: Array, opens: Array, kind: int, turn: Index
) -> int:
    """How many symbols that have an open, coins for kind 1, are held more, or the other way
    round.
    """
    count = 0
    for s in range(len(targets)):
        turn[count] = s
        change = targets[s] - before[s]
        opening = (change != 0.0) & ((before[s] * change >= 0.0) | (targets[s] * before[s] < 0.0))
        count += opening & (holding[s].crypto == kind) & ~np.isnan(opens[s])
    return count


@inlined
def fills_at_most(holding: Records, targets: Array, largest: float) -> int:
    """How many fills `move` can write: two a stock; for every part of a coin order itself and its
    fee in coin.

    Whole increments make parts smaller than `largest`, but never as small as half of it.
    """
    count = 4.0 * len(targets)
    for s in range(len(targets)):
        if holding[s].crypto and not np.isnan(holding[s].mark):
            count += 4.0 * np.ceil(
                abs(targets[s] - holding[s].quantity) / most_coins(largest, holding[s].mark)
            )
    return int(count)


@inlined
def with_room(tape: Records, written: int, more: int) -> Records:
    """The tape, or a longer one that begins with what is written, with room for so many more
    fills.
    """
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
    """One order, or the parts of a coin order that is worth more than `largest` USD; the signed
    quantity that filled.
    """
    most = most_coins(largest, held.mark)
    if not held.crypto or abs(wanted) <= most:
        return trade(
            account, held, day, tape, at, NOBODY, BY_ORDER, s, wanted, open_, volume, volatility
        )
    step = held.increment
    filled = 0.0
    steps = abs(whole_steps(wanted, step))
    rest = on_grid(abs(wanted) - steps * step)  # below 0 for what is a billionth short of a step
    count = part_count(steps, rest, most, step)
    for k in range(count):
        part = on_grid(part_steps(steps, count, k) * step + (rest if k == count - 1 else 0.0))
        signed = part if wanted > 0 else -part
        filled += trade(
            account, held, day, tape, at, NOBODY, BY_ORDER, s, signed, open_, volume, volatility
        )
    return filled


@inlined
def _change(start: float, end: float, step: float) -> float:
    """The whole increments between two quantities; whole shares are on the grid as they are."""
    return whole_quantity(end - start if step == 1.0 else on_grid(end - start), step)


@inlined
def whole_quantity(quantity: float, step: float) -> float:
    """The largest multiple of `step` that is no further from zero than `quantity`, on the grid
    of quantities.
    """
    steps = whole_steps(quantity, step)
    return steps if step == 1.0 else on_grid(steps * step)
