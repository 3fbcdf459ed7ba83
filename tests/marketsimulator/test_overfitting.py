"""The probability of backtest overfitting: what it is, what it does not depend on, what it says."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from foundation.arrays import Array
from marketsimulator.results.comparison import compare_records
from marketsimulator.results.metrics import (
    Performance,
    lag_one_autocorrelation,
    measure_daily_performance,
    returns_until_ruin,
)
from marketsimulator.results.run_record import read_run_record
from marketsimulator.results.significance import (
    MIN_DEFLATED_SHARPE,
    Overfitting,
    deflated_sharpe,
    estimate_overfitting,
)
from tests.marketsimulator.run_folder_files import write_run

NOISE = np.random.default_rng(5).normal(0.0, 0.01, (8, 120))


def told(returns: Array, blocks: int = 8) -> Overfitting:
    found = estimate_overfitting(returns, blocks)
    assert found is not None
    return found


def by_hand(returns: Array, blocks: int) -> Mapping[str, float]:
    """The definition, split by split and day by day."""
    parts = np.array_split(np.arange(returns.shape[1]), blocks)
    moving = returns[np.ptp(returns, axis=1) > 0]
    worse, in_sample, out_of_sample, losses = [], [], [], []
    for chosen in itertools.combinations(range(blocks), blocks // 2):
        days = np.concatenate([parts[k] for k in chosen])
        rest = np.setdiff1d(np.arange(returns.shape[1]), days)
        one, other = (np.array([sharpe(row[half]) for row in moving]) for half in (days, rest))
        best = np.flatnonzero(one > one.max() - 1e-9)
        logits = [logit(mean_rank(other, ratio), len(moving)) for ratio in other[best]]
        worse.append(np.mean([(x < -1e-12) + (abs(x) <= 1e-12) / 2 for x in logits]))
        in_sample.append(one.max())
        out_of_sample.append(other[best].mean())
        losses.append((other[best] < 0).mean())
    means = (np.mean(values) for values in (worse, in_sample, out_of_sample, losses))
    return dict(
        zip(("probability", "in_sample", "out_of_sample", "loss_probability"), means, strict=True)
    )


def mean_rank(ratios: Array, ratio: float) -> float:
    alike = (abs(ratios - ratio) <= 1e-9).sum()
    return float((ratios < ratio - 1e-9).sum() + (alike + 1) / 2)


def logit(rank: float, count: int) -> float:
    relative = rank / (count + 1)
    return float(np.log(relative / (1 - relative)))


def sharpe(returns: Array) -> float:
    return float(returns.mean() / returns.std(ddof=1)) if np.ptp(returns) > 0 else 0.0


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    variants=st.integers(2, 7),
    days=st.integers(60, 90),
    blocks=st.sampled_from([2, 4, 6]),
    twins=st.booleans(),
    idle=st.booleans(),
)
def test_overfitting_figures_match_their_definition(
    seed: int, variants: int, days: int, blocks: int, twins: bool, idle: bool
) -> None:
    returns = np.random.default_rng(seed).standard_t(4, (variants, days)) * 0.01
    half = -(-days // 2)
    returns[0, :half] = 0.0  # stands still for half of the days
    if idle:  # the best of that half are two that do nothing
        returns[1, :half] = 0.0
        returns[2:, :half] -= 0.05
    if twins:
        returns = np.concatenate([returns, returns[-1:], 3.0 * returns[:1]])
    found = told(returns, blocks)
    for name, value in by_hand(returns, blocks).items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-8), name


@pytest.mark.parametrize("days", [0, 1, 16, 59])
def test_overfitting_needs_sixty_days_and_two_variants(days: int) -> None:
    assert estimate_overfitting(NOISE[:, :days]) is None
    assert estimate_overfitting(NOISE[:1]) is None
    assert estimate_overfitting(NOISE[:, :60]) is not None


def test_ruined_run_counts_as_a_total_loss() -> None:
    daily = np.cumprod(np.concatenate([np.ones((3, 1)), 1 + NOISE[:3]], axis=1), axis=1)
    daily[1, 30:] = -5.0
    returns = returns_until_ruin(daily)
    assert returns[1, 29] == -1.0
    assert not returns[1, 30:].any()
    np.testing.assert_allclose(returns[[0, 2]], NOISE[[0, 2]])
    assert told(returns).variants == 3


def figures_of(returns: Array) -> Performance:
    return measure_daily_performance(np.cumprod(np.append(1.0, 1 + returns)), 252)


def best_is_called_real(returns: Array, trials: int) -> bool:
    """Whether the best ratio of [V, D] is above zero after so many trials, by more than 95 %."""
    best = max(returns, key=sharpe)
    told = deflated_sharpe(figures_of(best), trials)
    return told is not None and told > MIN_DEFLATED_SHARPE


def test_autocorrelated_noise_is_rarely_judged_significant() -> None:
    """300 sweeps have 20 highly correlated variants without skill."""
    called = []
    for k in range(300):
        rng = np.random.default_rng([13, k])
        own, market = rng.standard_t(5, (20, 350)), rng.standard_t(5, 350)
        shocks = 0.01 * (np.sqrt(0.2) * own + np.sqrt(0.8) * market)
        returns = lfilter([1.0], [1.0, -0.4], shocks, axis=1)[:, 100:]
        best = max(returns, key=sharpe)
        for memory in (lag_one_autocorrelation(best), 0.0):
            told = deflated_sharpe(replace(figures_of(best), autocorrelation=memory), 20)
            called.append(told is not None and told > MIN_DEFLATED_SHARPE)
    aware, unaware = np.mean(np.reshape(called, (-1, 2)), axis=0)
    assert aware <= 0.07
    assert unaware > 1.5 * aware


@pytest.mark.slow
@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_noise_has_overfitting_probability_near_one_half(shared: float) -> None:
    """Sweeps without skill; `shared` is the share of variance that all variants have in common."""
    probabilities, deceived, undeflated = [], [], []
    for k in range(40):
        rng = np.random.default_rng([7, k])
        own, market = rng.standard_t(5, (30, 250)), rng.standard_t(5, 250)
        returns = 0.01 * (np.sqrt(1 - shared) * own + np.sqrt(shared) * market)
        found = estimate_overfitting(returns)
        assert found is not None
        probabilities.append(found.probability)
        deceived.append(best_is_called_real(returns, len(returns)))
        undeflated.append(best_is_called_real(returns, 1))
    error = np.std(probabilities, ddof=1) / np.sqrt(len(probabilities))
    assert abs(np.mean(probabilities) - 0.5) < 4 * error < 0.16
    assert np.mean(deceived) <= 0.1
    assert np.mean(undeflated) >= np.mean(deceived)
    if not shared:
        assert np.mean(undeflated) > 0.4, "what deflating is for"


def comparison_of(folder: Path, returns: Array) -> Any:
    for k, row in enumerate(returns):
        write_run(folder / str(k), returns=row, settings={"sizing": {"fraction": k}})
    return compare_records([read_run_record(folder / str(k)) for k in range(len(returns))])


def test_comparison_shows_overfitting_on_page_screen_and_json(tmp_path: Path) -> None:
    comparison = comparison_of(tmp_path / "long", NOISE)
    found = estimate_overfitting(NOISE)
    assert found is not None
    sentence = f"PBO (probability of backtest overfitting): {found.probability:.1%}."
    assert sentence in " ".join(comparison.sentences())
    assert sentence in comparison.render_page(tmp_path)
    figures = json.loads(json.dumps(comparison.summary()))["overfitting"]
    assert figures["probability"] == pytest.approx(found.probability)
    assert figures["sharpe_in_sample"] == pytest.approx(
        found.in_sample * comparison.run_set.days_per_year**0.5
    )
    short = comparison_of(tmp_path / "short", NOISE[:, :59])
    assert "overfitting) needs at least 60 days" in " ".join(short.sentences())
    assert short.summary()["overfitting"] is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_return_is_refused(value: float) -> None:
    broken = NOISE.copy()
    broken[3, 7] = value
    with pytest.raises(ValueError, match="variant 3"):
        estimate_overfitting(broken)


def test_variant_best_in_only_one_half_is_overfitted() -> None:
    early = np.tile([0.02, 0.0], 15)
    late = np.tile([0.01, -0.01], 15)
    fading = np.array([np.append(early, -early), np.append(-early, early)])
    assert told(fading, 2).probability == 1.0
    steady = np.array([np.append(early, early), np.append(late, late)])
    assert told(steady, 2).probability == 0.0
