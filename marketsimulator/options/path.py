"""Days of an index and of its volatility index, step by step: simulated, or from real bars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from execution.spreads.rules import SESSION, TRADING_DAYS
from foundation.arrays import Array
from foundation.errors import DataError, InputError, refuse_outside
from trainingdata.bars import CLOSE, HIGH, LOW, OPEN, Bars
from trainingdata.instants import new_york_date
from trainingdata.instruments import Kind
from trainingdata.sessions import BARS_A_DAY, session_of
from trainingdata.volatility_index import RESPONSE, within_day

Dates = npt.NDArray[np.datetime64]

CRASH = 5.0  # log of the volatility index per log of a jump down
STEP = 5  # minutes between the points of real bars


@dataclass(frozen=True, eq=False, slots=True)
class IndexDays:
    """D full sessions at K points of time.

    dates: [D], the sessions.
    minutes: [K], since 09:30, 0 first and 390 last.
    spot: [D, K], the index, points.
    vix: [D, K], the volatility index as far as it is known then, points.
    source: where they come from, in words.
    """

    dates: Dates
    minutes: Array
    spot: Array
    vix: Array
    source: str

    def __post_init__(self) -> None:
        if not self.spot.shape == self.vix.shape == (len(self.dates), len(self.minutes)):
            raise ValueError(
                f"spot {self.spot.shape} and vix {self.vix.shape} do not fit {len(self.dates)} days"
            )
        if (
            self.minutes[0] != 0
            or self.minutes[-1] != SESSION
            or not (np.diff(self.minutes) > 0).all()
        ):
            raise ValueError("minutes go from 0 to 390")
        if not (np.isfinite(self.spot).all() and (self.spot > 0).all() and (self.vix > 0).all()):
            raise ValueError("index and volatility index are above 0")


@dataclass(frozen=True, slots=True)
class IndexModel:
    """An index with stochastic volatility: the logarithm of its volatility index reverts to a mean.

    Falls of the index raise its volatility index.

    start: the index before the first session, points, 1 to 1e6.
    vix: mean of the volatility index, points, 1 to 200.
    reversion: speed at which log volatility goes back to its mean, a year, 0 to 252.
    vol_of_vol: deviation of log volatility, a year, 0 to 10.
    correlation: of index returns and changes of log volatility, -1 to 1.
    realised: volatility that comes, jumps apart, over the volatility index, 0 to 10 (SPY, 2023-04
        to 2025-06: 0.82); what sellers are paid for is the difference to the implied one,
        `Smile.level`.
    night: share of a day's variance that falls before the open, 0 to 0.99.
    jumps: how many a year, 0 to 252.
    jump: deviation of a jump, a share of price, 0 to 0.5.
    step: minutes between points; divides a session.
    """

    start: float = 5000.0
    vix: float = 18.0
    reversion: float = 6.0
    vol_of_vol: float = 1.1
    correlation: float = -0.7
    realised: float = 0.82
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
            raise InputError(
                f"index.step: {self.step} minutes do not divide a session of {SESSION}"
            )

    def days(self, dates: Dates, seed: int) -> IndexDays:
        """Sessions on these dates.

        The model draws day by day: more dates leave the first ones as they are.
        """
        steps = SESSION // self.step
        rng = np.random.default_rng([seed, 7])
        spot, vix = np.empty((2, len(dates), steps + 1))
        level = self.start
        log_vol = np.log(self.vix)
        shape = _session_shape(steps)
        daily_vol = self.vol_of_vol / np.sqrt(TRADING_DAYS)
        for d in range(len(dates)):
            # Some of what is drawn is not used. It stays: fewer draws would be another path for
            # every seed.
            night = rng.standard_normal(2)
            noise = rng.standard_normal((2, steps))
            shocks = rng.random((2, steps + 1))
            sizes = rng.standard_normal(steps + 1) * self.jump
            jumps = np.where(shocks[0] < self.jumps / TRADING_DAYS / (steps + 1), sizes, 0.0)

            daily = np.exp(log_vol) / 100 * self.realised / np.sqrt(TRADING_DAYS)
            opening = daily * np.sqrt(self.night)
            during = daily * np.sqrt((1 - self.night) / steps) * shape
            # Half the variance comes off each log return: volatility alone must earn nothing.
            open_ = level * np.exp(opening * night[0] - opening**2 / 2 + jumps[0])
            moves = during * noise[0] - during**2 / 2 + jumps[1:]
            spot[d] = open_ * np.exp(np.concatenate([[0.0], np.cumsum(moves)]))
            level = float(spot[d, -1])

            # Volatility follows the index's own noise within the day, so that the volatility index
            # at a point holds nothing of what comes after it. The noise that is volatility's alone
            # and the reversion come over night.
            shared = np.append(
                night[0] * np.sqrt(self.night), noise[0] * np.sqrt((1 - self.night) / steps)
            )
            raised = self.correlation * daily_vol * shared - CRASH * np.minimum(jumps, 0.0)
            vix[d] = np.exp(log_vol + np.cumsum(raised))
            unshared = night[1] * np.sqrt(1 - self.correlation**2)
            pull = self.reversion / TRADING_DAYS * (np.log(self.vix) - log_vol)
            log_vol += raised.sum() + pull + daily_vol * unshared
        minutes = np.arange(0.0, SESSION + 1, self.step)
        return IndexDays(dates, minutes, spot, vix, f"simulated index, seed {seed}")


def _session_shape(steps: int) -> Array:
    """How volatile each step of a session is, mean square 1: more at the open and at the close."""
    clock = np.linspace(-1.0, 1.0, steps)
    variance = 0.6 + 0.8 * clock**2
    return np.asarray(np.sqrt(variance / variance.mean()))


def index_days(
    bars: Bars, symbol: str, vix: pd.Series, scale: float = 1.0, response: float = RESPONSE
) -> IndexDays:
    """The full sessions of a symbol's hourly bars, as an index and its volatility index.

    A session needs a close of the session before, of the symbol and of the volatility index. Within
    a session the volatility index is not known: it moves from the close before by `response`
    against the index's own move since then. An hour is its open, the extreme that its close lies
    away from, the other one, its close, and straight between them.

    Parameters
    ----------
    bars: a panel that has the symbol.
    symbol: what is read as the index.
    vix: closes of the volatility index by date, points.
    scale: of prices, 10 to read SPY as the S&P 500.
    response: see `within_day`.

    Raises
    ------
    DataError
        where there is none.
    """
    times, values = bars.real_bars(bars.symbols.index(symbol))
    closes = dict(zip(times.tolist(), values[:, CLOSE].tolist(), strict=True))
    dates, first = np.unique(new_york_date(times), return_index=True)
    kept = []
    spots = []
    levels = []
    for date, begin, end in zip(dates, first, [*first[1:], len(times)], strict=True):
        session = session_of(date)
        before = None if session is None else session_of(session.before)
        # Half-days and days with a missing bar have another number of points than the others.
        if session is None or before is None or end - begin != BARS_A_DAY[Kind.STOCK]:
            continue
        close_before = closes.get(before.closes.astype("datetime64[ns]").item())
        vix_before = vix.get(pd.Timestamp(before.date))
        if close_before is None or vix_before is None:
            continue
        path = _path_within(values[begin:end])
        kept.append(date)
        spots.append(path * scale)
        levels.append(within_day(float(vix_before), path, close_before, response))
    if not kept:
        raise DataError(
            f"{symbol}: no full session follows one with a close, its own and of the volatility"
            " index"
        )
    minutes = np.arange(0.0, SESSION + 1, STEP)
    source = f"{symbol} hourly bars x {scale:g}, VIX"
    return IndexDays(np.array(kept), minutes, np.array(spots), np.array(levels), source)


def _path_within(bars: Array) -> Array:
    """Prices every five minutes of hourly bars [B, 5], the last of which is half an hour long."""
    anchors = []
    prices = []
    for k, (opens, high, low, close) in enumerate(bars[:, [OPEN, HIGH, LOW, CLOSE]].tolist()):
        length = 60.0
        # The close stands one step before the hour's end, because the next hour begins there at an
        # open of its own.
        ended = length - STEP
        if k == len(bars) - 1:
            length = 30.0
            ended = length
        anchors += [60.0 * k + minute for minute in (0.0, length / 3, length * 2 / 3, ended)]
        # An hour that rises is taken to have fallen first, and the other way round.
        extremes = (low, high) if close >= opens else (high, low)
        prices += [opens, *extremes, close]
    return np.asarray(np.interp(np.arange(0.0, anchors[-1] + 1, STEP), anchors, prices))
