"""What is learned is learned from the past, from the last bars only, and is worth what it says."""

# Private access: a fit does not show which bars it was thinned to.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from forecasting.baseline import Oracle, RandomWalk
from forecasting.calibration import fit as fits
from forecasting.calibration import forecaster as calibration
from forecasting.calibration.dispersion import CalibrationSample, fit_dispersion
from forecasting.calibration.fit import autocorrelation, estimate_shrinkage
from forecasting.calibration.fit_store import FitStore
from forecasting.calibration.forecaster import CalibratedForecaster
from forecasting.calibration.history import AssetClassHistory
from forecasting.calibration.settings import CalibrationSettings
from forecasting.calibration.variance import (
    LOOKBACKS_BARS,
    estimate_bar_variances,
    estimate_intraday_pattern,
    trailing_variance_averages,
)
from forecasting.forecast import HORIZON, LEVELS, MEDIAN_INDEX, ForecastTable, Progress, no_progress
from forecasting.moments import LogReturnMoments, log_return_moments, volatility_from_quantiles
from forecasting.scores import score_forecasts
from forecasting.settings import ForecasterSettings
from foundation.errors import DataError
from tests.support.latest import latest
from tests.support.messages import refused
from tests.support.random_walks import log_return_quantiles
from trainingdata.bars import Bars
from trainingdata.instruments import AssetClass
from trainingdata.sessions import last_friday_four_pms
from trainingdata.synthetic import SyntheticMarket
from trainingdata.timeframe import HOURLY

SHORT, LONG = (CalibrationSettings(window=bars) for bars in (300, 1000))


@pytest.fixture(scope="module")
def year() -> Bars:
    """A synthetic year without an edge."""
    symbols = ("SYA", "SYB", "SYC", "SYXUSD", "SYYUSD")
    return SyntheticMarket(
        seed=5, information_coefficient=0.0, start="2023-06-01", end="2024-06-28", symbols=symbols
    ).generate_bars()


@dataclass(frozen=True)
class Changed(RandomWalk):
    """A random walk whose forecasts a test changes."""

    change: Callable[[ForecastTable], ForecastTable] = lambda table: table

    def forecast(self, bars: Bars, since: Any, progress: Progress = no_progress) -> ForecastTable:
        return self.change(super().forecast(bars, since, progress))


def guessing(share: float, noise: float) -> Changed:
    """Its medians are moved by what follows (share) and by noise, in units of the deviation."""

    def moved(walk: ForecastTable) -> ForecastTable:
        windows = walk.windows
        contexts = windows.contexts(np.arange(len(windows)))
        unit = log_return_quantiles(RandomWalk(), contexts)[:, 0, LEVELS.index(0.85)]
        ahead = np.zeros(len(windows))
        for s, closes in enumerate(windows.closes):
            rows = np.flatnonzero(windows.symbol_index == s)
            logs = np.log(closes)
            following = np.minimum(windows.last_bar_index[rows] + 1, len(logs) - 1)
            ahead[rows] = logs[following] - logs[windows.last_bar_index[rows]]
        stamps = (
            windows.issued_at.astype(np.int64) // 3_600_000_000_000 + 10_007 * windows.symbol_index
        )
        drawn = [np.random.default_rng((0, int(k))).normal() for k in stamps] if noise else 0.0
        tilt = share * ahead + noise * unit * np.array(drawn)
        values = walk.all_quantiles * np.exp(tilt)[:, None, None]
        return replace(walk, quantiles=values.astype(np.float32))

    return Changed(change=moved)


def slope_of(base: Changed | Oracle, bars: Bars) -> np.ndarray:
    """Calibrated over raw median at step 1 of the last forecasts, where the raw one says
    something.
    """
    since = bars.times[-48]
    ours = CalibratedForecaster(base, LONG).forecast(bars, since)
    raw = base.forecast(bars, since)
    moved = [
        np.log(t.all_quantiles[:, 0, MEDIAN_INDEX] / t.price.astype(np.float32))
        for t in (ours, raw)
    ]
    told = np.abs(moved[1]) > 1e-4
    return moved[0][told] / moved[1][told]


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("base", "least", "most"),
    [
        (Oracle(), 0.97, np.inf),
        (guessing(share=0.0, noise=0.3), -1e-3, 1e-3),
        # The regression's own slope is 0.05 / (0.05² + 0.3²).
        (guessing(share=0.05, noise=0.3), 0.1, 0.54),
        (guessing(share=-0.5, noise=0.1), -1e-3, 1e-3),
    ],
    ids=["an oracle", "noise", "an edge", "the wrong way round"],
)
def test_median_shrinkage_matches_the_forecasters_realised_skill(
    base: Changed | Oracle, least: float, most: float, year: Bars
) -> None:
    found = slope_of(base, year)
    assert least < np.nanmedian(found) < most
    if most == -least:
        assert np.abs(found).max() < most


