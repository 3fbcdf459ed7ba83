"""Beliefs from bars: of one instant or of a whole history, by the same functions.

A backtest has them computed once, a live loop has those of the last instant, and both read the same
numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from execution.beliefs import Belief, Beliefs, Blocks
from forecasting.forecast import HORIZON, Forecaster, ForecastTable, Progress
from forecasting.moments import Volatility, expected_between, variance_until
from foundation.arrays import Array, Array32, Index, Instants, Mask
from foundation.errors import DataError
from sizing.premium import unit_premiums
from trainingdata.bars import Bars
from trainingdata.correlation import Correlations, correlations_over
from trainingdata.instruments import Kind
from trainingdata.sessions import (
    BARS_A_YEAR,
    DAY,
    bar_position,
    bars_later,
    holding_end,
    is_decision,
    nights_until,
    shared_news,
    stays_open,
    utc_text,
)
from trainingdata.slow_variance import slow_variances

PAIRS = 4096  # forecasts read at once
GONE = 7 * DAY  # after its last forecast a symbol is none of its class any more
_KINDS = (Kind.STOCK, Kind.CRYPTO)


class NoForecast(DataError):
    """What is known at an instant does not forecast a symbol."""


def beliefs(
    forecaster: Forecaster,
    correlations: Correlations,
    bars: Bars,
    since: np.datetime64,
    *,
    rule: Volatility,
    blocks: Blocks,
    progress: Progress,
) -> Beliefs:
    """The beliefs of every instant of the panel from `since` on, each from the bars up to it
    alone.
    """
    first = int(np.searchsorted(bars.times, since))
    closed = _closed(bars.between(first, len(bars.times)))
    table = forecaster.forecast(bars, since, progress)
    rows = np.flatnonzero(closed.any(axis=1))
    times = bars.times[first:][rows]
    closed = closed[rows]
    ends = _ends(bars, times, closed, blocks)
    latest = table.latest[:, first:].T[rows].astype(np.int64)
    moments = _moments(table, bars, latest, times, ends, rule)
    fresh = (
        (latest >= 0) & (table.windows.issued_at[np.maximum(latest, 0)] == times[:, None])
        if len(table.windows)
        else closed
    )
    with np.errstate(invalid="ignore"):
        deciding = (
            closed & fresh & (moments.sigma[:, 0] > 0) & np.isfinite(moments.sigma).all(axis=1)
        )
    overnight = np.array([not stays_open(now) for now in times], dtype=bool)
    cuts = overnight & is_decision(Kind.STOCK, times)
    kept = deciding.any(axis=1) | cuts
    deciding = deciding[kept]
    cuts = cuts[kept]
    times = times[kept]
    ends = ends[kept]
    moments = _Moments(*(part[kept] for part in moments))
    matrices = _matrices(correlations, bars, times, np.asarray(deciding.any(axis=1)))
    return _formed(
        bars, times, ends, deciding, overnight[kept], cuts, moments, *matrices, correlations.within
    )


def outlook(
    forecaster: Forecaster,
    correlations: Correlations,
    bars: Bars,
    symbol: str,
    now: np.datetime64,
    *,
    rule: Volatility,
    blocks: Blocks,
) -> Belief:
    """What a decision of one symbol alone believes at any instant, from then to the next decision
    that can change it.

    Raises
    ------
    NoForecast
        where the symbol's last bar that should be known by then is missing, or too few came before
        it.
    """
    if symbol not in bars.symbols:
        raise NoForecast(f"{symbol}: no forecast: there are no bars of it")
    s = bars.symbols.index(symbol)
    kind = bars.instruments[s].kind
    own = bars.own(s)[0]
    here = np.array([now])
    if not len(own) or bar_position(kind, here)[0] - bar_position(kind, own[-1:])[0] >= 1.0:
        last = utc_text(own[-1]) if len(own) else "never"
        raise NoForecast(
            f"{symbol}: no forecast: its last bar was known at {last}, and it is {utc_text(now)}"
        )
    table = forecaster.forecast(bars, bars.now)
    latest = table.latest[:, -1:].T.astype(np.int64)
    if latest[0, s] < 0 or table.windows.issued_at[latest[0, s]] != own[-1]:
        raise NoForecast(f"{symbol}: no forecast: it has {len(own)} bars of its own, too few")
    only = np.arange(len(bars.symbols)) == s
    ends = _ends(bars, here, only[None], blocks)
    moments = _moments(table, bars, latest, here, ends, rule)
    if not (moments.sigma[0, 0, s] > 0 and np.isfinite(moments.sigma[0, :, s]).all()):
        raise NoForecast(
            f"{symbol}: no forecast that spreads between {utc_text(now)} and {utc_text(ends[0, 0])}"
        )
    matrix = correlations.at(bars).values.astype(np.float32)[None]
    overnight = np.array([not stays_open(now)])
    none = np.zeros(1, dtype=bool)
    first = np.zeros(1, dtype=np.int64)
    formed = _formed(
        bars, here, ends, only[None], overnight, none, moments, first, matrix, correlations.within
    )
    found = formed.of(now)
    assert found is not None
    return found


def deciding_symbols(bars: Bars) -> Mask:
    """[S] symbols whose bar closed at the panel's last instant and whose market is open to fill
    then.
    """
    closed: Mask = _closed(bars.between(len(bars.times) - 1, len(bars.times)))[0]
    return closed


class _Moments(NamedTuple):
    """mu, sigma [T, K, S] of the blocks; variance [T, S]: a year, for what lies beyond the
    forecast; worth, signal [T, S].

    NaN without a forecast; the variance too once the last one is a week old.
    """

    mu: Array
    sigma: Array
    variance: Array
    worth: Array
    signal: Array


def _formed(
    bars: Bars,
    times: Instants,
    ends: Instants,
    deciding: Mask,
    overnight: Mask,
    cuts: Mask,
    moments: _Moments,
    numbers: Index,
    matrices: Array32,
    within: tuple[float, float],
) -> Beliefs:
    """Beliefs of these instants, with what the calendar and the correlations say about their
    blocks.
    """
    begins = np.concatenate([times[:, None], ends[:, :-1]], axis=1)
    spans = begins.ravel(), ends.ravel()
    years = [
        (bar_position(kind, spans[1]) - bar_position(kind, spans[0])) / BARS_A_YEAR[kind]
        for kind in _KINDS
    ]
    return Beliefs(
        symbols=bars.symbols,
        at=times,
        ends=ends,
        overnight=overnight,
        cuts=cuts,
        years=np.stack(years, axis=-1).reshape(*ends.shape, 2),
        nights=nights_until(*spans).reshape(ends.shape),
        shared=shared_news(*spans).reshape(ends.shape),
        crypto=bars.crypto,
        deciding=deciding,
        mu=moments.mu,
        sigma=moments.sigma,
        worth=moments.worth,
        signal=moments.signal,
        premium=unit_premiums(moments.variance, numbers, matrices, bars.crypto, within),
        matrix=numbers,
        correlations=matrices,
    )


def _closed(bars: Bars) -> Mask:
    """[T, S] whether a symbol's bar closed at each instant and its market is open to fill."""
    stock, coin = (is_decision(kind, bars.times)[:, None] for kind in _KINDS)
    return np.asarray(bars.mask.T & np.where(bars.crypto, coin, stock))


