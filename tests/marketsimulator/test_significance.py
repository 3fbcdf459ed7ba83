from __future__ import annotations

import sqlite3
import warnings
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from forecasting.forecast import LOOK_AHEAD_NOTE
from marketsimulator.results.metrics import (
    bootstrap_figures,
    longest_drawdown_days,
    measure_daily_performance,
)
from marketsimulator.results.significance import (
    bootstrap_intervals,
    deflated_sharpe,
    draw_bootstrap_days,
    expected_maximum_sharpe,
    mean_block_length,
    probabilistic_sharpe,
    sharpe_variance,
)
from marketsimulator.results.trials import Trial, record_trials
from tests.support.trials import TRIAL

SKILLED = np.random.default_rng(4).normal(0.001, 0.01, 500)  # daily returns


def test_deflated_sharpe_ratio_matches_the_published_example() -> None:
    """Bailey and López de Prado (2014): 2.5 a year in 1,250 days, skewness -3, kurtosis 10."""
    for trials, expected in ((100, 0.9004), (46, 0.9505)):
        found = probabilistic_sharpe(
            2.5 / np.sqrt(250),
            1250,
            skewness=-3.0,
            excess_kurtosis=7.0,
            benchmark=expected_maximum_sharpe(trials, 0.5 / 250),
        )
        assert found == pytest.approx(expected, abs=5e-5)


