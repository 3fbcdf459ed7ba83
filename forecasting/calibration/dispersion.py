"""How wide a forecast should be: a regression, corrections, and the shape of what remains.

n rows (forecasts of one class whose outcomes are known, all symbols together), H steps, K classical
averages, Q levels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import stdtrit

from forecasting.calibration.tallies import (
    distinct_instants,
    group_logs,
    levels,
    medians_by_symbol,
    quantiles,
    regimes,
)
from forecasting.calibration.variance import FLOOR, SPANS
from forecasting.forecast import HORIZON, LEVELS, MEDIAN
from foundation.arrays import Array, Index

PRIOR_ROWS = 300.0  # the weight of the prior regression, in rows of one bar ahead
PRIOR_INSTANTS = 200.0  # the weight of the Student-t(5) in the shape, in independent rows
PRIOR_GROUP = 60.0  # the weight of no correction, in independent instants
TOGETHER = 3  # symbols of a class count for at most so many independent ones
STEPS = 1 + np.arange(HORIZON)
UPPER = np.array(LEVELS[MEDIAN + 1 :])
T5 = stdtrit(5, UPPER) * np.sqrt(3 / 5)
REGIMES = 5
# Volatility returns to its mean: the weights of the classical averages add up to 0.9 for one bar
# ahead and to 0.7 for 24 before anything is learned.
PRIOR_SUM = 0.9 - 0.2 * np.log(STEPS) / np.log(HORIZON)


@dataclass(frozen=True, eq=False, slots=True)
class DispersionSample:
    """What is known of forecasts when they are made.

    past: [n, K] log of the classical averages of the variance a bar, the day's pattern divided out.
    base: [n, H] the base forecaster's log variance a bar over each horizon, likewise.
    season: [n, H] the day's pattern summed over the steps.
    slot: [n] place in the day of the issuing bar.
    symbol: [n] number of the symbol within its class.
    instant: [n] number of the issuing bar on the class's clock.
    """

    past: Array
    base: Array
    season: Array
    slot: Index
    symbol: Index
    instant: Index


@dataclass(frozen=True, eq=False, slots=True)
class Dispersion:
    """Deviation and shape of the log return after each step.

    weights: [K + 2, H] of the intercept and of each log variance.
    upper_half: [H, 10] quantiles of the shape above the median; the shape is symmetric.
    hour: [slots, H] log of the correction by decision hour.
    regime: [5, H] the same by volatility regime.
    symbol: [S, H] the same by symbol.
    edges: [4, H] log variance a bar at which regimes meet, relative to a symbol's own median.
    median_level: [S, H] each symbol's median log variance a bar.
    """

    weights: Array
    upper_half: Array
    hour: Array
    regime: Array
    symbol: Array
    edges: Array
    median_level: Array

    def deviation(self, sample: DispersionSample) -> Array:
        """[n, H] deviation of the log return after each step."""
        level = levels(sample.past, sample.base, self.weights)
        by_regime = np.take_along_axis(self.regime, self._regime(level, sample.symbol), axis=0)
        correction = self.hour[sample.slot] + by_regime + self.symbol[sample.symbol]
        return np.asarray(np.exp(level / 2 + correction) * np.sqrt(sample.season))

    @property
    def shape(self) -> Array:
        """Quantiles of the return over its deviation, [H, Q]."""
        median = np.zeros((len(self.upper_half), 1))
        return np.concatenate([-self.upper_half[:, ::-1], median, self.upper_half], axis=1)

    @classmethod
    def fit(
        cls, sample: DispersionSample, variance: Array, move: Array, slots: int, symbols: int
    ) -> Dispersion:
        """Learn from what came true, at every step.

        Parameters
        ----------
        sample
            what was known when the n forecasts were made.
        variance, move
            [n, H] realised variance and log return after each step; NaN where the outcome is not
            known yet.
        slots, symbols
            how many places in the day and symbols the class has.
        """
        plain = cls._regression(sample, variance, move, slots, symbols)
        if not len(move):
            return plain
        corrected = plain._with_corrections(sample, move)
        size = np.abs(move) / corrected.deviation(sample)
        return replace(corrected, upper_half=_upper_half(size, sample.instant))

    @classmethod
    def _regression(
        cls, sample: DispersionSample, variance: Array, move: Array, slots: int, symbols: int
    ) -> Dispersion:
        """The weights alone: no correction, and the prior's shape."""
        # Bars that did not move have no logarithm: a share of the longest average stands for their
        # variance.
        floor = FLOOR * np.exp(sample.past[:, -1:])
        realised = np.where(np.isnan(move), np.nan, np.maximum(variance / sample.season, floor))
        return cls(
            weights=_regression_weights(sample, np.log(realised)),
            upper_half=np.tile(T5, (HORIZON, 1)),
            hour=np.zeros((slots, HORIZON)),
            regime=np.zeros((REGIMES, HORIZON)),
            symbol=np.zeros((symbols, HORIZON)),
            edges=np.zeros((REGIMES - 1, HORIZON)),
            median_level=np.zeros((symbols, HORIZON)),
        )

    def _with_corrections(self, sample: DispersionSample, move: Array) -> Dispersion:
        """The same with each correction learned on what the ones before it leave."""
        level = levels(sample.past, sample.base, self.weights)
        # Regimes are relative to a symbol's own median: otherwise the calm symbols of a class
        # would fill the lowest regime and the wild ones the highest.
        median_level = medians_by_symbol(level, sample.symbol, len(self.symbol))
        relative = level - median_level[sample.symbol]
        edges = quantiles(relative, np.arange(1, REGIMES) / REGIMES)[0].T
        out = replace(self, edges=np.ascontiguousarray(edges), median_level=median_level)
        size = np.abs(move) / (np.exp(level / 2) * np.sqrt(sample.season))
        instants = distinct_instants(sample.instant, np.isfinite(move))
        tables: dict[str, Any] = {}
        for name, group in (
            ("hour", np.broadcast_to(sample.slot[:, None], level.shape)),
            ("regime", out._regime(level, sample.symbol)),
            ("symbol", np.broadcast_to(sample.symbol[:, None], level.shape)),
        ):
            # The next correction is learned on what this one leaves (`size` changes): they are
            # added up, and what two of them share must count once.
            count = len(getattr(self, name))
            tables[name] = group_logs(
                size, np.ascontiguousarray(group), count, instants, STEPS, PRIOR_GROUP
            )
        return replace(out, **tables)

    def _regime(self, level: Array, symbol: Index) -> Index:
        return regimes(level, symbol, self.median_level, self.edges)


