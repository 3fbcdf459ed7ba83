"""Forecasts of a run's decisions compared with realised returns.

A run records the forecast mean and standard deviation up to the end of each decision's first
interval, but no quantiles, so returns are assumed to be normal here. A file of forecasts may
cover only some decisions; a remark reports how many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from execution.decision.belief_building import decision_due_mask
from execution.decision.beliefs import BeliefTable
from foundation.arrays import Array, Index, Instants, Mask
from foundation.formatting import format_count
from marketsimulator.run_result import Run
from trainingdata.bars import CLOSE, Bars
from trainingdata.corporate_actions import CorporateAction
from trainingdata.instants import format_utc
from trainingdata.market import Market
from trainingdata.schedule import Schedule


@dataclass(frozen=True, eq=False, slots=True)
class ForecastOutcomes:
    """N forecasts of a run with known outcomes, in the order of the decisions.

    symbols: names of the panel's symbols.
    symbol_index: [N] index of the symbol in `symbols`.
    decided_at: [N] instant of the decision.
    horizon_end: [N] end of the forecast interval, which is the first interval of the decision.
    decision_close: [N] last close at the decision, USD.
    mu: [N] expected simple return.
    sigma: [N] standard deviation of the return, above 0.
    realised_return: [N] realised simple return.
    """

    symbols: tuple[str, ...]
    symbol_index: Index
    decided_at: Instants
    horizon_end: Instants
    decision_close: Array
    mu: Array
    sigma: Array
    realised_return: Array

    def __len__(self) -> int:
        return len(self.decided_at)

    def z_scores(self) -> Array:
        """Return the z-scores [N]: realised return less mu, divided by sigma."""
        return (self.realised_return - self.mu) / self.sigma

    def pit_values(self) -> Array:
        """Return the probability integral transform [N]: forecast CDF at the realised return."""
        from scipy.special import ndtr  # only reports need it; it loads in 0.2 s

        return np.asarray(ndtr(self.z_scores()))


def measure_forecast_outcomes(
    run: Run, bars: Bars, splits: Sequence[CorporateAction] = ()
) -> ForecastOutcomes:
    """Return the forecasts of a run's decisions with their realised returns.

    Forecasts whose interval has not ended are left out.

    bars: bars of the run.
    splits: splits for which the bars are not adjusted; forecast intervals with a split are left
        out.
    """
    number = {symbol: s for s, symbol in enumerate(bars.symbols)}
    known = run.decision_frame()
    known = known[known["symbol"].isin(number) & (known["sigma"] > 0) & np.isfinite(known["mu"])]
    symbol = known["symbol"].map(number).to_numpy(dtype=np.int64)
    at = known["at"].to_numpy(dtype="datetime64[ns]")
    until = known["until"].to_numpy(dtype="datetime64[ns]")
    price, outcome = (np.full(len(known), np.nan) for _ in range(2))
    for s in np.unique(symbol):
        own = np.flatnonzero(symbol == s)
        price[own], outcome[own] = _closes_and_returns(bars, s, at[own], until[own])
    # Without a bar at the end of an interval its outcome is unknown.
    ended = np.isfinite(outcome)
    for split in splits:
        if split.split_ratio != 1.0 and split.symbol in number:
            crossed = (at <= split.effective_open) & (split.effective_open < until)
            ended &= ~(crossed & (symbol == number[split.symbol]))
    mu = known["mu"].to_numpy()
    sigma = known["sigma"].to_numpy()
    return ForecastOutcomes(
        symbols=bars.symbols,
        symbol_index=symbol[ended],
        decided_at=at[ended],
        horizon_end=until[ended],
        decision_close=price[ended],
        mu=mu[ended],
        sigma=sigma[ended],
        realised_return=outcome[ended],
    )


def _closes_and_returns(bars: Bars, s: int, at: Instants, until: Instants) -> tuple[Array, Array]:
    """Return a symbol's close at each decision, and its simple return until `until`, [n] each.

    The return is NaN if no bar became known at `until`.
    """
    times, values = bars.bars_of_symbol(s)
    closes = values[:, CLOSE]
    begin = np.searchsorted(times, at, side="right") - 1
    end = np.searchsorted(times, until, side="right") - 1
    price = closes[begin]
    known = (begin >= 0) & (end > begin) & (times[end] == until)
    outcome = np.where(known, closes[end] / price - 1, np.nan)
    return price, outcome


MIN_LOOK_AHEAD_FORECASTS = 15  # forecasts from which ranks can show that they contain the future
LOOK_AHEAD_CORRELATION = (
    0.9  # rank correlation with outcomes beyond that of any forecast made in time
)


def forecasts_contain_future(beliefs: BeliefTable, bars: Bars) -> bool:
    """Return whether forecasts agree with outcomes so closely that they must contain the future.

    The test statistic is the rank correlation of expected with realised returns, each less its
    symbol's median, over the half with the largest absolute expected returns. A common drift or an
    unadjusted split has no effect. The best possible forecast of bid-ask bounce reaches 0.7.
    """
    expected, followed = [], []
    for s in range(len(bars.symbols)):
        rows = np.flatnonzero(beliefs.is_adjustable[:, s] & np.isfinite(beliefs.mu[:, 0, s]))
        if not len(rows):
            continue
        _, outcome = _closes_and_returns(
            bars, s, beliefs.instants[rows], beliefs.period_ends[rows, 0]
        )
        known = np.isfinite(outcome)
        mu = beliefs.mu[rows, 0, s][known]
        if len(mu):
            expected.append(mu - np.median(mu))
            followed.append(outcome[known] - np.median(outcome[known]))
    if not expected:
        return False
    mu, outcome = np.concatenate(expected), np.concatenate(followed)
    chosen = (np.abs(mu) >= np.median(np.abs(mu))) & (mu != 0)
    if (
        chosen.sum() < MIN_LOOK_AHEAD_FORECASTS
        or np.ptp(mu[chosen]) == 0
        or np.ptp(outcome[chosen]) == 0
    ):
        return False
    ranks = [np.argsort(np.argsort(values[chosen])) for values in (mu, outcome)]
    agreement = np.asarray(np.corrcoef(ranks))[0, 1]
    return bool(agreement >= LOOK_AHEAD_CORRELATION)


MIN_FORECAST_COVERAGE = 0.95  # share of decisions with a forecast; a remark below it


def coverage_remarks(run: Run, market: Market, schedule: Schedule, in_universe: Mask) -> list[str]:
    """Report how many decisions had a forecast if a notable share had none, else nothing.

    Each symbol counts as a separate decision.

    schedule: times of day at which decisions are made.
    in_universe: [T, S] true if a symbol is in the universe at an instant.
    """
    bars = market.run_bars
    possible = int((decision_due_mask(bars, schedule) & in_universe).sum())
    decisions = run.decision_frame()
    forecast = decisions["at"][decisions["sigma"].notna()].to_numpy(dtype="datetime64[ns]")
    if not len(forecast) or len(forecast) >= MIN_FORECAST_COVERAGE * possible:
        return []
    return [
        f"Forecasts cover {len(forecast):,} of {format_count(possible, 'decision')}, the"
        " first at"
        f" {format_utc(forecast[0])} and the last at {format_utc(forecast[-1])}. No decision was"
        " made at the other times."
    ]
