"""Intraday paths of an index and its volatility index, simulated or from hourly bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array
from foundation.errors import DataError, InputError
from foundation.settings import setting, settings_class
from option_spreads.selling.rules import SESSION_MINUTES, TRADING_DAYS, remaining_variance_share
from option_spreads.simulation.pricing import Smile
from trainingdata.bars import CLOSE, HIGH, LOW, OPEN, Bars
from trainingdata.instants import new_york_date
from trainingdata.sessions import session_on
from trainingdata.volatility_index import (
    VOLATILITY_INDEX_ELASTICITY,
    estimate_intraday_volatility_index,
)

if TYPE_CHECKING:
    import pandas as pd

Dates = npt.NDArray[np.datetime64]

JUMP_VOLATILITY_RESPONSE = 5.0  # log change of the volatility index per log of a downward jump
REVERSION_RATE = 6.0  # mean reversion rate of log volatility, per year
OVERNIGHT_VARIANCE_SHARE = 0.35  # share of a day's variance that occurs before the open
PATH_STEP_MINUTES = 5  # minutes between the points of real bars


@dataclass(frozen=True, eq=False, slots=True)
class IndexPaths:
    """Paths of an index and its volatility index over D full sessions, at K times of day.

    dates: [D], dates of the sessions.
    minutes_since_open: [K], minutes after 09:30, from 0 to 390.
    spot: [D, K], level of the index, points.
    vix: [D, K], volatility index as known at that time, points.
    source: description of the data's origin.
    """

    dates: Dates
    minutes_since_open: Array
    spot: Array
    vix: Array
    source: str

    def __post_init__(self) -> None:
        if not self.spot.shape == self.vix.shape == (len(self.dates), len(self.minutes_since_open)):
            raise ValueError(
                f"spot {self.spot.shape} and vix {self.vix.shape} must have shape"
                f" ({len(self.dates)}, {len(self.minutes_since_open)}): days, minutes"
            )
        if (
            self.minutes_since_open[0] != 0
            or self.minutes_since_open[-1] != SESSION_MINUTES
            or not (np.diff(self.minutes_since_open) > 0).all()
        ):
            raise ValueError("minutes must increase from 0 to 390")
        if not (np.isfinite(self.spot).all() and (self.spot > 0).all() and (self.vix > 0).all()):
            raise ValueError("spot and vix must be finite and above 0")


@settings_class("index")
class IndexModel:
    """Model of an index that moves as its options imply, with a mean-reverting volatility index.

    Within a session the index's logarithm has independent normal increments. Their variances are
    spread over the session as in the option prices, and options have the same implied volatility at
    every strike (`Smile.flat_smile`). At every minute, given the path so far, the close has the
    distribution that option prices imply, but narrower by `volatility_premium`.

    The volatility index is constant from open to close, and falls of the index raise it for the
    next session. With a premium of 0, prices equal mean payoffs at every time. A spread then loses
    its costs on average, whatever the entry and exit rules.
    """

    initial_index: float = setting(5000.0, "index before the first session, points", ge=1, le=1e6)
    vix: float = setting(18.0, "mean of the volatility index, points", ge=1, le=200)
    vol_of_vol: float = setting(
        1.1, "standard deviation of log volatility, per year", ge=0, le=10, key=False
    )
    correlation: float = setting(
        -0.7, "correlation of index returns and changes of log volatility", ge=-1, le=1, key=False
    )
    volatility_premium: float = setting(
        0.15,
        "implied volatility divided by realised volatility, less 1 (SPY, 2023-04 to 2024-12:"
        " 0.15 ± 0.12); 0 gives fair prices",
        ge=-0.9,
        le=10,
    )
    jumps_per_year: float = setting(
        3.0, "number of jumps per year, between sessions", ge=0, le=252, key=False
    )
    jump_deviation: float = setting(
        0.015, "standard deviation of a jump, as a fraction of price", ge=0, le=0.5, key=False
    )
    step_minutes: int = setting(
        5, "minutes between points of a path; must divide a session of 390 minutes", ge=1, key=False
    )

    def __post_init__(self) -> None:
        if SESSION_MINUTES % self.step_minutes:
            raise InputError(
                f"index.step_minutes: {self.step_minutes} must divide a session of"
                f" {SESSION_MINUTES} minutes"
            )

    def simulate_paths(self, dates: Dates, seed: int, smile: Smile | None = None) -> IndexPaths:
        """Simulate the index and its volatility index in sessions on these dates, [D].

        The path of a date does not depend on how many dates follow.

        seed: seed of the random generator.
        smile: volatility smile that prices the options; its `vix_multiple` and
            `session_variance_share` scale the moves of the index. None: the default smile.
        """
        steps = SESSION_MINUTES // self.step_minutes
        smile = smile or Smile()
        minutes = np.arange(0.0, SESSION_MINUTES + 1, self.step_minutes)
        rng = np.random.default_rng([seed, 7])
        spot, vix = np.empty((2, len(dates), steps + 1))
        level = self.initial_index
        log_vol = np.log(self.vix)
        # Realised volatility per unit of the volatility index, of whole days.
        session_vol = (
            smile.vix_multiple
            * np.sqrt(smile.session_variance_share)
            / (1 + self.volatility_premium)
        )
        realised = float(session_vol / np.sqrt(1 - OVERNIGHT_VARIANCE_SHARE))
        daily_vol = self.vol_of_vol / np.sqrt(TRADING_DAYS)
        left = np.asarray(remaining_variance_share(SESSION_MINUTES - minutes))
        for d in range(len(dates)):
            night = rng.standard_normal(2)
            jumped = rng.random() < self.jumps_per_year / TRADING_DAYS
            jump = rng.standard_normal() * self.jump_deviation if jumped else 0.0

            opening = (
                np.exp(log_vol) / 100 * realised * np.sqrt(OVERNIGHT_VARIANCE_SHARE / TRADING_DAYS)
            )
            # Half the variance is subtracted from each log return, so that volatility alone earns
            # nothing.
            open_ = level * np.exp(opening * night[0] - opening**2 / 2 + jump)
            before_open = (
                self.correlation * daily_vol * night[0] * np.sqrt(OVERNIGHT_VARIANCE_SHARE)
            )
            vix[d] = np.exp(log_vol + before_open - JUMP_VOLATILITY_RESPONSE * min(jump, 0.0))

            yearly = vix[d, 0] / 100 * realised
            session = yearly * np.sqrt((1 - OVERNIGHT_VARIANCE_SHARE) / TRADING_DAYS)
            moves = simulate_log_returns(left, session, 1, rng)[0]
            spot[d] = open_ * np.exp(moves)
            level = float(spot[d, -1])

            # In the units of the night's noise: daily standard deviations.
            shared = (
                moves[-1] / session * np.sqrt(1 - OVERNIGHT_VARIANCE_SHARE) if session > 0 else 0.0
            )
            unshared = night[1] * np.sqrt(1 - self.correlation**2)
            pull = REVERSION_RATE / TRADING_DAYS * (np.log(self.vix) - log_vol)
            log_vol = np.log(vix[d, 0]) + pull
            log_vol += daily_vol * (self.correlation * shared + unshared)
        return IndexPaths(dates, minutes, spot, vix, f"simulated index, seed {seed}")


def simulate_log_returns(
    remaining_variance: Array, deviation: float, path_count: int, rng: np.random.Generator
) -> Array:
    """Simulate cumulative log returns of the index from the first point on, [path_count, K + 1].

    The first value is 0. The index is a martingale: its expected later level is its current level.

    remaining_variance: [K + 1], share of the variance from each point to the end, falling from 1 to
        0.
    deviation: standard deviation of the log return from the first point to the end.
    path_count: number of paths.
    rng: random generator.
    """
    steps = np.sqrt(-np.diff(remaining_variance)) * rng.standard_normal(
        (path_count, len(remaining_variance) - 1)
    )
    walked = np.concatenate([np.zeros((path_count, 1)), np.cumsum(steps, axis=1)], axis=1)
    # Half the variance is subtracted from each log return, so that volatility alone earns nothing.
    return np.asarray(deviation * walked - deviation**2 * (1 - remaining_variance) / 2)


def build_index_paths(
    bars: Bars,
    symbol: str,
    vix: pd.Series,
    scale: float = 1.0,
    volatility_response: float = VOLATILITY_INDEX_ELASTICITY,
) -> IndexPaths:
    """Build intraday paths of an index from the full sessions of a symbol's hourly bars.

    A session needs the previous close of the symbol and of the volatility index. Within a session
    the volatility index is estimated: it moves from its previous close against the index's move
    since that close, times `volatility_response`. The path of an hour is linear from its open to
    the extreme opposite to its move, then to the other extreme, then to its close.

    bars: panel that contains the symbol.
    symbol: symbol whose bars represent the index.
    vix: daily closes of the volatility index by date, points.
    scale: factor of prices, such as 10 to scale SPY to the S&P 500.
    volatility_response: response of the volatility index to the index's move, see
        `estimate_intraday_volatility_index`.

    Raises DataError if no session qualifies.
    """
    import pandas as pd

    times, values = bars.bars_of_symbol(bars.symbols.index(symbol))
    closes = dict(zip(times.tolist(), values[:, CLOSE].tolist(), strict=True))
    dates, first = np.unique(new_york_date(times), return_index=True)
    kept = []
    spots = []
    levels = []
    for date, begin, end in zip(dates, first, [*first[1:], len(times)], strict=True):
        session = session_on(date)
        before = None if session is None else session_on(session.previous_date)
        # Half-days and days with a missing bar have another number of points.
        if (
            session is None
            or before is None
            or end - begin != bars.timeframe.stock_clock.bars_per_day
        ):
            continue
        close_before = closes.get(before.closes.astype("datetime64[ns]").item())
        vix_before = vix.get(pd.Timestamp(before.date))
        if close_before is None or vix_before is None:
            continue
        path = _interpolate_path(values[begin:end])
        kept.append(date)
        spots.append(path * scale)
        levels.append(
            estimate_intraday_volatility_index(
                float(vix_before), path, close_before, volatility_response
            )
        )
    if not kept:
        raise DataError(
            f"{symbol}: no full session has a previous close of both the symbol and the"
            " volatility index; load earlier data"
        )
    minutes = np.arange(0.0, SESSION_MINUTES + 1, PATH_STEP_MINUTES)
    source = f"{symbol} hourly bars x {scale:g}, VIX"
    return IndexPaths(np.array(kept), minutes, np.array(spots), np.array(levels), source)


def _interpolate_path(bars: Array) -> Array:
    """Return a path of five-minute prices, interpolated linearly within hourly bars [B, 5].

    The path of an hour is open, the extreme opposite to its move, the other extreme, close. The
    last bar of a session is half an hour long.
    """
    anchors = []
    prices = []
    for k, (opens, high, low, close) in enumerate(bars[:, [OPEN, HIGH, LOW, CLOSE]].tolist()):
        length = 60.0
        # The close is one step before the hour's end, because the next hour begins there at its own
        # open.
        ended = length - PATH_STEP_MINUTES
        if k == len(bars) - 1:
            length = 30.0
            ended = length
        anchors += [60.0 * k + minute for minute in (0.0, length / 3, length * 2 / 3, ended)]
        # An hour that rises is assumed to have fallen first, and vice versa.
        extremes = (low, high) if close >= opens else (high, low)
        prices += [opens, *extremes, close]
    return np.asarray(
        np.interp(np.arange(0.0, anchors[-1] + 1, PATH_STEP_MINUTES), anchors, prices)
    )
