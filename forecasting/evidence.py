"""Anytime-valid evidence for a forecast: e-values and confidence sequences.

Bets against the claim that the forecast adds no return are placed at fixed stakes λ on differences
x of simple returns, the diversified Kelly bet of Waudby-Smith and Ramdas (2024, J. R. Stat. Soc. B
86:1). Their capital, the mean over λ of Π(1 + λx), is an e-value: if the claim holds, it ever
reaches 1/α with a probability of at most α. A confidence sequence bounds the mean from below at all
instants together, also if the mean changes.

No bet may lose more than its stake. Each difference therefore comes with the largest loss that is
possible, known before its outcome, and a difference that could lose more than 1/4 is scaled down to
that. The only condition is that no loss is larger than stated; losses that were are counted.

Dimensions: n instants, G stakes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foundation.arrays import Array
from foundation.compiled import compiled

ALPHA = 0.05  # probability that any forecaster without merit earns anything, per data set
# λ around 2, the growth-optimal stake on the returns that half-Kelly positions add.
STAKES = np.array([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0])
MAX_SCALED_LOSS = 1.0 / STAKES[-1]  # at which the largest stake loses all of its capital
LARGEST_LOSS = 1.0  # of the accounts' equity, where the caller knows no positions
_LARGEST_LOG = 700.0  # at which exp still is a finite number
_BISECTIONS = 50


def error_share(attempt: int) -> float:
    """Return the share of `ALPHA` of a data set's j-th forecaster: ALPHA / (j (j + 1)).

    The shares sum to ALPHA, however many forecasters follow. 1 / share is the needed e-value.

    attempt: number j of forecasters tried on the data so far, this one included; at least 1.
    """
    return ALPHA / (attempt * (attempt + 1))


def earned_fraction(lower_bound: Array, mean: Array) -> Array:
    """Return the fraction [n] of its positions that a forecast has earned, 0 … 1: bound / mean.

    The return that a position adds is proportional to the edge, and Kelly's stake is, too:
    positions are sized as if the edge were as small as its lower bound. The fraction is 0 while the
    bound is not above 0.

    lower_bound, mean: [n] lower bound and mean of the return that the forecast adds.
    """
    fraction = np.zeros(len(mean))
    np.divide(lower_bound, mean, out=fraction, where=(lower_bound > 0.0) & (mean > 0.0))
    return np.minimum(fraction, 1.0)


class BettingEvidence(NamedTuple):
    """Bets at G stakes on the differences of simple returns so far.

    log_capital: [G] log of the capital at each stake; -inf for a stake that has lost all.
    difference_count: number of differences.
    total: sum of the scaled differences.
    breach_count: number of differences that lost more than their largest loss.
    """

    log_capital: Array
    difference_count: int
    total: float
    breach_count: int


def start_bets() -> BettingEvidence:
    """Return the bets before the first difference: a capital of 1 at each stake."""
    return BettingEvidence(np.zeros(len(STAKES)), 0, 0.0, 0)


@compiled
def place_bets(bets: BettingEvidence, difference: float, largest_loss: float) -> BettingEvidence:
    """Return the bets after one more difference of simple returns.

    difference: return of capital with the forecast less that of the same capital without it.
    largest_loss: largest possible loss of the difference, as known before its outcome.
    """
    scaled = difference * MAX_SCALED_LOSS / max(largest_loss, MAX_SCALED_LOSS)
    log_capital = bets.log_capital.copy()
    for k in range(len(STAKES)):
        factor = 1.0 + STAKES[k] * scaled
        log_capital[k] += np.log(factor) if factor > 0.0 else -np.inf
    return BettingEvidence(
        log_capital,
        bets.difference_count + 1,
        bets.total + scaled,
        bets.breach_count + int(difference < -largest_loss),
    )


@compiled
def betting_capital(bets: BettingEvidence, mean: float) -> float:
    """Return the capital of the bets against a mean scaled difference of at most `mean`.

    At `mean` 0 this is the e-value. It does not rise with `mean`.
    """
    capital = 0.0
    for k in range(len(STAKES)):
        discount = bets.difference_count * np.log1p(STAKES[k] * mean)
        capital += np.exp(min(bets.log_capital[k] - discount, _LARGEST_LOG))
    return float(capital / len(STAKES))


@compiled
def growth_lower_bound(bets: BettingEvidence, share: float) -> float:
    """Return the lower bound of the mean scaled difference; -inf if there is none yet.

    The mean is that of the conditional expectations up to now. With probability 1 - share the bound
    holds at all instants together.

    share: error probability, from `error_share`.
    """
    low = -0.999 * MAX_SCALED_LOSS
    if not betting_capital(bets, low) * share >= 1.0:
        return -np.inf
    high = max(bets.total / bets.difference_count, MAX_SCALED_LOSS)
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
    lower_bound: [n] lower bound of the mean scaled difference so far; -inf if there is none yet.
    mean: [n] mean scaled difference so far; NaN before the first.
    """

    e_value: Array
    lower_bound: Array
    mean: Array


@compiled
def _bet_on_series(
    differences: Array, largest_losses: Array, share: float, bets: BettingEvidence
) -> EvidenceSeries:
    """Place the bets on differences [n]; see `growth_evidence`."""
    e_value = np.empty(len(differences))
    bound = np.empty(len(differences))
    mean = np.full(len(differences), np.nan)
    for t in range(len(differences)):
        if not np.isnan(differences[t]):
            bets = place_bets(bets, differences[t], largest_losses[t])
        e_value[t] = betting_capital(bets, 0.0)
        bound[t] = growth_lower_bound(bets, share)
        if bets.difference_count > 0:
            mean[t] = bets.total / bets.difference_count
    return EvidenceSeries(e_value, bound, mean)


def growth_evidence(
    differences: Array, share: float = ALPHA, largest_losses: Array | float = LARGEST_LOSS
) -> EvidenceSeries:
    """Return the evidence that capital earns more with a forecast than without it.

    differences: [n] difference of simple returns at each instant; NaN for none.
    share: error probability of the bound.
    largest_losses: [n], or one for all: largest possible loss of each difference, as known before
        its outcome.
    """
    values = np.asarray(differences, dtype=np.float64)
    losses = np.broadcast_to(np.asarray(largest_losses, dtype=np.float64), values.shape)
    return _bet_on_series(values, losses.copy(), share, start_bets())
