"""Beliefs from bars: of one instant or of a whole history, by the same functions.

A backtest has them computed once, a live loop has those of the last instant, and both read the same
numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from execution.decision.beliefs import BeliefTable, PlanPeriods
from forecasting.forecast import (
    HORIZON,
    Forecaster,
    ForecastTable,
    Progress,
    QuantileView,
    Volatility,
)
from forecasting.moments import expected_return_between, variance_beyond, variance_until
from foundation.arrays import Array, Array32, Index, Instants, Mask
from foundation.errors import DataError
from foundation.threads import parallel_map
from sizing.premium import unit_premiums
from sizing.settings import PriorSettings
from trainingdata.bars import Bars
from trainingdata.correlation import CorrelationSource, MeanCorrelations, correlations_in_force
from trainingdata.instants import DAY, utc_text
from trainingdata.instruments import AssetClass
from trainingdata.long_run_variance import long_run_variances
from trainingdata.schedule import EVERY_BAR, Schedule
from trainingdata.sessions import news_overlap, nights_until
from trainingdata.timeframe import nth_end_after
from trainingdata.universe import KEEP, Rule, Universe, keep_best

FORECAST_BATCH_SIZE = 4096  # read from a table at once, for memory alone
STALE_AFTER = 7 * DAY  # a symbol without a forecast for longer counts for its class no more
UNRANKED = -1  # for the moment: neither among the best nor outside
_KINDS = (AssetClass.STOCK, AssetClass.CRYPTO)
ALL_SYMBOLS = Universe()


class NoForecast(DataError):
    """What is known at an instant does not forecast a symbol."""


class GrowthRanking(NamedTuple):
    """Ranking of S symbols by expected growth per risk.

    prior: the Sharpe ratio of each asset class.
    cost: [S] of trading one USD, one way.
    long_only: [S] which may not be short.
    """

    prior: PriorSettings
    cost: Array
    long_only: Mask

    def scores(self, table: BeliefTable) -> Array:
        """[T, S] what is expected over all periods less the cost of coming, over its deviation.

        Kelly's growth is half the square of it. What may be short counts by its size. NaN without
        a forecast.
        """
        years = table.symbol_years.sum(axis=1)
        ratios = self.prior.class_sharpe(table.crypto_correlation)
        sharpe = ratios[:, table.crypto.astype(np.intp)]
        expected = table.mu.sum(axis=1) + table.premium * sharpe * years
        gain = np.where(self.long_only, expected, np.abs(expected)) - self.cost
        deviation = np.sqrt((table.sigma**2).sum(axis=1))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(deviation > 0, gain / deviation, np.nan))


def build_beliefs(
    forecaster: Forecaster,
    correlations: CorrelationSource,
    bars: Bars,
    since: np.datetime64,
    *,
    rule: Volatility,
    periods: PlanPeriods,
    progress: Progress,
    universe: Universe = ALL_SYMBOLS,
    growth: GrowthRanking | None = None,
) -> BeliefTable:
    """What is believed at every instant from `since` on, each from the bars up to it alone.

    forecaster, correlations: where forecasts and correlation matrices come from.
    bars: the panel.
    since: the first instant.
    rule: reads sigma from quantiles.
    periods: the spans of time that a decision looks at.
    progress: is told how far the forecasts are.
    universe: what may be held at each instant.
    growth: by which the universe ranks what it keeps; needed where it does.
    """
    first = int(np.searchsorted(bars.times, since))
    part = bars.slice_rows(first, len(bars.times))
    closed = closed_and_due(part)
    scheduled = closed_and_due(part, periods.schedule)
    stocks = bars.timeframe.stock_clock
    # Stocks are cut for the night also where nothing decides, and where nothing has a forecast: the
    # ceiling is the broker's.
    late = ~stocks.intraday_ceiling_applies(part.times)
    trim_overnight = np.asarray(late & stocks.is_decision(part.times) & closed.any(axis=1))
    looked_at = np.flatnonzero(scheduled.any(axis=1) | trim_overnight)
    rows = first + looked_at
    times = bars.times[rows]
    scheduled = scheduled[looked_at]
    awaiting = np.where(scheduled.any(axis=1, keepdims=True), scheduled, closed[looked_at])
    ends = _period_ends(bars, times, awaiting, periods)
    overnight = late[looked_at] | periods.schedule.is_last_decision_of_session(stocks, times)
    trim_overnight = trim_overnight[looked_at]
    # The forecasts of years are let go of before the matrices take their place in memory.
    moments = _forecast_moments(
        forecaster.forecast(bars, since, progress), bars, rows, times, ends, rule
    )
    # A symbol whose forecast has no deviation in some period cannot be sized, and one whose last
    # forecast is not of the bar that has just closed decides on old news. Both stay as they are.
    with np.errstate(invalid="ignore"):
        spreads = (moments.sigma[:, 0] > 0) & np.isfinite(moments.sigma).all(axis=1)
    exclusion_rule = universe.exclusion_rules(bars, times)
    adjustable = scheduled & moments.fresh & spreads & (exclusion_rule == 0)
    exiting = scheduled & (exclusion_rule != 0)
    kept = adjustable.any(axis=1) | exiting.any(axis=1) | trim_overnight
    adjustable = adjustable[kept]
    times = times[kept]
    moments = moments.at(kept)
    numbers, matrices = _correlation_matrices(
        correlations, bars, times, np.asarray(adjustable.any(axis=1))
    )
    table = _assembled_beliefs(
        bars,
        times,
        ends[kept],
        adjustable=adjustable,
        exclusion_rule=exclusion_rule[kept],
        exiting=exiting[kept],
        overnight=overnight[kept],
        trim_overnight=trim_overnight[kept],
        moments=moments,
        numbers=numbers,
        matrices=matrices,
        prior=correlations.prior_means,
    )
    if growth is None or not universe.settings.by_growth:
        return table
    return _kept_by_growth(table, universe.settings.keep or 0, growth, scheduled[kept], moments)


def _kept_by_growth(
    table: BeliefTable, keep: int, growth: GrowthRanking, closed: Mask, moments: _Moments
) -> BeliefTable:
    """The table, in which the universe holds the best by expected growth per risk alone.

    One that nothing is forecast of stays as it is: what nobody expects anything of has no rank.
    closed: [T, S] whose market is open to fill.
    """
    exclusion_rule = table.exclusion_rule.copy()
    score = growth.scores(table)
    exclusion_rule[np.isnan(score) | np.isnan(moments.variance)] = UNRANKED
    keep_best(exclusion_rule, score, keep, KEEP)
    exclusion_rule[exclusion_rule == UNRANKED] = 0
    exclusion_rule = np.where(table.exclusion_rule == 0, exclusion_rule, table.exclusion_rule)
    inside = exclusion_rule == 0
    return table._replace(
        exclusion_rule=exclusion_rule,
        adjustable=table.adjustable & inside,
        exiting=closed & ~inside,
    )


def belief_of_symbol(
    forecaster: Forecaster,
    correlations: CorrelationSource,
    bars: Bars,
    symbol: str,
    now: np.datetime64,
    *,
    rule: Volatility,
    periods: PlanPeriods,
) -> BeliefTable:
    """What a decision of one symbol alone believes at any instant, until the next can change it.

    Raises
    ------
    NoForecast
        where the symbol's last bar that should be known by then is missing, or too few came before
        it.
    """
    if symbol not in bars.symbols:
        raise NoForecast(f"{symbol}: no forecast: there are no bars of it")
    s = bars.symbols.index(symbol)
    clock = bars.clock(bars.instruments[s].kind)
    bar_times = bars.real_bars(s)[0]
    here = np.array([now])
    # The last bar that should be known closed less than one own bar ago.
    if not len(bar_times) or clock.position(here)[0] - clock.position(bar_times[-1:])[0] >= 1:
        present = bars.times[bars.present[s]]
        last = utc_text(present[-1]) if len(present) else "never"
        why = f"its last bar was known at {last}, and it is {utc_text(now)}"
        if len(present) and clock.position(here)[0] - clock.position(present[-1:])[0] < 1:
            why = f"its last bar, known at {last}, waits for another bar to confirm it"
        raise NoForecast(f"{symbol}: no forecast: {why}")
    table = forecaster.forecast(bars, bars.now)
    latest = table.latest[s, -1]
    if latest < 0 or table.windows.issued_at[latest] != bar_times[-1]:
        raise NoForecast(f"{symbol}: no forecast: it has {len(bar_times)} bars of its own, too few")
    adjustable = (np.arange(len(bars.symbols)) == s)[None]
    ends = _period_ends(bars, here, adjustable, periods)
    row = np.array([len(bars.times) - 1])
    moments = _forecast_moments(table, bars, row, here, ends, rule)
    sigma = moments.sigma[0, :, s]
    if not (sigma[0] > 0 and np.isfinite(sigma).all()):
        raise NoForecast(
            f"{symbol}: no forecast that spreads between {utc_text(now)} and {utc_text(ends[0, 0])}"
        )
    numbers = np.zeros(1, dtype=np.int64)
    stocks = bars.timeframe.stock_clock
    late = ~stocks.intraday_ceiling_applies(here)
    return _assembled_beliefs(
        bars,
        here,
        ends,
        adjustable=adjustable,
        exclusion_rule=np.zeros(adjustable.shape, dtype=np.int8),
        exiting=np.zeros(adjustable.shape, dtype=bool),
        overnight=late | periods.schedule.is_last_decision_of_session(stocks, here),
        # One symbol is asked about. The rest of the book is cut by the trader's own decisions.
        trim_overnight=np.zeros(1, dtype=bool),
        moments=moments,
        numbers=numbers,
        matrices=correlations.matrix_at_end(bars).values.astype(np.float32)[None],
        prior=correlations.prior_means,
    )


def closed_and_due(bars: Bars, schedule: Schedule = EVERY_BAR) -> Mask:
    """[T, S] whether a symbol's bar closed at each instant, and a decision on its class is due.

    One is only where the market is open to fill it.
    """
    stock, coin = (schedule.decides(bars.clock(kind), bars.times)[:, None] for kind in _KINDS)
    return np.asarray(bars.mask.T & np.where(bars.crypto, coin, stock))


def deciding_symbols(bars: Bars) -> Mask:
    """[S] whose bar closed at the panel's last instant and whose market is open to fill then."""
    closed: Mask = closed_and_due(bars.slice_rows(len(bars.times) - 1, len(bars.times)))[0]
    return closed


