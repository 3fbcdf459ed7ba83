"""How wide a forecast should be: a regression on what is known, a shape of what remains,
corrections that proved themselves.

n rows (forecasts of one class whose outcomes are known, all symbols together), H steps, Q levels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t as student

from forecasting.calibration.variance import FLOOR, SPANS
from forecasting.forecast import HORIZON, LEVELS, MEDIAN
from forecasting.moments import volatility
from foundation.arrays import Array, Index, Mask

PRIOR_ROWS = 300.0  # the weight of the prior regression, in rows of one bar ahead
PRIOR_INSTANTS = 200.0  # the weight of the Student-t(5) in the shape, in independent rows
PRIOR_GROUP = 60.0  # the weight of no correction, in independent instants
TOGETHER = 3  # symbols of a class count for at most so many independent ones
LAST_QUARTER = 0.75
JUDGED = (1, 6, HORIZON)
UPPER = np.array(LEVELS[MEDIAN + 1 :])
T5 = student.ppf(UPPER, 5) * np.sqrt(3 / 5)
EIGHTY = LEVELS.index(0.9) - MEDIAN - 1  # the upper end of the 80 % interval among the upper levels
REGIMES = 5


@dataclass(frozen=True, eq=False, slots=True)
class DispersionSample:
    """What is known of forecasts when they are made.

    logs [n, K + 1, H]: log variance a bar, the day's pattern divided out: classical averages, then
    the base forecaster's over each horizon. season [n, H]: pattern summed over the steps. slot,
    symbol, instant [n].
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
    """weights [K + 2, H]: of the intercept and of each log variance. half [H, 10]: upper half of
    the shape.

    hour [slots, H], regime [5, H], symbol [S, H]: logs of the corrections, zero where none proved
    itself. edges [4, H], usual [S, H]: log variance a bar at which regimes meet, relative to each
    symbol's own usual one.
    """

    weights: Array
    half: Array
    hour: Array
    regime: Array
    symbol: Array
    edges: Array
    usual: Array

    def deviation(self, sample: DispersionSample) -> Array:
        """[n, H] deviation of the log return after each step."""
        level = self._log_level(sample)
        by_regime = np.take_along_axis(self.regime, self._regime(level, sample.symbol), axis=0)
        correction = self.hour[sample.slot] + by_regime + self.symbol[sample.symbol]
        return np.asarray(np.exp(level / 2 + correction) * np.sqrt(sample.season))

    @property
    def shape(self) -> Array:
        """Quantiles of the return over its deviation, [H, Q]."""
        return np.concatenate(
            [-self.half[:, ::-1], np.zeros((len(self.half), 1)), self.half], axis=1
        )

    @classmethod
    def fit(
        cls, sample: DispersionSample, variance: Array, move: Array, slots: int, symbols: int
    ) -> Dispersion:
        """Learn from realised variance and log return after each step, [n, H]; NaN where the
        outcome is not known yet.
        """
        plain = cls._regression(sample, variance, move, slots, symbols)
        if not len(move):
            return plain
        border = np.quantile(sample.instant, LAST_QUARTER)
        early = sample.instant <= border
        late = sample.instant > border
        early_move = np.where(
            sample.instant[early][:, None] + np.arange(1, HORIZON + 1) <= border,
            move[early],
            np.nan,
        )
        if late.sum() < 2 or np.isfinite(early_move).all(axis=1).sum() < 2:
            return plain._reshaped(sample, move)
        before = sample.rows(early)
        after = sample.rows(late)
        tried = plain._corrected(before, early_move, slots, symbols)
        kept = replace(plain, edges=tried.edges, usual=tried.usual)._reshaped(before, early_move)
        for name in ("hour", "regime", "symbol"):
            candidate = replace(kept, **{name: getattr(tried, name)})._reshaped(before, early_move)
            if _better(candidate, kept, after, move[late]):
                kept = candidate
        found = plain._corrected(sample, move, slots, symbols)
        chosen = {
            name: getattr(found, name) if getattr(kept, name).any() else getattr(plain, name)
            for name in ("hour", "regime", "symbol")
        }
        return replace(plain, edges=found.edges, usual=found.usual, **chosen)._reshaped(
            sample, move
        )

    @classmethod
    def _regression(
        cls, sample: DispersionSample, variance: Array, move: Array, slots: int, symbols: int
    ) -> Dispersion:
        """Weights alone: no correction, and the shape that no row speaks against."""
        weights = np.empty((len(SPANS) + 2, HORIZON))
        for h in range(HORIZON):
            known = np.isfinite(move[:, h])
            season = sample.season[known, h]
            x = sample.logs[known, :, h]
            level = np.maximum(variance[known, h] / season, FLOOR * np.exp(x[:, len(SPANS) - 1]))
            weights[:, h] = _weights(x, np.log(level), h + 1)
        none = (
            np.zeros((slots, HORIZON)),
            np.zeros((REGIMES, HORIZON)),
            np.zeros((symbols, HORIZON)),
        )
        return cls(
            weights,
            np.tile(T5, (HORIZON, 1)),
            *none,
            np.zeros((REGIMES - 1, HORIZON)),
            np.zeros((symbols, HORIZON)),
        )

    def _reshaped(self, sample: DispersionSample, move: Array) -> Dispersion:
        """The same with the shape of what remains after the corrections."""
        z = np.abs(move) / self.deviation(sample)
        half = [
            _half_shape(z[k, h], sample.instant[k], h + 1)
            for h, k in enumerate(np.isfinite(move).T)
        ]
        return replace(self, half=np.stack(half))

    def _corrected(
        self, sample: DispersionSample, move: Array, slots: int, symbols: int
    ) -> Dispersion:
        """Every correction, whether it helps or not, one after the other."""
        level = self._log_level(sample)
        usual = np.tile(np.median(level, axis=0), (symbols, 1))
        for s in np.unique(sample.symbol):
            usual[s] = np.median(level[sample.symbol == s], axis=0)
        edges = np.quantile(level - usual[sample.symbol], np.arange(1, REGIMES) / REGIMES, axis=0)
        out = replace(self, edges=edges, usual=usual)
        regime = out._regime(level, sample.symbol)
        tables = {
            "hour": np.zeros((slots, HORIZON)),
            "regime": np.zeros((REGIMES, HORIZON)),
            "symbol": np.zeros((symbols, HORIZON)),
        }
        for h in range(HORIZON):
            known = np.isfinite(move[:, h])
            z = np.abs(move[known, h]) / (
                np.exp(level[known, h] / 2) * np.sqrt(sample.season[known, h])
            )
            groups = {
                "hour": sample.slot[known],
                "regime": regime[known, h],
                "symbol": sample.symbol[known],
            }
            for name, group in groups.items():
                found = _group_logs(z, group, sample.instant[known], len(tables[name]), h + 1)
                tables[name][:, h] = found
                z = z * np.exp(-found[group])
        return replace(out, **tables)

    def _log_level(self, sample: DispersionSample) -> Array:
        """Log variance a bar [n, H], the day's pattern divided out, before corrections."""
        return np.asarray(np.einsum("nkh,kh->nh", sample.logs, self.weights[1:]) + self.weights[0])

    def _regime(self, level: Array, symbol: Index) -> Index:
        relative = level - self.usual[symbol]
        regime: Index = (relative[:, None] > self.edges[None]).sum(axis=1)
        return regime


