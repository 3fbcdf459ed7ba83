"""Statistical significance: bootstrap intervals, deflated Sharpe ratio, probability of overfitting.

The probability of overfitting uses combinatorially symmetric cross-validation (Bailey, Borwein,
López de Prado and Zhu 2017): the days are cut into blocks, and each half of the blocks selects a
variant that the other half evaluates.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from foundation.arrays import Array, Index, Mask
from foundation.formatting import (
    MIN_DAYS_FOR_ANNUAL_FIGURES,
    MIN_FILLS_FOR_ANNUAL_FIGURES,
    format_count,
    format_percent,
)
from foundation.formatting import MIN_DAYS_FOR_INTERVALS as MIN_DAYS_FOR_INTERVALS
from marketsimulator.results.metrics import Performance, alpha_and_beta, bootstrap_figures

NO_ANNUAL_FIGURES_NOTE = (
    f"no annual figures below {MIN_FILLS_FOR_ANNUAL_FIGURES} fills or {MIN_DAYS_FOR_ANNUAL_FIGURES}"
    " days; ratios are marked short"
)
MIN_DEFLATED_SHARPE = 0.95  # a lower deflated Sharpe ratio does not rule out luck
EULER_GAMMA = 0.5772156649015329  # the Euler-Mascheroni constant
CONFIDENCE_LEVEL = 0.9  # probability mass of an interval
BOOTSTRAP_DRAWS = 1000  # bootstrap draws
MIN_EVENTS_FOR_INTERVALS = 5.0  # equal daily differences with the same second and fourth moments
ZERO_RETURN_TOL = 1e-12  # differences of daily log returns below which two runs are the same
FIGURES_WITH_INTERVALS = ("annual_return", "sharpe", "max_drawdown")  # in comparisons
CROSS_VALIDATION_BLOCKS = 16  # 12,870 splits
MAX_SHARPES_PER_BATCH = 1 << 16  # Sharpe ratios in one array
SHARPE_TIE_TOL = 1e-9  # Sharpe ratios per day that are no further apart are the same


def probabilistic_sharpe(
    sharpe: float,
    days: int,
    *,
    skewness: float = 0.0,
    excess_kurtosis: float = 0.0,
    autocorrelation: float = 0.0,
    benchmark: float = 0.0,
) -> float | None:
    """Return the probability that the true Sharpe ratio exceeds `benchmark`.

    Φ((SR - SR*) · √((D - 1) / v)) with v from `sharpe_variance`; sharpe (SR) and benchmark (SR*)
    per day, not annual (Bailey and López de Prado 2012). None for fewer than two days, or without
    variance.
    """
    from scipy.special import ndtr

    variance = sharpe_variance(sharpe, skewness, excess_kurtosis, autocorrelation)
    if days < 2 or variance <= 0:
        return None
    return float(ndtr((sharpe - benchmark) * np.sqrt(days - 1) / np.sqrt(variance)))


def sharpe_variance(
    sharpe: float, skewness: float, excess_kurtosis: float, autocorrelation: float
) -> float:
    """Return the variance of a measured daily Sharpe ratio SR, times the number of days.

    (1 + ρ) / (1 - ρ) - (1 + ρ / (1 - ρ) + ρ² / (1 - ρ²)) · skewness · SR
    + (1 + ρ²) / (1 - ρ²) · (excess kurtosis + 2) / 4 · SR², for returns with the autocorrelation ρ
    of a first-order autoregression (López de Prado, Lipton and Zoonekynd 2026).
    """
    rho = autocorrelation
    of_mean = (1.0 + rho) / (1.0 - rho)
    of_both = 1.0 + rho / (1.0 - rho) + rho**2 / (1.0 - rho**2)
    of_deviation = (1.0 + rho**2) / (1.0 - rho**2)
    tail = (excess_kurtosis + 2.0) / 4.0
    return of_mean - of_both * skewness * sharpe + of_deviation * tail * sharpe**2


def expected_maximum_sharpe(trials: int, variance: float) -> float:
    """Return the expected maximum of the daily Sharpe ratios of this many trials without skill.

    √V · ((1 - γ) · Φ⁻¹(1 - 1/N) + γ · Φ⁻¹(1 - 1/(N·e))), N trials whose ratios have the variance V,
    γ Euler's constant (Bailey and López de Prado 2014).
    """
    from scipy.special import ndtri

    if trials < 2:
        return 0.0
    typical = (1.0 - EULER_GAMMA) * ndtri(1.0 - 1.0 / trials)
    extreme = EULER_GAMMA * ndtri(1.0 - 1.0 / (trials * np.e))
    return float(np.sqrt(variance) * (typical + extreme))


def deflated_sharpe(figures: Performance, trials: int) -> float | None:
    """Return the deflated Sharpe ratio: the probability of skill after selection among the trials.

    This is the probabilistic Sharpe ratio with the expected maximum of trials without skill as
    benchmark (Bailey and López de Prado 2014). The trials are assumed to be unrelated: their ratios
    have the sampling variance of a ratio of 0 over these days. Related trials have a lower maximum.
    The result depends on the returns and the number of trials alone, so that all pages agree.

    figures: performance of the best trial.
    trials: number of trials; 1 gives the probabilistic Sharpe ratio.
    """
    ratio = figures.daily_sharpe()
    if ratio is None or figures.days < 2:
        return None
    skewness, excess_kurtosis = figures.skewness or 0.0, figures.excess_kurtosis or 0.0
    autocorrelation = figures.autocorrelation or 0.0
    chance = sharpe_variance(0.0, 0.0, 0.0, autocorrelation) / (figures.days - 1)
    return probabilistic_sharpe(
        ratio,
        figures.days,
        skewness=skewness,
        excess_kurtosis=excess_kurtosis,
        autocorrelation=autocorrelation,
        benchmark=expected_maximum_sharpe(trials, chance),
    )


def skill_figures(figures: Performance, trials: int | None) -> dict[str, float | int | None]:
    """Return the probabilistic and the deflated Sharpe ratio, and the number of trials.

    trials: number of trials; None if it is unknown, so that nothing can be deflated.
    """
    return {
        "probabilistic_sharpe": deflated_sharpe(figures, 1),
        "deflated_sharpe": None if trials is None else deflated_sharpe(figures, trials),
        "trials": trials,
    }


def bootstrap_intervals(
    returns: Array, days_per_year: int, *, seed: int
) -> dict[str, tuple[float, float]]:
    """Return 90 % intervals of annual figures from daily returns [D], by the stationary bootstrap.

    The bootstrap follows Politis and Romano (1994), with the mean block length that is optimal for
    these returns (Politis and White 2004). A figure that is undefined in a draw has no interval.
    There are no intervals for fewer than 20 days or constant returns.

    days_per_year: days per year.
    """
    if len(returns) < MIN_DAYS_FOR_INTERVALS or returns.std() == 0:
        return {}
    figures = bootstrap_figures(_draw_bootstrap_returns(returns, seed), days_per_year)
    # Quantiles of the defined draws alone would leave out the worst: those that lost all.
    return {
        name: central_interval(values)
        for name, values in figures.items()
        if np.isfinite(values).all()
    }


def alpha_beta_intervals(
    returns: Array, benchmark: Array, days_per_year: int, *, seed: int
) -> dict[str, tuple[float, float]]:
    """Return 90 % intervals of alpha and beta of daily returns [D] relative to a benchmark's [D].

    The stationary bootstrap draws days of both together, with the mean block length of their
    difference. Fewer than 20 days, or returns that differ by a constant, have no intervals.

    days_per_year: days per year.
    """
    if len(returns) != len(benchmark) or len(returns) < MIN_DAYS_FOR_INTERVALS:
        return {}
    if np.ptp(returns - benchmark) < ZERO_RETURN_TOL or benchmark.std() == 0:
        return {}
    length = max(1, round(mean_block_length(returns - benchmark)))
    days = draw_bootstrap_days(len(returns), length, BOOTSTRAP_DRAWS, seed=seed)
    alphas, betas = alpha_and_beta(returns[days], benchmark[days])
    draws = {"alpha": alphas * days_per_year, "beta": betas}
    return {
        name: central_interval(values)
        for name, values in draws.items()
        if np.isfinite(values).all()
    }


@dataclass(frozen=True, slots=True)
class Outperformance:
    """Lead of one run over another on the same days, with its interval.

    lead: growth of one run divided by the growth of the other, minus 1.
    interval: 90 % interval of `lead` by the stationary bootstrap of daily differences; None for
        too few days with a difference, or constant differences.
    is_identical: true if the returns of all days are equal.
    """

    lead: float
    interval: tuple[float, float] | None
    is_identical: bool = False

    @property
    def significant_sign(self) -> int:
        """Return 1 if the lead is significantly positive, -1 if negative, else 0."""
        if self.interval is None:
            return 0
        low, high = self.interval
        return int(low > 0) - int(high < 0)


def measure_outperformance(
    returns: Array, other_returns: Array, *, seed: int
) -> Outperformance | None:
    """Measure the outperformance of daily returns [D] over other returns on the same days [D].

    Moves that both runs share cancel, so the interval is narrower than the difference of two
    separate intervals. None without common days.
    """
    if len(returns) != len(other_returns) or not len(returns):
        return None
    difference = np.log1p(returns) - np.log1p(other_returns)
    ahead = float(np.expm1(difference.sum()))
    is_constant = np.ptp(difference) < ZERO_RETURN_TOL
    squares = np.square(difference)
    # A few large differences are a few events, of which a resample is no new draw.
    has_few = is_constant or squares.sum() ** 2 < MIN_EVENTS_FOR_INTERVALS * (squares**2).sum()
    if len(difference) < MIN_DAYS_FOR_INTERVALS or has_few:
        return Outperformance(
            ahead, None, is_identical=bool((np.abs(difference) < ZERO_RETURN_TOL).all())
        )
    return Outperformance(
        ahead, central_interval(np.expm1(_draw_bootstrap_returns(difference, seed).sum(axis=1)))
    )


def measure_all_outperformances(returns: Array, *, seed: int) -> list[Outperformance]:
    """Measure the outperformance of each run over the first one, [V - 1], with joint intervals.

    The best of V runs is selected from V · (V - 1) / 2 pairs, so the largest difference may be
    chance. The days of all runs are drawn together. c is the 90 % quantile over the draws of the
    largest deviation of any pair from its estimate, in standard deviations (Romano and Wolf 2005).
    The intervals difference ± c · deviation hold for all pairs together with 90 % probability.

    returns: [V, D] daily returns of the same days, above -1.
    """
    logs = np.log1p(returns)
    totals = logs.sum(axis=1)
    ahead = totals[1:] - totals[0]
    alike = (np.abs(logs[1:] - logs[0]) < ZERO_RETURN_TOL).all(axis=1).tolist()
    if returns.shape[1] < MIN_DAYS_FOR_INTERVALS or np.ptp(logs - logs[0]) < ZERO_RETURN_TOL:
        return [
            Outperformance(float(np.expm1(value)), None, is_identical=same)
            for value, same in zip(ahead, alike, strict=True)
        ]
    moving = np.ptp(logs[1:] - logs[0], axis=1) >= ZERO_RETURN_TOL
    draws = _draw_joint_log_returns(logs, seed) - totals
    first, second = np.triu_indices(len(logs), 1)
    apart = draws[:, second] - draws[:, first]
    deviation = apart.std(axis=0)
    told = np.ptp(logs[second] - logs[first], axis=1) >= ZERO_RETURN_TOL
    largest = np.max(np.abs(apart[:, told]) / deviation[told], axis=1)
    reach = float(np.quantile(largest, CONFIDENCE_LEVEL)) * deviation[: len(ahead)]
    return [
        Outperformance(
            float(np.expm1(value)),
            (float(np.expm1(value - half)), float(np.expm1(value + half))) if moves else None,
            is_identical=same,
        )
        for value, half, moves, same in zip(ahead, reach, moving, alike, strict=True)
    ]


def _draw_joint_log_returns(logs: Array, seed: int) -> Array:
    """Draw total log returns [BOOTSTRAP_DRAWS, V] from log returns [V, D], same days for all V."""
    differences = logs[1:] - logs[0]
    moving = differences[np.ptp(differences, axis=1) >= ZERO_RETURN_TOL]
    # The median of the differences' block lengths: the longest of many is long by chance, and long
    # blocks make intervals that are too narrow.
    length = max(1, round(float(np.median([mean_block_length(each) for each in moving]))))
    days = draw_bootstrap_days(logs.shape[1], length, BOOTSTRAP_DRAWS, seed=seed)
    return np.array([logs[:, drawn].sum(axis=1) for drawn in days])


def _draw_bootstrap_returns(returns: Array, seed: int) -> Array:
    """Draw returns with the stationary bootstrap, [BOOTSTRAP_DRAWS, D]."""
    # Daily returns cluster in volatility: days drawn one by one would lose that, and with it the
    # depth of drawdowns. Blocks keep it.
    length = max(1, round(mean_block_length(returns)))
    return np.asarray(
        returns[draw_bootstrap_days(len(returns), length, BOOTSTRAP_DRAWS, seed=seed)]
    )


def central_interval(values: Array) -> tuple[float, float]:
    """Return the bounds of the central (equal-tailed) `CONFIDENCE_LEVEL` interval of the values."""
    tail = (1.0 - CONFIDENCE_LEVEL) / 2.0
    low, high = np.quantile(values, (tail, 1.0 - tail))
    return float(low), float(high)


def draw_bootstrap_days(
    day_count: int, block_length: float, draw_count: int, *, seed: int
) -> Index:
    """Draw day numbers for the stationary bootstrap, [draws, count].

    Days are drawn in blocks that start at a random day and wrap around at the end.

    day_count: number of days.
    block_length: mean block length; each day ends its block with probability 1 / length.
    draw_count: number of draws.
    """
    random = np.random.default_rng(seed)
    drawn = [
        (random.integers(day_count, size=day_count), random.random(day_count))
        for _ in range(draw_count)
    ]
    days = np.array([first for first, _ in drawn])
    begins = np.array([chance for _, chance in drawn]) <= 1.0 / block_length
    begins[:, 0] = True
    place = np.arange(day_count)
    began = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    return np.asarray((np.take_along_axis(days, began, axis=1) + place - began) % day_count)


def mean_block_length(values: Array) -> float:
    """Return the optimal mean block length for the stationary bootstrap of values [D].

    It is the rule of Politis and White (2004), corrected by Patton, Politis and White (2009).
    Autocovariances are tapered up to twice the lag after which several in a row are insignificant.
    """
    count = len(values)
    off = values - values.mean()
    in_a_row = max(5, int(math.log10(count)))
    most = math.ceil(math.sqrt(count)) + in_a_row
    squares = np.concatenate([[0.0], np.cumsum(off**2)])
    lags = np.arange(most + 1)
    covariance = np.array([off[lag:] @ off[: count - lag] for lag in lags])
    scale = (squares[-1] - squares[lags + 1]) * squares[count - lags - 1]
    none = np.abs(covariance) < 2.0 * np.sqrt(math.log10(count) / count * scale)
    runs = np.lib.stride_tricks.sliding_window_view(none[:most], in_a_row).all(axis=1)
    memory = min(2 * max(int(runs.argmax()), 1), most) if runs.any() else most

    lag = np.arange(1, memory + 1)
    fading = np.clip(2.0 * (1.0 - lag / memory), 0.0, 1.0)
    weighted = fading * covariance[1 : memory + 1] / count
    spread = covariance[0] / count + 2.0 * weighted.sum()
    slope = 2.0 * (lag * weighted).sum()
    length = np.cbrt(slope**2 / spread**2 * count)
    return float(min(length, math.ceil(min(3.0 * math.sqrt(count), count / 3.0))))


@dataclass(frozen=True, slots=True)
class Overfitting:
    """Out-of-sample results of the variant with the best in-sample Sharpe ratio, over all splits.

    probability: probability of backtest overfitting: the share of splits in which the chosen
        variant is below the median of all in the other half. It is 0.5 for identical variants.
    in_sample: mean of the chosen variant's daily Sharpe ratio in the half that chose it.
    out_of_sample: mean of the chosen variant's daily Sharpe ratio in the other half.
    loss_probability: share of splits in which the chosen variant has a negative Sharpe ratio in the
        other half.
    splits: number of splits.
    variants: number of variants with variance.
    days: number of days.
    """

    probability: float
    in_sample: float
    out_of_sample: float
    loss_probability: float
    splits: int
    variants: int
    days: int


def estimate_overfitting(
    returns: Array, block_count: int = CROSS_VALIDATION_BLOCKS
) -> Overfitting | None:
    """Estimate the probability of backtest overfitting by cross-validation over halves of the days.

    In each split the variant with the best Sharpe ratio in one half is judged in the other half.

    None for too few days, or for fewer than two variants with variance. A variant without variance
    has no Sharpe ratio and is skipped. In a half in which a variant is constant its ratio is 0.

    The relative rank ω of the chosen variant is its rank in the other half over V + 1, its logit
    ln(ω / (1 - ω)); a logit below 0 counts as overfitting. Ties are neutral: equal ratios share the
    mean of their ranks, and a logit of exactly 0 counts half. In a split with several best variants
    each of them has an equal weight. The order of variants therefore does not matter, and
    identical variants have a probability of 0.5.

    returns: daily returns [V, D] of all variants over the same days.
    block_count: number of blocks of days, even; the first may be a day longer than the last.
    """
    if not np.isfinite(returns).all():
        variant = int(np.flatnonzero(~np.isfinite(returns).all(axis=1))[0])
        raise ValueError(
            f"returns of variant {variant} contain NaN or infinite values; all returns must"
            " be finite"
        )
    days = returns.shape[1]
    if days < max(MIN_DAYS_FOR_ANNUAL_FIGURES, 2 * block_count):
        return None
    moments = _block_moments(returns, block_count)
    if moments.variants < 2:
        return None
    judged = np.concatenate(
        [_score_splits(moments, halves) for halves in _split_batches(block_count, moments)]
    )
    worse, in_sample, out_of_sample, loss_probability = judged.T
    return Overfitting(
        probability=float(worse.mean()),
        in_sample=float(in_sample.mean()),
        out_of_sample=float(out_of_sample.mean()),
        loss_probability=float(loss_probability.mean()),
        splits=len(judged),
        variants=moments.variants,
        days=days,
    )


@dataclass(frozen=True, eq=False, slots=True)
class _BlockMoments:
    """Moments of V variants' returns in B blocks of days.

    Returns are less the variant's mean and in units of its standard deviation.

    days: [B] number of days in each block.
    sums: [B, V] sums of returns.
    squares: [B, V] sums of squared returns.
    means: [V] subtracted means, in the same units.
    """

    days: Array
    sums: Array
    squares: Array
    means: Array

    @property
    def variants(self) -> int:
        return len(self.means)


def _block_moments(returns: Array, blocks: int) -> _BlockMoments:
    """Return the block moments of returns [V, D]; constant variants are skipped."""
    days = returns.shape[1]
    lengths = days // blocks + (np.arange(blocks) < days % blocks)
    edges = np.append(0, np.cumsum(lengths))
    means = returns.mean(axis=1)
    # From each variant's own mean, as the difference of large squares would be rounding.
    sums = np.empty((blocks, len(returns)))
    squares = np.empty((blocks, len(returns)))
    for k, (begin, end) in enumerate(itertools.pairwise(edges)):
        part = returns[:, begin:end] - means[:, None]
        sums[k] = part.sum(axis=1)
        squares[k] = np.einsum("vd,vd->v", part, part)
    deviation = np.sqrt(squares.sum(axis=0) / days)
    moves = deviation > ZERO_RETURN_TOL * np.abs(means)
    unit = deviation[moves]
    return _BlockMoments(
        days=lengths.astype(np.float64),
        sums=sums[:, moves] / unit,
        squares=squares[:, moves] / unit**2,
        means=means[moves] / unit,
    )


def _split_batches(blocks: int, moments: _BlockMoments) -> Iterator[Array]:
    """Yield batches of splits [P, B] as 0 and 1; the half with 1 contains the first block."""
    portion = max(1, MAX_SHARPES_PER_BATCH // moments.variants)
    others = itertools.combinations(range(1, blocks), blocks // 2 - 1)
    while chosen := list(itertools.islice(others, portion)):
        halves = np.zeros((len(chosen), blocks))
        halves[:, 0] = 1.0
        halves[np.arange(len(chosen))[:, None], np.array(chosen, dtype=np.int64)] = 1.0
        yield halves


def _score_splits(moments: _BlockMoments, halves: Array) -> Array:
    """Return the results [2 P, 4] of P splits; each half once selects the best variant."""
    one = _sharpe_ratios(moments, halves)
    other = _sharpe_ratios(moments, 1.0 - halves)
    return np.concatenate([_score_best_variant(one, other), _score_best_variant(other, one)])


def _sharpe_ratios(moments: _BlockMoments, halves: Array) -> Array:
    """Return daily Sharpe ratios [P, V] within these halves [P, B]; 0 for constant returns."""
    days = (halves @ moments.days)[:, None]
    mean = halves @ moments.sums
    mean /= days
    variance = halves @ moments.squares
    variance -= days * mean**2
    variance /= days - 1.0
    moves = variance > ZERO_RETURN_TOL
    mean += moments.means
    np.sqrt(variance, out=variance, where=moves)
    ratios = np.zeros_like(mean)
    np.divide(mean, variance, out=ratios, where=moves)
    return ratios


def _score_best_variant(in_sample: Array, out_of_sample: Array) -> Array:
    """Return the results [P, 4] of the best variant in sample.

    Columns: overfitting, ratio in sample, ratio out of sample, loss out of sample. Overfitting is 1
    below the out-of-sample median, 0.5 at the median, else 0.
    """
    rows = np.arange(len(in_sample))
    best = in_sample.argmax(axis=1)
    ratio = out_of_sample[rows, best][:, None]
    below = np.count_nonzero(out_of_sample < ratio - SHARPE_TIE_TOL, axis=1)
    above = np.count_nonzero(out_of_sample > ratio + SHARPE_TIE_TOL, axis=1)
    judged = np.stack(
        [_below_median_score(below, above), in_sample[rows, best], ratio[:, 0], ratio[:, 0] < 0],
        axis=1,
    )
    tied: Mask = in_sample >= in_sample[rows, best][:, None] - SHARPE_TIE_TOL
    for row in np.flatnonzero(np.count_nonzero(tied, axis=1) > 1):
        ordered = np.sort(out_of_sample[row])
        ratios = out_of_sample[row, tied[row]]
        below = np.searchsorted(ordered, ratios - SHARPE_TIE_TOL, side="left")
        above = len(ordered) - np.searchsorted(ordered, ratios + SHARPE_TIE_TOL, side="right")
        judged[row, 0] = _below_median_score(below, above).mean()
        judged[row, 2:] = ratios.mean(), (ratios < 0).mean()
    return judged


def _below_median_score(below: Array, above: Array) -> Array:
    """Return 1 if more ratios are above than below, 0.5 for equal counts, else 0."""
    return (np.sign(above - below) + 1.0) / 2.0


def deflated_sharpe_remarks(deflated_sharpe: float | None, trials: int | None) -> list[str]:
    """Report a deflated Sharpe ratio that is too low to rule out luck."""
    if deflated_sharpe is None or trials is None or deflated_sharpe >= MIN_DEFLATED_SHARPE:
        return []
    return [
        f"Luck is not ruled out: deflated Sharpe {format_percent(deflated_sharpe, 0)} after"
        f" {format_count(trials, 'variant')} tried on these data, below"
        f" {format_percent(MIN_DEFLATED_SHARPE, 0)}."
    ]