def _regression_weights(sample: DispersionSample, target: Array) -> Array:
    """Intercept and weights [K + 2, H] of log variances for the target [n, H], by ridge regression.

    The ridge draws towards the classical averages alone.
    """
    import sklearn
    from sklearn.linear_model import Ridge

    classical = np.append(np.full(len(SPANS), 1 / len(SPANS)), 0.0)
    weights = np.zeros((1 + len(classical), HORIZON))
    inputs = np.empty((len(target), len(classical)), order="F")
    inputs[:, :-1] = sample.past
    # What is finite is known: looked at 24 times, the checks took longer than the fits.
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        for h, step in enumerate(STEPS):
            known = np.isfinite(target[:, h])
            if not known.any():
                # There is no mean to return to, and the prior weights add up to one.
                weights[1:, h] = classical
                continue
            inputs[:, -1] = sample.base[:, h]
            rows = inputs[known]
            prior = PRIOR_SUM[h] * classical
            # Forecasts of several steps overlap, so as many rows say less: the prior counts more.
            ridge = Ridge(alpha=PRIOR_ROWS * step, solver="cholesky")
            ridge.fit(rows, target[known, h] - rows @ prior)
            weights[:, h] = np.append(ridge.intercept_, ridge.coef_ + prior)
    return weights


def _upper_half(size: Array, instant: Index) -> Array:
    """Quantiles [H, 10] of |return| / deviation [n, H], drawn towards a Student-t(5).

    The Student-t has the root mean square of what was seen. Steps of which nothing is known have
    its own.
    """
    known = np.isfinite(size)
    empirical, count = quantiles(size, 2 * UPPER - 1)
    some = np.maximum(count, 1)
    # Symbols of an instant move together and steps overlap: rows count for fewer independent ones.
    instants = distinct_instants(instant, known)
    independent = instants * np.minimum(count / np.maximum(instants, 1), TOGETHER) / STEPS
    share = (independent / (independent + PRIOR_INSTANTS))[:, None]
    # A move of more than ten deviations counts as ten: one jump would otherwise widen every level.
    square = np.where(known, np.minimum(size, 10), 0.0) ** 2
    root = np.sqrt(square.sum(axis=0) / some)[:, None]
    drawn = share * empirical + (1 - share) * T5 * root
    return np.asarray(np.where((count > 0)[:, None], drawn, T5))
