"""What docs/STUDIES.md says of stakes far from normal holds in a small run of its script."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from sizing.autoscaler.rules import AutoscalingSettings, Statistics, contracts_for
from tests.studies.far_from_normal import (
    BOUND,
    MARKETS,
    Figures,
    autoscaled,
    contract_study,
    contracts,
    jointly,
    one_by_one,
    path_falls,
    spread_study,
)
from tests.studies.weekly_leads import weekly_leads

ROUNDS = 60
PATHS = 300


@pytest.fixture(scope="module")
def exact() -> dict[str, Figures]:
    """Five contracts at a time, probabilities known."""
    return contract_study(5, 0.0, ROUNDS, PATHS, 0)


def test_full_growth_of_one_contract_is_binary_kelly_and_half_of_it_another_closed_form() -> None:
    c = contracts(1, 0.0, 40, 1)
    assert jointly(c, c.estimate) == pytest.approx(one_by_one(c, 1.0), abs=1e-6)
    odds = 1 / c.price - 1
    ratio = np.sqrt(c.estimate * odds / (1 - c.estimate))
    half = np.maximum(ratio - 1, 0) / (odds + ratio)
    assert jointly(c, c.estimate, 0.5) == pytest.approx(half, abs=1e-4)
    assert np.count_nonzero(half) > 10


def test_stakes_that_are_found_together_are_smaller_and_survive(exact: dict[str, Figures]) -> None:
    single, together = exact["binary Kelly, full, one by one"], exact["growth-optimal, full"]
    assert together.stake < single.stake
    assert single.growth == -np.inf
    assert np.isfinite(together.growth)
    halves = exact["binary Kelly, half, one by one"], exact["growth-optimal, half"]
    assert halves[0].growth == pytest.approx(halves[1].growth, rel=0.05)


def test_the_bound_holds_for_exact_probabilities_and_not_for_estimates(
    exact: dict[str, Figures],
) -> None:
    noisy = contract_study(5, 0.05, ROUNDS, PATHS, 0)
    assert exact["drawdown-bounded"].falls <= BOUND.beta
    for name in ("drawdown-bounded", "… Baker–McHale's share of the edge"):
        assert noisy[name].falls > 2 * BOUND.beta, name
    kept = noisy["… estimate less 1.645 errors"]
    assert kept.falls <= BOUND.beta
    assert 0 < kept.growth < noisy["drawdown-bounded"].growth / 2


def test_fifty_trades_without_an_edge_are_believed_and_growth_optimal_stakes_lose_most() -> None:
    found = spread_study(MARKETS[0], range(2), 2520)
    assert found["growth-optimal, half, law known"].stake == pytest.approx(0, abs=1e-6)
    optimal, autoscaler = found["growth-optimal, half"], found["autoscaler, half"]
    assert optimal.stake > 1.2 * autoscaler.stake > 0
    assert optimal.growth < autoscaler.growth < 0
    assert found["drawdown-bounded, proven mean"].stake < autoscaler.stake / 4


def test_the_autoscaler_of_the_study_is_the_autoscaler() -> None:
    results = [Fraction(60 if k % 3 else -90) for k in range(50)]
    settings = AutoscalingSettings(MAX_CONTRACTS=10_000)
    balance, risk = Fraction(1_000_000), Fraction(500)
    count = contracts_for(balance, Statistics.of(results), 50, risk, settings)
    assert count.number == math.floor(autoscaled(results) * float(balance / risk)) > 1
    assert autoscaled([-result for result in results]) == 0


def test_a_fall_is_one_below_the_start_of_its_own_stretch() -> None:
    logs = np.zeros(3 * 252 + 100)
    logs[300] = math.log(0.69)
    logs[301] = math.log(1.5)
    logs[600] = math.log(0.71)
    logs[-1] = math.log(0.1)
    assert path_falls(logs).tolist() == [False, True, False]


def test_a_lead_over_weeks_counts_from_the_capital_to_the_end() -> None:
    hours = pd.date_range("2024-01-01", periods=24 * 7 * 25 + 30, freq="h", tz="UTC")
    moves = np.random.default_rng(0).normal(0, 1e-3, len(hours))
    still = np.full(len(hours), 100.0)
    equity = pd.DataFrame({"still": still, "moving": 90 * np.exp(np.cumsum(moves))}, index=hours)
    (found,) = weekly_leads(equity, "still", 100.0, 0).values()
    assert found is not None
    assert found.interval is not None
    assert found.ahead == pytest.approx(equity["moving"].iloc[-1] / 100 - 1)
    assert found.interval[0] < found.ahead < found.interval[1]
