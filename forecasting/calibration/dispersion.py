"""Dispersion of calibrated forecasts: a variance regression, corrections, and residual quantiles.

Dimensions: n rows (forecasts of all symbols of one asset class with known outcomes), H steps, K
trailing averages of variance, Q quantile levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from forecasting.calibration.variance import LOOKBACKS_BARS, MIN_VARIANCE_RATIO
from forecasting.forecast import HORIZON, LEVELS, MEDIAN_INDEX
from foundation.arrays import Array, Index, Mask, Matrix
from foundation.compiled import compiled

REGRESSION_PRIOR_ROWS = 300.0  # weight of the prior regression, in one-step forecasts
SHAPE_PRIOR_ROWS = 200.0  # weight of the Student-t(5) prior of the shape, in independent forecasts
CORRECTION_PRIOR_INSTANTS = (
    60.0  # weight of a correction's prior, which is zero, in independent instants
)
MAX_INDEPENDENT_SYMBOLS = 3  # symbols of a class count at most as this many independent ones
STEP_NUMBERS = 1 + np.arange(HORIZON)
UPPER_QUANTILE_LEVELS = np.array(LEVELS[MEDIAN_INDEX + 1 :])
REGIME_COUNT = 5
# Volatility reverts to its mean: the prior weights of the trailing averages add up to 0.9 for one
# bar ahead and to 0.7 for 24.
PRIOR_REGRESSION_WEIGHT_SUMS = 0.9 - 0.2 * np.log(STEP_NUMBERS) / np.log(HORIZON)


@dataclass(frozen=True, eq=False, slots=True)
class CalibrationSample:
    """Regression inputs of n forecasts, all known when the forecasts were issued.

    log_trailing_variances: [n, K] log of trailing averages of the variance per bar, deseasonalised
        by the intraday pattern.
    base_log_variance: [n, H] log of the base forecast's variance per bar up to each step,
        deseasonalised.
    median_log_return: [n, H] median log return of the base forecast after each step.
    cumulative_intraday_factor: [n, H] cumulative sum of the intraday pattern over the steps.
    slot_of_day: [n] intraday slot of the issuing bar.
    symbol_index: [n] index of the symbol within its asset class.
    instant_index: [n] index of the issuing bar's instant on the trading clock of the asset class.
    """

    log_trailing_variances: Array
    base_log_variance: Array
    median_log_return: Array
    cumulative_intraday_factor: Array
    slot_of_day: Index
    symbol_index: Index
    instant_index: Index


@dataclass(frozen=True, eq=False, slots=True)
class DispersionModel:
    """A fitted model of the standard deviation and shape of log returns after each step.

    regression_weights: [K + 2, H] intercept, and regression weight of each log variance.
    upper_half_quantiles: [H, 10] standardised quantiles above the median; those below it are their
        negatives.
    slot_correction: [slots, H] log of the multiplier of the deviation in each intraday slot.
    regime_correction: [5, H] log of the multiplier of the deviation in each volatility regime.
    symbol_correction: [S, H] log of the multiplier of the deviation of each symbol.
    regime_edges: [4, H] boundaries between regimes: log variance per bar, relative to the symbol's
        median.
    median_log_variance: [S, H] median log variance per bar of each symbol.
    """

    regression_weights: Array
    upper_half_quantiles: Array
    slot_correction: Array
    regime_correction: Array
    symbol_correction: Array
    regime_edges: Array
    median_log_variance: Array

    def predict_deviation(self, sample: CalibrationSample) -> Array:
        """Predict the standard deviation of the log return after each step, [n, H]."""
        level = _log_variance_level(
            sample.log_trailing_variances, sample.base_log_variance, self.regression_weights
        )
        relative = level - self.median_log_variance[sample.symbol_index]
        by_regime = _select_group_entries(
            self.regime_correction, _regime_index(relative, self.regime_edges)
        )
        correction = (
            self.slot_correction[sample.slot_of_day]
            + by_regime
            + self.symbol_correction[sample.symbol_index]
        )
        return np.asarray(
            np.exp(level / 2 + correction) * np.sqrt(sample.cumulative_intraday_factor)
        )

    @property
    def standardised_quantiles(self) -> Array:
        """Quantiles of the log return divided by its standard deviation, [H, Q]."""
        median = np.zeros((len(self.upper_half_quantiles), 1))
        return np.concatenate(
            [-self.upper_half_quantiles[:, ::-1], median, self.upper_half_quantiles], axis=1
        )


def fit_dispersion(
    sample: CalibrationSample,
    variance: Array,
    log_return: Array,
    slot_count: int,
    symbol_count: int,
) -> tuple[DispersionModel, Array]:
    """Fit a `DispersionModel` to known outcomes; return it and its sample deviations [n, H].

    sample: regression inputs of the n forecasts.
    variance: [n, H] realised variance up to each step; NaN where the outcome is not known yet.
    log_return: [n, H] realised log return after each step; NaN where the outcome is not known yet.
    slot_count: number of intraday slots.
    symbol_count: number of symbols in the class.
    """
    known = np.isfinite(log_return)
    # The variance of bars that did not move has no logarithm: a share of the longest average
    # replaces it.
    floor = MIN_VARIANCE_RATIO * np.exp(sample.log_trailing_variances[:, -1:])
    target = np.log(
        np.where(known, np.maximum(variance / sample.cumulative_intraday_factor, floor), np.nan)
    )
    weights = _regression_weights(sample, target)
    level = _log_variance_level(sample.log_trailing_variances, sample.base_log_variance, weights)
    # Regimes are relative to a symbol's own median: otherwise the calm symbols of a class would
    # fill the lowest regime and the volatile ones the highest.
    median_level = _medians_by_symbol(level, sample.symbol_index, symbol_count)
    relative = level - median_level[sample.symbol_index]
    edges = _quantiles(relative, np.arange(1, REGIME_COUNT) / REGIME_COUNT).T
    regime = _regime_index(relative, edges)
    season = np.sqrt(sample.cumulative_intraday_factor)
    size = np.where(known, np.abs(log_return) / (np.exp(level / 2) * season), 0.0)
    instants = _count_distinct_instants(sample.instant_index, known)
    tables = []
    correction = np.zeros(level.shape)
    for group, count in (
        (sample.slot_of_day, slot_count),
        (regime, REGIME_COUNT),
        (sample.symbol_index, symbol_count),
    ):
        # Each correction is fitted to the residuals of the one before: they are added, and their
        # common part must count once.
        logs = _group_log_ratios(size, known, group, count, instants)
        size *= _select_group_entries(np.exp(-logs), group)
        correction += _select_group_entries(logs, group)
        tables.append(logs)
    deviation = np.exp(level / 2 + correction) * season
    upper_half = _upper_half_quantiles(np.abs(log_return) / deviation, instants)
    hour, by_regime, by_symbol = tables
    return DispersionModel(
        weights, upper_half, hour, by_regime, by_symbol, edges, median_level
    ), deviation


def _regression_weights(sample: CalibrationSample, target: Array) -> Array:
    """Return intercept and weights [K + 2, H] of a ridge regression of the target.

    The ridge penalty shrinks the weights towards an average of the trailing variances alone.

    target: [n, H] log of the realised variance per bar, deseasonalised; NaN where it is not known.
    """
    import sklearn
    from sklearn.linear_model import Ridge

    classical = np.append(np.full(len(LOOKBACKS_BARS), 1 / len(LOOKBACKS_BARS)), 0.0)
    weights = np.zeros((1 + len(classical), HORIZON))
    inputs = np.column_stack([sample.log_trailing_variances, np.empty(len(target))])
    targets = np.ascontiguousarray(target.T)
    # The inputs are known to be finite: 24 checks took longer than the fits.
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        for h, step in enumerate(STEP_NUMBERS):
            known = np.flatnonzero(np.isfinite(targets[h]))
            if not len(known):
                # Without data there is no mean reversion, and the prior weights add up to one.
                weights[1:, h] = classical
                continue
            inputs[:, -1] = sample.base_log_variance[:, h]
            rows = inputs[known]
            prior = PRIOR_REGRESSION_WEIGHT_SUMS[h] * classical
            # Forecasts of several steps overlap, so as many rows contain less information: the
            # prior counts more.
            ridge = Ridge(alpha=REGRESSION_PRIOR_ROWS * step, solver="cholesky")
            ridge.fit(rows, targets[h, known] - rows @ prior)
            weights[:, h] = np.append(ridge.intercept_, ridge.coef_ + prior)
    return weights


@compiled
def _log_variance_level(past_variance: Array, base: Array, weights: Array) -> Matrix:
    """Return the predicted log variance per bar [n, H], deseasonalised and before corrections.

    past_variance: [n, K] log of trailing averages.
    base: [n, H] log of the base forecast's variance.
    weights: [K + 2, H] intercept and regression weights.
    """
    # A matrix product would sum in an order that depends on the number of rows.
    out = np.empty(base.shape)
    for row in range(len(base)):
        for h in range(base.shape[1]):
            total = weights[0, h]
            for k in range(past_variance.shape[1]):
                total += past_variance[row, k] * weights[k + 1, h]
            out[row, h] = total + base[row, h] * weights[-1, h]
    return out


def _regime_index(relative: Array, edges: Array) -> Index:
    """Return the volatility regime of each forecast and step: the number of edges below it, [n, H].

    relative: [n, H] log variance per bar, relative to the symbol's median.
    edges: [E, H] boundaries between regimes.
    """
    above = sum((relative > edge).view(np.int8) for edge in edges)
    return np.asarray(above, dtype=np.int64)


def _select_group_entries(table: Array, group: Index) -> Array:
    """Return the table entry of each row's group, [n, H].

    table: [G, H] one entry per group and step.
    group: [n] or [n, H] group of each row.
    """
    return np.asarray(table[group] if group.ndim == 1 else table[group, np.arange(HORIZON)])


def _medians_by_symbol(values: Array, symbol: Index, symbols: int) -> Array:
    """Return the median of each symbol's values, [S, H].

    A symbol without values gets the median over all symbols.

    values: [n, H]; NaN is ignored.
    symbol: [n] index of each row's symbol.
    symbols: number of symbols, S.
    """
    import pandas as pd

    if not len(values):
        return np.zeros((symbols, HORIZON))
    medians = pd.DataFrame(values).groupby(symbol).median()
    if len(medians) < symbols:
        of_all = dict(enumerate(np.median(values, axis=0)))
        medians = medians.reindex(range(symbols)).fillna(of_all)
    return medians.to_numpy()


def _quantiles(values: Array, at: Array) -> Array:
    """Return quantiles of the finite values of each step, interpolated linearly, [H, A].

    A step without finite values has quantiles of 0.

    values: [n, H].
    at: [A] quantile levels.
    """
    out = np.zeros((HORIZON, len(at)))
    for h, column in enumerate(np.ascontiguousarray(values.T)):
        known = np.sort(column[np.isfinite(column)])
        if len(known):
            out[h] = np.interp(at * (len(known) - 1), np.arange(len(known)), known)
    return out


def _count_distinct_instants(instant: Index, known: Mask) -> Index:
    """Return the number of distinct instants of issue with a known outcome, for each step, [H].

    instant: [n] instant of each row.
    known: [n, H] true if the row's outcome is known.
    """
    return np.array([np.count_nonzero(np.bincount(instant[rows])) for rows in known.T])


def _group_log_ratios(
    size: Array, known: Mask, group: Index, groups: int, instants: Index
) -> Array:
    """Return the log of each group's mean size relative to the overall mean, [G, H].

    The logs are shrunk towards 0, most for groups with few data.

    size: [n, H] absolute return divided by its deviation; 0 where it is unknown.
    known: [n, H] true if the outcome is known.
    group: [n] or [n, H] group number of each row, below `groups` = G.
    instants: [H] number of distinct instants with a known outcome.
    """
    cell = np.broadcast_to(group.T, size.T.shape).T * HORIZON + np.arange(HORIZON)
    count, total = (
        np.bincount(cell.ravel(), weights.ravel(), groups * HORIZON).reshape(groups, HORIZON)
        for weights in (known, size)
    )
    rows = np.maximum(count.sum(axis=0), 1)
    mean = total.sum(axis=0) / rows
    independent = count * instants / rows / STEP_NUMBERS
    seen = (count > 0) & (mean > 0)
    ratio = np.divide(total / np.maximum(count, 1), mean, out=np.ones(count.shape), where=seen)
    return np.asarray(
        np.log(np.maximum(ratio, 1e-3)) * independent / (independent + CORRECTION_PRIOR_INSTANTS)
    )


def _upper_half_quantiles(size: Array, instants: Index) -> Array:
    """Return the upper-half quantiles of the standardised return, [H, 10].

    The quantiles are shrunk towards those of a Student-t(5), most where data are few. The Student-t
    is scaled to the root mean square of the data, or to one in a step without data.

    size: [n, H] absolute return divided by its deviation; NaN where it is unknown.
    instants: [H] number of distinct instants with a known outcome.
    """
    known = np.isfinite(size)
    count = known.sum(axis=0)
    empirical = _quantiles(size, 2 * UPPER_QUANTILE_LEVELS - 1)
    some = np.maximum(count, 1)
    # Symbols of an instant move together and steps overlap: the number of independent rows is
    # smaller.
    independent = (
        instants
        * np.minimum(count / np.maximum(instants, 1), MAX_INDEPENDENT_SYMBOLS)
        / STEP_NUMBERS
    )
    share = (independent / (independent + SHAPE_PRIOR_ROWS))[:, None]
    # A move of more than ten deviations counts as ten: one jump would otherwise widen every level.
    square = np.where(known, np.minimum(size, 10), 0.0) ** 2
    root = np.sqrt(square.sum(axis=0) / some)[:, None]
    prior = _student5_upper_quantiles()
    drawn = share * empirical + (1 - share) * prior * root
    return np.asarray(np.where((count > 0)[:, None], drawn, prior))


@cache
def _student5_upper_quantiles() -> Array:
    """Return the upper-half quantiles [10] of a Student-t(5) with a standard deviation of one."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(5, UPPER_QUANTILE_LEVELS) * np.sqrt(3 / 5))