@pytest.mark.slow
@given(
    st.integers(20, 400),
    st.floats(-0.8, 0.95),
    st.sampled_from([1e-4, 1.0, 100.0]),
    st.floats(0.2, 1.0),
    st.integers(0, 2**32 - 1),
)
def test_bootstrap_draws_and_block_lengths_match_arch_library(
    count: int, memory: float, size: float, moving: float, seed: int
) -> None:
    from arch.bootstrap import StationaryBootstrap, optimal_block_length

    random = np.random.default_rng(seed)
    values = size * random.normal(size=count) * (random.random(count) < moving)
    for day in range(1, count):
        values[day] += memory * values[day - 1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where a lag leaves nothing that moves
        expected = float(optimal_block_length(values)["stationary"].iloc[0])
    length = mean_block_length(values)
    assert length == pytest.approx(expected, rel=1e-9)
    whole = max(1, round(length))
    library = StationaryBootstrap(whole, values, seed=np.random.default_rng(seed))
    drawn = [data[0] for data, _ in library.bootstrap(20)]
    np.testing.assert_array_equal(values[draw_bootstrap_days(count, whole, 20, seed=seed)], drawn)


@given(st.integers(20, 120), st.sampled_from([0.0, 1e-3, 0.01, 0.4]), st.integers(0, 2**32 - 1))
def test_bootstrap_figures_equal_metrics_of_resampled_days(
    days: int, size: float, seed: int
) -> None:
    returns = np.clip(np.random.default_rng(seed).normal(0, size, (5, days)), -1.0, None)
    found = bootstrap_figures(returns, 252)
    for k, drawn in enumerate(returns):
        alone = measure_daily_performance(np.concatenate([[1.0], np.cumprod(1 + drawn)]), 252)
        for name, values in found.items():
            expected = getattr(alone, name)
            expected = np.nan if expected is None else expected
            assert values[k] == pytest.approx(expected, rel=1e-9, abs=1e-13, nan_ok=True), name


def test_deflation_grows_with_the_number_of_trials() -> None:
    figures = measure_daily_performance(np.cumprod(np.append(1.0, 1 + SKILLED)), 252)
    falling = [deflated_sharpe(figures, trials) for trials in (1, 2, 5, 50, 1000)]
    assert sorted(set(falling), reverse=True) == falling


def test_expected_maximum_sharpe_matches_simulation() -> None:
    """10,000 draws of the largest of 50 normal ratios of variance 0.003."""
    drawn = np.random.default_rng(1).normal(0, np.sqrt(0.003), (10_000, 50)).max(axis=1).mean()
    assert expected_maximum_sharpe(50, 0.003) == pytest.approx(drawn, rel=0.02)


def test_probabilistic_sharpe_is_uniform_on_normal_samples() -> None:
    """Of 4,000 markets with a true ratio of 0.05 a day, the share whose measured ratio lies
    below theirs is uniform.
    """
    rng = np.random.default_rng(2)
    returns = rng.normal(0.0005, 0.01, (4_000, 250))
    ratios = returns.mean(axis=1) / returns.std(axis=1, ddof=1)
    inside = np.array([probabilistic_sharpe(r, 250, benchmark=0.05) for r in ratios])
    assert np.quantile(inside, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.03)


@pytest.mark.first_example
@pytest.mark.parametrize("memory", [-0.3, 0.0, 0.3, 0.5])
@pytest.mark.parametrize("mean", [0.0, 0.1])
def test_sharpe_variance_matches_simulated_autocorrelated_returns(
    memory: float, mean: float
) -> None:
    """4,000 series of 500 days with Student-t shocks of 5 degrees of freedom."""
    rng = np.random.default_rng([11, int(10 * memory) + 10])
    shocks = rng.standard_t(5, (4_000, 600))
    values = lfilter([1.0], [1.0, -memory], shocks, axis=1)[:, 100:]
    values = values / values.std() + mean
    ratios = values.mean(axis=1) / values.std(axis=1, ddof=1)
    excess_kurtosis = float(np.mean((values - values.mean()) ** 4) / values.var() ** 2) - 3.0
    expected = sharpe_variance(mean, 0.0, excess_kurtosis, memory)
    assert 500 * ratios.var() == pytest.approx(expected, rel=0.1)


def test_sharpe_variance_without_autocorrelation_matches_closed_form() -> None:
    expected = 1.0 + 0.5 * 0.2 + (7.0 - 1.0) / 4.0 * 0.2**2
    assert sharpe_variance(0.2, -0.5, 4.0, 0.0) == pytest.approx(expected, rel=1e-12)


def test_tail_risk_and_drawdown_days_match_hand_calculation() -> None:
    returns = np.array([0.01] * 38 + [-0.02, -0.04])
    p = measure_daily_performance(np.concatenate([[1.0], np.cumprod(1 + returns)]), 252)
    assert p.value_at_risk == pytest.approx(np.quantile(returns, 0.05))
    assert p.expected_shortfall == pytest.approx(-0.03)
    assert p.hit_rate == 0.95
    assert p.profit_factor == pytest.approx(0.38 / 0.06)
    assert longest_drawdown_days(np.array([1.0, 0.9, 1.0, 0.9, 0.8, 0.95, 1.1, 1.0])) == 3
    assert longest_drawdown_days(np.array([1.0, 1.1])) == 0


def entered(path: Path, trial: Trial) -> int:
    counted = record_trials(path, [trial])
    assert counted is not None
    return counted


@pytest.mark.parametrize(
    "forecaster",
    [
        "oracle",
        f"oracle ({LOOK_AHEAD_NOTE})",
        f"forecasts of f.parquet by oracle ({LOOK_AHEAD_NOTE})",
    ],
)
def test_look_ahead_runs_are_not_counted_as_trials(tmp_path: Path, forecaster: str) -> None:
    path = tmp_path / "trials.sqlite"
    ahead = replace(TRIAL, config_hash="c2", daily_sharpe=0.9, forecaster=forecaster)
    assert entered(path, ahead) == 0
    assert entered(path, TRIAL) == 1


def test_ledger_rows_of_look_ahead_forecasters_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "trials.sqlite"
    entered(path, replace(TRIAL, config_hash="c2", daily_sharpe=0.9))
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE trials SET forecaster = 'oracle'")
    assert entered(path, TRIAL) == 1


def test_repeated_variant_on_same_data_is_one_trial(tmp_path: Path) -> None:
    path = tmp_path / "state" / "trials.sqlite"
    assert entered(path, TRIAL) == 1
    assert entered(path, TRIAL) == 1
    assert entered(path, replace(TRIAL, config_hash="c2", daily_sharpe=0.15)) == 2
    later = replace(
        TRIAL, config_hash="c3", data_hash="d2", last="2024-07-01T20:00Z", daily_sharpe=None
    )
    assert entered(path, later) == 3
    elsewhere = replace(TRIAL, config_hash="c4", data_hash="d4", source="files: y")
    copy = tmp_path / "elsewhere.sqlite"
    copy.write_bytes(path.read_bytes())
    assert entered(copy, elsewhere) == 4
    other = replace(TRIAL, config_hash="c4", data_hash="d3")
    year = {"first": "2025-01-02T05:00Z", "last": "2025-06-28T20:00Z"}
    for apart in ({"source": "synthetic market (seed 1)"}, {"symbols": ("ZZZ",)}, year):
        copy.write_bytes(path.read_bytes())
        assert entered(copy, replace(other, **apart)) == 1


def test_sharpe_without_days_or_variance_has_no_probability() -> None:
    assert probabilistic_sharpe(0.1, 1) is None
    assert probabilistic_sharpe(2.0, 100, skewness=5.0) is None


def test_bootstrap_intervals_are_reproducible_by_seed_or_empty() -> None:
    returns = np.random.default_rng(3).normal(0.0005, 0.01, 100)
    assert bootstrap_intervals(returns, 252, seed=4) == bootstrap_intervals(returns, 252, seed=4)
    assert bootstrap_intervals(returns, 252, seed=4) != bootstrap_intervals(returns, 252, seed=5)
    assert (
        bootstrap_intervals(returns[:10], 252, seed=4)
        == bootstrap_intervals(np.zeros(50), 252, seed=4)
        == {}
    )


@pytest.mark.slow
def test_bootstrap_intervals_have_their_nominal_coverage() -> None:
    """60 markets, each a year of independent returns: a 90 % interval of the Sharpe ratio holds
    the truth in 45 at least.
    """
    rng = np.random.default_rng(3)
    truth = 0.05 * np.sqrt(252)
    held = 0
    for _ in range(60):
        low, high = bootstrap_intervals(rng.normal(0.0005, 0.01, 252), 252, seed=1)["sharpe"]
        held += low <= truth <= high
    assert 45 <= held <= 60
