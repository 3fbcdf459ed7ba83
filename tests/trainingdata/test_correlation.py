# Private access: the blend with the prior is compared with a plain formula.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf

from foundation.arrays import Array, Array32, Instants, Mask
from trainingdata.bars import CLOSE, Bars
from trainingdata.correlation import (
    MIN_EIGENVALUE,
    CachedCorrelations,
    CorrelationEstimator,
    CorrelationMatrix,
    _blend_with_prior,
    _LogReturns,
    compute_correlations,
    daily_closes_at_four_pm,
    estimation_times,
    raise_eigenvalues,
)
from trainingdata.instants import DAY, new_york_date, new_york_four_pm
from trainingdata.sessions import last_four_pms, sessions_between
from trainingdata.synthetic import SyntheticMarket
from trainingdata.timeframe import FillTime, Timeframe


def last_four_pm(now: np.datetime64) -> np.datetime64:
    return last_four_pms(np.array([now]))[0]


def test_full_window_matches_ledoit_wolf_on_standardised_returns(market: Bars) -> None:
    stocks = np.flatnonzero(~market.crypto)
    only = Bars(
        tuple(market.instruments[s] for s in stocks),
        market.times,
        market.values[stocks],
        market.mask[stocks],
        "test",
    )
    rows = np.flatnonzero(only.mask.any(axis=0) & (only.times <= last_four_pm(only.last_instant)))[
        -201:
    ]
    returns = np.diff(np.log(only.values[:, rows, CLOSE].T), axis=0)
    standard = (returns - returns.mean(axis=0)) / returns.std(axis=0)
    expected = LedoitWolf(assume_centered=True).fit(standard).covariance_
    np.testing.assert_allclose(
        CorrelationEstimator(hourly_window=200).matrix_at_end(only).values, expected, atol=1e-12
    )


def test_correlation_without_data_is_the_prior(market: Bars) -> None:
    values = CorrelationEstimator().matrix_at_end(market.slice_rows(0, 1)).values
    crypto = market.crypto
    assert np.allclose(values[~crypto][:, ~crypto][np.triu_indices(3, 1)], 0.4)
    assert np.allclose(values[crypto][:, crypto][np.triu_indices(2, 1)], 0.6)
    assert np.allclose(values[~crypto][:, crypto], 0.2)


def test_correlations_from_half_a_window_get_half_weight(market: Bars) -> None:
    """Weight n / window: a window twice as long as the data leaves every pair half way to the
    prior.
    """
    stocks = np.ix_(~market.crypto, ~market.crypto)
    rows = market.mask[~market.crypto].any(axis=0) & (
        market.times <= last_four_pm(market.last_instant)
    )
    n = int(rows.sum()) - 1
    full, half = (
        CorrelationEstimator(hourly_window=w).matrix_at_end(market).values[stocks]
        for w in (n, 2 * n)
    )
    expected = (full + 0.4) / 2
    np.fill_diagonal(expected, 1.0)
    np.testing.assert_allclose(half, expected, atol=1e-12)


def test_bars_after_last_four_pm_change_no_correlation(
    market: Bars, scrambled_after: Callable[[Bars, np.datetime64], Bars]
) -> None:
    boundary = last_four_pm(market.times[1200])
    altered = scrambled_after(market, boundary)
    now = market.times[market.times < boundary + np.timedelta64(24, "h")][-1]
    estimator = CorrelationEstimator()
    np.testing.assert_array_equal(
        estimator.matrix_at_end(market.slice_until(now)).values,
        estimator.matrix_at_end(altered.slice_until(now)).values,
    )


def test_batched_correlations_equal_single_instant_estimates(market: Bars) -> None:
    estimator = CorrelationEstimator()
    instants = market.times[900::7]
    numbers, matrices = compute_correlations(estimator, market, instants)
    assert len(matrices) < len(instants)
    for now, number in zip(instants, numbers, strict=True):
        np.testing.assert_array_equal(
            matrices[number], estimator.matrix_at_end(market.slice_until(now)).values
        )


