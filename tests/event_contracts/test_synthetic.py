from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from event_contracts.simulation.sessions import (
    ASK_SIZE,
    BID_SIZE,
    BOUGHT,
    ESTIMATE,
    SOLD,
    YES_ASK,
    YES_BID,
    checked_session,
    outcome_of,
)
from event_contracts.simulation.synthetic import (
    LATENT,
    OUTCOME,
    Draws,
    SyntheticMarket,
    draws_of,
    sessions_from,
    synthetic_session,
    synthetic_sessions,
)
from foundation.arrays import Array
from foundation.errors import InputError

# A short market whose prices move far and whose quotes are wide: a bias shows.
SHORT = SyntheticMarket(steps=8, start_deviation=2.0, volatility=2.0, width=6.0)
MANY = 20_000

markets = st.builds(
    SyntheticMarket,
    steps=st.integers(1, 40),
    level=st.floats(0.001, 0.999),
    start_deviation=st.floats(0, 10),
    reversion=st.sampled_from([0.0, 1e-9, 1.0, 30.0]),
    volatility=st.floats(0, 100),
    tick=st.sampled_from([0.01, 0.001, 0.5]),
    width=st.floats(1, 20),
    depth=st.floats(1, 1e6),
    lot=st.integers(1, 100),
    informed=st.floats(0, 100),
    noise=st.floats(0, 20),
    edge=st.sampled_from([0.0, 0.03, 0.25]),
    memory=st.floats(0, 0.9999),
    estimate_noise=st.sampled_from([0.0, 0.5]),
)


def outcomes_of(sessions: Array) -> Array:
    assert outcome_of(sessions[0]) == (sessions[0, -1, YES_BID] > 0.5)
    return np.asarray(sessions[:, -1, [YES_BID, YES_ASK]].mean(axis=1) > 0.5, dtype=float)


def assert_mean(values: Array, expected: float) -> None:
    """The mean is within 3 of its standard errors."""
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - expected) <= 3 * error, (values.mean(), expected, error)


@pytest.fixture(scope="module")
def fair_market() -> Array:
    return synthetic_sessions(1, MANY, SHORT)


@pytest.fixture(scope="module")
def mispriced_market() -> Array:
    return synthetic_sessions(2, MANY, replace(SHORT, edge=0.05, memory=0.8))


@given(seed=st.integers(0, 2**63), market=markets, cut=st.integers(0, 40))
def test_every_synthetic_session_is_one_and_its_tail_in_reverse_too(
    seed: int, market: SyntheticMarket, cut: int
) -> None:
    session = synthetic_session(seed, market)
    assert session.shape == (market.steps + 1, 7)
    np.testing.assert_array_equal(checked_session(session, market.tick), session)
    counts = session[:, [BID_SIZE, ASK_SIZE, SOLD, BOUGHT]]
    np.testing.assert_array_equal(counts, np.round(counts))
    turned = np.concatenate([session[:cut], session[cut:][::-1]])
    checked_session(turned, market.tick)


@given(seed=st.integers(0, 2**32), market=markets, data=st.data())
def test_what_comes_later_changes_no_row(seed: int, market: SyntheticMarket, data: Any) -> None:
    row = data.draw(st.integers(0, market.steps - 1), label="row")
    draws = draws_of(seed, 3, market)
    other = draws_of(seed + 1, 3, market)
    after = np.arange(market.steps + 1) > row
    altered = Draws(
        np.where(after, other.normals, draws.normals),
        np.where(after[:, None], other.uniforms, draws.uniforms),
    )
    before = sessions_from(draws, market)
    np.testing.assert_array_equal(
        sessions_from(altered, market)[:, : row + 1], before[:, : row + 1]
    )


def test_the_fair_price_is_the_expectation_of_the_next_one() -> None:
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    market = replace(SHORT, level=0.3, reversion=2.0)
    draws = draws_of(5, 1, market)
    for row in range(market.steps - 1):
        normals = np.repeat(draws.normals, len(nodes), axis=0)
        normals[:, LATENT, row + 1] = nodes
        uniforms = np.repeat(draws.uniforms, len(nodes), axis=0)
        sessions = sessions_from(Draws(normals, uniforms), market)
        expected = float(weights @ sessions[:, row + 1, ESTIMATE])
        assert abs(expected - sessions[0, row, ESTIMATE]) < 1e-12, row


def test_the_last_fair_price_is_the_chance_of_the_outcome() -> None:
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    levels = 2000
    market = SyntheticMarket(steps=1, level=0.3, start_deviation=1.0, volatility=1.5)
    normals = np.zeros((len(nodes) * levels, 3, 2))
    normals[:, LATENT, 0] = 0.7
    normals[:, LATENT, 1] = np.repeat(nodes, levels)
    uniforms = np.full((len(normals), 2, 5), 0.5)
    uniforms[:, 1, OUTCOME] = np.tile((np.arange(levels) + 0.5) / levels, len(nodes))
    sessions = sessions_from(Draws(normals, uniforms), market)
    chances = outcomes_of(sessions).reshape(len(nodes), levels).mean(axis=1)
    assert abs(float(weights @ chances) - sessions[0, 0, ESTIMATE]) < 1 / levels


