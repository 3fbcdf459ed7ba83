"""Anytime-valid evidence for a forecast: e-values and confidence sequences.

Bets against the claim that the forecast adds no growth are placed at fixed stakes λ on differences
x of log growth, the diversified Kelly bet of Waudby-Smith and Ramdas (2024, J. R. Stat. Soc. B
86:1). Their capital, the mean over λ of Π(1 + λx), is an e-value: if the claim holds, it ever
reaches 1/α with a probability of at most α. A confidence sequence bounds the mean from below at all
instants together, also if the mean changes.

Dimensions: n instants, G stakes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foundation.arrays import Array, Index
from foundation.compiled import compiled

ALPHA = 0.05  # probability that any forecaster without merit earns anything, per data set
MAX_GAIN = 0.2  # log growth of an instant above which a gain is cut; losses count in full
# λ from 0.11 to 5, four per octave: a loss exceeds the capital of any stake only beyond 20 %.
STAKES = 2.0 ** (np.arange(-22, 1) / 4) / MAX_GAIN
_BISECTIONS = 50


def error_share(attempt: int) -> float:
    """Return the share of `ALPHA` of a data set's j-th forecaster: ALPHA / (j (j + 1)).

    The shares sum to ALPHA, however many forecasters follow. 1 / share is the needed e-value.

    attempt: number j of forecasters tried on the data so far, this one included; at least 1.
    """
    return ALPHA / (attempt * (attempt + 1))


def earned_fraction(lower_bound: Array, mean: Array) -> Array:
    """Return the fraction [n] of its positions that a forecast has earned, 0 … 1: bound / mean.

    Kelly's stake is proportional to the edge: positions are sized as if the edge were as small as
    its lower bound. The fraction is 0 while the bound is not above 0.

    lower_bound, mean: [n] lower bound and mean of the log growth that the forecast adds.
    """
    fraction = np.zeros(len(mean))
    np.divide(lower_bound, mean, out=fraction, where=(lower_bound > 0.0) & (mean > 0.0))
    return np.minimum(fraction, 1.0)


class BettingEvidence(NamedTuple):
    """Bets at G stakes on the differences of log growth so far.

    log_capital: [G] log of the capital at each stake, or of the debt at a stake that lost more than
        its capital.
    lost_at: [G] number of differences at which the stake lost more than its capital, 0 for never.
        Its debt stays, so that the loss counts in full.
    difference_count: number of differences.
    total: sum of the differences, gains cut at `MAX_GAIN`.
    """

    log_capital: Array
    lost_at: Index
    difference_count: int
    total: float


def start_bets() -> BettingEvidence:
    """Return the bets before the first difference: a capital of 1 at each stake."""
    return BettingEvidence(np.zeros(len(STAKES)), np.zeros(len(STAKES), np.int64), 0, 0.0)


@compiled
def place_bets(bets: BettingEvidence, difference: float) -> BettingEvidence:
    """Return the bets after one more difference of log growth.

    difference: log growth of capital with the forecast less that of the same capital without it.
    """
    gain = min(difference, MAX_GAIN)
    log_capital = bets.log_capital.copy()
    lost_at = bets.lost_at.copy()
    for k in range(len(STAKES)):
        if lost_at[k] == 0:
            factor = 1.0 + STAKES[k] * gain
            if factor <= 0.0:
                lost_at[k] = bets.difference_count + 1
            log_capital[k] += np.log(abs(factor))
    return BettingEvidence(log_capital, lost_at, bets.difference_count + 1, bets.total + gain)


@compiled
def betting_capital(bets: BettingEvidence, mean: float) -> float:
    """Return the capital of the bets against a mean difference of at most `mean`.

    At `mean` 0 this is the e-value. It does not rise with `mean`.
    """
    largest = bets.log_capital.max()
    if largest == np.inf:
        return -np.inf  # an account without equity
    capital = 0.0
    for k in range(len(STAKES)):
        if bets.lost_at[k] == 0:
            discount = bets.difference_count * np.log1p(STAKES[k] * mean)
            capital += np.exp(min(bets.log_capital[k] - discount, 700.0))
        else:
            discount = bets.lost_at[k] * np.log1p(STAKES[k] * min(mean, 0.0))
            capital -= np.exp(min(bets.log_capital[k] - discount, 700.0))
    return float(capital / len(STAKES))


@compiled
def growth_lower_bound(bets: BettingEvidence, share: float) -> float:
    """Return the lower bound of the mean difference of log growth; -inf if there is none yet.

    The mean is that of the conditional expectations up to now. With probability 1 - share the bound
    holds at all instants together.

    share: error probability, from `error_share`.
    """
    low = -0.999 / STAKES[-1]
    high = MAX_GAIN
    if not betting_capital(bets, low) * share >= 1.0:
        return -np.inf
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if betting_capital(bets, middle) * share >= 1.0:
            low = middle
        else:
            high = middle
    return float(low)


class EvidenceSeries(NamedTuple):
    """Evidence after each instant.

    e_value: [n] e-value against the claim that the mean difference so far is at most 0.
    lower_bound: [n] lower bound of the mean difference so far; -inf if there is none yet.
    mean: [n] mean difference so far; NaN before the first.
    """

    e_value: Array
    lower_bound: Array
    mean: Array


@compiled
def _bet_on_series(differences: Array, share: float, bets: BettingEvidence) -> EvidenceSeries:
    """Place the bets on differences [n]; see `growth_evidence`."""
    e_value = np.empty(len(differences))
    bound = np.empty(len(differences))
    mean = np.full(len(differences), np.nan)
    for t in range(len(differences)):
        if not np.isnan(differences[t]):
            bets = place_bets(bets, differences[t])
        e_value[t] = betting_capital(bets, 0.0)
        bound[t] = growth_lower_bound(bets, share)
        if bets.difference_count > 0:
            mean[t] = bets.total / bets.difference_count
    return EvidenceSeries(e_value, bound, mean)


def growth_evidence(differences: Array, share: float = ALPHA) -> EvidenceSeries:
    """Return the evidence that capital grows faster with a forecast than without it.

    differences: [n] difference of log growth at each instant; NaN for none.
    share: error probability of the bound.
    """
    return _bet_on_series(np.asarray(differences, dtype=np.float64), share, start_bets())