@given(
    seed=st.integers(0, 2**16),
    share=st.floats(-1, 2),
    n=st.integers(1, 400),
    overlap=st.integers(1, 24),
)
def test_shrinkage_fraction_decreases_as_required_confidence_increases(
    seed: int, share: float, n: int, overlap: int
) -> None:
    rng = np.random.default_rng(seed)
    instant = np.sort(rng.integers(0, 300, n))
    forecast = rng.normal(0, 0.2, n)
    realised = share * forecast + rng.normal(0, 1, n)
    slopes = [
        estimate_shrinkage(forecast, realised, instant, overlap, confidence)
        for confidence in (0.0, 1.0, 3.0)
    ]
    assert 1 >= slopes[0] >= slopes[1] >= slopes[2] >= 0
    assert estimate_shrinkage(np.zeros(n), realised, instant, overlap, 0.0) == 0


def test_shrinkage_matches_hand_calculation() -> None:
    """A slope of exactly 0.5 has no residual and no uncertainty; symbols that repeat each other
    count as one observation.
    """
    instant = np.arange(100)
    forecast = np.tile([1.0, -1.0], 50)
    assert estimate_shrinkage(forecast, 0.5 * forecast, instant, 1, 3.0) == pytest.approx(0.5)
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    y = rng.normal(size=400)
    y = y + 0.3 * x
    once = estimate_shrinkage(x, y, np.arange(400), 1, 2.0)
    copied = estimate_shrinkage(np.tile(x, 5), np.tile(y, 5), np.tile(np.arange(400), 5), 1, 2.0)
    assert copied == pytest.approx(once)
    assert estimate_shrinkage(x[:20], y[:20], instant[:20], 1, 0.0) == 0, "too few to say anything"


def test_later_bars_change_no_forecast(
    year: Bars, scrambled_after: Callable[[Bars, np.datetime64], Bars]
) -> None:
    cut = year.times[-300]
    forecaster = CalibratedForecaster(RandomWalk(), SHORT)
    here, there = (
        forecaster.forecast(b, year.times[-700]) for b in (year, scrambled_after(year, cut))
    )
    early = here.windows.issued_at <= cut
    np.testing.assert_array_equal(here.all_quantiles[early], there.all_quantiles[early])
    assert not np.array_equal(here.all_quantiles[~early], there.all_quantiles[~early])


def test_symbol_with_little_history_relies_on_the_prior(year: Bars) -> None:
    """A hundred bars are enough for a complete forecast without an edge and with classical
    volatility.
    """
    first = year.bars_of_symbol(0)[0][99]
    table = CalibratedForecaster(guessing(share=1.0, noise=0.0)).forecast(
        year.slice_until(first), first
    )
    forecast = latest(table, first)
    assert np.isfinite(forecast.values[0]).all()
    np.testing.assert_allclose(forecast.values[0, :, MEDIAN_INDEX], forecast.price[0], rtol=1e-6)
    sigma = volatility_from_quantiles(forecast.values[0, 0], forecast.price[0], "quantile")
    recent = np.diff(np.log(year.slice_until(first).bars_of_symbol(0)[1][:, 3])).std()
    assert 0.3 < sigma / recent < 3


def test_calibrated_intervals_have_their_nominal_coverage(year: Bars) -> None:
    """On a synthetic year the 80 % interval covers 80 %, and the mean of (return/σ)² is one."""
    table = CalibratedForecaster(RandomWalk()).forecast(year, year.times[-1600])
    frame = score_forecasts(year, table, np.arange(len(table.windows)), (1, 6))
    for _, part in frame[frame["loss"].notna()].groupby(["kind", "step"]):
        assert 0.76 < part["inside80"].mean() < 0.84
        assert 0.8 < part["scale"].mean() < 1.25


