"""Days of an index and of its volatility index, step by step through the session: simulated, or
from real bars.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from execution.spreads.rules import SESSION, TRADING_DAYS
from foundation.arrays import Array
from foundation.errors import DataError, InputError, refuse_outside
from trainingdata.bars import CLOSE, HIGH, LOW, OPEN, Bars
from trainingdata.instruments import Kind
from trainingdata.sessions import BARS_A_DAY, new_york_date, session_of
from trainingdata.volatility_index import RESPONSE, within_day

Dates = npt.NDArray[np.datetime64]

CRASH = 5.0  # log of the volatility index per log of a jump down
STEP = 5  # minutes between the points of real bars


@dataclass(frozen=True, eq=False, slots=True)
class IndexDays:
    """D full sessions at K points of time. minutes [K]: since 09:30, 0 first and 390 last. spot [D,
    K].

    vix [D, K]: the volatility index as far as it is known then, points. source: where they come
    from, in words.
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
    """A stochastic-volatility index: the logarithm of its volatility index reverts to a mean, falls
    of the one raise the other.

    vix: mean, points. reversion, vol_of_vol: of log volatility, a year. correlation: of index
    returns and volatility. realised: volatility that comes, over the index, jumps apart (SPY,
    2023-04 to 2025-06: 0.82); what sellers are paid for is the difference to the implied one,
    `Smile.level`. night: share of a day's variance that falls before the open. jumps: a year, of
    deviation jump (a share of price). step: minutes.
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
        clock = np.linspace(-1.0, 1.0, steps)
        shape = np.sqrt(
            (0.6 + 0.8 * clock**2) / (0.6 + 0.8 * clock**2).mean()
        )  # more at the open and at the close
        for d in range(len(dates)):
            night = rng.standard_normal(2)
            noise = rng.standard_normal((2, steps))
            shocks = rng.random((2, steps + 1))
            sizes = rng.standard_normal(steps + 1) * self.jump
            daily = np.exp(log_vol) / 100 * self.realised / np.sqrt(TRADING_DAYS)
            opening = daily * np.sqrt(self.night)
            during = daily * np.sqrt((1 - self.night) / steps) * shape
            jumps = np.where(shocks[0] < self.jumps / TRADING_DAYS / (steps + 1), sizes, 0.0)
            open_ = level * np.exp(opening * night[0] - opening**2 / 2 + jumps[0])
            moves = during * noise[0] - during**2 / 2 + jumps[1:]
            spot[d] = open_ * np.exp(np.concatenate([[0.0], np.cumsum(moves)]))
            level = float(spot[d, -1])
            shared = np.append(
                night[0] * np.sqrt(self.night), noise[0] * np.sqrt((1 - self.night) / steps)
            )
            daily_vol = self.vol_of_vol / np.sqrt(TRADING_DAYS)
            raised = self.correlation * daily_vol * shared - CRASH * np.minimum(jumps, 0.0)
            vix[d] = np.exp(log_vol + np.cumsum(raised))
            own = night[1] * np.sqrt(1 - self.correlation**2)
            pull = self.reversion / TRADING_DAYS * (np.log(self.vix) - log_vol)
            log_vol += raised.sum() + pull + daily_vol * own
        return IndexDays(
            dates,
            np.arange(0.0, SESSION + 1, self.step),
            spot,
            vix,
            f"simulated index, seed {seed}",
        )


def index_days(
    bars: Bars, symbol: str, vix: pd.Series, scale: float = 1.0, response: float = RESPONSE
) -> IndexDays:
    """The full sessions of a symbol's hourly bars whose session before has a close, and one of the
    volatility index.

    vix: closes by date. scale: of prices, 10 to read SPY as the S&P 500. Within a session the
    volatility index is not known: it moves from the close before by `response` against the index's
    own move since then. An hour is open, the extreme that its close lies away from, the other one,
    close, and straight between them.

    Raises
    ------
    DataError
        where there is none.
    """
    times, values = bars.own(bars.symbols.index(symbol))
    closes = dict(zip(times.tolist(), values[:, CLOSE].tolist(), strict=True))
    dates, first = np.unique(new_york_date(times), return_index=True)
    found = []
    spots = []
    levels = []
    for date, begin, end in zip(dates, first, [*first[1:], len(times)], strict=True):
        session = session_of(date)
        before = None if session is None else session_of(session.before)
        if session is None or before is None or end - begin != BARS_A_DAY[Kind.STOCK]:
            continue
        closed = closes.get(before.closes.astype("datetime64[ns]").item())
        known = vix.get(pd.Timestamp(before.date))
        if closed is not None and known is not None:
            path = _within(values[begin:end])
            found.append(date)
            spots.append(path * scale)
            levels.append(within_day(float(known), path, closed, response))
    if not found:
        raise DataError(
            f"{symbol}: no full session follows one with a close, its own and of the volatility"
            " index"
        )
    minutes = np.arange(0.0, SESSION + 1, STEP)
    return IndexDays(
        np.array(found),
        minutes,
        np.array(spots),
        np.array(levels),
        f"{symbol} hourly bars x {scale:g}, VIX",
    )


def _within(bars: Array) -> Array:
    """Prices every five minutes of hourly bars [B, 5], the last of which is half an hour long."""
    anchors = []
    prices = []
    for k, (opens, high, low, close) in enumerate(bars[:, [OPEN, HIGH, LOW, CLOSE]].tolist()):
        length, ended = (
            (30.0, 30.0) if k == len(bars) - 1 else (60.0, 60.0 - STEP)
        )  # the next hour begins at its own open
        anchors += [60.0 * k + minute for minute in (0.0, length / 3, length * 2 / 3, ended)]
        prices += [opens, *((low, high) if close >= opens else (high, low)), close]
    return np.asarray(np.interp(np.arange(0.0, anchors[-1] + 1, STEP), anchors, prices))
