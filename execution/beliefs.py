"""What a decision believes before it looks at the account: who decides, for how long, mu, sigma, correlation, costs.

One function makes the beliefs of one instant or of a whole history: a backtest has them computed once, a live loop has
those of the last instant, and both read the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from forecasting.forecast import Forecaster, ForecastTable, Progress
from forecasting.moments import Volatility, moments_between
from trainingdata.bars import Bars
from trainingdata.compiled import compiled
from trainingdata.correlation import Correlations, correlations_over
from trainingdata.errors import DataError
from trainingdata.instruments import Kind
from trainingdata.sessions import (
    BARS_A_YEAR,
    Holding,
    Instants,
    bar_position,
    holding_end,
    is_decision,
    shared_news,
    stays_open,
    utc_text,
)

Array = npt.NDArray[np.float64]
Array32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Index = npt.NDArray[np.int64]

PAIRS = 4096  # forecasts read at once


class NoForecast(DataError):
    """What is known at an instant does not forecast a symbol."""


@dataclass(frozen=True, eq=False, slots=True)
class Belief:
    """Of one instant, `at`, over the holding interval that ends at `until`; S symbols.

    deciding [S]: whose bar has just closed, whose market is open to fill, and which have a forecast of it. overnight: the
    interval holds the night, or leaves no later decision to cut for it. cuts: stocks can still be cut for it now, forecast or
    not. years [S]: each symbol's own open time in it, in
    years. mu, sigma [S]: NaN where there is no forecast. correlation [S, S]: over the interval.
    """

    symbols: tuple[str, ...]
    at: np.datetime64
    until: np.datetime64
    deciding: Mask
    overnight: bool
    cuts: bool
    years: Array
    mu: Array
    sigma: Array
    correlation: Array


@dataclass(frozen=True, eq=False, slots=True)
class Beliefs:
    """Of every instant [T] of a history at which anything decides, or stocks are cut for the night.

    at, until, overnight, cuts [T]; years [T, 2]: of stocks, of coins; shared [T]: news that stocks and coins have in common;
    deciding, mu, sigma [T, S]; matrix [T]: number of the correlation matrix, [D, S, S] float32, in force. crypto [S].
    """

    symbols: tuple[str, ...]
    at: Instants
    until: Instants
    overnight: Mask
    cuts: Mask
    years: Array
    shared: Array
    crypto: Mask
    deciding: Mask
    mu: Array
    sigma: Array
    matrix: Index
    correlations: Array32

    def of(self, now: np.datetime64) -> Belief | None:
        """The belief of an instant; None where nothing decides then."""
        t = int(self.at.searchsorted(now))
        if t >= len(self.at) or self.at[t] != now:
            return None
        correlation = self.correlations[self.matrix[t]]
        years, correlation = _over_interval(self.years[t], correlation, self.crypto, self.shared[t])
        when = bool(self.overnight[t]), bool(self.cuts[t])
        moments = self.mu[t], self.sigma[t]
        return Belief(self.symbols, now, self.until[t], self.deciding[t], *when, years, *moments, correlation)


def beliefs(
    forecaster: Forecaster,
    correlations: Correlations,
    bars: Bars,
    since: np.datetime64,
    *,
    rule: Volatility,
    holding: Holding,
    progress: Progress,
) -> Beliefs:
    """The beliefs of every instant of the panel from `since` on, each from the bars up to it alone."""
    first = int(np.searchsorted(bars.times, since))
    closed = _closed(bars.between(first, len(bars.times)))
    table = forecaster.forecast(bars, since, progress)
    rows = np.flatnonzero(closed.any(axis=1))
    times, closed = bars.times[first:][rows], closed[rows]
    until = _ends(bars, times, closed, holding)
    latest = table.latest[:, first:].T[rows].astype(np.int64)
    mu, sigma = _moments(table, bars.crypto, latest, times, until, rule)
    fresh = (latest >= 0) & (table.windows.issued_at[np.maximum(latest, 0)] == times[:, None]) if len(table.windows) else closed
    with np.errstate(invalid="ignore"):
        deciding = closed & fresh & (sigma > 0)
    overnight = np.array([not stays_open(now) for now in times], dtype=bool)
    cuts = overnight & is_decision(Kind.STOCK, times)
    kept = deciding.any(axis=1) | cuts
    deciding, cuts, times = deciding[kept], cuts[kept], times[kept]
    numbers, matrices = _matrices(correlations, bars, times, np.asarray(deciding.any(axis=1)))
    return Beliefs(
        bars.symbols,
        times,
        until[kept],
        overnight[kept],
        cuts,
        _years(times, until[kept]),
        shared_news(times, until[kept]),
        bars.crypto,
        deciding,
        mu[kept],
        sigma[kept],
        numbers,
        matrices,
    )


def joined(parts: Sequence[Beliefs]) -> Beliefs:
    """Beliefs of spans of one history that follow each other, as those of the whole."""
    if len(parts) == 1:
        return parts[0]
    offsets = np.cumsum([0, *(len(part.correlations) for part in parts[:-1])])
    matrix = np.concatenate([part.matrix + offset for part, offset in zip(parts, offsets, strict=True)])
    along = ("at", "until", "overnight", "cuts", "years", "shared", "deciding", "mu", "sigma", "correlations")
    arrays: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in along}
    return replace(parts[0], matrix=matrix, **arrays)


def outlook(
    forecaster: Forecaster,
    correlations: Correlations,
    bars: Bars,
    symbol: str,
    now: np.datetime64,
    *,
    rule: Volatility,
    holding: Holding,
) -> Belief:
    """What a decision of one symbol alone believes at any instant, from then to the next decision that can change it.

    Raises
    ------
    NoForecast
        where the symbol's last bar that should be known by then is missing, or too few came before it.
    """
    if symbol not in bars.symbols:
        raise NoForecast(f"{symbol}: no forecast: there are no bars of it")
    s = bars.symbols.index(symbol)
    kind = bars.instruments[s].kind
    here, until = np.array([now]), np.array([holding_end(kind, now, holding)])
    own = bars.own(s)[0]
    if not len(own) or bar_position(kind, here)[0] - bar_position(kind, own[-1:])[0] >= 1.0:
        last = utc_text(own[-1]) if len(own) else "never"
        raise NoForecast(f"{symbol}: no forecast: its last bar was known at {last}, and it is {utc_text(now)}")
    table = forecaster.forecast(bars, bars.now)
    latest = table.latest[:, -1:].T.astype(np.int64)
    if latest[0, s] < 0 or table.windows.issued_at[latest[0, s]] != own[-1]:
        raise NoForecast(f"{symbol}: no forecast: it has {len(own)} bars of its own, too few")
    mu, sigma = _moments(table, bars.crypto, latest, here, until, rule)
    if not sigma[0, s] > 0:
        raise NoForecast(f"{symbol}: no forecast that spreads between {utc_text(now)} and {utc_text(until[0])}")
    only = np.arange(len(bars.symbols)) == s
    matrix = correlations.at(bars).values
    years, matrix = _over_interval(_years(here, until)[0], matrix, bars.crypto, shared_news(here, until)[0])
    return Belief(bars.symbols, now, until[0], only, not stays_open(now), False, years, mu[0], sigma[0], matrix)


def deciding_symbols(bars: Bars) -> Mask:
    """[S] symbols whose bar closed at the panel's last instant and whose market is open to fill then."""
    closed: Mask = _closed(bars.between(len(bars.times) - 1, len(bars.times)))[0]
    return closed


