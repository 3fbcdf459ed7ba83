"""A symbol that stands still, or has hardly any bars, takes nobody else's correlations away."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.arrays import Instants
from trainingdata.bars import Bars
from trainingdata.correlation import CorrelationEstimator
from trainingdata.instruments import instrument
from trainingdata.sessions import last_four_pms
from trainingdata.synthetic import SyntheticMarket

Array = np.ndarray
WINDOW = 200
ESTIMATOR = CorrelationEstimator(hourly_window=WINDOW, session_window=30)


def stock_times() -> Instants:
    """The known-at instants of one stock over ten weeks, ending at 16:00 New York."""
    bars = SyntheticMarket(start="2024-01-02", end="2024-03-08", symbols=("SYA",)).generate_bars()
    return bars.times[bars.times <= last_four_pms(bars.times[-1:])]


TIMES = stock_times()[-(WINDOW + 1) :]


def bars_from_closes(closes: Array, symbols: tuple[str, ...]) -> Bars:
    """A panel of stocks from their closes [T, S]; NaN where there is no bar."""
    values = np.repeat(closes.T[:, :, None], 5, axis=2)
    return Bars(tuple(instrument(s) for s in symbols), TIMES, values, np.isfinite(closes.T), "test")


def walks(seed: int, n: int, common: float = 0.7) -> Array:
    """Closes [T, n] of `n` stocks that share a factor."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(len(TIMES), 1))
    own = rng.normal(size=(len(TIMES), n))
    returns = 0.004 * (common * factor + np.sqrt(1 - common**2) * own)
    return np.asarray(100 * np.exp(np.cumsum(returns, axis=0)))


def estimate(closes: Array) -> Array:
    """The estimate [S, S] for stocks with these closes [T, S]."""
    symbols = tuple(f"A{chr(65 + k)}" for k in range(closes.shape[1]))
    return ESTIMATOR.estimate(bars_from_closes(closes, symbols))[0]


def still(kind: str, rng: np.random.Generator) -> Array:
    """Closes [T] that do not move: to the tick, but for the rounding of an adjusted price, or
    in steady growth.
    """
    flat = np.full(len(TIMES), float(np.round(rng.uniform(1, 900), 2)))
    if kind == "rounded":
        return np.asarray(flat * (1 + rng.uniform(-2e-14, 2e-14, len(flat))))
    if kind == "accrued":
        return np.asarray(flat * np.exp(1e-4 * np.arange(len(flat))))
    return flat