def _ends(bars: Bars, times: Instants, closed: Mask, blocks: Blocks) -> Instants:
    """[T, K] the ends of the blocks: of the first two the latest among those of what has closed."""
    plans = blocks.holding == "plan"
    ends = np.full((len(times), 3 if plans else 1), np.datetime64("1900-01-01", "ns"))
    for kind, members in ((Kind.STOCK, ~bars.crypto), (Kind.CRYPTO, bars.crypto)):
        rows = np.flatnonzero(closed[:, members].any(axis=1))
        found = np.array(
            [holding_end(kind, now, blocks.holding) for now in times[rows]], dtype="datetime64[ns]"
        )
        ends[rows, 0] = np.maximum(ends[rows, 0], found)
        if plans:
            ends[rows, 1] = np.maximum(
                ends[rows, 1], bars_later(kind, times[rows], blocks.signal_bars)
            )
    if plans:
        ends[:, 1] = np.maximum(ends[:, 0], ends[:, 1])
        ends[:, 2] = np.maximum(ends[:, 1], times + blocks.horizon_days * DAY)
    return ends


def _matrices(
    correlations: Correlations, bars: Bars, times: Instants, needed: Mask
) -> tuple[Index, Array32]:
    """Number [T] of the matrix in force, and matrices [D, S, S].

    Where none is needed any of them stands, the identity if there are none.
    """
    numbers = np.zeros(len(times), dtype=np.int64)
    numbers[needed], matrices = correlations_over(correlations, bars, times[needed])
    return numbers, matrices if len(matrices) else np.eye(len(bars.symbols), dtype=np.float32)[None]