@pytest.mark.parametrize("fill", ["open", "close"])
def test_correlations_of_daily_bars_are_estimated_monthly(fill: FillTime) -> None:
    market = SyntheticMarket(
        start="2019-01-02", symbols=("SYA", "SYB", "SYC"), timeframe=Timeframe("1d", fill)
    ).generate_bars()
    estimator = CorrelationEstimator()
    instants = market.times[600::9]
    numbers, matrices = compute_correlations(estimator, market, instants)
    months = np.unique(estimation_times(market.timeframe, instants))
    assert len(matrices) == len(months) < len(instants) / 2
    assert (
        new_york_date(months + DAY).astype("datetime64[M]").astype("M8[D]")
        == new_york_date(months + DAY)
    ).all()
    for now, number in zip(instants, numbers, strict=True):
        known = estimator.matrix_at_end(market.slice_until(now))
        np.testing.assert_array_equal(matrices[number], known.values)
    end = market.times <= months[-1]
    returns = np.diff(np.log(market.values[:, end, CLOSE][:, -501:]), axis=1)
    expected = LedoitWolf(assume_centered=True).fit(standardised(returns.T)).covariance_
    np.testing.assert_allclose(matrices[-1], expected, atol=1e-6)


def standardised(returns: Array) -> Array:
    return np.asarray((returns - returns.mean(axis=0)) / returns.std(axis=0))


@dataclass(frozen=True)
class Counting(CorrelationEstimator):
    """An estimator that counts the days it was asked for."""

    days: list[int] = field(default_factory=list)

    def matrices_at(self, bars: Bars, instants: Instants) -> Array32:
        self.days.append(len(instants))
        return super().matrices_at(bars, instants)


def test_cached_correlations_are_recomputed_only_for_changed_input(market: Bars) -> None:
    source = Counting()
    kept = CachedCorrelations(source)
    times = market.times
    days = len(compute_correlations(kept, market, times[900:1300:7])[1])
    for bars, instants, once in (
        (market, times[900:1300:7], True),
        (market, times[1000:1100], True),
        (market, times[1200:1400], False),
        (market.slice_until(times[1450]), times[900:950], False),
    ):
        for held, plain in zip(
            compute_correlations(kept, bars, instants),
            compute_correlations(CorrelationEstimator(), bars, instants),
            strict=True,
        ):
            np.testing.assert_array_equal(held, plain)
        assert (source.days == [days]) == once


def with_mask(bars: Bars, mask: Mask) -> Bars:
    return replace(bars, values=np.where(mask[:, :, None], bars.values, np.nan), mask=mask)


def test_missing_bar_does_not_count_as_zero_return(market: Bars) -> None:
    """Hiding one bar in seven of a symbol must not pull its correlation towards zero."""
    estimator = CorrelationEstimator(hourly_window=200)
    mask = market.mask.copy()
    own = np.flatnonzero(mask[0])
    mask[0, own[::7]] = False
    whole = estimator.matrix_at_end(market).values[0, 1]
    thinned = estimator.matrix_at_end(with_mask(market, mask)).values[0, 1]
    assert thinned > 0.6 * whole


@given(st.integers(0, 10_000), st.integers(2, 12))
def test_eigenvalue_repair_gives_a_valid_correlation_matrix(seed: int, n: int) -> None:
    """A correlation of returns, repaired to be valid."""
    rng = np.random.default_rng(seed)
    raw = np.clip(rng.normal(0, 0.8, (n, n)), -1, 1)
    raw = (raw + raw.T) / 2
    np.fill_diagonal(raw, 1.0)
    fixed = raise_eigenvalues(raw)
    assert np.allclose(np.diag(fixed), 1)
    assert np.array_equal(fixed, fixed.T)
    assert np.linalg.eigvalsh(fixed)[0] > MIN_EIGENVALUE / n / 2


