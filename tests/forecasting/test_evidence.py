"""Evidence that is valid at every instant: e-values, lower bounds, and what they earn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.evidence import (
    ALPHA,
    LARGEST_LOSS,
    MAX_SCALED_LOSS,
    STAKES,
    BettingEvidence,
    betting_capital,
    earned_fraction,
    error_share,
    growth_evidence,
    growth_lower_bound,
    place_bets,
    start_bets,
)

RETURNS = st.floats(-0.25, 0.5, allow_nan=False)


def bets_on(values: Sequence[float], largest_loss: float = LARGEST_LOSS) -> BettingEvidence:
    bets = start_bets()
    for value in values:
        bets = place_bets(bets, value, largest_loss)
    return bets


@given(st.lists(RETURNS, min_size=1, max_size=6), st.floats(0.25, 4))
def test_capital_is_the_mean_over_the_stakes(values: list[float], largest_loss: float) -> None:
    """In exact fractions; a difference is scaled so that the largest stake loses at most all."""
    scale = Fraction(float(MAX_SCALED_LOSS)) / Fraction(largest_loss)
    capitals = [
        math.prod(1 + Fraction(float(stake)) * scale * Fraction(value) for value in values)
        for stake in STAKES
    ]
    expected = float(sum(capitals) / len(STAKES))
    assert betting_capital(bets_on(values, largest_loss), 0.0) == pytest.approx(expected, rel=1e-9)


def test_small_largest_loss_leaves_differences_unscaled() -> None:
    values = [0.01, -0.02]
    assert bets_on(values, 0.02).total == bets_on(values, MAX_SCALED_LOSS).total == sum(values)


def test_largest_loss_leaves_no_negative_capital() -> None:
    bets = bets_on([0.5, -LARGEST_LOSS, 0.1])
    assert (bets.log_capital[:-1] > -np.inf).all()
    assert bets.log_capital[-1] == -np.inf
    assert bets.breach_count == 0


def test_loss_beyond_the_largest_is_counted() -> None:
    bets = bets_on([0.1, -1.1, -np.inf, 0.1])
    assert bets.breach_count == 2
    assert betting_capital(bets, 0.0) == 0.0
    assert growth_lower_bound(bets, ALPHA) == -np.inf


def test_one_large_loss_leaves_a_bound() -> None:
    """A record with high evidence keeps what it has earned after a loss of more than a fifth."""
    values = np.full(900, 0.01)
    values[300] = -0.21
    series = growth_evidence(values, 0.025)
    reached = series.e_value * 0.025 >= 1.0
    assert reached.sum() > 198
    assert np.isfinite(series.lower_bound[reached]).all()


@given(st.lists(st.floats(0.02, 3.0), min_size=4, max_size=4), st.integers(0, 2**16))
def test_fair_bets_with_jumps_keep_the_mean(gains: list[float], seed: int) -> None:
    """Fair differences that rarely lose up to all of the largest loss: the e-value's mean is 1."""
    rng = np.random.default_rng(seed)
    losses = np.array(gains)
    odds = rng.uniform(0.01, 0.2, 4)
    won = odds * losses / (1 - odds)
    total = 0.0
    for outcome in itertools.product((0, 1), repeat=4):
        lost = np.array(outcome) == 1
        bets = start_bets()
        for value, largest in zip(np.where(lost, -losses, won), losses, strict=True):
            bets = place_bets(bets, value, largest)
        total += np.where(lost, odds, 1 - odds).prod() * betting_capital(bets, 0.0)
    assert total == pytest.approx(1.0, rel=1e-9)


@given(st.lists(RETURNS, min_size=1, max_size=60), st.floats(0.001, 0.5))
def test_bound_and_evidence_agree(values: list[float], share: float) -> None:
    series = growth_evidence(np.array(values), share)
    reached = series.e_value * share >= 1.0
    # At the bound itself the capital is 1 / share up to the bisection's width.
    clear = np.abs(series.e_value * share - 1.0) > 1e-6
    assert ((series.lower_bound > 0) == reached)[clear].all()


def test_series_equals_bets_placed_one_by_one() -> None:
    values = np.random.default_rng(1).normal(0.0005, 0.01, 50)
    values[7] = np.nan
    series = growth_evidence(values, ALPHA)
    bets = start_bets()
    for t, value in enumerate(values):
        bets = bets if np.isnan(value) else place_bets(bets, value, LARGEST_LOSS)
        assert series.e_value[t] == betting_capital(bets, 0.0)
        assert series.lower_bound[t] == growth_lower_bound(bets, ALPHA)
        assert bets.difference_count == 0 or series.mean[t] == bets.total / bets.difference_count


def test_no_edge_earns_at_most_alpha() -> None:
    rng = np.random.default_rng(11)
    earned = 0
    for _ in range(100):
        noise = rng.standard_t(3, 400) * np.exp(0.5 * rng.normal(size=400)) * 0.01
        earned += growth_evidence(noise).e_value.max() >= 1 / ALPHA
    # 100 draws with probability .05 exceed 13 with a probability below .1 %.
    assert earned <= 13


def test_planted_edge_is_found_and_bounded() -> None:
    noise = np.random.default_rng(3).normal(0.0, 0.02, 3000)
    series = growth_evidence(noise + 0.002, ALPHA, 0.25)
    assert series.e_value[0] < 1 / ALPHA <= series.e_value.max()
    assert 0 < series.lower_bound[-1] < 0.002 < series.mean[-1] * 1.5
    assert growth_evidence(noise - 0.002, ALPHA, 0.25).e_value.max() < 1 / ALPHA


def test_earned_share_falls_when_the_record_turns() -> None:
    good, bad = np.full(300, 0.04), np.full(300, -0.03)
    series = growth_evidence(np.concatenate([good, bad]), ALPHA, 0.25)
    earned = earned_fraction(series.lower_bound, series.mean)
    assert earned[0] == 0.0
    assert earned[299] > 0.8
    assert earned[-1] < 0.2
    assert (np.diff(earned[:300]) >= -1e-9).all()
    assert (np.diff(earned[300:]) <= 1e-9).all()


def test_shares_of_all_attempts_sum_to_alpha() -> None:
    assert sum(map(error_share, range(1, 200))) == pytest.approx(ALPHA * (1 - 1 / 200))
    assert error_share(4) == pytest.approx(ALPHA / 20)