def _moments(
    table: ForecastTable,
    bars: Bars,
    latest: Index,
    times: Instants,
    ends: Instants,
    rule: Volatility,
) -> _Moments:
    """Moments of the latest forecast of each symbol (number [T, S] of its window, -1 for none)."""
    (count, size), blocks = latest.shape, ends.shape[1]
    mu = np.full((count, blocks, size), np.nan)
    sigma = np.full((count, blocks, size), np.nan)
    variance, worth, signal = (np.full((count, size), np.nan) for _ in range(3))
    places = np.column_stack([times, ends])
    row_of, slow = slow_variances(bars, times)
    step = max(1, PAIRS // max(1, size))
    for begin in range(0, count, step):
        part = slice(begin, begin + step)
        t, s = np.nonzero(latest[part] >= 0)
        window = latest[part][t, s]
        place = np.empty((len(t), blocks + 1))
        for kind, members in ((Kind.STOCK, ~bars.crypto[s]), (Kind.CRYPTO, bars.crypto[s])):
            issued = bar_position(kind, table.windows.issued_at[window[members]])
            place[members] = (
                bar_position(kind, places[part].ravel()).reshape(-1, blocks + 1)[t[members]]
                - issued[:, None]
            )
        asked, where = np.unique(window, return_inverse=True)
        values = table.answer(asked)[where]
        price = table.price[window]
        a_year = np.where(bars.crypto[s], BARS_A_YEAR[Kind.CRYPTO], BARS_A_YEAR[Kind.STOCK])
        last = variance_until(
            values, price, np.full(len(t), float(HORIZON)), rule, np.zeros(len(t))
        )
        beyond = np.sqrt(last * a_year / HORIZON * slow[row_of[part][t], s])
        until = np.stack([variance_until(values, price, p, rule, beyond / a_year) for p in place.T])
        sigma[part][t, :, s] = np.sqrt(np.maximum(np.diff(until, axis=0), 0.0)).T
        mu[part][t, :, s] = _expected(values, price, place, table.persistence[window]).T
        alive = times[part][t] - table.windows.issued_at[window] <= GONE
        variance[part][t, s] = np.where(alive, beyond, np.nan)
        worth[part][t, s] = table.worth[window]
        signal[part][t, s] = (
            table.skill[window] * np.sqrt(last / HORIZON) / (1.0 - table.persistence[window])
        )
    return _Moments(mu, sigma, variance, worth, signal)


def _expected(values: Array32, price: Array, place: Array, persistence: Array) -> Array:
    """[K, n] returns expected in blocks between own bars `place` [n, K + 1] after a forecast's
    issue.

    The first block's is the forecast's. What it is worth later is its first step, fading by
    `persistence` [n] a bar: steps that have proven themselves apart say nothing about what comes
    between them.
    """
    expected = np.empty((place.shape[1] - 1, len(place)))
    expected[0] = expected_between(values, price, place[:, 0], place[:, 1])
    if len(expected) > 1:
        first = expected_between(values, price, np.zeros(len(place)), np.ones(len(place)))
        left = persistence[:, None] ** place[:, 1:]
        expected[1:] = (
            first[:, None] * (left[:, :-1] - left[:, 1:]) / (1.0 - persistence[:, None])
        ).T
    return expected
