"""How wide a forecast should be: a regression, the shape of its residuals, and proven corrections.

n rows (forecasts of one class whose outcomes are known, all symbols together), H steps, K classical
averages, Q levels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t as student

from forecasting.calibration.tallies import (
    distinct_instants,
    group_logs,
    levels,
    medians_by_symbol,
    normal_equations,
    quantiles,
    regimes,
)
from forecasting.calibration.variance import FLOOR, SPANS
from forecasting.forecast import HORIZON, LEVELS, MEDIAN
from forecasting.moments import volatility
from foundation.arrays import Array, Index, Mask

PRIOR_ROWS = 300.0  # the weight of the prior regression, in rows of one bar ahead
PRIOR_INSTANTS = 200.0  # the weight of the Student-t(5) in the shape, in independent rows
PRIOR_GROUP = 60.0  # the weight of no correction, in independent instants
TOGETHER = 3  # symbols of a class count for at most so many independent ones
LAST_QUARTER = 0.75
ALL = np.arange(HORIZON)
JUDGED = np.array([0, 5, HORIZON - 1])  # places of the steps that a correction is judged on
UPPER = np.array(LEVELS[MEDIAN + 1 :])
T5 = student.ppf(UPPER, 5) * np.sqrt(3 / 5)
EIGHTY = LEVELS.index(0.9) - MEDIAN - 1  # the upper end of the 80 % interval among the upper levels
REGIMES = 5
CORRECTIONS = ("hour", "regime", "symbol")
# Volatility returns to its mean: the weights of the classical averages add up to 0.9 for one bar
# ahead and to 0.7 for 24 before anything is learned.
PRIOR_SUM = 0.9 - 0.2 * np.log(1 + ALL) / np.log(HORIZON)


@dataclass(frozen=True, eq=False, slots=True)
class DispersionSample:
    """What is known of forecasts when they are made, at some of the steps.

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

    def rows(self, chosen: Mask) -> DispersionSample:
        """Part of the rows."""
        return DispersionSample(
            self.past[chosen],
            self.base[chosen],
            self.season[chosen],
            self.slot[chosen],
            self.symbol[chosen],
            self.instant[chosen],
        )

    def steps(self, places: Index) -> DispersionSample:
        """Part of the steps."""
        return replace(self, base=self.base[:, places], season=self.season[:, places])


@dataclass(frozen=True, eq=False, slots=True)
class Dispersion:
    """Deviation and shape of the log return after some of the steps.

    places: [H] which, from 0 for the first.
    weights: [K + 2, H] of the intercept and of each log variance.
    upper_half: [H, 10] quantiles of the shape above the median; the shape is symmetric.
    hour: [slots, H] log of the correction by decision hour, zero where it has not proved itself.
    regime: [5, H] the same by volatility regime.
    symbol: [S, H] the same by symbol.
    edges: [4, H] log variance a bar at which regimes meet, relative to a symbol's own median.
    median_level: [S, H] each symbol's median log variance a bar.
    """

    places: Index
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

    def steps(self, places: Index) -> Dispersion:
        """Part of the steps."""
        return Dispersion(
            places=self.places[places],
            weights=self.weights[:, places],
            upper_half=self.upper_half[places],
            hour=self.hour[:, places],
            regime=self.regime[:, places],
            symbol=self.symbol[:, places],
            edges=self.edges[:, places],
            median_level=self.median_level[:, places],
        )

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
        border = np.quantile(sample.instant, LAST_QUARTER)
        early = sample.instant <= border
        late = sample.instant > border
        # Outcomes of early forecasts that reach beyond the border are unknown at it. With them a
        # correction would be judged on bars that it has been learned from.
        outcome_at = sample.instant[early][:, None] + 1 + JUDGED
        early_move = np.where(outcome_at <= border, move[early][:, JUDGED], np.nan)
        if late.sum() < 2 or np.isfinite(early_move).all(axis=1).sum() < 2:
            return plain._with_shape(sample, move)
        judged = sample.steps(JUDGED)
        proven = plain.steps(JUDGED)._proven_corrections(
            judged.rows(early), early_move, judged.rows(late), move[late][:, JUDGED]
        )
        # The border serves the judgement alone: what is used is learned from all rows, like the
        # regression.
        full = plain._with_corrections(sample, move)
        tables = {name: getattr(full if name in proven else plain, name) for name in CORRECTIONS}
        corrected = replace(plain, edges=full.edges, median_level=full.median_level, **tables)
        return corrected._with_shape(sample, move)

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
            places=ALL,
            weights=_regression_weights(sample, np.log(realised)),
            upper_half=np.tile(T5, (HORIZON, 1)),
            hour=np.zeros((slots, HORIZON)),
            regime=np.zeros((REGIMES, HORIZON)),
            symbol=np.zeros((symbols, HORIZON)),
            edges=np.zeros((REGIMES - 1, HORIZON)),
            median_level=np.zeros((symbols, HORIZON)),
        )

    def _with_shape(self, sample: DispersionSample, move: Array) -> Dispersion:
        """The same with the shape of what remains after the corrections."""
        size = np.abs(move) / self.deviation(sample)
        return replace(self, upper_half=_upper_half(size, sample.instant, 1 + self.places))

    def _proven_corrections(
        self,
        early: DispersionSample,
        early_move: Array,
        late: DispersionSample,
        late_move: Array,
    ) -> set[str]:
        """The corrections learned early that help late, taken one after the other."""
        learned = self._with_corrections(early, early_move)
        current = replace(self, edges=learned.edges, median_level=learned.median_level)
        current = current._with_shape(early, early_move)
        proven = set()
        for name in CORRECTIONS:
            candidate = replace(current, **{name: getattr(learned, name)})
            # The shape is measured after the corrections: each candidate is judged with its own.
            candidate = candidate._with_shape(early, early_move)
            if _improves(candidate, current, late, late_move):
                current = candidate
                proven.add(name)
        return proven

    def _with_corrections(self, sample: DispersionSample, move: Array) -> Dispersion:
        """Every correction, whether it helps or not, one after the other."""
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
                size, np.ascontiguousarray(group), count, instants, 1 + self.places, PRIOR_GROUP
            )
        return replace(out, **tables)

    def _regime(self, level: Array, symbol: Index) -> Index:
        return regimes(level, symbol, self.median_level, self.edges)


