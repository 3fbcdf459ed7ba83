"""Anytime-valid evidence for a forecast: e-values and confidence sequences.

Each question bets against the claim that the forecast is worth nothing. The capital of the bets is
an e-value: if the claim holds, it ever reaches 1/α with a probability of at most α. A confidence
sequence bounds the mean from below at all instants together, also if the mean changes.

Growth: bets at fixed stakes λ on differences x of log growth, the diversified Kelly bet of
Waudby-Smith and Ramdas (2024, J. R. Stat. Soc. B 86:1). Capital = mean over λ of Π(1 + λx).

Scores: the empirical Bernstein e-process of Choe and Ramdas (2024, Oper. Res. 72:4) for bounded
differences, with the gamma-exponential mixture of Howard, Ramdas, McAuliffe and Sekhon (2021, Ann.
Stat. 49:2, Proposition 9). Forecasts of overlapping horizons are bets in separate streams. Bets
whose outcome is unknown count at their worst (Henzi and Ziegel 2022, correction, Biometrika 109:4).

Dimensions: n instants, G stakes, h streams, M forecasters.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foundation.arrays import Array, Cube, Index, Mask
from foundation.compiled import compiled

ALPHA = 0.05  # probability that any forecaster without merit earns anything, per data set
MAX_GAIN = 0.2  # log growth of an instant above which a gain is cut; losses count in full
# λ from 0.11 to 5, four per octave: a loss exceeds the capital of any stake only beyond 20 %.
STAKES = 2.0 ** (np.arange(-22, 1) / 4) / MAX_GAIN
MAX_SCORE_DIFFERENCE = 0.25  # bound of a score difference, in deviations of the baseline's forecast
_SCORE_SCALE = 2 * MAX_SCORE_DIFFERENCE  # c of the empirical Bernstein process: |d| ≤ c/2
OPTIMAL_VARIANCE = 1.0  # sum of squared differences at which the bound is tightest
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

    At `mean` 0 this is the e-value of the growth question. It does not rise with `mean`.
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


def score_evidence(
    differences: Array, horizon: int = 1, share: float = ALPHA, known_at: Index | None = None
) -> EvidenceSeries:
    """Return the evidence that a forecast has the lower score.

    The forecast of instant t has its outcome at t + horizon, and is an open bet until then.
    Forecasts whose intervals overlap are in different streams; their e-values are averaged. A
    forecast is in the first stream without an open bet; it is no bet if there is none.

    differences: [n] score of the baseline less that of the forecast of each instant, averaged over
        the symbols, in deviations of the baseline's forecast; cut at `MAX_SCORE_DIFFERENCE`. NaN
        for an instant without a forecast; not read before the outcome.
    horizon: number of instants h from a forecast to its outcome; the number of streams.
    share: error probability of the bound.
    known_at: [n] index of the instant at which each difference is known, above its own; n or more
        if it is not known yet. None: t + horizon.
    """
    values = np.clip(differences, -MAX_SCORE_DIFFERENCE, MAX_SCORE_DIFFERENCE)
    known_at = np.arange(len(values)) + horizon if known_at is None else known_at
    count, total, variance, resolved, resolved_sum = _stream_sums(values, known_at, horizon)

    def log_capital(mean: Array | float) -> Array:
        from scipy.special import logsumexp

        logs = _log_mixture(total - count * mean, variance)
        return np.asarray(logsumexp(logs, axis=0) - np.log(horizon))

    low = np.full(len(values), -MAX_SCORE_DIFFERENCE)
    high = np.full(len(values), MAX_SCORE_DIFFERENCE)
    known = resolved.sum(axis=0)
    is_bounded = log_capital(low) >= -np.log(share)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        above = log_capital(middle) >= -np.log(share)
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    with np.errstate(invalid="ignore", over="ignore"):
        return EvidenceSeries(
            np.exp(np.minimum(log_capital(0.0), 700.0)),
            np.where(is_bounded, low, -np.inf),
            np.where(known > 0, resolved_sum.sum(axis=0) / known, np.nan),
        )


@compiled
def _stream_sums(values: Array, known_at: Index, stream_count: int) -> Cube:
    """Return the sums of each stream of bets after each instant, [5, streams, n].

    Rows 0 … 2 are the number of bets, the sum of differences and that of their squared distances
    from the predictions, with an open bet at its worst. Rows 3 and 4 are the number and sum of the
    known differences.
    """
    sums = np.zeros((5, stream_count, len(values)))
    state = np.zeros((3, stream_count))  # number, sum and squared distances of known bets
    open_bet = np.full(stream_count, -1)
    for t in range(len(values)):
        is_placed = np.isnan(values[t])
        for k in range(stream_count):
            count, total, variance = state[0, k], state[1, k], state[2, k]
            # Any prediction from the past is allowed. With one that is not negative, the worst
            # outcome of a bet is the lowest.
            centre = max(total / count, 0.0) if count > 0.0 else 0.0
            place = open_bet[k]
            if place >= 0 and known_at[place] <= t:
                variance += (values[place] - centre) ** 2
                total += values[place]
                count += 1.0
                state[0, k], state[1, k], state[2, k] = count, total, variance
                centre = max(total / count, 0.0)
                open_bet[k] = -1
            if not is_placed and open_bet[k] < 0:
                open_bet[k] = t
                is_placed = True
            is_open = open_bet[k] >= 0
            worst = MAX_SCORE_DIFFERENCE if is_open else 0.0
            sums[0, k, t] = count + (1.0 if is_open else 0.0)
            sums[1, k, t] = total - worst
            sums[2, k, t] = variance + ((worst + centre) ** 2 if is_open else 0.0)
            sums[3, k, t] = count
            sums[4, k, t] = total
    return sums


def _log_mixture(total: Array, variance: Array) -> Array:
    """Return the log of the gamma-exponential mixture of exp(λ·total - ψ(λ)·variance).

    total, variance: arrays of one shape, which the result has too.
    """
    from scipy.special import gammainc, gammaln, hyp1f1

    scale = _SCORE_SCALE
    needed = 2 * np.log(1 / ALPHA)
    rho = OPTIMAL_VARIANCE / (needed + np.log1p(needed))
    prior = rho / scale**2
    shape = (variance + rho) / scale**2
    argument = (scale * total + variance + rho) / scale**2
    constant = prior * np.log(prior) - gammaln(prior) - np.log(gammainc(prior, prior))
    with np.errstate(divide="ignore", invalid="ignore"):
        confluent = hyp1f1(1.0, shape + 1.0, np.minimum(argument, shape))
        below = constant - prior + np.log(confluent / shape)
        above = (
            constant
            + gammaln(shape)
            + np.log(gammainc(shape, np.maximum(argument, shape)))
            - shape * np.log(np.maximum(argument, shape))
            + argument
            - prior
        )
    return np.asarray(np.where(argument < shape, below, above))


def model_confidence_set(scores: Array, horizon: int = 1, known_at: Index | None = None) -> Mask:
    """Return which forecasters the scores do not rule out as the best, [M].

    A forecaster is ruled out once the evidence that others are better, averaged over the others,
    has reached 1 / ALPHA at any instant. A forecaster that is never worse on average than another
    stays with probability 1 - ALPHA (Arnold, Gavrilopoulos, Schulz and Ziegel 2026, J. R. Stat.
    Soc. B, weak superiority).

    scores: [M, n] score of each forecaster at each instant, lower is better, in deviations of the
        baseline's forecast; NaN for none or without an outcome yet.
    horizon, known_at: as in `score_evidence`.
    """
    kept = np.ones(len(scores), dtype=bool)
    for m in range(len(scores) if len(scores) > 1 else 0):
        rivals = np.delete(scores, m, axis=0)
        against = [
            score_evidence(scores[m] - rival, horizon, known_at=known_at).e_value
            for rival in rivals
        ]
        kept[m] = np.mean(against, axis=0).max(initial=0.0) < 1 / ALPHA
    return kept