def test_the_chance_is_the_logistic_function_of_the_log_odds_to_5e_6() -> None:
    log_odds = np.linspace(-15, 15, 2001)
    market = SyntheticMarket(steps=1, start_deviation=1.0, reversion=0.0, volatility=0.0)
    normals = np.zeros((len(log_odds), 3, 2))
    normals[:, LATENT, 0] = log_odds
    sessions = sessions_from(Draws(normals, np.full((len(log_odds), 2, 5), 0.5)), market)
    logistic = 1 / (1 + np.exp(-log_odds))
    error = np.abs(sessions[:, 0, ESTIMATE] - logistic).max()
    assert 1e-6 < error < 5e-6


@pytest.mark.parametrize("row", [0, 4, 7])
def test_the_estimate_is_calibrated_and_the_market_is_not_where_it_has_an_edge(
    mispriced_market: Array, row: int
) -> None:
    outcomes = outcomes_of(mispriced_market)
    estimates = mispriced_market[:, row, ESTIMATE]
    for low in np.arange(0.1, 0.9, 0.2):
        inside = (estimates >= low) & (estimates < low + 0.2)
        assert_mean((outcomes - estimates)[inside], 0.0)
    asks = mispriced_market[:, row, YES_ASK]
    cheap = estimates > asks + 0.03
    profit = (outcomes - asks)[cheap]
    assert profit.mean() > 3 * profit.std() / np.sqrt(len(profit))
    assert_mean(profit, (estimates - asks)[cheap].mean())


def test_market_orders_hit_a_quote_that_the_price_has_left(fair_market: Array) -> None:
    """Nobody who rests at the best price earns from them: they know the price that comes."""
    before = fair_market[:, :-2]
    after = fair_market[:, 1:-1]
    assert (after[:, :, YES_BID] <= after[:, :, ESTIMATE]).all()
    assert (after[:, :, ESTIMATE] <= after[:, :, YES_ASK]).all()
    sold = after[:, :, SOLD]
    bought = after[:, :, BOUGHT]
    assert (after[:, :, ESTIMATE] <= before[:, :, YES_BID])[sold > 0].all()
    assert (after[:, :, ESTIMATE] >= before[:, :, YES_ASK])[bought > 0].all()
    beyond = 100 * (before[:, :, YES_BID] - after[:, :, ESTIMATE])
    inner = (beyond > 0) & (before[:, :, YES_BID] > 0) & (beyond < 20)
    inner &= after[:, :, ESTIMATE] > 0.005
    assert_mean((sold - 20 * beyond)[inner], 0.0)
    assert (fair_market[:, 0, [SOLD, BOUGHT]] == 0).all()
    last = fair_market[:, -1, [YES_BID, YES_ASK]].mean(axis=1)
    np.testing.assert_allclose(np.abs(last - 0.5), 0.495)
    np.testing.assert_array_equal(fair_market[:, -1, ESTIMATE], last > 0.5)
    assert (fair_market[:, -1, [SOLD, BOUGHT, BID_SIZE, ASK_SIZE]] == 0).all()


def test_depth_and_width_are_as_deep_and_wide_as_stated() -> None:
    market = SyntheticMarket(steps=50, start_deviation=0.0, volatility=0.5, depth=12.0, width=2.5)
    quoted = synthetic_sessions(6, 400, market)[:, :-1]
    for column in (BID_SIZE, ASK_SIZE):
        assert_mean(quoted[:, :, column].ravel(), 12.0)
    assert_mean(100 * (quoted[:, :, YES_ASK] - quoted[:, :, YES_BID]).ravel(), 2.5)
    one = synthetic_sessions(6, 20, replace(market, depth=1.0, width=1.0))[:, :-1]
    assert (one[:, :, BID_SIZE] == 1).all()
    np.testing.assert_allclose(one[:, :, YES_ASK] - one[:, :, YES_BID], 0.01)


@given(seed=st.integers(0, 2**63), first=st.integers(0, 1000), count=st.integers(1, 6))
@settings(max_examples=25)
def test_many_sessions_are_those_that_are_drawn_one_by_one(
    seed: int, first: int, count: int
) -> None:
    market = replace(SHORT, edge=0.02)
    batch = synthetic_sessions(seed, count, market, first)
    for k in reversed(range(count)):
        np.testing.assert_array_equal(synthetic_session(seed, market, first + k), batch[k])


@pytest.mark.parametrize("seed", [-1, 1.5, "seed", (1, -2)])
def test_a_seed_that_is_none_is_refused(seed: Any) -> None:
    with pytest.raises(InputError, match="seed: "):
        synthetic_session(seed)
    with pytest.raises(InputError, match="market: -1"):
        synthetic_session(0, market=-1)