def _regression_weights(sample: DispersionSample, target: Array) -> Array:
    """Intercept and weights [K + 2, H] of log variances for the target [n, H], by ridge regression.

    The ridge draws towards the classical averages alone.
    """
    classical = np.append(np.full(len(SPANS), 1 / len(SPANS)), 0.0)
    count, mean, gram, product = normal_equations(sample.past, sample.base, target)
    # Forecasts of several steps overlap, so as many rows say less: the prior counts for more.
    weight = PRIOR_ROWS * (1 + ALL)
    prior = PRIOR_SUM[:, None] * classical
    ridge = weight[:, None, None] * np.eye(len(classical))
    slopes = np.linalg.solve(gram + ridge, (product + weight[:, None] * prior)[..., None])[..., 0]
    intercept = mean[:, -1] - (mean[:, :-1] * slopes).sum(axis=1)
    # Without rows there is no mean to return to, and the prior weights add up to one.
    some = count > 0
    weights = np.where(some[:, None], slopes, classical)
    return np.concatenate([np.where(some, intercept, 0.0)[None], weights.T])


def _upper_half(size: Array, instant: Index, step: Index) -> Array:
    """Quantiles [H, 10] of |return| / deviation [n, H], drawn towards a Student-t(5).

    The Student-t has the root mean square of what was seen. Steps of which nothing is known have
    its own.
    """
    known = np.isfinite(size)
    empirical, count = quantiles(size, 2 * UPPER - 1)
    some = np.maximum(count, 1)
    # Symbols of an instant move together and steps overlap: rows count for fewer independent ones.
    instants = distinct_instants(instant, known)
    independent = instants * np.minimum(count / np.maximum(instants, 1), TOGETHER) / step
    share = (independent / (independent + PRIOR_INSTANTS))[:, None]
    # A move of more than ten deviations counts as ten: one jump would otherwise widen every level.
    square = np.where(known, np.minimum(size, 10), 0.0) ** 2
    root = np.sqrt(square.sum(axis=0) / some)[:, None]
    drawn = share * empirical + (1 - share) * T5 * root
    return np.asarray(np.where((count > 0)[:, None], drawn, T5))


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
    deviation = dispersion.deviation(sample)
    size = np.abs(move)
    has_outcome = np.isfinite(size)
    unit = np.exp(sample.past[:, -1:] / 2) * np.sqrt(sample.season)
    reach = deviation * dispersion.upper_half[:, EIGHTY]
    score = (2 * reach + 10 * np.maximum(size - reach, 0)) / unit
    # `volatility` reads quantiles of a price: the shape is shown to it as small moves around one.
    moves = 1 + 1e-3 * dispersion.shape
    second = volatility(moves, np.ones(len(moves)), "quantile") * 1e3
    scale = np.mean(np.minimum(size[has_outcome] / (deviation * second)[has_outcome], 8) ** 2)
    return _Judgement(
        score=float(score[has_outcome].mean()),
        coverage_error=abs(float((size <= reach)[has_outcome].mean()) - 0.8),
        scale_error=abs(float(np.log(scale))),
    )