@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(3, 60), st.floats(0, 0.95))
def test_stated_minimum_eigenvalue_is_a_lower_bound(
    seed: int, symbols: int, rows: int, prior: float
) -> None:
    """For complete windows it is known without factorisation; with missing bars none is stated."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(0, 0.01, (rows + 1, 1)) + rng.normal(0, 1e-3, (rows + 1, symbols))
    logs = np.cumsum(moves, axis=0)
    values, least = _blend_with_prior(_LogReturns.from_logs(logs), prior, window=60)
    assert -np.inf < least <= np.linalg.eigvalsh(values)[0] + 1e-12
    logs[rows // 2, 0] = np.nan
    assert _blend_with_prior(_LogReturns.from_logs(logs), prior, window=60)[1] == -np.inf


def test_cross_class_correlation_uses_afternoon_returns() -> None:
    """Crypto also moves with stocks overnight: returns from 16:00 to 16:00 capture this, while the
    hourly grids share no bar.
    """
    market = SyntheticMarket(start="2022-01-03", end="2024-06-28").generate_bars()
    stock_crypto = (
        CorrelationEstimator(session_window=300, stock_crypto=0.0)
        .matrix_at_end(market)
        .values[~market.crypto][:, market.crypto]
    )
    assert 0.05 < stock_crypto.mean() < 0.3  # the market's own: 0.65 · 0.75 · 0.36 = 0.18


def session_returns(bars: Bars, boundary: np.datetime64, window: int) -> np.ndarray:
    """Last `window` log returns [N, S] from 16:00 to 16:00 on session days."""
    return np.diff(np.log(daily_closes_at_four_pm(bars, boundary, window + 1)[1]), axis=0)


class FarSighted(CorrelationEstimator):
    """One that looks at all there is."""

    def _calendar_reach(self, timeframe: Timeframe) -> np.timedelta64:
        return 1_000 * DAY


@pytest.mark.parametrize(("hourly", "session"), [(500, 120), (2_000, 20), (50, 250)])
def test_required_history_covers_both_correlation_windows(hourly: int, session: int) -> None:
    """Weekends and holidays are included; earlier bars change nothing."""
    symbols = ("SYA", "SYB", "SYXUSD")  # stocks among each other by the hour
    bars = SyntheticMarket(start="2022-01-03", end="2024-03-08", symbols=symbols).generate_bars()
    found, of_all = (
        kind(hourly_window=hourly, session_window=session).estimate(bars)[0]
        for kind in (CorrelationEstimator, FarSighted)
    )
    np.testing.assert_array_equal(found, of_all)


def test_afternoon_return_needs_a_bar_on_both_days() -> None:
    """By hand: closes at 16:00 of three sessions; a symbol without a bar for a day has no
    return into it or out of it.
    """
    bars = SyntheticMarket(
        start="2024-01-02", end="2024-03-08", symbols=("SYA", "SYXUSD")
    ).generate_bars()
    boundary = last_four_pm(bars.last_instant)
    marks = new_york_four_pm(
        sessions_between(np.datetime64("2024-03-05"), np.datetime64("2024-03-08"))
    )
    rows = np.searchsorted(bars.times, marks)
    expected = np.diff(np.log(bars.values[:, rows, CLOSE].T), axis=0)
    np.testing.assert_allclose(session_returns(bars, boundary, 3), expected, rtol=1e-12)
    mask = bars.mask.copy()
    mask[1, (bars.times > marks[1] - np.timedelta64(24, "h")) & (bars.times <= marks[1])] = False
    found = session_returns(with_mask(bars, mask), boundary, 3)
    np.testing.assert_array_equal(np.isnan(found), [[False, True], [False, True], [False, False]])
    just = mask.copy()
    just[1, np.searchsorted(bars.times, marks[1] - np.timedelta64(23, "h"))] = True
    kept = session_returns(with_mask(bars, just), boundary, 3)
    assert np.isfinite(kept).all(), "a bar of that day is its price"
    first = mask.copy()
    first[0, bars.times < marks[0]] = False
    late = session_returns(with_mask(bars, first), boundary, 3)
    assert np.isfinite(late[:, 0]).all(), "its first bar is one as well"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.eye(3), r"values must have shape \[S, S\] = \(2, 2\), got \(3, 3\)"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), "finite and symmetric"),
        (np.array([[1.0, 0.5], [0.4, 1.0]]), "finite and symmetric"),
        (np.array([[1.0, 0.5], [0.5, 1.1]]), "unit diagonal"),
        (np.array([[1.0, 1.0], [1.0, 1.0]]), "positive definite"),
        (np.array([[1.0, -1.5], [-1.5, 1.0]]), "positive definite"),
    ],
)
def test_invalid_correlation_matrix_is_refused(values: np.ndarray, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CorrelationMatrix(("AAA", "BBB"), values, np.datetime64("2024-01-02"))


def test_eigenvalue_repair_changes_only_small_eigenvalues() -> None:
    good = np.array([[1.0, 0.9], [0.9, 1.0]])
    np.testing.assert_array_equal(raise_eigenvalues(good), good)
    fixed = raise_eigenvalues(np.array([[1.0, 1.0], [1.0, 1.0]]))
    assert fixed[0, 1] == pytest.approx((2 - MIN_EIGENVALUE) / (2 + MIN_EIGENVALUE), rel=1e-9)
