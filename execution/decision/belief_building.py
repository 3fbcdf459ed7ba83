"""Compute beliefs (expected returns and risk) from bars, at one instant or at every instant.

A backtest computes the beliefs of all instants once, a live loop only those of the last instant.
Both use the same functions, with identical results.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from execution.decision.beliefs import BeliefTable, DecisionPeriods
from forecasting.forecast import (
    HORIZON,
    Forecaster,
    ForecastTable,
    Progress,
    QuantileView,
    VolatilityRule,
)
from forecasting.moments import (
    cumulative_variance,
    expected_return_between,
    variance_after_last_step,
)
from foundation.arrays import Array, Array32, Index, Instants, Mask
from foundation.errors import DataError
from foundation.threads import parallel_map
from sizing.premium import premiums_at_unit_sharpe
from sizing.settings import PriorSettings
from trainingdata.bars import Bars
from trainingdata.correlation import CorrelationSource, MeanCorrelations, compute_correlations
from trainingdata.instants import DAY, format_utc
from trainingdata.instruments import AssetClass
from trainingdata.long_run_variance import long_run_variances
from trainingdata.schedule import EVERY_BAR, Schedule
from trainingdata.sessions import count_nights_between, stock_crypto_news_overlap
from trainingdata.timeframe import nth_next_bar_end
from trainingdata.universe import KEEP, ExclusionRuleCodes, Universe, exclude_all_but_best

FORECAST_BATCH_SIZE = 4096  # forecasts read at once, to bound memory
MAX_FORECAST_AGE = 7 * DAY  # after which a symbol without a forecast does not count for its class
UNRANKED_CODE = -1  # temporary code of symbols without a rank
_ASSET_CLASSES = (AssetClass.STOCK, AssetClass.CRYPTO)
ALL_SYMBOLS = Universe()


class NoForecast(DataError):
    """A symbol has no forecast at the requested instant."""


class GrowthRanking(NamedTuple):
    """Parameters of a ranking of S symbols by expected growth per risk.

    prior: assumed Sharpe ratio of each asset class.
    unit_cost: [S] one-way cost of trading one USD.
    long_only: [S] true for symbols that may not be held short.
    """

    prior: PriorSettings
    unit_cost: Array
    long_only: Mask

    def scores(self, table: BeliefTable) -> Array:
        """Return the scores [T, S]: expected return net of entry cost, in standard deviations.

        Return and standard deviation cover all periods. Kelly growth is half the square of the
        score. A symbol that may be held short is scored by the absolute value of its expected
        return. The score is NaN without a forecast.
        """
        years = table.symbol_trading_years.sum(axis=1)
        ratios = self.prior.class_sharpe_ratios(table.crypto_correlation)
        sharpe = ratios[:, table.crypto.astype(np.intp)]
        expected = table.mu.sum(axis=1) + table.premium_per_unit_sharpe * sharpe * years
        gain = np.where(self.long_only, expected, np.abs(expected)) - self.unit_cost
        deviation = np.sqrt((table.sigma**2).sum(axis=1))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(deviation > 0, gain / deviation, np.nan))


def build_beliefs(
    forecaster: Forecaster,
    correlations: CorrelationSource,
    bars: Bars,
    since: np.datetime64,
    *,
    volatility_rule: VolatilityRule,
    periods: DecisionPeriods,
    progress: Progress,
    universe: Universe = ALL_SYMBOLS,
    growth_ranking: GrowthRanking | None = None,
) -> BeliefTable:
    """Return the beliefs at every instant from `since` on, each from the bars known by then.

    forecaster, correlations: sources of forecasts and correlation matrices.
    bars: panel of bars.
    since: first instant with beliefs.
    volatility_rule: rule that derives the standard deviation from forecast quantiles.
    periods: periods of the decisions: those of a plan, or a single holding interval.
    progress: callback for the progress of the forecasts.
    universe: rule that determines which symbols may be held at each instant.
    growth_ranking: ranking used if the universe keeps only the best symbols by growth; unused
        otherwise.
    """
    first = int(np.searchsorted(bars.times, since))
    part = bars.slice_rows(first, len(bars.times))
    closed = decision_due_mask(part)
    scheduled = decision_due_mask(part, periods.schedule)
    stocks = bars.timeframe.stock_clock
    # Stocks are trimmed overnight even if no symbol is due to trade or has a forecast: the ceiling
    # is the broker's.
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
    # Forecasts of years are freed before the matrices are built.
    moments = _forecast_moments(
        forecaster.forecast(bars, since, progress), bars, rows, times, ends, volatility_rule
    )
    # A symbol whose forecast has no deviation in some period cannot be sized, and one whose last
    # forecast is not of the bar that has just closed would use old information. Neither is traded.
    with np.errstate(invalid="ignore"):
        spreads = (moments.sigma[:, 0] > 0) & np.isfinite(moments.sigma).all(axis=1)
    exclusion_rule = universe.exclusion_rule_codes(bars, times)
    adjustable = scheduled & moments.is_fresh & spreads & (exclusion_rule == 0)
    exiting = scheduled & (exclusion_rule != 0)
    kept = adjustable.any(axis=1) | exiting.any(axis=1) | trim_overnight
    adjustable = adjustable[kept]
    times = times[kept]
    moments = moments.at_instants(kept)
    numbers, matrices = _correlation_matrices(
        correlations, bars, times, np.asarray(adjustable.any(axis=1))
    )
    table = _assemble_beliefs(
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
    if growth_ranking is None or not universe.settings.ranks_by_growth:
        return table
    return _keep_best_by_growth(
        table, universe.settings.keep or 0, growth_ranking, scheduled[kept], moments
    )


def _keep_best_by_growth(
    table: BeliefTable, keep: int, growth: GrowthRanking, closed: Mask, moments: _ForecastMoments
) -> BeliefTable:
    """Return the table with the universe reduced to the `keep` best symbols by growth per risk.

    A symbol without a forecast is not ranked and stays in the universe. Symbols that are left out
    become symbols to close.

    closed: [T, S] true for symbols whose bar has closed and whose market is open, so that orders
        fill.
    """
    exclusion_rule = table.exclusion_rule.copy()
    score = growth.scores(table)
    exclusion_rule[np.isnan(score) | np.isnan(moments.variance)] = UNRANKED_CODE
    exclude_all_but_best(exclusion_rule, score, keep, KEEP)
    exclusion_rule[exclusion_rule == UNRANKED_CODE] = 0
    exclusion_rule = np.where(table.exclusion_rule == 0, exclusion_rule, table.exclusion_rule)
    inside = exclusion_rule == 0
    return table._replace(
        exclusion_rule=exclusion_rule,
        is_adjustable=table.is_adjustable & inside,
        is_exiting=closed & ~inside,
    )


def build_symbol_belief(
    forecaster: Forecaster,
    correlations: CorrelationSource,
    bars: Bars,
    symbol: str,
    now: np.datetime64,
    *,
    volatility_rule: VolatilityRule,
    periods: DecisionPeriods,
) -> BeliefTable:
    """Return the beliefs about one symbol at any instant, as if only that symbol were traded.

    volatility_rule: rule that derives the standard deviation from forecast quantiles.
    periods: periods of the decision.

    Raises
    ------
    NoForecast
        if the symbol's latest bar is missing, or the symbol has too few earlier bars.
    """
    if symbol not in bars.symbols:
        raise NoForecast(f"{symbol}: no forecast: the symbol has no bars")
    s = bars.symbols.index(symbol)
    clock = bars.clock(bars.instruments[s].kind)
    bar_times = bars.bars_of_symbol(s)[0]
    here = np.array([now])
    # The last bar that should be known closed less than one own bar ago.
    if (
        not len(bar_times)
        or clock.bars_elapsed(here)[0] - clock.bars_elapsed(bar_times[-1:])[0] >= 1
    ):
        present = bars.times[bars.has_bar[s]]
        last = format_utc(present[-1]) if len(present) else ""
        why = "the symbol has no bars"
        if last:
            why = (
                f"the latest bar ({last}) is too old at {format_utc(now)}: a newer bar should have"
                " closed"
            )
        if len(present) and clock.bars_elapsed(here)[0] - clock.bars_elapsed(present[-1:])[0] < 1:
            why = f"the latest bar ({last}) needs the next bar to confirm it"
        raise NoForecast(f"{symbol}: no forecast: {why}")
    table = forecaster.forecast(bars, bars.last_instant)
    latest = table.latest_window_index[s, -1]
    if latest < 0 or table.windows.issued_at[latest] != bar_times[-1]:
        raise NoForecast(
            f"{symbol}: no forecast: its {len(bar_times)} bars are fewer than the forecaster needs;"
            " load a longer history"
        )
    adjustable = (np.arange(len(bars.symbols)) == s)[None]
    ends = _period_ends(bars, here, adjustable, periods)
    row = np.array([len(bars.times) - 1])
    moments = _forecast_moments(table, bars, row, here, ends, volatility_rule)
    sigma = moments.sigma[0, :, s]
    if not (sigma[0] > 0 and np.isfinite(sigma).all()):
        raise NoForecast(
            f"{symbol}: no forecast: its standard deviation from {format_utc(now)} to"
            f" {format_utc(ends[0, 0])} is not above 0"
        )
    numbers = np.zeros(1, dtype=np.int64)
    stocks = bars.timeframe.stock_clock
    late = ~stocks.intraday_ceiling_applies(here)
    return _assemble_beliefs(
        bars,
        here,
        ends,
        adjustable=adjustable,
        exclusion_rule=np.zeros(adjustable.shape, dtype=np.int8),
        exiting=np.zeros(adjustable.shape, dtype=bool),
        overnight=late | periods.schedule.is_last_decision_of_session(stocks, here),
        # The belief is of one symbol alone. The trader's decisions trim the rest overnight.
        trim_overnight=np.zeros(1, dtype=bool),
        moments=moments,
        numbers=numbers,
        matrices=correlations.matrix_at_end(bars).values.astype(np.float32)[None],
        prior=correlations.prior_means,
    )


def decision_due_mask(bars: Bars, schedule: Schedule = EVERY_BAR) -> Mask:
    """Return the mask [T, S] of symbols that are due to trade at each instant.

    A symbol is due if its bar has just closed and the schedule has a decision of its asset class.
    The schedule has none while the market is closed, because orders could not fill.
    """
    stock, coin = (
        schedule.is_scheduled(bars.clock(kind), bars.times)[:, None] for kind in _ASSET_CLASSES
    )
    return np.asarray(bars.mask.T & np.where(bars.crypto, coin, stock))


def symbols_due_for_decision(bars: Bars) -> Mask:
    """Return the mask [S] of symbols that are due to trade at the panel's last instant.

    The bar of such a symbol has just closed. Its market is open, so that orders can fill.
    """
    closed: Mask = decision_due_mask(bars.slice_rows(len(bars.times) - 1, len(bars.times)))[0]
    return closed


class _ForecastMoments(NamedTuple):
    """Moments of S symbols over K periods at T instants; NaN without a forecast.

    mu: [T, K, S] expected returns in the periods.
    sigma: [T, K, S] standard deviations of the returns.
    variance: [T, S] yearly variance after the forecast's last step; also NaN once the last forecast
        is a week old.
    shrinkage: [T, S] factor that multiplied the forecaster's median.
    signal_size: [T, S] root mean square of the return that the median forecasts until it has
        decayed.
    is_fresh: [T, S] true if the forecast was issued at a bar that closed at this instant.
    """

    mu: Array
    sigma: Array
    variance: Array
    shrinkage: Array
    signal_size: Array
    is_fresh: Mask

    def at_instants(self, kept: Mask) -> _ForecastMoments:
        return _ForecastMoments._make(each[kept] for each in self)


def _assemble_beliefs(
    bars: Bars,
    times: Instants,
    ends: Instants,
    *,
    adjustable: Mask,
    exclusion_rule: ExclusionRuleCodes,
    exiting: Mask,
    overnight: Mask,
    trim_overnight: Mask,
    moments: _ForecastMoments,
    numbers: Index,
    matrices: Array32,
    prior: MeanCorrelations,
) -> BeliefTable:
    """Return the belief table at the given instants.

    Adds each period's trading time, nights and shared news, and each symbol's premium per unit of
    Sharpe ratio.

    times, ends: instants [T], and ends [T, K] of their periods.
    numbers, matrices: index [T] of the correlation matrix in force, and the matrices [D, S, S].
    prior: assumed mean correlations, used for the premiums.
    """
    begins = np.concatenate([times[:, None], ends[:, :-1]], axis=1)
    begin = begins.ravel()
    end = ends.ravel()
    years = []
    for kind in _ASSET_CLASSES:
        clock = bars.clock(kind)
        years.append((clock.bars_elapsed(end) - clock.bars_elapsed(begin)) / clock.bars_per_year)
    premium, crypto_correlation = premiums_at_unit_sharpe(
        np.where(exclusion_rule == 0, moments.variance, np.nan),
        numbers,
        matrices,
        bars.crypto,
        prior,
    )
    return BeliefTable(
        symbol_index=np.arange(len(bars.symbols)),
        instants=times,
        period_ends=ends,
        is_overnight=overnight,
        can_trim_overnight=trim_overnight,
        class_trading_years=np.stack(years, axis=-1).reshape(*ends.shape, 2),
        interest_night_count=count_nights_between(begin, end).reshape(ends.shape),
        shared_news_fraction=stock_crypto_news_overlap(begin, end).reshape(ends.shape),
        crypto=bars.crypto,
        is_adjustable=adjustable,
        exclusion_rule=exclusion_rule,
        is_exiting=exiting,
        mu=moments.mu,
        sigma=moments.sigma,
        shrinkage=moments.shrinkage,
        signal_rms=moments.signal_size,
        premium_per_unit_sharpe=premium,
        earned=np.full(len(times), np.nan),
        crypto_correlation=crypto_correlation,
        correlation_index=numbers,
        correlations=matrices,
    )


def _period_ends(bars: Bars, times: Instants, closed: Mask, periods: DecisionPeriods) -> Instants:
    """Return the ends [T, K] of the periods of each instant.

    Asset classes can have different ends. The latest end among the classes of the symbols in
    `closed` is used.

    closed: [T, S] true for the symbols to which the periods apply.
    """
    plans = periods.holding_interval == "plan"
    ends = np.full((len(times), 3 if plans else 1), np.datetime64("1900-01-01", "ns"))
    for kind, members in ((AssetClass.STOCK, ~bars.crypto), (AssetClass.CRYPTO, bars.crypto)):
        rows = np.flatnonzero(closed[:, members].any(axis=1))
        clock = bars.clock(kind)
        first = periods.schedule.holding_ends(clock, times[rows], periods.holding_interval)
        ends[rows, 0] = np.maximum(ends[rows, 0], first)
        if plans:
            second = nth_next_bar_end(clock, times[rows], periods.signal_bars)
            ends[rows, 1] = np.maximum(ends[rows, 1], second)
    if plans:
        # A period may be empty, for instance if the next decision comes after the signal's end.
        # None begins before the previous one has ended.
        ends[:, 1] = np.maximum(ends[:, 0], ends[:, 1])
        ends[:, 2] = np.maximum(ends[:, 1], times + periods.horizon_days * DAY)
    return ends


def _correlation_matrices(
    correlations: CorrelationSource, bars: Bars, times: Instants, needed: Mask
) -> tuple[Index, Array32]:
    """Return the index [T] of the correlation matrix in force, and the matrices [D, S, S].

    Instants that need no matrix get index 0. If no instant needs one, the only matrix is the
    identity.

    needed: [T] true for instants that need a matrix.
    """
    numbers = np.zeros(len(times), dtype=np.int64)
    numbers[needed], matrices = compute_correlations(correlations, bars, times[needed])
    if not len(matrices):
        matrices = np.eye(len(bars.symbols), dtype=np.float32)[None]
    return numbers, matrices


def _forecast_moments(
    table: ForecastTable,
    bars: Bars,
    rows: Index,
    times: Instants,
    ends: Instants,
    rule: VolatilityRule,
) -> _ForecastMoments:
    """Return the moments of each symbol's latest forecast, over each of the periods.

    rows: [T] rows of the panel whose latest forecasts are used.
    times: [T] start times of the first period.
    ends: [T, K] ends of the periods.
    rule: rule that derives the standard deviation from forecast quantiles.
    """
    latest = table.latest_window_index[:, rows].T
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

    def compute_part(begin: int) -> None:
        part = slice(begin, begin + step)
        t, s = np.nonzero(latest[part] >= 0)
        # The first bars of a panel have no forecast.
        if not len(t):
            return
        window = latest[part][t, s].astype(np.int64)
        crypto = bars.crypto[s]
        issued = table.windows.issued_at[window]
        place = _bars_since_issue(bars, bounds[part], t, issued, crypto)
        values = QuantileView(table.quantiles, window)
        price = table.price[window]
        persistence = table.persistence[window]
        stock_year, coin_year = (bars.clock(kind).bars_per_year for kind in _ASSET_CLASSES)
        bars_a_year = np.where(crypto, coin_year, stock_year)
        horizon = np.full(len(t), float(HORIZON))
        steps = np.stack([horizon, *np.minimum(place, HORIZON)])
        whole, *within = cumulative_variance(values, price, steps, rule, np.zeros(len(t)))
        # Beyond the forecast's last step, variance is the geometric mean of the forecast's and of
        # the last year's.
        beyond = np.sqrt(whole * bars_a_year / HORIZON * slow[row_of[part][t], s])
        until = within + variance_after_last_step(place, beyond / bars_a_year)
        # A later step can be forecast with less variance than an earlier one; the period between
        # them then has variance 0.
        sigma[part][t, :, s] = np.sqrt(np.maximum(np.diff(until, axis=0), 0.0)).T
        mu[part][t, :, s] = _expected_returns(values, price, place, persistence).T
        age = times[part][t] - issued
        fresh[part][t, s] = age == np.timedelta64(0)
        alive = age <= MAX_FORECAST_AGE
        variance[part][t, s] = np.where(alive, beyond, np.nan)
        shrinkage[part][t, s] = table.shrinkage[window]
        # A median that decays by its persistence from bar to bar sums to its first step times
        # 1 / (1 - persistence).
        skill = table.information_coefficient[window]
        signal[part][t, s] = skill * np.sqrt(whole / HORIZON) / (1.0 - persistence)

    for _ in parallel_map(compute_part, range(0, count, step)):
        pass
    return _ForecastMoments(mu, sigma, variance, shrinkage, signal, fresh)


def _bars_since_issue(
    bars: Bars, bounds: Instants, t: Index, issued: Instants, crypto: Mask
) -> Array:
    """Return the number [K + 1, n] of bars from each forecast's issue to each of its period bounds.

    Bars are counted on the trading calendar of the symbol's asset class.

    bounds: [T, K + 1] bounds of the periods.
    t: [n] row of each forecast in `bounds`.
    issued: [n] instants at which the forecasts were issued.
    crypto: [n] true for forecasts of crypto.
    """
    place = np.empty((bounds.shape[1], len(t)))
    for kind, members in ((AssetClass.STOCK, ~crypto), (AssetClass.CRYPTO, crypto)):
        clock = bars.clock(kind)
        position = clock.bars_elapsed(bounds.ravel()).reshape(bounds.shape).T
        place[:, members] = position[:, t[members]] - clock.bars_elapsed(issued[members])
    return place


def _expected_returns(
    values: QuantileView, price: Array, place: Array, persistence: Array
) -> Array:
    """Return the expected returns [K, n] of n forecasts over their periods.

    place: [K + 1, n] number of the symbol's bars from each forecast's issue to its period bounds.
    persistence: [n] factor by which the median's expected return decays from bar to bar.
    """
    expected = np.empty((len(place) - 1, place.shape[1]))
    nothing = np.zeros(place.shape[1])
    begin, finish = np.stack([place[0], nothing]), np.stack([place[1], nothing + 1])
    expected[0], first = expected_return_between(values, price, begin, finish)
    if len(expected) > 1:
        # Later steps of the forecast are each shrunk by their own factor, so that their differences
        # carry no information. Later periods use the first step, decaying by its persistence.
        fading = persistence ** place[1:]
        expected[1:] = first * (fading[:-1] - fading[1:]) / (1.0 - persistence)
    return expected
