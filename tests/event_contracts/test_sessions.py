"""Sessions, checked, recorded and synthetic: none shows what is still to come."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.simulation.recorded import recorded_markets, recorded_sessions
from event_contracts.simulation.sessions import (
    ASK_SIZE,
    BID_SIZE,
    BOUGHT,
    ESTIMATE,
    SESSION_COLUMNS,
    SOLD,
    YES_ASK,
    YES_BID,
    mid_prices,
    session_outcome,
    validate_session,
)
from event_contracts.simulation.settings import SyntheticSessionModel
from event_contracts.simulation.synthetic import (
    LATENT,
    OUTCOME_DRAW_INDEX,
    RandomDraws,
    build_sessions,
    draw_from_seed,
    synthetic_session,
    synthetic_sessions,
)
from foundation.arrays import Array
from foundation.errors import DataError, InputError
from tests.event_contracts.recordings import Quote, write_files
from tests.support.messages import refused


def plain_session() -> Array:
    return np.array(
        [
            [0.40, 0.42, 100, 80, 0, 0, 0.41],
            [0.00, 0.02, 0, 80, 10, 0, 0.30],
            [0.99, 1.00, 50, 0, 0, 20, 0.50],
            [0.00, 0.01, 0, 0, 0, 0, 0.00],
        ]
    )


def test_session_validation_copies_and_rounds_prices_to_ticks() -> None:
    cents = np.arange(99) / 100
    session = np.zeros((99, 7))
    session[:, YES_BID], session[:, YES_ASK] = cents, np.arange(1, 100) / 100
    own = validate_session(session.astype(np.float32))
    np.testing.assert_array_equal(own, session)
    plain = plain_session()
    plain.flags.writeable = False
    own = validate_session(plain)
    np.testing.assert_array_equal(own, plain)
    own[0, 0] = 0.1  # is its own


@pytest.mark.parametrize(
    ("row", "column", "value", "facts"),
    [
        (1, "yes_bid", np.nan, ()),
        (0, "yes_bid", -0.01, ("0", "1")),
        (2, "estimate", 1.2, ("0", "1")),
        (1, "bid_size", -1.0, ()),
        (1, "ask_size", 1e19, ("1e+09",)),
        (2, "bought", -20.0, ()),
        (0, "yes_bid", 0.405, ("$0.01",)),
        (0, "yes_ask", 0.40, ("yes_bid",)),
    ],
)
def test_invalid_session_value_names_row_and_column(
    row: int, column: str, value: float, facts: tuple[str, ...]
) -> None:
    session = plain_session()
    session[row, SESSION_COLUMNS.index(column)] = value
    with refused(InputError, f"row {row}", column, f"{value:g}", *facts) as caught:
        validate_session(session)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tick", [0.0, -0.01, 0.03, 1.0, np.nan, 1e-6])
def test_price_tick_must_divide_one_dollar(tick: float) -> None:
    with refused(InputError, "tick"):
        validate_session(plain_session(), tick=tick)


def test_outcome_yes_requires_last_midpoint_of_fifty_cents() -> None:
    session = plain_session()
    for bid in range(100):
        for ask in range(bid + 1, 101):
            session[-1, [YES_BID, YES_ASK]] = bid / 100, ask / 100
            assert session_outcome(session) == (bid + ask >= 100), (bid, ask)


# Two markets of one event. WARM is quoted until 12:31, COLD until 12:12.
QUOTES: list[Quote] = [
    ("12:00:01", "E1-COLD", 60, 64),
    ("12:00:02", "E1-WARM", 20, 22),
    ("12:04:59", "E1-WARM", 21, 23),
    ("12:05:00", "E1-WARM", 30, 32),
    ("12:05:00.000001", "E1-WARM", 25, 28),
    ("12:09:00", "E1-WARM", 27, 26),
    ("12:12:00", "E1-COLD", 0, 1),
    ("12:31:00", "E1-WARM", 99, 100),
]
SETTLED = {"E1-WARM": 1.0, "E1-COLD": 0.0}


def test_recorded_rows_hold_latest_quotes_and_final_settlement(tmp_path: Path) -> None:
    """All markets of an event end together."""
    folder = write_files(tmp_path, QUOTES, SETTLED)
    cold, warm = recorded_markets(folder)
    assert (warm.event, warm.market, cold.market) == ("E1", "E1-WARM", "E1-COLD")
    clock = ["12:05", "12:10", "12:15", "12:20", "12:25", "12:30"]
    instants = np.array([f"2025-12-04T{time}" for time in clock], dtype="datetime64[ns]")
    for market in (cold, warm):
        np.testing.assert_array_equal(market.row_times, instants)
        np.testing.assert_array_equal(validate_session(market.session), market.session)
    # The quote of 12:05:00 stands at 12:05; the one of 12:09, 27 bid and 26 asked, never.
    bids, asks = warm.session[:, [YES_BID, YES_ASK]].T
    assert bids.tolist() == [0.30, 0.25, 0.25, 0.25, 0.25, 0.25, 0.99]
    assert asks.tolist() == [0.32, 0.28, 0.28, 0.28, 0.28, 0.28, 1.00]
    assert cold.session[-1].tolist() == [0.0, 0.01, 0, 0, 0, 0, 0.005]
    assert warm.session[-1].tolist() == [0.99, 1.0, 0, 0, 0, 0, 0.995]
    np.testing.assert_array_equal(cold.session[:, ESTIMATE], mid_prices(cold.session))
    for session, market in zip(recorded_sessions(folder), (cold, warm), strict=True):
        np.testing.assert_array_equal(session, market.session)


def test_trades_are_inferred_only_where_quotes_moved(tmp_path: Path) -> None:
    quotes: list[Quote] = [
        ("12:00:00", "E1-WARM", 30, 33),
        ("12:05:00", "E1-WARM", 28, 32),  # the bid falls by two levels
        ("12:10:00", "E1-WARM", 28, 35),  # the ask rises by three
        ("12:14:00", "E1-WARM", 10, 90),  # nothing of this is left at 12:15
        ("12:15:00", "E1-WARM", 28, 35),
        ("12:20:00", "E1-WARM", 0, 100),
    ]
    folder = write_files(tmp_path, quotes, {"E1-WARM": 0.0})
    (session,) = recorded_sessions(folder)
    np.testing.assert_array_equal(session[:, SOLD], [0, 100, 0, 0, 1400, 0])
    np.testing.assert_array_equal(session[:, BOUGHT], [0, 0, 150, 0, 3250, 0])
    np.testing.assert_array_equal(session[:, BID_SIZE], [100, 100, 100, 100, 0, 0])
    np.testing.assert_array_equal(session[:, BID_SIZE + 1], [100, 100, 100, 100, 0, 0])


def test_events_are_ordered_by_their_first_quotes(tmp_path: Path) -> None:
    quotes: list[Quote] = [
        ("14:00:00", "E1-B", 20, 22),
        ("13:00:00", "E2-B", 20, 22),
        ("13:10:00", "E2-A", 20, 22),
        ("13:30:00", "E2-B", 30, 32),
        ("14:30:00", "E1-B", 30, 32),
    ]
    settled = {"E1-B": 1.0, "E2-A": 0.0, "E2-B": 1.0}
    markets = recorded_markets(write_files(tmp_path, quotes, settled))
    assert [market.market for market in markets] == ["E2-A", "E2-B", "E1-B"]
    assert [len(market.session) for market in markets] == [6, 8, 8]


def test_unsettled_market_is_skipped_and_named_in_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    markets = recorded_markets(write_files(tmp_path, QUOTES, {"E1-WARM": 1.0, "E1-COLD": np.nan}))
    assert [market.market for market in markets] == ["E1-WARM"]
    assert "E1-COLD: skipped, its settlement is not recorded" in caplog.text
    with refused(InputError):
        recorded_markets(write_files(tmp_path, QUOTES, {"OTHER": 1.0}))


def test_later_quotes_and_outcomes_change_no_earlier_row(tmp_path: Path) -> None:
    before = recorded_markets(write_files(tmp_path / "one", QUOTES, SETTLED))
    later: list[Quote] = [("12:12:00", "E1-COLD", 7, 9), ("12:31:00", "E1-WARM", 3, 5)]
    turned = {name: 1 - paid for name, paid in SETTLED.items()}
    after = recorded_markets(write_files(tmp_path / "two", [*QUOTES[:-2], *later], turned))
    for old, new in zip(before, after, strict=True):
        same = int((old.row_times < np.datetime64("2025-12-04T12:12")).sum())
        np.testing.assert_array_equal(new.session[:same], old.session[:same])
        assert session_outcome(new.session) == 1 - session_outcome(old.session)


@pytest.mark.parametrize(
    ("file", "column", "value", "facts"),
    [
        ("top_of_book", "timestamp", "soon", ("timestamp 'soon'",)),
        ("top_of_book", "timestamp", pd.Timestamp("2025-12-04"), ()),
        ("top_of_book", "yes_bid", "low", ()),
        ("top_of_book", "no_bid", np.nan, ()),
        ("top_of_book", "ticker", None, ()),
        ("settlement", "settled_yes_inferred", "yes", ("0", "1")),
        ("settlement", "settled_yes_inferred", 0.5, ("0.5", "0", "1")),
        ("settlement", "ticker", "E1-WARM", ("E1-WARM", "0", "1")),
    ],
)
def test_invalid_recorded_column_is_refused_with_its_file(
    tmp_path: Path, file: str, column: str, value: object, facts: tuple[str, ...]
) -> None:
    write_files(tmp_path, QUOTES, SETTLED)
    path = tmp_path / f"SERIES_{file}.parquet"
    table = pd.read_parquet(path)
    table[column] = pd.Series([value] * len(table), index=table.index)
    table.to_parquet(path)
    with refused(DataError, path, *facts):
        recorded_markets(tmp_path)


def test_a_market_that_two_events_list_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path, QUOTES, SETTLED)
    for kind in ("top_of_book", "settlement"):
        table = pd.read_parquet(tmp_path / f"SERIES_{kind}.parquet")
        if kind == "top_of_book":
            table = table[table["ticker"] == "E1-WARM"].assign(event="E2")
        table.to_parquet(tmp_path / f"SERIES2_{kind}.parquet")
    with refused(DataError, "E1-WARM"):
        recorded_markets(tmp_path)


# A short market whose prices move far and whose quotes are wide: a bias shows.
SHORT = SyntheticSessionModel(steps=8, start_deviation=2.0, volatility=2.0, width=6.0)

markets = st.builds(
    SyntheticSessionModel,
    steps=st.integers(1, 40),
    mean_probability=st.floats(0.001, 0.999),
    start_deviation=st.floats(0, 10),
    reversion=st.sampled_from([0.0, 1e-9, 1.0, 30.0]),
    volatility=st.floats(0, 100),
    tick=st.sampled_from([0.01, 0.001, 0.5]),
    width=st.floats(1, 20),
    depth=st.floats(1, 1e6),
    lot=st.integers(1, 100),
    informed_order_rate=st.floats(0, 100),
    noise_order_rate=st.floats(0, 20),
    mispricing=st.sampled_from([0.0, 0.03, 0.25]),
    mispricing_persistence=st.floats(0, 0.9999),
    estimate_noise=st.sampled_from([0.0, 0.5]),
)


def outcomes_of(sessions: Array) -> Array:
    assert session_outcome(sessions[0]) == (sessions[0, -1, YES_BID] > 0.5)
    return np.asarray(sessions[:, -1, [YES_BID, YES_ASK]].mean(axis=1) > 0.5, dtype=float)


def assert_mean(values: Array, expected: float) -> None:
    """The mean is within 3 of its standard errors."""
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - expected) <= 3 * error, (values.mean(), expected, error)


@given(seed=st.integers(0, 2**63), market=markets, cut=st.integers(0, 40))
def test_synthetic_sessions_pass_validation_even_with_rows_reversed(
    seed: int, market: SyntheticSessionModel, cut: int
) -> None:
    session = synthetic_session(seed, market)
    assert session.shape == (market.steps + 1, 7)
    np.testing.assert_array_equal(validate_session(session, market.tick), session)
    counts = session[:, [BID_SIZE, ASK_SIZE, SOLD, BOUGHT]]
    np.testing.assert_array_equal(counts, np.round(counts))
    turned = np.concatenate([session[:cut], session[cut:][::-1]])
    validate_session(turned, market.tick)


@given(seed=st.integers(0, 2**32), market=markets, data=st.data())
def test_later_random_draws_change_no_earlier_row(
    seed: int, market: SyntheticSessionModel, data: Any
) -> None:
    row = data.draw(st.integers(0, market.steps - 1), label="row")
    draws = draw_from_seed(seed, 3, market)
    other = draw_from_seed(seed + 1, 3, market)
    after = np.arange(market.steps + 1) > row
    altered = RandomDraws(
        np.where(after, other.normal_draws, draws.normal_draws),
        np.where(after[:, None], other.uniform_draws, draws.uniform_draws),
    )
    before = build_sessions(draws, market)
    np.testing.assert_array_equal(
        build_sessions(altered, market)[:, : row + 1], before[:, : row + 1]
    )


def test_fair_price_equals_expected_next_fair_price() -> None:
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    market = replace(SHORT, mean_probability=0.3, reversion=2.0)
    draws = draw_from_seed(5, 1, market)
    for row in range(market.steps - 1):
        normals = np.repeat(draws.normal_draws, len(nodes), axis=0)
        normals[:, LATENT, row + 1] = nodes
        uniforms = np.repeat(draws.uniform_draws, len(nodes), axis=0)
        sessions = build_sessions(RandomDraws(normals, uniforms), market)
        expected = float(weights @ sessions[:, row + 1, ESTIMATE])
        assert abs(expected - sessions[0, row, ESTIMATE]) < 1e-12, row


def test_last_fair_price_is_the_outcome_probability() -> None:
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    levels = 2000
    market = SyntheticSessionModel(
        steps=1, mean_probability=0.3, start_deviation=1.0, volatility=1.5
    )
    normals = np.zeros((len(nodes) * levels, 3, 2))
    normals[:, LATENT, 0] = 0.7
    normals[:, LATENT, 1] = np.repeat(nodes, levels)
    uniforms = np.full((len(normals), 2, 5), 0.5)
    uniforms[:, 1, OUTCOME_DRAW_INDEX] = np.tile((np.arange(levels) + 0.5) / levels, len(nodes))
    sessions = build_sessions(RandomDraws(normals, uniforms), market)
    chances = outcomes_of(sessions).reshape(len(nodes), levels).mean(axis=1)
    assert abs(float(weights @ chances) - sessions[0, 0, ESTIMATE]) < 1 / levels


def test_synthetic_outcome_probability_is_logistic_within_5e_6() -> None:
    log_odds = np.linspace(-15, 15, 2001)
    market = SyntheticSessionModel(steps=1, start_deviation=1.0, reversion=0.0, volatility=0.0)
    normals = np.zeros((len(log_odds), 3, 2))
    normals[:, LATENT, 0] = log_odds
    sessions = build_sessions(RandomDraws(normals, np.full((len(log_odds), 2, 5), 0.5)), market)
    logistic = 1 / (1 + np.exp(-log_odds))
    error = np.abs(sessions[:, 0, ESTIMATE] - logistic).max()
    assert 1e-6 < error < 5e-6


def test_mispriced_quotes_offer_the_edge_over_the_estimate() -> None:
    """The estimate remains the outcome probability, which the preceding tests verify."""
    plain = synthetic_sessions(2, 3_000, SHORT)
    mispriced = synthetic_sessions(
        2, 3_000, replace(SHORT, mispricing=0.05, mispricing_persistence=0.8)
    )
    np.testing.assert_array_equal(mispriced[:, :, ESTIMATE], plain[:, :, ESTIMATE])
    estimates, asks = mispriced[:, 4, [ESTIMATE, YES_ASK]].T
    cheap = estimates > asks + 0.03
    profit = (outcomes_of(mispriced) - asks)[cheap]
    assert profit.mean() > 3 * profit.std() / np.sqrt(len(profit))
    assert_mean(profit, (estimates - asks)[cheap].mean())


def test_synthetic_market_orders_trade_only_against_stale_quotes() -> None:
    """Resting at the best price earns nothing, because market orders know the next fair price."""
    fair_market = synthetic_sessions(1, 5_000, SHORT)
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


def test_quoted_depth_and_spread_match_their_stated_means() -> None:
    market = SyntheticSessionModel(
        steps=50, start_deviation=0.0, volatility=0.5, depth=12.0, width=2.5
    )
    quoted = synthetic_sessions(6, 400, market)[:, :-1]
    for column in (BID_SIZE, ASK_SIZE):
        assert_mean(quoted[:, :, column].ravel(), 12.0)
    assert_mean(100 * (quoted[:, :, YES_ASK] - quoted[:, :, YES_BID]).ravel(), 2.5)
    one = synthetic_sessions(6, 20, replace(market, depth=1.0, width=1.0))[:, :-1]
    assert (one[:, :, BID_SIZE] == 1).all()
    np.testing.assert_allclose(one[:, :, YES_ASK] - one[:, :, YES_BID], 0.01)


@given(seed=st.integers(0, 2**63), first=st.integers(0, 1000), count=st.integers(1, 6))
def test_batched_sessions_equal_sessions_drawn_one_by_one(
    seed: int, first: int, count: int
) -> None:
    market = replace(SHORT, mispricing=0.02)
    batch = synthetic_sessions(seed, count, market, first)
    for k in reversed(range(count)):
        np.testing.assert_array_equal(synthetic_session(seed, market, first + k), batch[k])


@pytest.mark.parametrize("seed", [-1, 1.5, "seed", (1, -2)])
def test_invalid_seed_is_refused(seed: Any) -> None:
    with refused(InputError, "seed"):
        synthetic_session(seed)
    with refused(InputError, "market", "-1"):
        synthetic_session(0, market_index=-1)