def _weights(x: Array, y: Array, step: int) -> Array:
    """Intercept and weights [K + 2] of log variances x [n, K + 1] for y, ridge towards the
    classical averages alone.

    Their prior weights add up to 0.9 for one bar ahead and to 0.7 for 24, because volatility
    returns to its mean; the prior counts for more rows the more the rows overlap. Without rows
    there is no mean to return to, and they add up to one.
    """
    classical = np.append(np.full(len(SPANS), 1 / len(SPANS)), 0.0)
    if not len(x):
        return np.append(0.0, classical)
    prior = classical * (0.9 - 0.2 * np.log(step) / np.log(HORIZON))
    centre = x.mean(axis=0)
    middle = float(y.mean())
    apart = x - centre
    weight = PRIOR_ROWS * step
    gram = apart.T @ apart + weight * np.eye(x.shape[1])
    slopes = np.linalg.solve(gram, apart.T @ (y - middle) + weight * prior)
    return np.append(middle - centre @ slopes, slopes)


def _half_shape(z: Array, instant: Index, step: int) -> Array:
    """Quantiles [10] of the size of what remains at the upper levels, drawn towards a
    Student-t(5) of the same spread.
    """
    if not len(z):
        return np.asarray(T5)
    instants = len(np.unique(instant))
    independent = instants * min(len(z) / instants, TOGETHER) / step
    share = independent / (independent + PRIOR_INSTANTS)
    seen = np.quantile(z, 2 * UPPER - 1)
    return np.asarray(share * seen + (1 - share) * T5 * np.sqrt(np.mean(np.minimum(z, 10) ** 2)))


def _group_logs(z: Array, group: Index, instant: Index, count: int, step: int) -> Array:
    """Log of each group's mean size of what remains over everyone's [count], drawn towards zero
    by how little was seen.
    """
    if not len(z):
        return np.zeros(count)
    n = np.bincount(group, minlength=count)
    size = np.bincount(group, weights=z, minlength=count) / np.maximum(n, 1)
    independent = n * len(np.unique(instant)) / len(z) / step
    ratio = np.where(n > 0, np.maximum(size / z.mean(), 1e-3), 1.0)
    return np.asarray(np.log(ratio) * independent / (independent + PRIOR_GROUP))


def _better(
    candidate: Dispersion, present: Dispersion, sample: DispersionSample, move: Array
) -> bool:
    """Whether a correction lowers the interval score and leaves coverage and scale near what
    they should be, or nearer.
    """
    scores = [_judged(spread, sample, move) for spread in (candidate, present)]
    (score, cover, scale), (old_score, old_cover, old_scale) = scores
    return score < old_score and cover <= max(old_cover, 0.02) and scale <= max(old_scale, 0.1)


def _judged(
    spread: Dispersion, sample: DispersionSample, move: Array
) -> tuple[float, float, float]:
    """(interval score of the 80 % interval, distance of its coverage from 80 %, of the log mean
    (return/σ)² from zero).
    """
    steps = np.array(JUDGED) - 1
    deviation = spread.deviation(sample)[:, steps]
    size = np.abs(move[:, steps])
    known = np.isfinite(size)
    unit = np.exp(sample.logs[:, len(SPANS) - 1, steps] / 2) * np.sqrt(sample.season[:, steps])
    reach = deviation * spread.half[steps, EIGHTY]
    score = (2 * reach + 10 * np.maximum(size - reach, 0)) / unit
    second = volatility(1 + 1e-3 * spread.shape[steps], np.ones(len(steps)), "quantile") * 1e3
    scale = np.mean(np.minimum(size[known] / (deviation * second)[known], 8) ** 2)
    return (
        float(score[known].mean()),
        abs(float((size <= reach)[known].mean()) - 0.8),
        abs(float(np.log(scale))),
    )
