"""A Kelly weight that is shown beside a target is that of the span which put the target there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizing.conformance import random_situation
from sizing.limits import Limits
from sizing.situation import Situation
from sizing.solver.multi_period import LaterBlocks
from sizing.spans import SpannedAllocation
from sizing.strategies import Kelly, named


def plan(first: float, month: float, *, held: float = 0.0, cost: float = 2e-4) -> Situation:
    """One stock over an hour and the month after it; expected returns in basis points."""
    one = np.ones(1)
    yes = np.ones(1, dtype=bool)
    later = LaterBlocks(
        np.array([[month * 1e-4]]), np.array([[[3e-3]]]), np.zeros(1), np.full((1, 1), cost)
    )
    return Situation(
        mu=first * 1e-4 * one,
        covariance=np.array([[2e-5]]),
        held=held * one,
        cost=cost * one,
        crypto=~yes,
        long_only=~yes,
        deciding=yes,
        universe=yes,
        years=one / 1764,
        equity=100_000.0,
        stock_ceiling=1.96,
        unborrowed=1.0,
        later=later,
    )


def answer(situation: Situation, fraction: float = 0.1) -> SpannedAllocation:
    allocation = Kelly(fraction).allocate(situation, Limits())
    assert isinstance(allocation, SpannedAllocation)
    return allocation


def test_an_hour_that_decides_against_the_month_is_shown_with_its_own_kelly_weight() -> None:
    found = answer(plan(-8.0, 28.0))
    assert found.target[0] == pytest.approx(-0.6)
    assert found.blocks.tolist() == [1]
    assert found.unlimited[0] == pytest.approx(0.1 * -8e-4 / 2e-5)


def test_a_month_that_decides_is_shown_with_the_kelly_weight_of_the_whole_plan() -> None:
    found = answer(plan(0.0, 60.0))
    assert found.blocks.tolist() == [2]
    assert found.unlimited[0] == pytest.approx(0.1 * 60e-4 / (3e-3 + 2e-5))
    assert 0 < found.target[0] <= found.unlimited[0]


def test_what_its_cost_keeps_where_it_is_is_shown_what_the_whole_plan_would_hold() -> None:
    found = answer(plan(0.1, 10.0, held=0.03, cost=3e-3))
    assert found.binding[0].keys() == {"cost"}
    assert found.blocks.tolist() == [2]


def test_a_coin_that_may_not_be_short_is_shown_the_hour_that_would_be() -> None:
    situation = replace(plan(-8.0, 28.0), long_only=np.ones(1, dtype=bool))
    found = answer(situation)
    assert found.target[0] == 0
    assert "long_only" in found.binding[0]
    assert found.unlimited[0] < 0


def test_a_rule_of_weights_rests_on_the_next_decision_alone() -> None:
    situation = plan(20.0, -60.0)
    for name in ("fixed_fraction", "legacy"):
        allocation = named(name).allocate(situation, Limits())
        assert isinstance(allocation, SpannedAllocation)
        assert allocation.blocks.tolist() == [1]


@given(seed=st.integers(0, 10_000), fraction=st.sampled_from([0.1, 0.5, 1.0]))
def test_whatever_is_shown_is_the_kelly_weight_of_the_blocks_it_names(
    seed: int, fraction: float
) -> None:
    situation = random_situation(np.random.default_rng(seed))
    found = answer(situation, fraction)
    later = situation.later_blocks
    chosen = np.flatnonzero(situation.deciding)
    for k in chosen:
        count = int(found.blocks[k])
        mu = situation.mu + later.mu[: count - 1].sum(axis=0)
        covariance = situation.covariance + later.covariance[: count - 1].sum(axis=0)
        kelly = fraction * np.linalg.solve(covariance[np.ix_(chosen, chosen)], mu[chosen])
        others = covariance[k] @ found.target - covariance[k, k] * found.target[k]
        beside = (fraction * mu[k] - others) / covariance[k, k]
        shown = found.unlimited[k]
        assert min(abs(shown - kelly[chosen == k][0]), abs(shown - beside)) < 1e-6 * (
            1 + abs(shown)
        )


@given(seed=st.integers(0, 10_000), fraction=st.sampled_from([0.1, 0.5, 1.0]))
def test_what_a_limit_of_its_own_holds_is_shown_a_weight_beyond_it(
    seed: int, fraction: float
) -> None:
    situation = random_situation(np.random.default_rng(seed))
    found = answer(situation, fraction)
    for k, names in enumerate(found.binding):
        # What is held beyond its limit is cut to it whatever Kelly says.
        within = situation.held[k] * np.sign(found.target[k]) <= abs(found.target[k])
        if names.get("symbol_cap", 0.0) > 1e-6 and within:
            assert found.unlimited[k] * found.target[k] > 0
            assert abs(found.unlimited[k]) >= abs(found.target[k]) - 1e-6
