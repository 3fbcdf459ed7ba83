"""What a run earned and what it risked, from its equity at 16:00 New York.

Days are calendar days when a coin is in the universe, sessions otherwise; `periods_per_year` is how
many such days the year that ends with the run has. A figure that is not defined (no day, no
movement, no loss) is None, never 0.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from foundation.arrays import Array, Instants
from trainingdata.sessions import DAY, four_pm, new_york_date, sessions_between

TAIL = 0.05  # of days, for value at risk and expected shortfall


@dataclass(frozen=True, slots=True)
class Performance:
    """Fractions, signed; annualised by `periods_per_year`; d is a day's return, [D].

    total_return: equity at the end over capital - 1. annual_return: (1 + total of the daily series)
    ^ (ppy / D) - 1. volatility: sample deviation · √ppy. sharpe: mean / sample deviation · √ppy, no
    risk-free rate. sortino: mean / root mean square of the losses · √ppy. max_drawdown: deepest
    fall of the daily equity below its earlier peak, ≤ 0; drawdown_days: longest stretch of days
    below an earlier peak. calmar: annual_return / |max_drawdown|. value_at_risk: the 5 % quantile
    of d, expected_shortfall: the mean of d up to it. hit_rate: share of days with a gain among
    those with a gain or a loss. profit_factor: sum of gains over sum of losses. skewness, kurtosis:
    of d, 3 for a normal.
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
    kurtosis: float | None
    days: int
    periods_per_year: int

    def as_dict(self) -> dict[str, float | int | None]:
        """Name → value."""
        return asdict(self)


def performance(at: Instants, equity: Array, *, capital: float, coins: bool) -> Performance:
    """Statistics of a run from its equity rows [N]; `coins` says whether a coin is in the
    universe.
    """
    daily, per_year = daily_equity(at, equity, capital=capital, coins=coins)
    return daily_performance(daily, per_year, total_return=float(equity[-1] / capital - 1))


def daily_performance(
    daily: Array, per_year: int, *, total_return: float | None = None
) -> Performance:
    """Statistics of daily equity [1 + D], the first the starting capital; total_return: that of
    the run it belongs to.
    """
    returns = daily_returns(daily)
    days = len(returns)
    root = np.sqrt(per_year)
    annual = _annualised(float(daily[-1] / daily[0]), per_year / days) if days else None
    deviation = float(returns.std(ddof=1)) if days > 1 else 0.0
    downside = float(np.sqrt((np.minimum(returns, 0) ** 2).mean())) if days else 0.0
    depth = float((daily / np.maximum.accumulate(daily) - 1).min())
    threshold = float(np.quantile(returns, TAIL)) if days else None
    gains = float(returns[returns > 0].sum())
    losses = float(-returns[returns < 0].sum())
    moved = int((returns != 0).sum())
    centred = (returns - returns.mean()) / returns.std() if deviation > 0 else None
    return Performance(
        total_return=float(daily[-1] / daily[0] - 1) if total_return is None else total_return,
        annual_return=annual,
        volatility=float(deviation * root) if days > 1 else None,
        sharpe=float(returns.mean() / deviation * root) if deviation > 0 else None,
        sortino=float(returns.mean() / downside * root) if downside > 0 else None,
        calmar=annual / -depth if annual is not None and depth < 0 else None,
        max_drawdown=depth,
        drawdown_days=drawdown_days(daily),
        value_at_risk=threshold,
        expected_shortfall=float(returns[returns <= threshold].mean())
        if threshold is not None
        else None,
        hit_rate=float((returns > 0).sum()) / moved if moved else None,
        profit_factor=gains / losses if losses > 0 else None,
        skewness=float((centred**3).mean()) if centred is not None else None,
        kurtosis=float((centred**4).mean()) if centred is not None else None,
        days=days,
        periods_per_year=per_year,
    )


def daily_returns(daily: Array) -> Array:
    """[D] returns of daily equity [1 + D]; none where the equity is wiped out on the way."""
    return daily[1:] / daily[:-1] - 1 if (daily > 0).all() else np.empty(0)


def drawdown_days(daily: Array) -> int:
    """The longest stretch of consecutive days on which the equity stood below an earlier peak."""
    below = daily < np.maximum.accumulate(daily)
    ends = np.flatnonzero(np.diff(np.concatenate([[False], below, [False]]).astype(int)))
    return int((ends[1::2] - ends[::2]).max(initial=0))


def daily_equity(at: Instants, equity: Array, *, capital: float, coins: bool) -> tuple[Array, int]:
    """Starting capital and the equity at 16:00 New York of each day, [1 + days]; and the days
    such a year has.
    """
    first, last = new_york_date(at[[0, -1]])
    if coins:
        days = np.arange(first, last + DAY)
        per_year = int((last - _year_before(last)) / DAY)
    else:
        days = sessions_between(first, last)
        per_year = len(sessions_between(_year_before(last) + DAY, last))
    marks = four_pm(days)
    rows = np.searchsorted(at, marks, side="right") - 1
    taken = (rows >= 0) & (marks <= at[-1])
    return np.concatenate([[capital], equity[rows[taken]]]), per_year


def annual_turnover(notional: float, at: Instants, equity: Array) -> float | None:
    """USD traded per year over average equity; None for a run without length."""
    years = float((at[-1] - at[0]) / DAY) / 365.25
    mean = float(equity.mean())
    return notional / mean / years if years > 0 and mean > 0 else None


def _annualised(growth: float, times: float) -> float | None:
    """growth ^ times - 1; None for growth that is none, or a figure beyond what a float holds."""
    if growth <= 0 or times * np.log(growth) > 700:
        return None
    return float(growth**times - 1)


def _year_before(date: np.datetime64) -> np.datetime64:
    year = date.astype("datetime64[Y]")
    within = date - year.astype("datetime64[D]")
    start: np.datetime64 = (year - np.timedelta64(1, "Y")).astype("datetime64[D]") + within
    return start
