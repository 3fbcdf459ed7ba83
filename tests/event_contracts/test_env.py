"""The environment books what the exact account books, sees no future, and creates no money."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from event_contracts import MarketAgnosticKalshiEnv, SyntheticMarket
from event_contracts.simulation.synthetic import synthetic_session
from event_contracts.trading.records import DOLLAR
from tests.event_contracts.exact_account import Account, as_fill

D = Decimal
MARKET = "RAIN"
SHORT = SyntheticMarket(steps=60)
STYLES = ("passive", "mid", "aggressive")
seeds = st.integers(0, 2**31)
styles = st.sampled_from(STYLES)


def exact(amount: float) -> Decimal:
    return D(repr(amount))


def env_of(style: str, **more: Any) -> MarketAgnosticKalshiEnv:
    return MarketAgnosticKalshiEnv(market=SHORT, price_style=style, **more)  # type: ignore[arg-type]


def played(
    env: MarketAgnosticKalshiEnv, seed: int
) -> Iterator[tuple[int, float, bool, dict[str, Any], Any]]:
    """A random episode: action, reward, end, info and observation of each step."""
    env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    done = False
    while not done:
        action = int(rng.choice(np.flatnonzero(env.action_masks())))
        seen, reward, done, _, info = env.step(action)
        yield action, reward, done, info, seen


@given(seeds, styles)
def test_every_cent_is_what_the_exact_account_books_fill_by_fill(seed: int, style: str) -> None:
    env = env_of(style)
    account = Account(D(1000))
    rules = env.space.fees
    for _, _, done, info, _ in played(env, seed):
        for entry in info["fills"]:
            fill = as_fill(entry)
            account, charge = account.booked(fill, rules)
            assert exact(entry["fee"]) == charge.net_fee
        held = account.position(MARKET)
        if done:
            account = account.settled(MARKET, "YES" if env.quote[0] + env.quote[1] >= 1 else "NO")
        else:
            assert held == info["yes"] - info["no"]
            assert min(info["yes"], info["no"]) == 0
        assert exact(info["cash"]) == account.cash


@given(seeds, styles)
def test_rewards_add_up_to_what_the_session_earned(seed: int, style: str) -> None:
    env = env_of(style)
    earned = sum(reward for _, reward, *_ in played(env, seed))
    assert earned == pytest.approx(env._info()["cash"] - 1000, abs=1e-6)
    wealth = env_of(style, reward="log_wealth")
    growth = sum(reward for _, reward, *_ in played(wealth, seed))
    assert growth == pytest.approx(np.log(wealth._info()["cash"] / 1000), abs=1e-9)


@given(seeds, styles, st.integers(1, 57))
def test_later_rows_change_nothing_that_was_seen_done_or_allowed(
    seed: int, style: str, row: int
) -> None:
    """Step k reads rows up to k + 1 only."""
    session = synthetic_session(seed, SHORT)
    changed = session.copy()
    changed[row + 1 :] = changed[row + 1 :][::-1]
    told: list[list[Any]] = []
    for each in (session, changed):
        env = MarketAgnosticKalshiEnv(each, price_style=style)  # type: ignore[arg-type]
        env.reset(seed=0)
        rng = np.random.default_rng(seed)
        steps: list[Any] = []
        for _ in range(row):
            allowed = env.action_masks()
            seen, reward, _, _, info = env.step(int(rng.choice(np.flatnonzero(allowed))))
            steps.append((allowed.tolist(), seen.tolist(), reward, info))
        told.append(steps)
    assert told[0] == told[1]


@given(seeds, styles)
def test_a_taker_pays_no_less_than_his_sides_ask_before_or_after(seed: int, style: str) -> None:
    env = env_of(style)
    env.reset(seed=seed)
    before = env.quote
    for _, _, done, info, _ in played(env, seed):
        for fill in info["fills"]:
            if done or fill["maker"]:
                continue
            quotes = [before, env.quote]
            asks = [q[1] if fill["side"] == "YES" else round(1 - q[0], 4) for q in quotes]
            bids = [q[0] if fill["side"] == "YES" else round(1 - q[1], 4) for q in quotes]
            if fill["action"] == "BUY":
                assert fill["price"] >= max(asks)
            else:
                assert fill["price"] <= min(bids)
        before = env.quote


@given(seeds, styles)
def test_a_masked_or_reserved_action_does_what_hold_does(seed: int, style: str) -> None:
    one, other = env_of(style), env_of(style)
    one.reset(seed=seed)
    other.reset(seed=seed)
    rng = np.random.default_rng(seed)
    done = False
    while not done:
        forbidden = ~one.action_masks()
        assert forbidden[21:].all()
        action = int(rng.integers(25))
        allowed = 0 if forbidden[action] else action
        first = one.step(action)
        second = other.step(allowed)
        assert first[0].tolist() == second[0].tolist()
        assert first[1:] == second[1:]
        size = one.space.process_action(allowed)[1]
        assert first[4]["last_order_size"] == size
        done = first[2]


def test_gymnasiums_own_check_finds_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env_of("aggressive"), skip_render_check=True)


def test_after_settlement_there_is_no_step_and_no_code_beyond_the_table() -> None:
    env = env_of("mid")
    list(played(env, 1))
    with pytest.raises(ValueError, match="the market has settled"):
        env.step(0)
    env.reset(seed=1)
    with pytest.raises(ValueError, match="action must be 0"):
        env.step(25)
    for action in (24.9, -0.5, "5", None):
        with pytest.raises(ValueError, match="is no whole number"):
            env.step(action)
    assert env._market["cash"] == 1000 * DOLLAR
