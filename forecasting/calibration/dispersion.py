"""How wide a forecast should be: a regression, the shape of its residuals, and proven corrections.

n rows (forecasts of one class whose outcomes are known, all symbols together), H steps, Q levels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from forecasting.calibration.centre import instant_count
from forecasting.calibration.variance import FLOOR, SPANS
from forecasting.forecast import HORIZON, LEVELS, MEDIAN
from forecasting.moments import volatility
from foundation.arrays import Array, Index, Mask

PRIOR_ROWS = 300.0  # the weight of the prior regression, in rows of one bar ahead
PRIOR_INSTANTS = 200.0  # the weight of the Student-t(5) in the shape, in independent rows
PRIOR_GROUP = 60.0  # the weight of no correction, in independent instants
TOGETHER = 3  # symbols of a class count for at most so many independent ones
LAST_QUARTER = 0.75
JUDGED = (1, 6, HORIZON)  # steps that a correction is judged on
UPPER = np.array(LEVELS[MEDIAN + 1 :])
T5 = student.ppf(UPPER, 5) * np.sqrt(3 / 5)
EIGHTY = LEVELS.index(0.9) - MEDIAN - 1  # the upper end of the 80 % interval among the upper levels
REGIMES = 5
CORRECTIONS = ("hour", "regime", "symbol")


@dataclass(frozen=True, eq=False, slots=True)
class DispersionSample:
    """What is known of forecasts when they are made.

    logs: [n, K + 1, H] log variance a bar, the day's pattern divided out: the classical averages
        first, then the base forecaster's over each horizon.
    season: [n, H] the day's pattern summed over the steps.
    slot: [n] place in the day of the issuing bar.
    symbol: [n] number of the symbol within its class.
    instant: [n] number of the issuing bar on the class's clock.
    """

    logs: Array
    season: Array
    slot: Index
    symbol: Index
    instant: Index

    def rows(self, chosen: Mask) -> DispersionSample:
        """Part of the rows."""
        return DispersionSample(
            self.logs[chosen],
            self.season[chosen],
            self.slot[chosen],
            self.symbol[chosen],
            self.instant[chosen],
        )


@dataclass(frozen=True, eq=False, slots=True)
class Dispersion:
    """Deviation and shape of the log return after each step.

    weights: [K + 2, H] of the intercept and of each log variance.
    upper_half: [H, 10] quantiles of the shape above the median; the shape is symmetric.
    hour: [slots, H] log of the correction by decision hour, zero where it has not proved itself.
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
        level = self._log_level(sample)
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
        """Learn from what came true.

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
        border = np.quantile(sample.instant, LAST_QUARTER)
        early = sample.instant <= border
        late = sample.instant > border
        # Outcomes of early forecasts that reach beyond the border are unknown at it. With them a
        # correction would be judged on bars that it has been learned from.
        outcome_at = sample.instant[early][:, None] + np.arange(1, HORIZON + 1)
        early_move = np.where(outcome_at <= border, move[early], np.nan)
        if late.sum() < 2 or np.isfinite(early_move).all(axis=1).sum() < 2:
            return plain._with_shape(sample, move)
        proven = plain._with_proven_corrections(
            sample.rows(early), early_move, sample.rows(late), move[late], slots, symbols
        )
        # The border serves the judgement alone: what is used is learned from all rows, like the
        # regression.
        full = plain._with_corrections(sample, move, slots, symbols)
        tables = {
            name: getattr(full if getattr(proven, name).any() else plain, name)
            for name in CORRECTIONS
        }
        corrected = replace(plain, edges=full.edges, median_level=full.median_level, **tables)
        return corrected._with_shape(sample, move)

    @classmethod
    def _regression(
        cls, sample: DispersionSample, variance: Array, move: Array, slots: int, symbols: int
    ) -> Dispersion:
        """The weights alone: no correction, and the prior's shape."""
        weights = np.empty((len(SPANS) + 2, HORIZON))
        for h in range(HORIZON):
            has_outcome = np.isfinite(move[:, h])
            season = sample.season[has_outcome, h]
            x = sample.logs[has_outcome, :, h]
            # Bars that did not move have no logarithm: a share of the longest average stands for
            # their variance.
            floor = FLOOR * np.exp(x[:, len(SPANS) - 1])
            level = np.maximum(variance[has_outcome, h] / season, floor)
            weights[:, h] = _regression_weights(x, np.log(level), h + 1)
        return cls(
            weights=weights,
            upper_half=np.tile(T5, (HORIZON, 1)),
            hour=np.zeros((slots, HORIZON)),
            regime=np.zeros((REGIMES, HORIZON)),
            symbol=np.zeros((symbols, HORIZON)),
            edges=np.zeros((REGIMES - 1, HORIZON)),
            median_level=np.zeros((symbols, HORIZON)),
        )

    def _with_shape(self, sample: DispersionSample, move: Array) -> Dispersion:
        """The same with the shape of what remains after the corrections."""
        z = np.abs(move) / self.deviation(sample)
        halves = []
        for h, has_outcome in enumerate(np.isfinite(move).T):
            halves.append(_upper_half(z[has_outcome, h], sample.instant[has_outcome], h + 1))
        return replace(self, upper_half=np.stack(halves))

    def _with_proven_corrections(
        self,
        early: DispersionSample,
        early_move: Array,
        late: DispersionSample,
        late_move: Array,
        slots: int,
        symbols: int,
    ) -> Dispersion:
        """The corrections learned early that help late, taken one after the other."""
        learned = self._with_corrections(early, early_move, slots, symbols)
        current = replace(self, edges=learned.edges, median_level=learned.median_level)
        current = current._with_shape(early, early_move)
        for name in CORRECTIONS:
            candidate = replace(current, **{name: getattr(learned, name)})
            # The shape is measured after the corrections: each candidate is judged with its own.
            candidate = candidate._with_shape(early, early_move)
            if _improves(candidate, current, late, late_move):
                current = candidate
        return current

    def _with_corrections(
        self, sample: DispersionSample, move: Array, slots: int, symbols: int
    ) -> Dispersion:
        """Every correction, whether it helps or not, one after the other."""
        level = self._log_level(sample)
        # Regimes are relative to a symbol's own median: otherwise the calm symbols of a class
        # would fill the lowest regime and the wild ones the highest.
        median_level = np.tile(np.median(level, axis=0), (symbols, 1))
        for s in np.unique(sample.symbol):
            median_level[s] = np.median(level[sample.symbol == s], axis=0)
        relative = level - median_level[sample.symbol]
        edges = np.quantile(relative, np.arange(1, REGIMES) / REGIMES, axis=0)
        out = replace(self, edges=edges, median_level=median_level)
        regime = out._regime(level, sample.symbol)
        tables = {
            "hour": np.zeros((slots, HORIZON)),
            "regime": np.zeros((REGIMES, HORIZON)),
            "symbol": np.zeros((symbols, HORIZON)),
        }
        for h in range(HORIZON):
            has_outcome = np.isfinite(move[:, h])
            deviation = np.exp(level[has_outcome, h] / 2) * np.sqrt(sample.season[has_outcome, h])
            z = np.abs(move[has_outcome, h]) / deviation
            groups = {
                "hour": sample.slot[has_outcome],
                "regime": regime[has_outcome, h],
                "symbol": sample.symbol[has_outcome],
            }
            for name, group in groups.items():
                logs = _group_logs(z, group, sample.instant[has_outcome], len(tables[name]), h + 1)
                tables[name][:, h] = logs
                # The next correction is learned on what this one leaves: they are added up, and
                # what two of them share must count once.
                z = z * np.exp(-logs[group])
        return replace(out, **tables)

    def _log_level(self, sample: DispersionSample) -> Array:
        """Log variance a bar [n, H], the day's pattern divided out, before corrections."""
        return np.asarray(np.einsum("nkh,kh->nh", sample.logs, self.weights[1:]) + self.weights[0])

    def _regime(self, level: Array, symbol: Index) -> Index:
        relative = level - self.median_level[symbol]
        regime: Index = (relative[:, None] > self.edges[None]).sum(axis=1)
        return regime