class _Moments(NamedTuple):
    """Moments of T instants, K periods and S symbols; NaN without a forecast.

    mu: [T, K, S] expected returns in the periods.
    sigma: [T, K, S] their standard deviations.
    variance: [T, S] a year, for what lies beyond the forecast; NaN too once the last forecast is
        a week old.
    shrinkage: [T, S] what the forecaster's median was multiplied by.
    signal: [T, S] root mean square of what such a median is worth over its whole life.
    fresh: [T, S] whether the forecast is of a bar that closed at the instant.
    """

    mu: Array
    sigma: Array
    variance: Array
    shrinkage: Array
    signal: Array
    fresh: Mask

    def at(self, kept: Mask) -> _Moments:
        return _Moments._make(each[kept] for each in self)


def _assembled_beliefs(
    bars: Bars,
    times: Instants,
    ends: Instants,
    *,
    adjustable: Mask,
    exclusion_rule: Rule,
    exiting: Mask,
    overnight: Mask,
    trim_overnight: Mask,
    moments: _Moments,
    numbers: Index,
    matrices: Array32,
    prior: MeanCorrelations,
) -> BeliefTable:
    """Beliefs of these instants, with what calendar and correlations say about their periods."""
    begins = np.concatenate([times[:, None], ends[:, :-1]], axis=1)
    begin = begins.ravel()
    end = ends.ravel()
    years = []
    for kind in _KINDS:
        clock = bars.clock(kind)
        years.append((clock.position(end) - clock.position(begin)) / clock.bars_a_year)
    premium, crypto_correlation = unit_premiums(
        np.where(exclusion_rule == 0, moments.variance, np.nan),
        numbers,
        matrices,
        bars.crypto,
        prior,
    )
    return BeliefTable(
        symbol=np.arange(len(bars.symbols)),
        at=times,
        ends=ends,
        overnight=overnight,
        trim_overnight=trim_overnight,
        years=np.stack(years, axis=-1).reshape(*ends.shape, 2),
        nights=nights_until(begin, end).reshape(ends.shape),
        news_overlap=news_overlap(begin, end).reshape(ends.shape),
        crypto=bars.crypto,
        adjustable=adjustable,
        exclusion_rule=exclusion_rule,
        exiting=exiting,
        mu=moments.mu,
        sigma=moments.sigma,
        shrinkage=moments.shrinkage,
        signal=moments.signal,
        premium=premium,
        crypto_correlation=crypto_correlation,
        matrix=numbers,
        correlations=matrices,
    )