def test_calibration_corrects_too_wide_or_narrow_spreads(year: Bars) -> None:
    """A spread twice as wide or half as wide gives the same calibrated forecast within a per
    cent.
    """
    tables = [
        CalibratedForecaster(scaled(factor), SHORT).forecast(year, year.times[-100]).all_quantiles
        for factor in (0.5, 1.0, 2.0)
    ]
    widths = [np.log(v[:, 0, -3] / v[:, 0, 2]) for v in tables]
    assert np.abs(widths[0] / widths[1] - 1).mean() < 0.02
    assert np.abs(widths[2] / widths[1] - 1).mean() < 0.02


def scaled(factor: float) -> Changed:
    """Its spread is multiplied."""

    def multiplied(walk: ForecastTable) -> ForecastTable:
        price = walk.price[:, None, None]
        values = (price * (walk.all_quantiles / price) ** factor).astype(np.float32)
        return replace(walk, quantiles=values)

    return Changed(change=multiplied)


def thinned(starts: list[int], ends: list[int]) -> list[np.ndarray]:
    """The own bars of each symbol that a lesson keeps."""
    member, last = fits._thin_bars(np.array(starts), np.array(ends))
    return [last[member == s] for s in range(len(starts))]


def standing_still(bars: Bars) -> Bars:
    """The same bars, but that the first symbol costs 50 USD all the time."""
    values = bars.values.copy()
    values[0, bars.mask[0], :4] = 50.0
    return replace(bars, values=values)


def test_constant_symbol_leaves_other_symbols_forecast_intervals_unchanged(year: Bars) -> None:
    moving, frozen = (
        CalibratedForecaster(RandomWalk(), SHORT).forecast(b, year.times[-200])
        for b in (year, standing_still(year))
    )
    rows = np.flatnonzero(moving.windows.symbol_index == 1)
    widths = [
        np.log(t.quantiles[rows][:, 0, -3] / t.quantiles[rows][:, 0, 2]) for t in (moving, frozen)
    ]
    assert np.abs(widths[1] / widths[0] - 1).max() < 0.15
    alone = frozen.quantiles[np.flatnonzero(frozen.windows.symbol_index == 0)]
    np.testing.assert_allclose(alone, 50.0, rtol=1e-3)


def test_intraday_variance_pattern_is_recovered_and_noise_ignored() -> None:
    rng = np.random.default_rng(3)
    slots = np.tile(np.arange(7, dtype=np.int8), 140)
    column = np.arange(len(slots))
    truth = np.array([4.0, 0.7, 0.5, 0.4, 0.4, 0.5, 0.5])
    truth /= truth.mean()
    variances = [truth[slots] * rng.gamma(0.7, 1 / 0.7, len(slots)) for _ in range(4)]
    found = pattern_of(variances, slots, column)
    np.testing.assert_allclose(found, truth, rtol=0.15)
    assert found.mean() == pytest.approx(1.0)
    flat = [np.mean([v for v in [rng.gamma(0.7, 1 / 0.7, len(slots))]], axis=0) for _ in range(4)]
    assert np.abs(pattern_of(flat, slots, column) - 1).max() < 0.12
    few = pattern_of([variances[0][:50]], slots[:50], column[:50])
    np.testing.assert_array_equal(few, np.ones(7))