def _closed(bars: Bars) -> Mask:
    """[T, S] whether a symbol's bar closed at each instant and its market is open to fill."""
    stock, coin = (is_decision(kind, bars.times)[:, None] for kind in (Kind.STOCK, Kind.CRYPTO))
    return np.asarray(bars.mask.T & np.where(bars.crypto, coin, stock))


def _ends(bars: Bars, times: Instants, closed: Mask, holding: Holding) -> Instants:
    """[T] the latest end among the holding intervals of what has closed."""
    ends = np.full(len(times), np.datetime64("1900-01-01", "ns"))
    for kind, members in ((Kind.STOCK, ~bars.crypto), (Kind.CRYPTO, bars.crypto)):
        rows = np.flatnonzero(closed[:, members].any(axis=1))
        found = np.array([holding_end(kind, now, holding) for now in times[rows]], dtype="datetime64[ns]")
        ends[rows] = np.maximum(ends[rows], found)
    return ends


@compiled
def _over_interval(years: Array, correlation: Array | Array32, crypto: Mask, shared: float) -> tuple[Array, Array]:
    """Each symbol's own years [S] in the interval, and the correlation [S, S] over it.

    What is between the classes counts in proportion to the news they share; the matrix stays positive definite.
    """
    own, over = np.empty(len(crypto)), correlation.astype(np.float64)
    for s in range(len(crypto)):
        own[s] = years[1] if crypto[s] else years[0]
        for r in range(len(crypto)):
            if crypto[s] != crypto[r]:
                over[s, r] *= shared
    return own, over


def _matrices(correlations: Correlations, bars: Bars, times: Instants, needed: Mask) -> tuple[Index, Array32]:
    """Number [T] of the matrix in force, and matrices [D, S, S].

    Where none is needed any of them stands, the identity if there are none.
    """
    numbers = np.zeros(len(times), dtype=np.int64)
    numbers[needed], matrices = correlations_over(correlations, bars, times[needed])
    return numbers, matrices if len(matrices) else np.eye(len(bars.symbols), dtype=np.float32)[None]


def _years(times: Instants, until: Instants) -> Array:
    """[T, 2] open time of the intervals in years: of stocks, and of coins."""
    return np.stack(
        [(bar_position(kind, until) - bar_position(kind, times)) / BARS_A_YEAR[kind] for kind in (Kind.STOCK, Kind.CRYPTO)],
        axis=1,
    )


def _moments(
    table: ForecastTable, crypto: Mask, latest: Index, times: Instants, until: Instants, rule: Volatility
) -> tuple[Array, Array]:
    """mu and sigma [T, S] of the latest forecast of each symbol (number of its window, -1 for none)."""
    mu, sigma = np.full(latest.shape, np.nan), np.full(latest.shape, np.nan)
    step = max(1, PAIRS // max(1, latest.shape[1]))
    for begin in range(0, len(times), step):
        part = slice(begin, begin + step)
        t, s = np.nonzero(latest[part] >= 0)
        window = latest[part][t, s]
        start, finish = np.empty(len(t)), np.empty(len(t))
        for kind, members in ((Kind.STOCK, ~crypto[s]), (Kind.CRYPTO, crypto[s])):
            if members.any():
                issued = bar_position(kind, table.windows.issued_at[window[members]])
                start[members] = bar_position(kind, times[part])[t[members]] - issued
                finish[members] = bar_position(kind, until[part])[t[members]] - issued
        asked, place = np.unique(window, return_inverse=True)
        values = table.answer(asked)[place]
        mu[part][t, s], sigma[part][t, s] = moments_between(values, table.price[window], start, finish, rule)
    return mu, sigma