def _period_ends(bars: Bars, times: Instants, closed: Mask, periods: PlanPeriods) -> Instants:
    """[T, K] the ends of the periods.

    closed: [T, S] the symbols that they are for. Those of the first two are the latest among the
    ends of their classes.
    """
    plans = periods.holding == "plan"
    ends = np.full((len(times), 3 if plans else 1), np.datetime64("1900-01-01", "ns"))
    for kind, members in ((AssetClass.STOCK, ~bars.crypto), (AssetClass.CRYPTO, bars.crypto)):
        rows = np.flatnonzero(closed[:, members].any(axis=1))
        clock = bars.clock(kind)
        first = periods.schedule.holding_ends(clock, times[rows], periods.holding)
        ends[rows, 0] = np.maximum(ends[rows, 0], first)
        if plans:
            second = nth_end_after(clock, times[rows], periods.signal_bars)
            ends[rows, 1] = np.maximum(ends[rows, 1], second)
    if plans:
        # A period may be empty, for instance where the next decision comes after the signal's end.
        # None begins before the one in front of it has ended.
        ends[:, 1] = np.maximum(ends[:, 0], ends[:, 1])
        ends[:, 2] = np.maximum(ends[:, 1], times + periods.horizon_days * DAY)
    return ends


def _correlation_matrices(
    correlations: CorrelationSource, bars: Bars, times: Instants, needed: Mask
) -> tuple[Index, Array32]:
    """Number [T] of the matrix in force, and the matrices [D, S, S].

    Where none is needed any of them stands, the identity if there are none.
    """
    numbers = np.zeros(len(times), dtype=np.int64)
    numbers[needed], matrices = correlations_in_force(correlations, bars, times[needed])
    if not len(matrices):
        matrices = np.eye(len(bars.symbols), dtype=np.float32)[None]
    return numbers, matrices