def silent(kind: str, rng: np.random.Generator) -> Array:
    """Closes [T] of a symbol that says nothing: still, with few ticks, or with few bars.

    One tick in a window has a fourth moment as large as the window: it would shrink its whole
    class.
    """
    if kind == "few ticks":
        steps = np.zeros(len(TIMES))
        moves = rng.integers(1, WINDOW // 10)
        steps[rng.choice(np.arange(1, len(TIMES)), moves, replace=False)] = 0.01
        return np.asarray(50 * np.exp(np.cumsum(steps)))
    if kind == "young":
        closes = walks(int(rng.integers(1000)), 1)[:, 0]
        closes[: len(closes) - rng.integers(0, WINDOW // 2 + 1)] = np.nan
        return np.asarray(closes)
    closes = still(kind, rng)
    closes[rng.random(len(closes)) < rng.uniform(0, 0.9)] = np.nan
    return closes


def unchanged(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for the order in which a matrix product of another shape sums."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


@given(
    st.integers(0, 10_000),
    st.integers(2, 6),
    st.sampled_from(["tick", "rounded", "accrued", "few ticks", "young"]),
)
def test_adding_a_constant_symbol_changes_no_other_correlation(
    seed: int, n: int, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    others = walks(seed, n)
    quiet = silent(kind, rng)
    joined = estimate(np.column_stack([others, quiet]))
    unchanged(joined[:n, :n], estimate(others))
    assert joined[n, n] == 1.0
    if kind not in ("few ticks", "young"):
        np.testing.assert_array_equal(joined[n, :n], np.full(n, ESTIMATOR.within_stocks))
    lean = 1 - max(int(np.isfinite(quiet).sum()) - 1, 0) / WINDOW
    assert np.all(np.abs(joined[n, :n] - lean * ESTIMATOR.within_stocks) <= 1 - lean + 1e-12)


@pytest.mark.parametrize("shared", [0, 1, 2, 3, 20])
def test_barely_overlapping_symbol_changes_no_other_pair(shared: int) -> None:
    """Each covers half the window with almost no common returns: rows common to all symbols say
    nothing about the other pairs.
    """
    closes = walks(11, 4, common=0.9)
    half = len(closes) // 2
    closes[half + 1 + shared :, :3] = np.nan
    young = closes[:, 3].copy()
    young[:half] = np.nan
    before = estimate(closes[:, :3])
    joined = estimate(np.column_stack([closes[:, :3], young]))
    unchanged(joined[:3, :3], before)
    assert joined[0, 1] > 0.55, "half way from the prior to .81"
    assert (joined[0, 3] == ESTIMATOR.within_stocks) == (shared < 3), "two returns say nothing"


def test_pair_without_common_moves_gets_the_prior() -> None:
    """The first symbol moves and then stays constant; the last one starts after that."""
    closes = walks(5, 3)
    stop = 120
    closes[stop:, 0] = closes[stop, 0]
    closes[: stop + 1, 2] = np.nan
    values = estimate(closes)
    assert values[0, 2] == ESTIMATOR.within_stocks
    assert abs(values[0, 1] - ESTIMATOR.within_stocks) > 1e-3
    assert abs(values[1, 2] - ESTIMATOR.within_stocks) > 1e-3


@given(st.integers(0, 10_000), st.integers(1, 5))
def test_constant_symbols_get_the_prior_correlation(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = rng.choice(["tick", "rounded", "accrued"], n)
    values = estimate(np.column_stack([still(kind, rng) for kind in kinds]))
    expected = np.full((n, n), ESTIMATOR.within_stocks)
    np.fill_diagonal(expected, 1.0)
    np.testing.assert_array_equal(values, expected)


@given(st.integers(0, 10_000), st.integers(2, 7))
def test_incomplete_data_still_give_a_valid_correlation_matrix(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    closes = walks(seed, n, common=float(rng.uniform(0, 0.99)))
    for k in range(n):
        if rng.random() < 0.3:
            closes[:, k] = still(str(rng.choice(["tick", "rounded", "accrued"])), rng)
        if rng.random() < 0.5:
            closes[rng.random(len(closes)) < rng.uniform(0, 1), k] = np.nan
        if rng.random() < 0.3:
            closes[: rng.integers(0, len(closes)), k] = np.nan
    closes[0, 0] = 100.0
    symbols = tuple(f"A{chr(65 + k)}" for k in range(n))
    values = ESTIMATOR.matrix_at_end(bars_from_closes(closes, symbols)).values
    assert np.array_equal(values, values.T)
    assert np.all(np.diag(values) == 1)
    assert np.linalg.eigvalsh(values)[0] > 0
    raw = estimate(closes)
    assert np.abs(raw).max() <= 1


def test_constant_crypto_leaves_other_correlations_unchanged(market: Bars) -> None:
    """This includes both class blocks and the block between them, in one panel."""
    estimator = CorrelationEstimator(hourly_window=500, session_window=30)
    coins = np.flatnonzero(market.crypto)
    flat = np.where(market.mask[coins[:1], :, None], np.full(5, 0.25), np.nan)
    joined = Bars(
        (*market.instruments, instrument("ZZZUSD")),
        market.times,
        np.concatenate([market.values, flat]),
        np.concatenate([market.mask, market.mask[coins[:1]]]),
        "test",
    )
    n = len(market.symbols)
    values = estimator.estimate(joined)[0]
    unchanged(values[:n, :n], estimator.estimate(market)[0])
    np.testing.assert_array_equal(values[n, :n], np.where(market.crypto, 0.6, 0.2))
