"""Days of an index and of its volatility index, step by step through the session: simulated, or from real bars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainingdata.bars import CLOSE, OPEN, Bars
from trainingdata.errors import DataError, InputError, refuse_outside
from trainingdata.instruments import Kind
from trainingdata.sessions import BARS_A_DAY, new_york_date, stock_grid

Array = npt.NDArray[np.float64]
Dates = npt.NDArray[np.datetime64]

SESSION = 390  # minutes
TRADING_DAYS = 252


@dataclass(frozen=True, eq=False, slots=True)
class IndexDays:
    """D full sessions at K points of time. minutes [K]: since 09:30, 0 first and 390 last. spot [D, K].

    vix [D]: the volatility index as it was known before the session, points. source: where they come from, in words.
    """

    dates: Dates
    minutes: Array
    spot: Array
    vix: Array
    source: str

    def __post_init__(self) -> None:
        if self.spot.shape != (len(self.dates), len(self.minutes)) or self.vix.shape != self.dates.shape:
            raise ValueError(f"spot {self.spot.shape} and vix {self.vix.shape} do not fit {len(self.dates)} days")
        if self.minutes[0] != 0 or self.minutes[-1] != SESSION or not (np.diff(self.minutes) > 0).all():
            raise ValueError("minutes go from 0 to 390")
        if not (np.isfinite(self.spot).all() and (self.spot > 0).all() and (self.vix > 0).all()):
            raise ValueError("index and volatility index are above 0")


@dataclass(frozen=True, slots=True)
class IndexModel:
    """A stochastic-volatility index: the logarithm of its volatility index reverts to a mean, falls of the one raise the other.

    vix: mean, points. reversion, vol_of_vol: of log volatility, a year. correlation: of index returns and volatility.
    realised: volatility that comes, over the one implied, jumps apart; below 1 is what sellers of options are paid for
    (SPY, 2023-05 to 2025-06, calm years: 0.82). night: share of a day's variance that falls before the open. jumps: a year,
    of deviation jump (a share of price). step: minutes.
    """

    start: float = 5000.0
    vix: float = 18.0
    reversion: float = 6.0
    vol_of_vol: float = 1.1
    correlation: float = -0.7
    realised: float = 1.0
    night: float = 0.35
    jumps: float = 3.0
    jump: float = 0.015
    step: int = 5

    def __post_init__(self) -> None:
        refuse_outside(
            self,
            "index",
            start=(1, 1e6),
            vix=(1, 200),
            reversion=(0, 252),
            vol_of_vol=(0, 10),
            correlation=(-1, 1),
            realised=(0, 10),
            night=(0, 0.99),
            jumps=(0, 252),
            jump=(0, 0.5),
        )
        if self.step < 1 or SESSION % self.step:
            raise InputError(f"index.step: {self.step} minutes do not divide a session of {SESSION}")

    def days(self, dates: Dates, seed: int) -> IndexDays:
        """Sessions on these dates. The model draws day by day: more dates leave the first ones as they are."""
        steps = SESSION // self.step
        rng = np.random.default_rng([seed, 7])
        spot, vix = np.empty((len(dates), steps + 1)), np.empty(len(dates))
        level, log_vol = self.start, np.log(self.vix)
        clock = np.linspace(-1.0, 1.0, steps)
        shape = np.sqrt((0.6 + 0.8 * clock**2) / (0.6 + 0.8 * clock**2).mean())  # more at the open and at the close
        for d in range(len(dates)):
            night, noise, shocks = rng.standard_normal(2), rng.standard_normal((2, steps)), rng.random((2, steps + 1))
            sizes = rng.standard_normal(steps + 1) * self.jump
            vix[d] = np.exp(log_vol)
            daily = vix[d] / 100 * self.realised / np.sqrt(TRADING_DAYS)
            opening, during = daily * np.sqrt(self.night), daily * np.sqrt((1 - self.night) / steps) * shape
            jumps = np.where(shocks[0] < self.jumps / TRADING_DAYS / (steps + 1), sizes, 0.0)
            open_ = level * np.exp(opening * night[0] - opening**2 / 2 + jumps[0])
            moves = during * noise[0] - during**2 / 2 + jumps[1:]
            spot[d] = open_ * np.exp(np.concatenate([[0.0], np.cumsum(moves)]))
            level = float(spot[d, -1])
            index = (night[0] * np.sqrt(self.night) + noise[0].sum() * np.sqrt((1 - self.night) / steps)) * self.correlation
            own = night[1] * np.sqrt(1 - self.correlation**2)
            pull = self.reversion / TRADING_DAYS
            log_vol += pull * (np.log(self.vix) - log_vol) + self.vol_of_vol / np.sqrt(TRADING_DAYS) * (index + own)
            log_vol -= min(jumps.sum(), 0.0) * 5.0  # a crash raises volatility
        return IndexDays(dates, np.arange(0.0, SESSION + 1, self.step), spot, vix, f"simulated index, seed {seed}")


def index_days(bars: Bars, symbol: str, vix: pd.DataFrame, scale: float = 1.0) -> IndexDays:
    """The full sessions of a symbol's hourly bars, with the volatility index at the close before each.

    vix: daily `timestamp` and `close`. scale: of prices, 10 to read SPY as the S&P 500. Hourly bars give a session eight
    points.

    Raises
    ------
    DataError
        where no full session has a volatility index before it.
    """
    s = bars.symbols.index(symbol)
    times, values = bars.own(s)
    dates, grid = new_york_date(times), stock_grid()
    known = pd.Series(
        vix["close"].to_numpy(dtype=float), index=pd.DatetimeIndex(vix["timestamp"]).tz_localize(None)
    ).sort_index()
    found, spots, levels = [], [], []
    for date in np.unique(dates):
        rows = np.flatnonzero(dates == date)
        before = known[known.index < pd.Timestamp(date)]
        whole = len(rows) == BARS_A_DAY[Kind.STOCK] and (grid.dates == date).any()
        if whole and len(before):
            found.append(date)
            spots.append(np.concatenate([values[rows[:1], OPEN], values[rows, CLOSE]]) * scale)
            levels.append(float(before.iloc[-1]))
    if not found:
        raise DataError(f"{symbol}: no full session has a volatility index of a day before")
    minutes = np.array([0.0, 60, 120, 180, 240, 300, 360, SESSION])
    return IndexDays(np.array(found), minutes, np.array(spots), np.array(levels), f"{symbol} hourly bars x {scale:g}, VIX")
