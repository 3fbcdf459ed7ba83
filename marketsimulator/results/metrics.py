"""Return and risk metrics of a run, from its equity at the end of each day.

A day ends at 16:00 New York, the last one at the last row, so that daily returns compound to the
total return. Days are calendar days if the universe contains crypto, else sessions.
`periods_per_year` is the number of such days in the last year of the run. An undefined figure (no
variance, no loss) is None, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from foundation.arrays import Array, Index, Instants, Mask, first_true_index
from foundation.formatting import (
    NO_VALUE,
    NumberFormatter,
    format_multiple,
    format_number,
    format_percent,
    format_usd,
)
from trainingdata.instants import DAY, new_york_date, new_york_four_pm
from trainingdata.sessions import exchange_calendar, sessions_between

TAIL_PROBABILITY = 0.05  # share of days, for value at risk and expected shortfall
NORMAL_KURTOSIS = 3.0  # fourth standardised moment of a normal distribution
MIN_DEVIATION = 1e-12  # of returns; below, prices differ by rounding alone


class FigureFormat(NamedTuple):
    """Format and label of a figure.

    formatter: function that formats the value.
    label: label in the table of figures, as in quantstats, pyfolio or freqtrade; empty: not listed.
    is_annual: true if the figure is annualised; hidden for short runs, unless `is_ratio` is set.
    is_ratio: true for a ratio, such as Sharpe, which short runs show with the mark (short).
    """

    formatter: NumberFormatter
    label: str = ""
    is_annual: bool = False
    is_ratio: bool = False


FIGURE_FORMATS: Mapping[str, FigureFormat] = {  # by name in the summary, in the order of the table
    "total_return": FigureFormat(partial(format_percent, sign=True), "Total return"),
    "annual_return": FigureFormat(partial(format_percent, sign=True), "CAGR", is_annual=True),
    "volatility": FigureFormat(format_percent, "Volatility (ann.)", is_annual=True),
    "sharpe": FigureFormat(format_number, "Sharpe", is_annual=True, is_ratio=True),
    "deflated_sharpe": FigureFormat(partial(format_percent, places=0)),
    "sortino": FigureFormat(format_number, "Sortino", is_annual=True, is_ratio=True),
    "calmar": FigureFormat(format_number, "Calmar", is_annual=True),
    "max_drawdown": FigureFormat(format_percent, "Max drawdown (close)"),
    "max_drawdown_intraday": FigureFormat(format_percent, "Max drawdown (intraday)"),
    "drawdown_days": FigureFormat(partial(format_number, places=0), "Longest drawdown (days)"),
    "value_at_risk": FigureFormat(format_percent, "Daily VaR (95%)"),
    "expected_shortfall": FigureFormat(format_percent, "Expected shortfall"),
    "hit_rate": FigureFormat(partial(format_percent, places=0), "Win days %"),
    "profit_factor": FigureFormat(format_number, "Profit factor"),
    "skewness": FigureFormat(format_number, "Skew"),
    "excess_kurtosis": FigureFormat(format_number, "Excess kurtosis"),
    "alpha": FigureFormat(partial(format_percent, sign=True), "Alpha (ann.)", is_annual=True),
    "beta": FigureFormat(format_number, "Beta"),
    "correlation": FigureFormat(format_number, "Correlation"),
    "tracking_error": FigureFormat(format_percent, "Tracking error (ann.)", is_annual=True),
    "information_ratio": FigureFormat(
        format_number, "Information ratio", is_annual=True, is_ratio=True
    ),
    "treynor": FigureFormat(format_number, "Treynor ratio", is_annual=True),
    "up_capture": FigureFormat(partial(format_percent, places=0), "Up capture"),
    "down_capture": FigureFormat(partial(format_percent, places=0), "Down capture"),
    "mean_leverage": FigureFormat(format_multiple, "Exposure (mean)"),
    "max_leverage": FigureFormat(format_multiple, "Exposure (max)"),
    "turnover": FigureFormat(partial(format_multiple, places=0), "Turnover (ann.)", is_annual=True),
    "costs": FigureFormat(format_usd, "Costs"),
    "interest": FigureFormat(format_usd, "of which interest"),
    "trades": FigureFormat(partial(format_number, places=0), "Fills"),
}
SHORT_RUN_SUFFIX = "(short)"  # suffix of a ratio whose run is too short for yearly figures
MAX_LOG_RETURN = 700.0  # a float64 holds no more than e ^ 709


@dataclass(frozen=True, slots=True)
class Performance:
    """Return and risk metrics of one run.

    Returns are signed fractions; r is a daily return, D the number of days, ppy the days per year.

    total_return: final equity over capital - 1.
    annual_return: (1 + total_return) ^ (ppy / D) - 1.
    volatility: sample deviation of r · √ppy.
    sharpe: mean / sample deviation of r · √ppy, no risk-free rate.
    sortino: mean of r / root mean square of its losses · √ppy.
    calmar: annual_return / |max_drawdown|.
    max_drawdown: deepest fall of the daily equity below its earlier peak, ≤ 0.
    drawdown_days: longest run of days below an earlier peak.
    value_at_risk: the 5 % quantile of r.
    expected_shortfall: mean of r up to that quantile.
    hit_rate: share of all days with a gain; days without a change count as days, as do the draws of
        freqtrade's "Days win/draw/lose".
    profit_factor: sum of gains over sum of losses.
    skewness: skewness of r.
    excess_kurtosis: excess kurtosis of r, 0 for a normal distribution.
    autocorrelation: first-order autocorrelation of r.
    days: D.
    periods_per_year: ppy.
    """

    total_return: float
    annual_return: float | None
    volatility: float | None
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    max_drawdown: float
    drawdown_days: int
    value_at_risk: float | None
    expected_shortfall: float | None
    hit_rate: float | None
    profit_factor: float | None
    skewness: float | None
    excess_kurtosis: float | None
    autocorrelation: float | None
    days: int
    periods_per_year: int

    def as_dict(self) -> dict[str, float | int | None]:
        return asdict(self)

    def daily_sharpe(self) -> float | None:
        """Return the daily Sharpe ratio: mean over sample deviation of r; None if undefined."""
        return None if self.sharpe is None else self.sharpe / float(np.sqrt(self.periods_per_year))


@dataclass(frozen=True, slots=True)
class RelativePerformance:
    """Performance of a run relative to a benchmark; None if undefined.

    r and b are the daily returns of run and benchmark on the same days, ppy the days per year.

    alpha: (mean of r - beta · mean of b) · ppy (Jensen 1968), no risk-free rate.
    beta: covariance of r and b over the variance of b (Sharpe 1964).
    correlation: correlation of r and b.
    tracking_error: sample deviation of r - b · √ppy.
    information_ratio: mean / sample deviation of r - b · √ppy (Goodwin 1998).
    treynor: mean of r · ppy / beta (Treynor 1965), no risk-free rate; None for beta <= 0.
    up_capture: geometric mean of r over that of b, on days with b > 0 (Morningstar's upside capture
        ratio, which uses months).
    down_capture: the same on days with b < 0.
    """

    alpha: float | None = None
    beta: float | None = None
    correlation: float | None = None
    tracking_error: float | None = None
    information_ratio: float | None = None
    treynor: float | None = None
    up_capture: float | None = None
    down_capture: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        return asdict(self)


class Drawdown(NamedTuple):
    """A drawdown of a daily series.

    peak_index: index of the peak before it.
    trough_index: index of the lowest value.
    recovery_index: index of the recovery, the first value at or above the peak; None if there is
        none yet.
    depth: lowest value over the peak, minus 1; below 0.
    days_below_peak: days below the peak.
    """

    peak_index: int
    trough_index: int
    recovery_index: int | None
    depth: float
    days_below_peak: int


def format_figure(figures: Mapping[str, Any], name: str, *, annual: bool) -> str:
    """Format a figure for tables.

    figures: figures by name.
    name: name of the figure in `FIGURE_FORMATS`.
    annual: true if the run is long enough for annualised figures. Shorter runs show ratios, marked
        as short, and no other annualised figures.
    """
    figure = FIGURE_FORMATS[name]
    if annual or not figure.is_annual:
        return figure.formatter(figures[name])
    if not figure.is_ratio or (text := figure.formatter(figures[name])) == NO_VALUE:
        return NO_VALUE
    return f"{text} {SHORT_RUN_SUFFIX}"


def measure_performance(
    instants: Instants, equity: Array, *, capital: float, has_crypto: bool
) -> Performance:
    """Compute the performance of a run from its equity.

    instants: instants [N].
    equity: equity after the fills of each instant [N], USD.
    capital: equity at the start, USD.
    has_crypto: true if the universe contains crypto.
    """
    return measure_daily_performance(
        *sample_daily_equity(instants, equity, capital=capital, has_crypto=has_crypto)
    )


def measure_daily_performance(daily_equity: Array, days_per_year: int) -> Performance:
    """Compute the performance from daily equity.

    daily_equity: equity [1 + D]; the first value is the starting capital.
    days_per_year: days per year.
    """
    returns = daily_returns(daily_equity)
    days = len(returns)  # 0 if the account was wiped out
    root = np.sqrt(days_per_year)
    annual = (
        _compound_growth(float(daily_equity[-1] / daily_equity[0]), days_per_year / days)
        if days
        else None
    )
    deviation = float(returns.std(ddof=1)) if days > 1 else 0.0
    if deviation < MIN_DEVIATION:
        deviation = 0.0
    downside = float(np.sqrt((np.minimum(returns, 0) ** 2).mean())) if days else 0.0
    depth = largest_drawdown(daily_equity)
    value_at_risk, expected_shortfall = _value_at_risk_and_shortfall(returns)
    gains = float(returns[returns > 0].sum())
    losses = float(-returns[returns < 0].sum())
    skewness, excess_kurtosis = (
        skewness_and_excess_kurtosis(returns) if deviation > 0 else (None, None)
    )
    autocorrelation = lag_one_autocorrelation(returns) if deviation > 0 else None
    return Performance(
        total_return=float(daily_equity[-1] / daily_equity[0] - 1),
        annual_return=annual,
        volatility=float(deviation * root) if days > 1 else None,
        sharpe=float(returns.mean() / deviation * root) if deviation > 0 else None,
        sortino=float(returns.mean() / downside * root) if downside > 0 else None,
        calmar=annual / -depth if annual is not None and depth < 0 else None,
        max_drawdown=depth,
        drawdown_days=longest_drawdown_days(daily_equity),
        value_at_risk=value_at_risk,
        expected_shortfall=expected_shortfall,
        hit_rate=float((returns > 0).mean()) if days else None,
        profit_factor=gains / losses if losses > 0 else None,
        skewness=skewness,
        excess_kurtosis=excess_kurtosis,
        autocorrelation=autocorrelation,
        days=len(daily_equity) - 1,
        periods_per_year=days_per_year,
    )


def relative_performance(
    returns: Array, benchmark: Array, days_per_year: int
) -> RelativePerformance:
    """Compute the performance of daily returns [D] relative to a benchmark's [D].

    days_per_year: days per year.
    """
    if len(returns) != len(benchmark) or len(returns) < 2 or not benchmark.std() > 0:
        return RelativePerformance()
    root = float(np.sqrt(days_per_year))
    alpha, beta = (float(each) for each in alpha_and_beta(returns, benchmark))
    active = returns - benchmark
    error = float(active.std(ddof=1))
    return RelativePerformance(
        alpha=alpha * days_per_year,
        beta=beta,
        correlation=float(np.corrcoef(returns, benchmark)[0, 1]) if returns.std() > 0 else None,
        tracking_error=error * root,
        information_ratio=float(active.mean()) / error * root if error > 0 else None,
        treynor=float(returns.mean()) * days_per_year / beta if beta > 0 else None,
        up_capture=_capture(returns, benchmark, benchmark > 0),
        down_capture=_capture(returns, benchmark, benchmark < 0),
    )


def alpha_and_beta(returns: Array, benchmark: Array) -> tuple[Array, Array]:
    """Return the daily alpha and the beta [...] of returns [..., D] on benchmark returns [..., D].

    Least squares with an intercept; NaN where the benchmark is constant.
    """
    deviation = benchmark - benchmark.mean(axis=-1, keepdims=True)
    square = (deviation**2).sum(axis=-1)
    beta = np.full(square.shape, np.nan)
    varies = np.ptp(benchmark, axis=-1) > 0
    np.divide((returns * deviation).sum(axis=-1), square, out=beta, where=varies)
    return returns.mean(axis=-1) - beta * benchmark.mean(axis=-1), beta


def _capture(returns: Array, benchmark: Array, days: Mask) -> float | None:
    """Return the ratio of the geometric mean returns on these days; None without days."""
    if not days.any():
        return None
    mine, other = (float(np.expm1(np.log1p(each[days]).mean())) for each in (returns, benchmark))
    return mine / other


def rolling_figures(
    returns: Array, benchmark: Array | None, window: int, days_per_year: int
) -> dict[str, Array]:
    """Return rolling volatility, Sharpe ratio and beta of daily returns, [D + 1 - window] each.

    Definitions are those of `Performance` and `RelativePerformance`; undefined values are NaN.

    returns, benchmark: daily returns [D] on the same days; no beta without a benchmark.
    window: days of a window, from 2 to D.
    days_per_year: days per year.
    """
    windows = np.lib.stride_tricks.sliding_window_view(returns, window)
    deviation = windows.std(axis=1, ddof=1)
    deviation[np.ptp(windows, axis=1) == 0] = 0.0
    root = np.sqrt(days_per_year)
    sharpe = np.full(len(windows), np.nan)
    np.divide(windows.mean(axis=1) * root, deviation, out=sharpe, where=deviation > 0)
    figures = {"volatility": deviation * root, "sharpe": sharpe}
    if benchmark is not None:
        others = np.lib.stride_tricks.sliding_window_view(benchmark, window)
        figures["beta"] = alpha_and_beta(windows, others)[1]
    return figures


def bootstrap_figures(returns: Array, days_per_year: int) -> dict[str, Array]:
    """Return the figures of R bootstrap draws by name, [R] each; an undefined figure is NaN.

    Figures: annual and total return, Sharpe ratio, volatility and maximum drawdown.

    returns: [R, D] daily returns, not below -1.
    days_per_year: days per year.
    """
    count, days = returns.shape
    growth = np.cumprod(np.concatenate([np.ones((count, 1)), 1.0 + returns], axis=1), axis=1)
    total = growth[:, -1]
    # After a day without equity, returns are undefined.
    defined = np.where((growth > 0).all(axis=1), 1.0, np.nan)
    deviation = returns.std(axis=1, ddof=1) * defined
    power = np.log(total, out=np.full(count, np.nan), where=total > 0) * days_per_year / days
    power[power > MAX_LOG_RETURN] = np.nan
    root = np.sqrt(days_per_year)
    sharpe = np.full(count, np.nan)
    np.divide(returns.mean(axis=1) * root, deviation, out=sharpe, where=deviation > 0)
    return {
        "annual_return": np.exp(power) * defined - 1.0,
        "sharpe": sharpe,
        "max_drawdown": (growth / np.maximum.accumulate(growth, axis=1)).min(axis=1) - 1.0,
        "total_return": total - 1.0,
        "volatility": deviation * root,
    }


def daily_returns(daily_equity: Array) -> Array:
    """Return daily returns [D] of equity [1 + D]; empty if the account is ever wiped out.

    Returns are undefined after a day with zero equity and have the wrong sign after negative
    equity.
    """
    return daily_equity[1:] / daily_equity[:-1] - 1 if (daily_equity > 0).all() else np.empty(0)


def wipeout_date(days: Instants, daily_equity: Array) -> str | None:
    """Return the New York date of the first of these days [D] that ends without equity, or None.

    daily_equity: equity [1 + D]; the first value is the starting capital.
    """
    lost = daily_equity[1:] <= 0
    return str(new_york_date(days)[first_true_index(lost)]) if lost.any() else None


def returns_until_ruin(daily_equity: Array) -> Array:
    """Return daily returns [..., D] of equity [..., 1 + D]; -1 on the day of ruin, then 0.

    A variant that lost everything therefore stays in a comparison, ranked last.
    """
    before = daily_equity[..., :-1]
    alive = np.minimum.accumulate(before, axis=-1) > 0
    growth = np.ones(before.shape)
    np.divide(np.maximum(daily_equity[..., 1:], 0.0), before, out=growth, where=alive)
    return growth - 1.0


def largest_drawdown(equity: Array) -> float:
    """Return the maximum drawdown of equity [N], a fraction ≤ 0."""
    return float((equity / np.maximum.accumulate(equity) - 1).min())


def longest_drawdown_days(daily_equity: Array) -> int:
    """Return the longest drawdown in days: successive days with equity below an earlier peak."""
    return int(np.diff(_days_below_peak(daily_equity), axis=1).max(initial=0))


def worst_drawdowns(daily_equity: Array, max_count: int) -> list[Drawdown]:
    """Return up to `max_count` drawdowns of daily equity, the deepest first, ties by time."""
    drawdowns = []
    for first, end in _days_below_peak(daily_equity).tolist():
        trough = first + int(daily_equity[first:end].argmin())
        depth = float(daily_equity[trough] / daily_equity[first - 1] - 1)
        recovered = end if end < len(daily_equity) else None
        drawdowns.append(Drawdown(first - 1, trough, recovered, depth, end - first))
    return sorted(drawdowns, key=lambda each: each.depth)[:max_count]


def _days_below_peak(daily: Array) -> Index:
    """Return the index ranges [N, 2], end exclusive, in which equity is below an earlier peak."""
    below = daily < np.maximum.accumulate(daily)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], below, [False]]).astype(int)))
    return edges.reshape(-1, 2)


def sample_daily_equity(
    instants: Instants, equity: Array, *, capital: float, has_crypto: bool
) -> tuple[Array, int]:
    """Return the capital and the equity at the end of each day [1 + D], and days per year."""
    return daily_equity_curve(instants, equity, capital=capital, has_crypto=has_crypto)[
        1
    ], count_periods_per_year(instants, has_crypto=has_crypto)


def daily_equity_curve(
    instants: Instants, equity: Array, *, capital: float, has_crypto: bool
) -> tuple[Instants, Array]:
    """Return the start and the end of each day [1 + D], and the equity at these instants."""
    rows, ends = day_end_rows(instants, has_crypto=has_crypto)
    return np.append(instants[:1], ends), np.append(capital, equity[rows])


def day_end_rows(instants: Instants, *, has_crypto: bool) -> tuple[Index, Instants]:
    """Return the last equity row of each day [D], and the instant at which each day ends [D].

    A day ends at 16:00 New York, the last one at the last row.

    instants: instants [N] of the rows.
    has_crypto: true if the universe contains crypto, so that days are calendar days.
    """
    first, last = new_york_date(instants[[0, -1]])
    days = np.arange(first, last + DAY) if has_crypto else sessions_between(first, last)
    ends = np.append(new_york_four_pm(days[:-1]), instants[-1])
    rows = np.searchsorted(instants, ends, side="right") - 1
    # A day that ends before the run's first instant has no equity.
    return rows[rows >= 0], ends[rows >= 0]


def count_periods_per_year(instants: Instants, *, has_crypto: bool) -> int:
    """Return the number of days in the year that ends with the last of these instants.

    If the session calendar starts within that year, the first year of the calendar is used.

    With crypto in the universe, days are calendar days: crypto trades on weekends, and annualising
    by √252 would understate its risk.
    """
    last = new_york_date(instants[[-1]])[0]
    if has_crypto:
        return int((last - _year_before(last)) / DAY)
    first = max(_year_before(last) + DAY, exchange_calendar().dates[0])
    return len(sessions_between(first, max(last, first + 364 * DAY)))


def returns_by_period(
    period: str, instants: Instants, equity: Array, *, capital: float
) -> pd.Series:
    """Return monthly or yearly returns in New York time, by the first day of the period.

    The returns compound to the total return; the first and last period may be partial. Returns are
    NaN from the period in which the account is wiped out.

    period: `M` for months, `Y` for years.
    """
    ends = pd.Series(equity).groupby(new_york_date(instants).astype(f"datetime64[{period}]")).last()
    before = ends.shift(fill_value=capital)
    return (ends / before - 1).where(before > 0)


def annual_turnover(traded_value: float, equity: Array, performance: Performance) -> float | None:
    """Return the annual traded value divided by mean equity; None if mean equity is not positive.

    performance: performance of the same run; its number of days per year is used.
    """
    mean = float(equity.mean())
    years = performance.days / performance.periods_per_year
    return traded_value / mean / years if mean > 0 else None


def _value_at_risk_and_shortfall(returns: Array) -> tuple[float | None, float | None]:
    """Return daily VaR (95 %) and expected shortfall of returns [D]."""
    if not len(returns):
        return None, None
    threshold = float(np.quantile(returns, TAIL_PROBABILITY))
    return threshold, float(returns[returns <= threshold].mean())


def skewness_and_excess_kurtosis(returns: Array) -> tuple[float, float]:
    """Return skewness and excess kurtosis of non-constant returns [D], from population moments."""
    standardised = (returns - returns.mean()) / returns.std()
    return float((standardised**3).mean()), float((standardised**4).mean() - NORMAL_KURTOSIS)


def lag_one_autocorrelation(returns: Array) -> float:
    """Return the first-order autocorrelation of non-constant returns [D], in (-1, 1)."""
    off = returns - returns.mean()
    return float(off[1:] @ off[:-1] / (off @ off))


def _compound_growth(growth: float, times: float) -> float | None:
    """Return growth ^ times - 1; None if growth is not positive or the result overflows."""
    if growth <= 0 or times * np.log(growth) > MAX_LOG_RETURN:
        return None
    return float(growth**times - 1)


def _year_before(date: np.datetime64) -> np.datetime64:
    """Return the same date a year earlier; 28 February for 29 February."""
    month = date.astype("datetime64[M]")
    earlier = month - np.timedelta64(12, "M")
    last = (earlier + 1).astype("datetime64[D]") - DAY
    within = date - month.astype("datetime64[D]")
    return np.datetime64(min(earlier.astype("datetime64[D]") + within, last))
