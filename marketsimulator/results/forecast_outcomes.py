"""What a run's decisions expected of the next interval, and what happened in it.

A run keeps the mean and the deviation that each decision read from its forecast, up to the end of
its first interval, and not the forecast itself. They are judged here as those of a normal return. A
file of forecasts may hold a part of them, and a forecaster of one's own may answer anything: how
many decisions had one is said, and whether any bar has moved as far as they say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtr

from execution.outlook import closed_and_due
from execution.records import Run
from forecasting.scores import TRAILING, clustered_mean, reach
from foundation.arrays import Array, Index, Instants, Mask
from foundation.counts import counted
from trainingdata.actions import Action
from trainingdata.bars import CLOSE, Bars
from trainingdata.instants import NEW_YORK, utc_text
from trainingdata.market import Market
from trainingdata.schedule import Schedule
from trainingdata.sessions import last_fridays

NOMINAL = 0.8  # probability mass of the interval whose coverage is shown by group
REGIMES = ("calm", "usual", "rough")


@dataclass(frozen=True, eq=False, slots=True)
class ForecastOutcomes:
    """The N forecasts of a run whose intervals have ended, in the order of their decisions.

    symbols: of the panel.
    symbol: [N] number of the symbol.
    at: [N] the decision.
    until: [N] the end of its first interval.
    price: [N] last close at the decision, USD.
    mu: [N] expected simple return.
    sigma: [N] its deviation, above 0.
    outcome: [N] simple return that followed.
    trailing: [N] deviation of the log returns of the last 100 own bars.
    """

    symbols: tuple[str, ...]
    symbol: Index
    at: Instants
    until: Instants
    price: Array
    mu: Array
    sigma: Array
    outcome: Array
    trailing: Array

    def __len__(self) -> int:
        return len(self.at)

    def scores(self) -> Array:
        """[N] what followed beyond the mean, in deviations."""
        return (self.outcome - self.mu) / self.sigma

    def pit(self) -> Array:
        """[N] probability, as forecast, of a return below the one that followed."""
        return np.asarray(ndtr(self.scores()))

    def regimes(self) -> npt.NDArray[np.int64]:
        """[N] numbers of `REGIMES`: thirds of each symbol's forecasts by trailing deviation."""
        regime = np.zeros(len(self), dtype=np.int64)
        for s in np.unique(self.symbol):
            rows = np.flatnonzero(self.symbol == s)
            ends = np.quantile(self.trailing[rows], (1 / 3, 2 / 3))
            regime[rows] = np.searchsorted(ends, self.trailing[rows], side="left")
        return regime

    def hours(self) -> list[str]:
        """[N] New York's time of the decision, as 10:30."""
        return list(pd.DatetimeIndex(self.at, tz="UTC").tz_convert(NEW_YORK).strftime("%H:%M"))


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often outcomes lay inside the central interval of a group's forecasts.

    group: its name.
    count: number of forecasts.
    share: inside.
    reach: half of the share's 95 % interval, clustered by week; None for too few weeks.
    size: root mean square of outcome minus mean over deviation, 1 where the deviation is right.
    size_reach: half of the size's interval, as `reach`.
    """

    group: str
    count: int
    share: float
    reach: float | None
    size: float
    size_reach: float | None


def forecast_outcomes(run: Run, bars: Bars, splits: Sequence[Action] = ()) -> ForecastOutcomes:
    """Every forecast of a run that a decision rested on and whose interval has ended.

    run: whose decisions they are.
    bars: of the run.
    splits: that the bars are not adjusted for; an interval that holds one is left out.
    """
    number = {symbol: s for s, symbol in enumerate(bars.symbols)}
    known = run.decision_frame()
    known = known[known["symbol"].isin(number) & (known["sigma"] > 0) & np.isfinite(known["mu"])]
    symbol = known["symbol"].map(number).to_numpy(dtype=np.int64)
    at = known["at"].to_numpy(dtype="datetime64[ns]")
    until = known["until"].to_numpy(dtype="datetime64[ns]")
    price, outcome, trailing = (np.full(len(known), np.nan) for _ in range(3))
    for s in np.unique(symbol):
        own = np.flatnonzero(symbol == s)
        price[own], outcome[own], trailing[own] = _followed(bars, s, at[own], until[own])
    # A bar is missing now and then at the end of an interval: nothing says what happened by then.
    ended = np.isfinite(outcome) & np.isfinite(trailing)
    for split in splits:
        if split.ratio != 1.0 and split.symbol in number:
            crossed = (at <= split.opens) & (split.opens < until)
            ended &= ~(crossed & (symbol == number[split.symbol]))
    mu = known["mu"].to_numpy()
    sigma = known["sigma"].to_numpy()
    return ForecastOutcomes(
        symbols=bars.symbols,
        symbol=symbol[ended],
        at=at[ended],
        until=until[ended],
        price=price[ended],
        mu=mu[ended],
        sigma=sigma[ended],
        outcome=outcome[ended],
        trailing=trailing[ended],
    )


def _followed(bars: Bars, s: int, at: Instants, until: Instants) -> tuple[Array, Array, Array]:
    """(close at each decision, simple return up to `until`, trailing deviation) of a symbol, [n].

    The return is NaN where no bar became known at `until`.
    """
    times, values = bars.real_bars(s)
    closes = values[:, CLOSE]
    begin = np.searchsorted(times, at, side="right") - 1
    end = np.searchsorted(times, until, side="right") - 1
    price = closes[begin]
    known = (begin >= 0) & (end > begin) & (times[end] == until)
    outcome = np.where(known, closes[end] / price - 1, np.nan)
    squares = np.append(0.0, np.cumsum(np.diff(np.log(closes)) ** 2))
    first = np.maximum(begin - TRAILING, 0)
    variance = (squares[begin] - squares[first]) / np.maximum(begin - first, 1)
    return price, outcome, np.sqrt(variance)


def coverage(outcomes: ForecastOutcomes, groups: Sequence[tuple[str, Mask]]) -> list[Coverage]:
    """How often outcomes lay inside the central 80 % interval, of each group with forecasts."""
    inside = pd.Series((np.abs(outcomes.pit() - 0.5) <= NOMINAL / 2).astype(float))
    squares = pd.Series(outcomes.scores() ** 2)
    week = pd.Series(last_fridays(outcomes.at))
    found = []
    for name, mask in groups:
        if mask.any():
            share, error = clustered_mean(inside[mask], week[mask])
            square, square_error = clustered_mean(squares[mask], week[mask])
            size = float(np.sqrt(square))
            # The error of a root is that of its square over twice the root.
            size_error = square_error / (2 * size) if size > 0 else float("nan")
            halves = [reach(each, week[mask]) for each in (error, size_error)]
            found.append(Coverage(name, int(mask.sum()), share, halves[0], size, halves[1]))
    return found


MOST = 0.95  # of the decisions with a forecast, below which a reader is told
LOOKED_AT = 200  # decisions, at most
FEWEST = 20  # forecasts whose medians say something together
CLAIM = 10.0  # deviations of recent bars from the last close, further than bars move


def coverage_remarks(run: Run, market: Market, schedule: Schedule, inside: Mask) -> list[str]:
    """That many decisions had no forecast, with the first and the last that had one.

    A decision is one of one symbol. inside: [T, S] whether the universe holds it at an instant.
    """
    bars = market.period
    possible = int((closed_and_due(bars, schedule) & inside).sum())
    decisions = run.decision_frame()
    forecast = decisions["at"][decisions["sigma"].notna()].to_numpy(dtype="datetime64[ns]")
    if not len(forecast) or len(forecast) >= MOST * possible:
        return []
    return [
        f"Forecasts cover {len(forecast):,} of {counted(possible, 'decision')}, the first at"
        f" {utc_text(forecast[0])} and the last at {utc_text(forecast[-1])}; at the others nothing"
        " was decided."
    ]


def median_remarks(run: Run, bars: Bars) -> list[str]:
    """That the medians which decisions rested on lie further away than bars move.

    Evenly many decisions are looked at; what calibration has corrected is no longer far.
    """
    count = len(run.decisions)
    looked_at = np.unique(np.linspace(0, count - 1, min(count, LOOKED_AT)).astype(int))
    part = replace(run, decisions=[run.decisions[k] for k in looked_at])
    outcomes = forecast_outcomes(part, bars)
    moved = outcomes.trailing > 0
    if moved.sum() < FEWEST:
        return []
    far = float(np.median(np.abs(outcomes.mu[moved]) / outcomes.trailing[moved]))
    if far <= CLAIM:
        return []
    return [
        f"At most decisions the forecast's median lies {math.floor(far)} or more deviations of the"
        " last 100 bars from the last close: no bar has moved so; look at what the forecaster"
        " answers."
    ]
