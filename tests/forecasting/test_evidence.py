"""Evidence that is valid at every instant: e-values, lower bounds, and what they earn."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.evidence import (
    ALPHA,
    MAX_GAIN,
    STAKES,
    betting_capital,
    earned_fraction,
    error_share,
    growth_evidence,
    growth_lower_bound,
    place_bets,
    start_bets,
)

GAINS = st.floats(-0.3, 0.25, allow_nan=False)


def exact_capital(values: list[float]) -> float:
    """Capital of the bets in exact fractions, with debts that stay."""
    total = Fraction(0)
    for stake in STAKES:
        capital = Fraction(1)
        for value in values:
            capital *= 1 + Fraction(float(stake)) * Fraction(min(value, MAX_GAIN))
            if capital < 0:
                break
        total += capital
    return float(total / len(STAKES))


@given(st.lists(GAINS, min_size=1, max_size=6))
def test_capital_is_the_mean_over_the_stakes(values: list[float]) -> None:
    bets = start_bets()
    for value in values:
        bets = place_bets(bets, value)
    assert betting_capital(bets, 0.0) == pytest.approx(exact_capital(values), rel=1e-12)


def test_loss_beyond_a_stake_stays_a_debt() -> None:
    values = [0.01, -0.3, 0.1, 0.1]
    bets = start_bets()
    for value in values:
        bets = place_bets(bets, value)
    lost = STAKES > 1 / 0.3
    assert (bets.lost_at[lost] == 2).all()
    assert (bets.lost_at[~lost] == 0).all()
    expected = np.where(
        lost,
        (1 + 0.01 * STAKES) * (1 - 0.3 * STAKES),
        np.prod([1 + value * STAKES for value in values], axis=0),
    )
    assert betting_capital(bets, 0.0) == pytest.approx(expected.mean(), rel=1e-12)


def test_ruined_account_leaves_no_evidence() -> None:
    bets = place_bets(place_bets(start_bets(), 0.1), -np.inf)
    assert betting_capital(bets, 0.0) == -np.inf
    assert growth_lower_bound(bets, ALPHA) == -np.inf


@given(st.lists(GAINS, min_size=1, max_size=60), st.floats(0.001, 0.5))
def test_bound_and_evidence_agree(values: list[float], share: float) -> None:
    series = growth_evidence(np.array(values), share)
    reached = series.e_value * share >= 1.0
    # At the bound itself the capital is 1 / share up to the bisection's width.
    clear = np.abs(series.e_value * share - 1.0) > 1e-6
    assert ((series.lower_bound > 0) == reached)[clear].all()


def test_series_equals_bets_placed_one_by_one() -> None:
    values = np.random.default_rng(1).normal(0.0005, 0.01, 50)
    values[7] = np.nan
    series = growth_evidence(values)
    bets = start_bets()
    for t, value in enumerate(values):
        bets = bets if np.isnan(value) else place_bets(bets, value)
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
    noise = np.random.default_rng(3).normal(0.0, 0.005, 3000)
    series = growth_evidence(noise + 0.0005)
    assert series.e_value[0] < 1 / ALPHA <= series.e_value.max()
    assert 0 < series.lower_bound[-1] < 0.0005 < series.mean[-1] * 1.5
    assert growth_evidence(noise - 0.0005).e_value.max() < 1 / ALPHA


def test_earned_share_falls_when_the_record_turns() -> None:
    good, bad = np.full(300, 0.04), np.full(300, -0.03)
    series = growth_evidence(np.concatenate([good, bad]))
    earned = earned_fraction(series.lower_bound, series.mean)
    assert earned[0] == 0.0
    assert earned[299] > 0.8
    assert earned[-1] < 0.2
    assert (np.diff(earned[:300]) >= -1e-9).all()
    assert (np.diff(earned[300:]) <= 1e-9).all()


def test_shares_of_all_attempts_sum_to_alpha() -> None:
    assert sum(map(error_share, range(1, 200))) == pytest.approx(ALPHA * (1 - 1 / 200))
    assert error_share(4) == pytest.approx(ALPHA / 20)