def _regression_weights(x: Array, y: Array, step: int) -> Array:
    """Intercept and weights [K + 2] of log variances x [n, K + 1] for y, by ridge regression.

    The ridge draws towards the classical averages alone.
    """
    classical = np.append(np.full(len(SPANS), 1 / len(SPANS)), 0.0)
    # Without rows there is no mean to return to, and the prior weights add up to one.
    if not len(x):
        return np.append(0.0, classical)
    # Volatility returns to its mean: the prior weights add up to 0.9 for one bar ahead and to 0.7
    # for 24.
    prior = classical * (0.9 - 0.2 * np.log(step) / np.log(HORIZON))
    x_mean = x.mean(axis=0)
    y_mean = float(y.mean())
    centred = x - x_mean
    # Forecasts of several steps overlap, so as many rows say less: the prior counts for more.
    weight = PRIOR_ROWS * step
    gram = centred.T @ centred + weight * np.eye(x.shape[1])
    slopes = np.linalg.solve(gram, centred.T @ (y - y_mean) + weight * prior)
    return np.append(y_mean - x_mean @ slopes, slopes)


def _upper_half(z: Array, instant: Index, step: int) -> Array:
    """Quantiles [10] of |return| / deviation at the upper levels, drawn towards a Student-t(5).

    The Student-t has the root mean square of what was seen.
    """
    if not len(z):
        return np.asarray(T5)
    # Symbols of an instant move together and steps overlap: rows count for fewer independent ones.
    instants = instant_count(instant)
    independent = instants * min(len(z) / instants, TOGETHER) / step
    share = independent / (independent + PRIOR_INSTANTS)
    empirical = np.quantile(z, 2 * UPPER - 1)
    # A move of more than ten deviations counts as ten: one jump would otherwise widen every level.
    return np.asarray(
        share * empirical + (1 - share) * T5 * np.sqrt(np.mean(np.minimum(z, 10) ** 2))
    )


