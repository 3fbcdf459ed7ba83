"""The limits that bind each target weight, and their shadow prices.

A limit binds a weight that would move further without it. Its shadow price is the gain in expected
return over the interval, net of risk and cost, per unit of the limit. The quadratic program gives
the shadow price of a ceiling. The shadow price of a symbol's own bound is the gradient at the
bound, less the cost of moving further, less the shadow prices of the ceilings that the symbol uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import numpy as np

from foundation.arrays import Array, Index, Mask
from foundation.compiled import compiled, jit_inline
from sizing.limits import CEILING_NAMES, build_gross_constraints
from sizing.problem import DecisionProblem, GroupConstraints

# All reasons that can bind a weight. A name's position is its bit in the result of
# `find_binding_limits`.
BINDING_LIMIT_NAMES = (
    "symbol_cap",
    "long_only",
    *CEILING_NAMES,
    "financing",
    "cost",
    "max_positions",
)
SYMBOL_CAP_BIT = 0
LONG_ONLY_BIT = 1
FIRST_CEILING_BIT = 2
FINANCING_BIT = 2 + len(CEILING_NAMES)
COST_BIT = 3 + len(CEILING_NAMES)
MAX_POSITIONS_BIT = 4 + len(CEILING_NAMES)
FIRST_GROUP_BIT = 22  # bit of the first limit on a group; all other reasons lie below it
LIMITS_WITH_SHADOW_PRICE = BINDING_LIMIT_NAMES[:COST_BIT]  # reasons that have a shadow price

BINDING_TOL = 1e-6  # distance from a limit, in weight, at which the limit binds
RETURN_TOL = 1e-12  # a return below this is rounding

_SYMBOL_LIMIT_BITS = 1 << SYMBOL_CAP_BIT | 1 << LONG_ONLY_BIT


@cache
def decode_binding_bits(
    bits: int, names: tuple[str, ...] = BINDING_LIMIT_NAMES
) -> tuple[tuple[int, str], ...]:
    """Return the bit number and the name of each limit whose bit is set.

    names: name of each bit, by its number.
    """
    return tuple((k, name) for k, name in enumerate(names) if bits >> k & 1)


def limit_names_by_bit(
    built_in_names: tuple[str, ...], group_limit_names: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the names of all bits in order: built-in limits, then limits on groups.

    Unused bits between the two kinds have empty names.

    built_in_names: names of the built-in limits.
    group_limit_names: names of the limits on groups.
    """
    return (*built_in_names, *[""] * (FIRST_GROUP_BIT - len(built_in_names)), *group_limit_names)


class BindingLimits(NamedTuple):
    """The limits that bind each of S targets, with their shadow prices.

    binding_bits: [S] binding limits as bits: one for each of BINDING_LIMIT_NAMES, then, from
        FIRST_GROUP_BIT, one for each limit on groups.
    symbol_bound_shadow_price: [S] shadow price of the symbol's own bound; NaN if targets are not
        chosen by return.
    shadow_prices: [4 + G + K] shadow prices of the four limits in CEILING_NAMES, of the G limits on
        groups, then of borrowing in each period; NaN if targets are not chosen by return.
    group_limit_names: [G] names of the limits on groups.
    """

    binding_bits: Index
    symbol_bound_shadow_price: Array
    shadow_prices: Array
    group_limit_names: tuple[str, ...] = ()

    @property
    def binding_shadow_prices(self) -> tuple[Mapping[str, float], ...]:
        """Shadow prices of the limits that bind each of S targets, by name of the limit."""
        last = len(CEILING_NAMES) + len(self.group_limit_names)
        ceilings = self.shadow_prices[: len(CEILING_NAMES)].tolist()
        financing = float(self.shadow_prices[last:].sum())
        nothing = (np.nan,) * (FIRST_GROUP_BIT - COST_BIT)
        groups = self.shadow_prices[len(CEILING_NAMES) : last].tolist()
        every = limit_names_by_bit(BINDING_LIMIT_NAMES, self.group_limit_names)
        named = []
        # Most of hundreds of symbols are bound by the same ceilings at the same prices: one mapping
        # serves all of them. A bound of the symbol itself has its own price.
        shared: dict[int, Mapping[str, float]] = {}
        for bits, own in zip(
            self.binding_bits.tolist(), self.symbol_bound_shadow_price.tolist(), strict=True
        ):
            names = shared.get(bits)
            if names is None:
                worth = (own, own, *ceilings, financing, *nothing, *groups)
                names = {name: worth[k] for k, name in decode_binding_bits(bits, every)}
                if not bits & _SYMBOL_LIMIT_BITS:
                    shared[bits] = names
            named.append(names)
        return tuple(named)


