"""Growth-optimal bets on equally likely outcomes, by Newton's method and nothing else.

No limits, costs or certificates: what a study of sizing needs for many bets on the same outcomes,
and something to hold the real program against.

    G(y) = -(1/λ)·log E[(1 + m'y + e'y)^-λ],   E log(1 + m'y + e'y) at λ = 0
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array
from foundation.compiled import compiled

ROUNDS = 60  # of Newton's method
HALVINGS = 60  # of a step, and looks at a price
CLOSE = 1e-9  # square root of a gain that ends a search
ALIKE = 1e-6  # relative: prices, or what is left of a bound beside the growth


@compiled
def growth_terms(
    bet: Array, mean: Array, outcomes: Array, aversion: float
) -> tuple[float, Array, Array]:
    """G with aversion λ ≥ 0, its gradient [S] and Hessian [S, S]; -inf where a bet can ruin.

    bet, mean: [S]. outcomes: [N, S].
    """
    count, n = outcomes.shape
    offset = 1.0
    for i in range(n):
        offset += mean[i] * bet[i]
    total = 0.0
    gradient = np.zeros(n)
    second = np.zeros((n, n))
    logs = 0.0
    ratio = np.empty(n)
    for k in range(count):
        wealth = offset
        for i in range(n):
            wealth += outcomes[k, i] * bet[i]
        if not wealth > 0.0:
            return -np.inf, gradient, second
        weight = 1.0
        if aversion > 0.0:
            weight = wealth**-aversion
        else:
            logs += np.log(wealth)
        total += weight
        for i in range(n):
            ratio[i] = (mean[i] + outcomes[k, i]) / wealth
            gradient[i] += weight * ratio[i]
            for j in range(i + 1):
                second[i, j] += weight * ratio[i] * ratio[j]
    gradient /= total
    for i in range(n):
        for j in range(i + 1):
            value = aversion * gradient[i] * gradient[j]
            value -= (1.0 + aversion) * second[i, j] / total
            second[i, j] = value
            second[j, i] = value
    level = logs / count if aversion == 0.0 else -np.log(total / count) / aversion
    return level, gradient, second


@compiled
def _best(
    start: Array, mean: Array, outcomes: Array, aversion: float, bound: float, price: float
) -> Array:
    """The bet [S] that maximises G of `aversion` plus `price` times G of `bound`."""
    bet = start.copy()
    for _ in range(ROUNDS):
        level, gradient, second = growth_terms(bet, mean, outcomes, aversion)
        if price > 0.0:
            more, slope, bend = growth_terms(bet, mean, outcomes, bound)
            level += price * more
            gradient += price * slope
            second += price * bend
        step = np.linalg.solve(second, -gradient)
        gain = gradient @ step
        if gain <= CLOSE**2:
            break
        share = 1.0
        for _ in range(HALVINGS):
            moved = growth_terms(bet + share * step, mean, outcomes, aversion)[0]
            if price > 0.0:
                moved += price * growth_terms(bet + share * step, mean, outcomes, bound)[0]
            if moved >= level + 0.1 * share * gain:
                break
            share /= 2
        bet += share * step
        if share * gain <= CLOSE**2:
            break
    return bet


@compiled
def growth_bets(means: Array, outcomes: Array, aversion: float) -> Array:
    """Bets [D, S] that maximise G with aversion λ: 0 is full Kelly, 1 is about a half.

    means: [D, S], of each decision, added to the outcomes [N, S].
    """
    bets = np.zeros(means.shape)
    for d in range(len(means)):
        bets[d] = _best(bets[d], means[d], outcomes, aversion, 0.0, 0.0)
    return bets


@compiled
def risk_constrained_bets(means: Array, outcomes: Array, bound: float) -> Array:
    """Bets [D, S] of the most log growth among those with E[(1 + r'y)^-λ] ≤ 1, λ = `bound`.

    Risk-constrained Kelly (Busseti, Ryu and Boyd 2016): λ = log beta / log alpha.
    """
    bets = np.zeros(means.shape)
    for d in range(len(means)):
        mean = means[d]
        bet = _best(bets[d], mean, outcomes, 0.0, bound, 0.0)
        if growth_terms(bet, mean, outcomes, bound)[0] < 0.0:
            bet = _on_the_bound(0.0 * bet, mean, outcomes, bound)
        bets[d] = bet
    return bets


@compiled
def _on_the_bound(bet: Array, mean: Array, outcomes: Array, bound: float) -> Array:
    """The bet [S] whose price makes G of `bound` zero, a hair inside: false position (Illinois)."""
    guess = (bound - 1.0) / (bound + 1.0)  # the price for small returns
    low = 0.5 * guess
    high = 2.0 * guess
    bet = _best(bet, mean, outcomes, 0.0, bound, low)
    below = growth_terms(bet, mean, outcomes, bound)[0]
    while below > 0.0:
        low /= 4.0
        bet = _best(bet, mean, outcomes, 0.0, bound, low)
        below = growth_terms(bet, mean, outcomes, bound)[0]
    bet = _best(bet, mean, outcomes, 0.0, bound, high)
    above = growth_terms(bet, mean, outcomes, bound)[0]
    while above < 0.0:
        high *= 4.0
        bet = _best(bet, mean, outcomes, 0.0, bound, high)
        above = growth_terms(bet, mean, outcomes, bound)[0]
    inside = bet
    level = above
    side = 0
    for _ in range(HALVINGS):
        growth = growth_terms(inside, mean, outcomes, 0.0)[0]
        if high - low <= ALIKE * high or level <= ALIKE * growth:
            break
        price = (low * above - high * below) / (above - below)
        bet = _best(inside, mean, outcomes, 0.0, bound, price)
        found = growth_terms(bet, mean, outcomes, bound)[0]
        if found < 0.0:
            low = price
            below = found
            if side == -1:
                above /= 2.0
            side = -1
        else:
            high = price
            above = found
            inside = bet
            level = found
            if side == 1:
                below /= 2.0
            side = 1
    return inside