def _group_logs(z: Array, group: Index, instant: Index, count: int, step: int) -> Array:
    """Log of each group's mean |return| / deviation over everyone's, [count].

    It is drawn towards zero by how few independent instants the group has.
    """
    if not len(z):
        return np.zeros(count)
    counts = np.bincount(group, minlength=count)
    size = np.bincount(group, weights=z, minlength=count) / np.maximum(counts, 1)
    independent = counts * instant_count(instant) / len(z) / step
    ratio = np.where(counts > 0, np.maximum(size / z.mean(), 1e-3), 1.0)
    return np.asarray(np.log(ratio) * independent / (independent + PRIOR_GROUP))


class _Judgement(NamedTuple):
    """score: of the 80 % interval, in units of the classical deviation; less is better.

    coverage_error: distance of the interval's coverage from 80 %.
    scale_error: distance of the log of the mean (return/σ)² from zero.
    """

    score: float
    coverage_error: float
    scale_error: float


def _improves(
    candidate: Dispersion, present: Dispersion, sample: DispersionSample, move: Array
) -> bool:
    """Whether a correction lowers the interval score and spoils neither coverage nor scale."""
    new = _judgement(candidate, sample, move)
    old = _judgement(present, sample, move)
    # Score and calibration are judged together: on real bars, corrections that evened out coverage
    # have made the interval score worse.
    return (
        new.score < old.score
        and new.coverage_error <= max(old.coverage_error, 0.02)
        and new.scale_error <= max(old.scale_error, 0.1)
    )


def _judgement(dispersion: Dispersion, sample: DispersionSample, move: Array) -> _Judgement:
    steps = np.array(JUDGED) - 1
    deviation = dispersion.deviation(sample)[:, steps]
    size = np.abs(move[:, steps])
    has_outcome = np.isfinite(size)
    unit = np.exp(sample.logs[:, len(SPANS) - 1, steps] / 2) * np.sqrt(sample.season[:, steps])
    reach = deviation * dispersion.upper_half[steps, EIGHTY]
    score = (2 * reach + 10 * np.maximum(size - reach, 0)) / unit
    # `volatility` reads quantiles of a price: the shape is shown to it as small moves around one.
    moves = 1 + 1e-3 * dispersion.shape[steps]
    second = volatility(moves, np.ones(len(steps)), "quantile") * 1e3
    scale = np.mean(np.minimum(size[has_outcome] / (deviation * second)[has_outcome], 8) ** 2)
    return _Judgement(
        score=float(score[has_outcome].mean()),
        coverage_error=abs(float((size <= reach)[has_outcome].mean()) - 0.8),
        scale_error=abs(float(np.log(scale))),
    )