@compiled
def find_binding_limits(
    problem: DecisionProblem, unconstrained: Array, target: Array, gradient: Array, prices: Array
) -> tuple[Index, Array]:
    """Return the limits that bind each target as bits [S], and shadow prices of symbol bounds [S].

    A limit binds a weight that would move further without it. The direction is that of the gradient
    net of cost or, without a gradient, towards the unconstrained weight.

    unconstrained: [S] weights before any limit.
    target: [S] weights under all limits.
    gradient: [S] derivative of return net of risk by each weight; NaN if targets are not chosen by
        return.
    prices: [4 + G + K] shadow prices of the four limits in CEILING_NAMES, of the G limits on
        groups, then of borrowing in each period.
    """
    limits = problem.limits
    account = problem.account
    cost = problem.costs.unit_cost[0]
    rows, bounds = build_gross_constraints(problem)
    held_by = np.zeros(len(target), dtype=np.int64)
    bound_price = np.full(len(target), np.nan)
    full = np.empty(len(bounds), dtype=np.bool_)
    # In the first period gross weights are borrowed for, so that a larger position always borrows
    # more. Later periods count longs less shorts: a larger short lowers the borrowing.
    full_net = _binding_net_limits(limits.group_constraints, target)
    first_period = prices[len(bounds) + len(full_net)]
    later_periods = 0.0
    for c in range(len(bounds) + len(full_net) + 1, len(prices)):
        later_periods += prices[c]
    positions = 0
    for k in range(len(target)):
        positions += target[k] != 0.0
    many = positions >= limits.max_positions
    for c in range(len(bounds)):
        full[c] = np.dot(rows[c], np.abs(target)) >= bounds[c] - BINDING_TOL
    for k in range(len(target)):
        if not account.adjustable[k]:
            continue
        desired = unconstrained[k]
        weight = target[k]
        held_weight = account.held_weight[k]
        priced = np.isfinite(gradient[k])
        slope = gradient[k] if priced else desired - weight
        # Away from zero; at zero, the direction in which a position would begin.
        outward = -1.0 if weight < 0 or (weight == 0 and slope < 0) else 1.0
        taken, bits = _limit_shadow_price(
            rows[:, k], full, prices, first_period + outward * later_periods
        )
        net_taken, outward_bits, inward_bits = _net_limit_shadow_price(
            limits.group_constraints, k, outward, full_net, prices[len(bounds) :]
        )
        taken += net_taken
        bits |= outward_bits
        # Moving further outwards costs a trade, unless it leads back to the held weight and saves
        # one.
        saved = cost[k] if (held_weight - weight) * outward > 0 else -cost[k]
        moves_on = outward * slope + (saved if priced else 0.0) > RETURN_TOL
        if not moves_on:
            bits = 0
        # A limit that requires a position keeps a weight from moving back towards zero.
        back = -cost[k] if (held_weight - weight) * outward >= 0 else cost[k]
        moves_back = -outward * slope + (back if priced else 0.0) > RETURN_TOL
        bits |= _binding_bits_at(weight, many and moves_on, inward_bits if moves_back else 0)
        gain = outward * gradient[k] + saved - taken
        bound_price[k] = 0.0 if gain < 0.0 else gain
        if abs(weight) >= limits.symbol_cap - BINDING_TOL:
            bits |= 1 << SYMBOL_CAP_BIT
        # An existing short may stay where no new one may be opened, so the floor is that short.
        unshortable = limits.long_only[k] or account.equity < limits.margin_equity
        if weight == min(held_weight, 0.0) and outward < 0 and moves_on and unshortable:
            bits |= 1 << LONG_ONLY_BIT
        # A weight that no limit binds and that differs from its desired value stays because moving
        # does not pay.
        if bits == 0 and weight == held_weight and desired != weight and cost[k] > 0:
            bits |= 1 << COST_BIT
        held_by[k] = bits
    return held_by, bound_price


@jit_inline
def _binding_bits_at(weight: float, left_out: bool, back: int) -> int:
    """Return the bits of limits that keep a weight from moving away from or back to zero.

    At zero this is `max_positions`, if it applies; at any other weight it is `back`.

    left_out: whether `max_positions` keeps a symbol without a position from being bought.
    back: bits of the limits that keep the weight from moving back towards zero.
    """
    if weight != 0.0:
        return back
    return 1 << MAX_POSITIONS_BIT if left_out else 0


@jit_inline
def _binding_net_limits(rows: GroupConstraints, target: Array) -> Mask:
    """Return whether target weights [S] use each net limit fully, [M]."""
    full = np.empty(len(rows.net_limits), dtype=np.bool_)
    for c in range(len(full)):
        use = 0.0
        for s in range(len(target)):
            use += rows.net_coefficients[c, s] * target[s]
        full[c] = use >= rows.net_limits[c] - BINDING_TOL
    return full


@jit_inline
def _net_limit_shadow_price(
    rows: GroupConstraints, k: int, outward: float, full: Mask, prices: Array
) -> tuple[float, int, int]:
    """Return the net limits that bind weight k, in three values.

    The first value is the total shadow price of these limits if the weight increases in size. The
    second has a bit for each limit that keeps the weight from moving outwards, away from zero. The
    third has a bit for each limit that keeps it from moving back towards zero.

    outward: sign of a larger weight, 1 or -1.
    full, prices: [M] whether each net limit is fully used, and its shadow price.
    """
    taken = 0.0
    out = 0
    back = 0
    for c in range(len(full)):
        part = rows.net_coefficients[c, k] * outward
        if full[c] and part != 0.0:
            taken += prices[c] * part
            bit = 1 << (FIRST_GROUP_BIT + len(rows.gross_limits) + c)
            if part > 0.0:
                out |= bit
            else:
                back |= bit
    return taken, out, back


@jit_inline
def _limit_shadow_price(
    row: Array, full: Mask, prices: Array, financing: float
) -> tuple[float, int]:
    """Return the gross limits that keep a weight from becoming larger.

    The first value is their total shadow price, including borrowing; the second has their bits.

    row: [G] use of each gross limit by one unit of the weight.
    full, prices: [G] whether each gross limit is fully used, and its shadow price.
    financing: shadow price of borrowing for the weight.
    """
    taken = financing
    bits = 1 << FINANCING_BIT if financing > 0.0 else 0
    for c in range(len(full)):
        if full[c]:
            taken += prices[c] * row[c]
            if row[c] > 0 and c < len(CEILING_NAMES):
                bits |= 1 << (FIRST_CEILING_BIT + c)
            elif row[c] > 0:
                bits |= 1 << (FIRST_GROUP_BIT + c - len(CEILING_NAMES))
    return taken, bits
