"""What holds a target weight where it is, and the price of it.

A limit binds a weight that would move on without it. Its shadow price is what one more of the limit
would add to the expected return over the interval, net of risk and cost. A ceiling's price comes
from the program. The price of a symbol's own bound is what is left of the gradient there, less the
cost of moving further, less the prices of the ceilings that the symbol takes part in.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import numpy as np

from foundation.arrays import Array, Index, Mask
from foundation.compiled import compiled, inlined
from sizing.limits import CEILINGS, ceilings_of
from sizing.problem import Problem

# Whatever can hold a weight where it is. The place of a name is its bit in what `limits_met` says.
BINDING = ("symbol_cap", "long_only", *CEILINGS, "financing", "cost")
SYMBOL_CAP = 0
LONG_ONLY = 1
FIRST_CEILING = 2
FINANCING = 2 + len(CEILINGS)
COST = 3 + len(CEILINGS)
LIMITS = BINDING[:COST]  # that have a price

TOUCH = 1e-6  # a limit this close, in weight, binds
NOTHING = 1e-12  # a return below this is rounding

_OF_A_SYMBOL = 1 << SYMBOL_CAP | 1 << LONG_ONLY


@cache
def names_of(bits: int, names: tuple[str, ...] = BINDING) -> tuple[tuple[int, str], ...]:
    """Places and names of the bits that are set."""
    return tuple((k, name) for k, name in enumerate(names) if bits >> k & 1)


class Bound(NamedTuple):
    """What holds each of S targets where it is.

    limits_met: [S] which of BINDING, a bit each.
    own_price: [S] shadow price of a bound of the symbol's own; NaN where targets are not chosen by
        return.
    prices: [4 + K] of the CEILINGS, then of what is borrowed in each block; NaN likewise.
    """

    limits_met: Index
    own_price: Array
    prices: Array

    @property
    def names(self) -> tuple[Mapping[str, float], ...]:
        """[S] the names of BINDING with their shadow prices."""
        ceilings = self.prices[: len(CEILINGS)].tolist()
        financing = float(self.prices[len(CEILINGS) :].sum())
        named = []
        # Most of hundreds of symbols are held by the same ceilings at the same prices: one mapping
        # serves all of them. What names a bound of the symbol itself has a price of its own.
        shared: dict[int, Mapping[str, float]] = {}
        for bits, own in zip(self.limits_met.tolist(), self.own_price.tolist(), strict=True):
            names = shared.get(bits)
            if names is None:
                worth = (own, own, *ceilings, financing, np.nan)
                names = {name: worth[k] for k, name in names_of(bits)}
                if not bits & _OF_A_SYMBOL:
                    shared[bits] = names
            named.append(names)
        return tuple(named)


@compiled
def limits_met(
    problem: Problem, unlimited: Array, target: Array, gradient: Array, prices: Array
) -> tuple[Index, Array]:
    """Which of BINDING hold each target [S], a bit each, and the price of its own bound [S].

    unlimited, target: [S] weights before any limit, and under every limit.
    gradient: [S] of return net of risk, by weight; NaN where targets are not chosen by return.
    prices: as of `Bound`.

    A limit holds what would move on without it: by the gradient net of cost, or, where there is no
    gradient, towards the weight before limits.
    """
    limits = problem.limits
    account = problem.account
    cost = problem.costs.change[0]
    rows, rooms = ceilings_of(problem)
    held_by = np.zeros(len(target), dtype=np.int64)
    bound_price = np.full(len(target), np.nan)
    full = np.empty(len(rooms), dtype=np.bool_)
    # In the first block sizes are borrowed for, so that going on always takes more of it. Later
    # blocks count longs less shorts: going further short gives some back.
    first_block = prices[len(rooms)]
    later_blocks = prices[len(rooms) + 1 :].sum()
    for c in range(len(rooms)):
        full[c] = np.dot(rows[c], np.abs(target)) >= rooms[c] - TOUCH
    for k in range(len(target)):
        if not account.deciding[k]:
            continue
        desired = unlimited[k]
        weight = target[k]
        held_weight = account.held[k]
        priced = np.isfinite(gradient[k])
        slope = gradient[k] if priced else desired - weight
        # Away from zero; from zero itself, the way in which it would begin.
        outward = -1.0 if weight < 0 or (weight == 0 and slope < 0) else 1.0
        taken, bits = _pressing_limits(
            rows[:, k], full, prices, first_block + outward * later_blocks
        )
        # Going on outwards costs the trade, unless it leads back to what is held and saves one.
        saved = cost[k] if (held_weight - weight) * outward > 0 else -cost[k]
        moves_on = outward * slope + (saved if priced else 0.0) > NOTHING
        if not moves_on:
            bits = 0
        gain = outward * gradient[k] + saved - taken
        bound_price[k] = 0.0 if gain < 0.0 else gain
        if abs(weight) >= limits.symbol_cap - TOUCH:
            bits |= 1 << SYMBOL_CAP
        # An existing short may stay where no new one may begin, so the floor is what is held short.
        unshortable = limits.long_only[k] or account.equity < limits.margin_equity
        if weight == min(held_weight, 0.0) and outward < 0 and moves_on and unshortable:
            bits |= 1 << LONG_ONLY
        # What no limit holds and still stays off its place stays because moving does not pay.
        if bits == 0 and weight == held_weight and desired != weight and cost[k] > 0:
            bits |= 1 << COST
        held_by[k] = bits
    return held_by, bound_price


@inlined
def _pressing_limits(row: Array, full: Mask, prices: Array, financing: float) -> tuple[float, int]:
    """What one more of a weight pays to everything that has a price, and what holds it, in bits.

    row [G]: what the weight takes of each ceiling; full [G]: which ceilings are; financing: price
    of what is borrowed for it.
    """
    taken = financing
    bits = 1 << FINANCING if financing > 0.0 else 0
    for c in range(len(full)):
        if full[c]:
            taken += prices[c] * row[c]
            if row[c] > 0:
                bits |= 1 << (FIRST_CEILING + c)
    return taken, bits