def _forecast_moments(
    table: ForecastTable, bars: Bars, rows: Index, times: Instants, ends: Instants, rule: Volatility
) -> _Moments:
    """Moments of each symbol's latest forecast.

    rows: [T] of the panel, whose latest forecasts are meant. times: [T] from when on.
    """
    latest = table.latest[:, rows].T
    count, size = latest.shape
    periods = ends.shape[1]
    mu = np.full((count, periods, size), np.nan)
    sigma = np.full((count, periods, size), np.nan)
    variance = np.full((count, size), np.nan)
    shrinkage = np.full((count, size), np.nan)
    signal = np.full((count, size), np.nan)
    fresh = np.zeros((count, size), dtype=bool)
    bounds = np.column_stack([times, ends])
    row_of, slow = long_run_variances(bars, times)
    step = max(1, FORECAST_BATCH_SIZE // max(1, size))

    def of_part(begin: int) -> None:
        part = slice(begin, begin + step)
        t, s = np.nonzero(latest[part] >= 0)
        # A long panel begins with bars that nothing is forecast from yet.
        if not len(t):
            return
        window = latest[part][t, s].astype(np.int64)
        crypto = bars.crypto[s]
        issued = table.windows.issued_at[window]
        place = _bars_since_issue(bars, bounds[part], t, issued, crypto)
        values = QuantileView(table.quantiles, window)
        price = table.price[window]
        persistence = table.persistence[window]
        stock_year, coin_year = (bars.clock(kind).bars_a_year for kind in _KINDS)
        bars_a_year = np.where(crypto, coin_year, stock_year)
        horizon = np.full(len(t), float(HORIZON))
        steps = np.stack([horizon, *np.minimum(place, HORIZON)])
        whole, *within = variance_until(values, price, steps, rule, np.zeros(len(t)))
        # Beyond the forecast's last step variance neither goes on as it was forecast nor is at once
        # what it has been for a year: it is the root of fast times slow.
        beyond = np.sqrt(whole * bars_a_year / HORIZON * slow[row_of[part][t], s])
        until = within + variance_beyond(place, beyond / bars_a_year)
        # A later step can be forecast with less variance than an earlier one; the period between
        # them then has none.
        sigma[part][t, :, s] = np.sqrt(np.maximum(np.diff(until, axis=0), 0.0)).T
        mu[part][t, :, s] = _expected_returns(values, price, place, persistence).T
        age = times[part][t] - issued
        fresh[part][t, s] = age == np.timedelta64(0)
        alive = age <= STALE_AFTER
        variance[part][t, s] = np.where(alive, beyond, np.nan)
        shrinkage[part][t, s] = table.shrinkage[window]
        # A median that fades by its persistence from bar to bar is worth its first step times
        # 1 / (1 - persistence) over its whole life.
        skill = table.skill[window]
        signal[part][t, s] = skill * np.sqrt(whole / HORIZON) / (1.0 - persistence)

    for _ in parallel_map(of_part, range(0, count, step)):
        pass
    return _Moments(mu, sigma, variance, shrinkage, signal, fresh)


def _bars_since_issue(
    bars: Bars, bounds: Instants, t: Index, issued: Instants, crypto: Mask
) -> Array:
    """[K + 1, n] own bars from the issue of each forecast to the bounds of its periods.

    bounds: [T, K + 1] where periods begin and end. t: [n] whose row is each forecast's. issued:
        [n].
    crypto: [n] whether it is of a coin.
    """
    place = np.empty((bounds.shape[1], len(t)))
    for kind, members in ((AssetClass.STOCK, ~crypto), (AssetClass.CRYPTO, crypto)):
        clock = bars.clock(kind)
        position = clock.position(bounds.ravel()).reshape(bounds.shape).T
        place[:, members] = position[:, t[members]] - clock.position(issued[members])
    return place


def _expected_returns(
    values: QuantileView, price: Array, place: Array, persistence: Array
) -> Array:
    """[K, n] returns expected in the periods.

    place: [K + 1, n] own bars from each forecast's issue to the bounds of its periods.
    persistence: [n] by which a median fades from bar to bar.
    """
    expected = np.empty((len(place) - 1, place.shape[1]))
    nothing = np.zeros(place.shape[1])
    begin, finish = np.stack([place[0], nothing]), np.stack([place[1], nothing + 1])
    expected[0], first = expected_return_between(values, price, begin, finish)
    if len(expected) > 1:
        # The forecast's later steps are shrunk each by its own worth, so that their differences say
        # nothing. What the forecast is worth later is its first step, fading.
        fading = persistence ** place[1:]
        expected[1:] = first * (fading[:-1] - fading[1:]) / (1.0 - persistence)
    return expected