def pattern_of(variances: list[np.ndarray], slots: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The pattern of symbols that have the same bars."""
    count = len(variances)
    bounds = len(slots) * np.arange(count + 1)
    return estimate_intraday_pattern(
        np.concatenate(variances), np.tile(slots, count), np.tile(column, count), bounds, 7
    )


def test_bar_variance_matches_hand_calculation() -> None:
    """Range of 2 %: 0.02² / (4 ln 2); a gap of 1 % adds 0.01²."""
    e = np.exp
    values = np.array([[1, 1, 1, 1, 0], [e(0.01), e(0.02), e(0.0), e(0.01), 0]], dtype=float)
    np.testing.assert_allclose(
        estimate_bar_variances(values), [0.0, 0.02**2 / (4 * np.log(2)) + 0.01**2]
    )


def means(variance: np.ndarray, bar: np.ndarray) -> np.ndarray:
    """The averages of one symbol's bars, on days without a pattern."""
    column, only = (np.zeros(len(each), dtype=np.int64) for each in (variance, bar))
    return trailing_variance_averages(
        variance, column, np.ones(1), np.zeros(1, dtype=np.int64), only, bar
    )


def test_trailing_averages_use_no_later_values() -> None:
    x = np.arange(1.0, 301.0)
    found = means(x, np.arange(300))
    assert found[299].tolist() == [x[-span:].mean() for span in LOOKBACKS_BARS]
    np.testing.assert_array_equal(means(x[:50], np.arange(50)), found[:50])
    np.testing.assert_array_equal(means(x, np.array([7, 299])), found[[7, 299]])
    assert (means(np.append(x, 0.0), np.array([300])) > 0).all()


def sample(n: int, rng: np.random.Generator) -> tuple[CalibrationSample, np.ndarray, np.ndarray]:
    """Rows of two symbols whose true variance is the second average's to the power 0.8."""
    logs = rng.normal(-9, 1, (n, len(LOOKBACKS_BARS) + 1))
    season = np.cumsum(np.ones((n, HORIZON)), axis=1)
    instant = np.arange(n) // 2
    truth = np.exp(-1.8 + 0.8 * logs[:, 1:2]) * season
    move = np.sqrt(truth) * rng.normal(size=(n, HORIZON))
    past_variance = np.ascontiguousarray(logs[:, :-1])
    base = np.repeat(logs[:, -1:], HORIZON, axis=1)
    slot, symbol = rng.integers(0, 7, n), np.arange(n) % 2
    known = CalibrationSample(
        past_variance, base, np.zeros(base.shape), season, slot, symbol, instant
    )
    return known, truth, move


def test_dispersion_regression_recovers_known_coefficients() -> None:
    known, truth, move = sample(6000, np.random.default_rng(2))
    spread, deviation = fit_dispersion(known, truth, move, 7, 2)
    np.testing.assert_array_equal(deviation, spread.predict_deviation(known))
    assert spread.regression_weights[2, 0] == pytest.approx(0.8, abs=0.05)
    np.testing.assert_allclose(
        spread.predict_deviation(known)[:, 0], np.sqrt(truth[:, 0]), rtol=0.15
    )
    assert spread.standardised_quantiles[0, LEVELS.index(0.9)] == pytest.approx(1.28, abs=0.06)
    assert (np.diff(spread.standardised_quantiles, axis=1) > 0).all()


def test_dispersion_fit_detects_more_volatile_hours_and_symbols() -> None:
    rng = np.random.default_rng(4)
    known, truth, move = sample(6000, rng)
    plain, _ = fit_dispersion(known, truth, move, 7, 2)
    wider = move * np.where(known.slot_of_day == 3, 2.0, 1.0)[:, None]
    found, _ = fit_dispersion(known, truth, wider, 7, 2)
    assert found.slot_correction[3, 0] > 0.3
    assert np.abs(plain.slot_correction).max() < 0.1
    wider = move * np.where(known.symbol_index == 1, 2.0, 1.0)[:, None]
    by_symbol, _ = fit_dispersion(known, truth, wider, 7, 2)
    assert by_symbol.symbol_correction[1, 0] - by_symbol.symbol_correction[0, 0] > 0.4


def test_quiet_crypto_weekends_get_narrower_intervals() -> None:
    """A synthetic coin moves half as far at weekends: the 80 % interval covers 80 % on both kinds
    of days.
    """
    symbols = ("SYXUSD", "SYYUSD")
    whole = SyntheticMarket(start="2023-01-02", end="2023-12-31", symbols=symbols).generate_bars()
    times = whole.times
    weekend = HOURLY.clock(AssetClass.CRYPTO).slot_indices(times, 0)[:, 0] >= 24
    rng = np.random.default_rng(0)
    size = np.where(weekend, 0.002, 0.004)
    steps = rng.normal(0, 1 / np.sqrt(60), (2, len(times), 60)) * size[:, None]
    paths = 100 * np.exp(np.cumsum(steps.reshape(2, -1), axis=1)).reshape(2, len(times), 60)
    before = np.concatenate([np.full((2, 1), 100.0), paths[:, :-1, -1]], axis=1)
    high = np.maximum(paths.max(axis=2), before)
    low = np.minimum(paths.min(axis=2), before)
    volume = np.full(before.shape, 1e6)
    values = np.stack([before, high, low, paths[:, :, -1], volume], axis=2)
    bars = Bars(whole.instruments, times, values, np.ones(before.shape, bool), "synthetic")
    table = CalibratedForecaster(RandomWalk(), LONG).forecast(bars, times[-1200])
    frame = score_forecasts(bars, table, np.arange(len(table.windows)), (1,))
    frame = frame[frame["loss"].notna()]
    for _, part in frame.groupby(frame["slot"] >= 24):
        assert 0.76 < part["inside80"].mean() < 0.84


def test_forecast_dispersion_without_data_is_the_prior() -> None:
    known, truth, move = sample(0, np.random.default_rng(0))
    spread, _ = fit_dispersion(known, truth, move, 7, 2)
    np.testing.assert_allclose(
        spread.regression_weights[:, 0], [0, *[1 / len(LOOKBACKS_BARS)] * len(LOOKBACKS_BARS), 0]
    )
    assert spread.standardised_quantiles[0, LEVELS.index(0.9)] == pytest.approx(
        1.4759 * np.sqrt(3 / 5), rel=1e-3
    )


def test_single_instant_forecast_equals_full_history_forecast(market: Bars) -> None:
    """Live requests one instant, a backtest all of them; hourly requests use a fit that is learned
    once a week, or anew for new weights.
    """
    asked: list[int] = []

    def counted(table: ForecastTable) -> ForecastTable:
        asked.append(len(table.windows))
        return replace(table, source_digest="weights" if len(asked) < 16 else "others")

    hourly = CalibratedForecaster(Changed(change=counted), SHORT)
    whole = CalibratedForecaster(RandomWalk(), SHORT).forecast(market, market.times[-30])
    for now in market.times[-30:]:
        known = market.slice_until(now)
        answer = latest(hourly.forecast(known, now), now)
        expected = latest(whole, now)
        np.testing.assert_array_equal(answer.values, expected.values)
    assert max(asked[:1]) > 1000
    assert sorted(asked)[len(asked) // 2] <= 2 * len(market.symbols)


@given(counts=st.lists(st.integers(0, 60), min_size=1, max_size=5), most=st.integers(5, 80))
def test_calibration_sample_is_thinned_evenly_to_its_maximum(counts: list[int], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fits, "MAX_FIT_FORECASTS", most)
        kept = thinned([0] * len(counts), counts)
    total = sum(counts)
    if total <= most:
        assert [len(k) for k in kept] == counts
        return
    stride = -(-total // most)
    assert sum(len(k) for k in kept) <= most + len(counts)
    assert all((np.diff(k) == stride).all() for k in kept)
    ends = zip(kept, counts, strict=True)
    assert all(own[-1] >= count - stride for own, count in ends if len(own)), "from the end"


def test_shrinkage_of_each_step_accounts_for_horizon_overlap(
    market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlaps: list[int] = []

    def valued(*values: Any) -> float:
        overlaps.append(values[3])
        return 0.0

    monkeypatch.setattr(fits, "estimate_shrinkage", valued)
    walk = LogReturnMoments.from_table(RandomWalk().forecast(market, market.times[0]))
    history = AssetClassHistory.from_bars(AssetClass.STOCK, market).with_forecasts(walk)
    fits.fit_calibration(history, last_friday_four_pms(market.times[-1:])[0], 150, 3.0)
    assert overlaps == list(range(1, HORIZON + 1))


def humming(left: float, drift: float = 1.0) -> Changed:
    """Its first-step medians are a symbol's own AR(1), a tenth of the deviation; the same at every
    step. Those of the first symbol are multiplied by `drift` as well.
    """

    def hummed(table: ForecastTable) -> ForecastTable:
        values = table.all_quantiles
        spread = volatility_from_quantiles(values[:, 0], table.price.astype(np.float32), "quantile")
        for s, rows in enumerate(table.windows.slices_by_symbol()):
            count = int(table.windows.last_bar_index[rows][-1]) + 1
            noise = np.random.default_rng(s).normal(0, np.sqrt(1 - left**2), count)
            hum = lfilter([1.0], [1.0, -left], noise)[table.windows.last_bar_index[rows]]
            values[rows] *= (1 + 0.1 * hum * spread[rows])[:, None, None].astype(np.float32)
        values[table.windows.slices_by_symbol()[0]] *= drift
        return replace(table, quantiles=values)

    return Changed(change=hummed)


def test_fitted_intraday_pattern_matches_variances_of_bars(market: Bars) -> None:
    raw = humming(left=0.5).forecast(market, market.times[0])
    spread = volatility_from_quantiles(
        raw.all_quantiles[:, 0], raw.price.astype(np.float32), "quantile"
    )
    median = np.log(raw.all_quantiles[:, 0, MEDIAN_INDEX] / raw.price.astype(np.float32))
    history = AssetClassHistory.from_bars(AssetClass.STOCK, market).with_forecasts(
        LogReturnMoments.from_table(raw)
    )
    slices = raw.windows.slices_by_symbol()
    rows = np.concatenate(
        [np.arange(len(spread))[slices[s]] for s in history.panel_symbol_indices.tolist()]
    )
    known = history.first_step_median_to_deviation != 0
    assert known[rows].mean() > 0.9
    assert not np.delete(known, rows).any(), "of the class alone"
    assert np.abs(history.first_step_median_to_deviation).max(where=known, initial=0.0) > 0.1
    np.testing.assert_allclose(
        history.first_step_median_to_deviation[known], (median / spread)[known], rtol=1e-3
    )
    week = last_friday_four_pms(market.times[-1:])[0]
    factor = fits.fit_calibration(history, week, 10_000, 3.0).intraday_pattern
    begun = history.times <= week
    place = HOURLY.clock(AssetClass.STOCK).slot_indices(history.times[begun], 0)[:, 0]
    plain = [history.bar_variances[begun][place == k].mean() for k in range(len(factor))]
    assert factor.argmax() == np.argmax(plain) == 0, "the bar that holds the night"


@pytest.mark.parametrize("left", [0.0, 0.9])
def test_persistence_is_estimated_from_forecast_medians_not_returns(
    year: Bars, left: float
) -> None:
    """Realised returns have no influence: a thousand bars a symbol estimate it to a few hundredths,
    whatever the median's skill.
    """
    table = CalibratedForecaster(humming(left=left), LONG).forecast(year, year.times[-30])
    assert np.abs(np.unique(table.persistence) - left).max() < 0.06
    assert ((table.shrinkage >= 0) & (table.shrinkage <= 1)).all()


def test_constant_symbol_leaves_persistence_of_forecasts_unchanged(year: Bars) -> None:
    """Its standardised medians are rounding noise."""
    still = standing_still(year)
    base = humming(left=0.6, drift=1.0001)
    table = CalibratedForecaster(base, LONG).forecast(still, still.times[-30])
    assert np.abs(np.unique(table.persistence) - 0.6).max() < 0.06


def test_skill_is_relative_median_size_times_shrinkage(
    year: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Medians of a tenth of the random walk's deviation, which has no intraday pattern, are about a
    tenth of the returns.
    """
    monkeypatch.setattr(fits, "estimate_shrinkage", lambda *_: 0.4)
    table = CalibratedForecaster(humming(left=0.6), LONG).forecast(year, year.times[-30])
    assert (table.information_coefficient >= 0.07 * 0.4).all()
    assert (table.information_coefficient <= 0.15 * 0.4).all()
    assert not RandomWalk().forecast(year, year.times[-30]).information_coefficient.any()


def test_persistence_is_between_0_and_0_99() -> None:
    assert autocorrelation([np.array([1.0, -1.0, 1.0, -1.0])]) == 0.0
    assert autocorrelation([np.ones(5), np.ones(1), np.empty(0)]) == 0.99
    assert autocorrelation([np.zeros(4)]) == autocorrelation([]) == 0.0
    assert autocorrelation([np.array([2.0, 1.0, 0.0]), np.array([1.0, 1.0])]) == pytest.approx(
        (2.0 + 0.0 + 1.0) / (4.0 + 1.0 + 1.0)
    )


def sourced(source: str = "weights", **walk: Any) -> Changed:
    """It says what made its forecasts."""
    return Changed(**walk, change=lambda table: replace(table, source_digest=source))


def test_fits_of_the_no_forecast_baseline_are_cached(
    market: Bars, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calibration of the baseline costs a repeated backtest nothing."""
    own = CalibrationSettings(window=150)

    def forecast(context_length: int = 100) -> np.ndarray:
        settings = ForecasterSettings(
            cache=str(tmp_path), calibration=own, context_length=context_length
        )
        walk = settings.build_random_walk(is_calibrated=True)
        return walk.forecast(market, market.times[-60]).all_quantiles

    first = forecast()
    assert not np.array_equal(forecast(50), first), "another random walk has fits of its own"
    monkeypatch.setattr(calibration, "fit_calibration", None)
    np.testing.assert_array_equal(forecast(), first)


def test_calibration_fit_is_cached_and_relearned_if_damaged(
    market: Bars, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[np.datetime64] = []
    real = calibration.fit_calibration

    def fit_calibration(history: Any, week: np.datetime64, *rest: Any) -> Any:
        learned.append(week)
        return real(history, week, *rest)

    monkeypatch.setattr(calibration, "fit_calibration", fit_calibration)

    def forecast(
        source: str = "weights", confidence: float = 3.0, folder: Path = tmp_path
    ) -> np.ndarray:
        settings = CalibrationSettings(window=150, confidence=confidence)
        kept = FitStore(folder)
        base = sourced(source)
        return (
            CalibratedForecaster(base, settings, kept)
            .forecast(market, market.times[-60])
            .all_quantiles
        )

    first = forecast()
    count = len(learned)
    assert count == len(list(tmp_path.glob("*/*.fit"))) > 0
    np.testing.assert_array_equal(forecast(), first)
    assert len(learned) == count, "nothing is learned twice"
    damaged = sorted(tmp_path.glob("*/*.fit"))
    damaged[0].write_bytes(b"no fit")
    damaged[-1].write_bytes(damaged[-1].read_bytes()[:-40])
    changed = bytearray(damaged[1].read_bytes())
    changed[len(changed) // 2] ^= 1
    damaged[1].write_bytes(changed)
    np.testing.assert_array_equal(forecast(), first)
    assert len(learned) == count + 3, "what cannot be read is learned again"
    forecast(source="other weights")
    forecast(confidence=2.0)
    assert len(learned) == 3 * count + 3
    forecast(source="")
    forecast(source="")
    assert len(learned) == 5 * count + 3, "without a source nobody knows what a lesson came from"
    (tmp_path / "file").write_text("no folder")
    np.testing.assert_array_equal(forecast(folder=tmp_path / "file"), first)


def test_learned_fits_do_not_depend_on_run_start(market: Bars, tmp_path: Path) -> None:
    """Neither do they depend on earlier fits: for a symbol without bars on a Friday, the whole
    class uses its last earlier forecast.
    """
    silent_one = market.symbols.index("SYYUSD")
    friday = last_friday_four_pms(market.times[-400:-399])[0]
    hour = np.timedelta64(1, "h")
    halt = (market.times > friday - 7 * hour) & (market.times <= friday + 9 * hour)
    mask = market.mask.copy()
    mask[silent_one, halt] = False
    halted = Bars(market.instruments, market.times, market.values, mask, "halted")
    late = friday + 6 * hour
    early = friday - 60 * hour

    def table(since: np.datetime64, folder: str) -> ForecastTable:
        kept = FitStore(tmp_path / folder)
        return CalibratedForecaster(sourced(), SHORT, kept).forecast(halted, since)

    fresh = table(early, "one")
    begun_late = table(late, "other")
    after = table(early, "other")
    for now in (late, market.times[-100], market.times[-1]):
        np.testing.assert_array_equal(latest(begun_late, now).values, latest(fresh, now).values)
    np.testing.assert_array_equal(after.all_quantiles, fresh.all_quantiles)
    plain = table(market.times[-100], "third")  # every symbol had a bar on its Friday
    for now in (market.times[-99], market.times[-50], market.last_instant):
        np.testing.assert_array_equal(latest(plain, now).values, latest(fresh, now).values)
    now = friday + 30 * hour  # requested for a single instant, as live trading does
    alone = CalibratedForecaster(sourced(), SHORT).forecast(halted.slice_until(now), now)
    np.testing.assert_array_equal(latest(alone, now).values, latest(fresh, now).values)


def test_cached_fit_is_relearned_when_distant_bars_change(year: Bars, tmp_path: Path) -> None:
    coins = np.flatnonzero(year.crypto)
    values = year.values.copy()
    own = np.flatnonzero(year.mask[coins[0]])
    far = own[-1400:-1300]
    values[coins[0], far, :4] *= (1 + 0.2 * np.sin(np.arange(len(far))))[:, None]
    other = Bars(year.instruments, year.times, values, year.mask, "other")
    settings = CalibrationSettings(window=100)
    base = sourced(context_length=1500, sample_variance_share=1.0)
    kept = FitStore(tmp_path)
    since = year.times[-3]
    CalibratedForecaster(base, settings, kept).forecast(year, since)
    ours = CalibratedForecaster(base, settings, kept).forecast(other, since)
    fresh = CalibratedForecaster(base, settings).forecast(other, since)
    np.testing.assert_array_equal(ours.all_quantiles, fresh.all_quantiles)


@given(number=st.integers(0, 10_000), field=st.integers(0, 4), symbol=st.integers(0, 1))
def test_fit_cache_key_depends_only_on_known_bars(
    market: Bars, number: int, field: int, symbol: int
) -> None:
    times = market.bars_of_symbol(0)[0]
    week = times[-5]
    end = int(np.searchsorted(times, week, side="right"))
    number %= len(times)
    values = market.values.copy()
    column = np.flatnonzero(market.mask[symbol])[number]
    values[symbol, column, field] *= 1 + 1e-15 * 4
    other = Bars(market.instruments, market.times, values, market.mask, "other")
    before, after = (
        AssetClassHistory.from_bars(AssetClass.STOCK, bars).fit_key(week)
        for bars in (market, other)
    )
    seen = number < end
    assert (before != after) == (
        seen and values[symbol, column, field] != market.values[symbol, column, field]
    )


def test_calibration_from_stored_log_moments_equals_full_quantiles(market: Bars) -> None:
    walk = RandomWalk().forecast(market, market.times[-200])
    median, log_variance = log_return_moments(walk.all_quantiles, walk.price)

    class Kept:
        name = walk.name

        def forecast(self, *_: Any) -> ForecastTable:
            raise AssertionError("whole forecasts were read")

        def forecast_moments(self, *_: Any) -> LogReturnMoments:
            return LogReturnMoments(walk.name, walk.windows, median, log_variance, "")

    settings = CalibrationSettings(window=150)
    ours, theirs = (
        CalibratedForecaster(base, settings).forecast(market, market.times[-40])
        for base in (Kept(), walk)
    )
    np.testing.assert_array_equal(ours.all_quantiles, theirs.all_quantiles)


def test_missing_forecast_in_calibration_history_is_refused(market: Bars) -> None:
    def holed(table: ForecastTable) -> ForecastTable:
        kept = np.delete(np.arange(len(table.windows)), 40)
        return ForecastTable.from_quantiles(
            "gap", market, table.windows.select(kept), table.quantiles[kept]
        )

    with refused(DataError, "SYA"):
        CalibratedForecaster(Changed(change=holed)).forecast(market, market.times[-30])


@pytest.mark.first_example
@pytest.mark.parametrize("symbol", [0, 2, 4])
def test_one_symbols_forecasts_may_end_early(year: Bars, symbol: int) -> None:
    """A fit does not read another symbol's forecasts in place of the missing ones."""
    end = year.times[-600]

    def cut(table: ForecastTable) -> ForecastTable:
        windows = table.windows
        kept = np.flatnonzero((windows.symbol_index != symbol) | (windows.issued_at < end))
        rest = table.all_quantiles[kept]
        return ForecastTable.from_quantiles(table.name, year, windows.select(kept), rest)

    usual, short = (
        CalibratedForecaster(Changed(change=change), SHORT).forecast(year, year.times[-900])
        for change in (lambda table: table, cut)
    )
    early, others = (
        np.flatnonzero(table.windows.issued_at < end - np.timedelta64(7, "D"))
        for table in (usual, short)
    )
    np.testing.assert_array_equal(usual.quantiles[early], short.quantiles[others])
    assert np.isfinite(short.all_quantiles).all()
    assert (short.windows.issued_at[short.windows.symbol_index == symbol] < end).all()
