"""Sweeps without any skill, and what is said of them: a check of what judges sweeps.

Returns are synthetic and have a mean of 0 whatever was decided, so that a best variant is luck and
nothing else. Four laws, as variants of one strategy are no independent draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from foundation.arrays import Array
from marketsimulator.results.metrics import Performance, daily_performance
from marketsimulator.results.overfitting import overfitting
from marketsimulator.results.remarks import LIKELY
from marketsimulator.results.significance import deflated_sharpe

VARIANTS = 50
DAYS = 504  # two years of sessions
PER_YEAR = 252
DEVIATION = 0.01  # of a day's return
FREEDOM = 5.0  # of Student's t
SHOCK, MEMORY = 0.06, 0.92  # of GARCH(1,1): of yesterday's square, and of yesterday's variance
SHARED = 0.8  # part of a variant's variance that all have in common
LOOKBACKS = (2, 250)  # days that the first and the last momentum rule look back

Law = Callable[[np.random.Generator, int, int], Array]


@dataclass(frozen=True, slots=True)
class Judged:
    """What is said of one sweep.

    probability: of backtest overfitting.
    deflated: probability that the best variant's Sharpe ratio is above 0 after all of them.
    alone: the same as if it had been the only one.
    """

    probability: float
    deflated: float
    alone: float


@dataclass(frozen=True, slots=True)
class NoiseFigures:
    """What is said of sweeps without skill.

    sweeps: their number.
    probability: mean probability of backtest overfitting.
    error: standard error of that mean.
    low: 5 % quantile over the sweeps.
    high: 95 % quantile.
    deceived: share of sweeps whose best variant has a deflated Sharpe ratio above 95 %.
    deceived_most: upper end of that share with a confidence of 95 % (Clopper and Pearson 1934).
    deceived_alone: the same share where nothing is deflated.
    """

    sweeps: int
    probability: float
    error: float
    low: float
    high: float
    deceived: float
    deceived_most: float
    deceived_alone: float


def judge(returns: Array) -> Judged:
    """The two probabilities that a page says of a sweep with these daily returns [V, D]."""
    count, days = returns.shape
    ratios = returns.mean(axis=1) / returns.std(axis=1, ddof=1)
    best = _performance(returns[int(ratios.argmax())])
    found = overfitting(returns)
    variance = float(ratios.var(ddof=1))
    probabilities = [
        deflated_sharpe(
            best.daily_sharpe() or 0.0,
            days,
            trials=trials,
            variance=variance,
            skewness=best.skewness or 0.0,
            kurtosis=best.kurtosis or 3.0,
        )
        for trials in (count, 1)
    ]
    if found is None or None in probabilities:
        raise ValueError("returns must be of 60 days or more and of two variants that move")
    deflated, alone = (float(value or 0.0) for value in probabilities)
    return Judged(found.probability, deflated, alone)


def _performance(returns: Array) -> Performance:
    return daily_performance(np.cumprod(np.append(1.0, 1.0 + returns)), PER_YEAR)


def noise_figures(sweeps: Sequence[Judged]) -> NoiseFigures:
    """The figures of at least two sweeps."""
    probabilities = np.array([sweep.probability for sweep in sweeps])
    count = len(sweeps)
    deceived = sum(sweep.deflated > LIKELY for sweep in sweeps)
    low, high = np.quantile(probabilities, (0.05, 0.95))
    return NoiseFigures(
        sweeps=count,
        probability=float(probabilities.mean()),
        error=float(probabilities.std(ddof=1) / np.sqrt(count)),
        low=float(low),
        high=float(high),
        deceived=deceived / count,
        deceived_most=float(beta.ppf(0.95, deceived + 1, count - deceived)),
        deceived_alone=sum(sweep.alone > LIKELY for sweep in sweeps) / count,
    )


def independent_normal(rng: np.random.Generator, variants: int, days: int) -> Array:
    """[V, D] independent normal returns: what the formulas assume."""
    return rng.normal(0.0, DEVIATION, (variants, days))


def independent_clustered(rng: np.random.Generator, variants: int, days: int) -> Array:
    """[V, D] independent GARCH(1,1) returns with Student's t: fat tails, wild and calm weeks."""
    return np.asarray(DEVIATION * _garch(rng, variants, days))


def one_strategy(rng: np.random.Generator, variants: int, days: int) -> Array:
    """[V, D] the same with a factor of such a kind that all have in common: correlation 0.8."""
    factor = _garch(rng, 1, days)
    own = _garch(rng, variants, days)
    return np.asarray(DEVIATION * (np.sqrt(SHARED) * factor + np.sqrt(1.0 - SHARED) * own))


def momentum_rules(rng: np.random.Generator, variants: int, days: int) -> Array:
    """[V, D] long or short in one such series by the sign of its last 2 to 250 days, no costs."""
    lookbacks = np.linspace(*LOOKBACKS, variants).round().astype(np.int64)
    longest = LOOKBACKS[1]
    market = DEVIATION * _garch(rng, 1, longest + days)[0]
    level = np.cumsum(np.append(0.0, market))
    now = np.arange(longest, longest + days)
    held = np.sign(level[now] - level[now - lookbacks[:, None]])
    return np.asarray(held * market[now])


LAWS: Mapping[str, Law] = {
    "independent, normal": independent_normal,
    "independent, GARCH with Student's t": independent_clustered,
    "the same with a correlation of 0.8": one_strategy,
    "momentum rules on such a series": momentum_rules,
}


def _garch(rng: np.random.Generator, count: int, days: int) -> Array:
    """[count, D] GARCH(1,1) returns of variance 1 with standardised Student's t."""
    draws = rng.standard_t(FREEDOM, (days, count)) * np.sqrt((FREEDOM - 2.0) / FREEDOM)
    variance = np.ones(count)
    for k in range(days):
        draws[k] *= np.sqrt(variance)
        variance = 1.0 - SHOCK - MEMORY + SHOCK * draws[k] ** 2 + MEMORY * variance
    return np.ascontiguousarray(draws.T)
