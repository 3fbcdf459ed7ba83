"""The environments book what the exact account books, see no future, and create no money."""

# Private access: the quotes that a decision saw are not part of its observation in exact units.
from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from event_contracts import MarketAgnosticKalshiEnv, SyntheticSessionModel
from event_contracts.simulation.synthetic import synthetic_session
from event_contracts.simulation.vector import VectorKalshiEnv
from event_contracts.trading.records import (
    MAX_FILLS_PER_STEP,
    MAX_RESTING_ORDERS,
    MICROS_PER_DOLLAR,
    PRICE_UNITS_PER_DOLLAR,
)
from tests.e2e.kalshi_desk import quotes
from tests.event_contracts.exact_account import Account, as_fill
from tests.support.event_money import unexplained_money

D = Decimal
MARKET = "RAIN"
SHORT = SyntheticSessionModel(steps=60)
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
def test_environment_cash_equals_that_of_exact_accounting(seed: int, style: str) -> None:
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
def test_rewards_sum_to_the_profit_of_the_session(seed: int, style: str) -> None:
    env = env_of(style)
    steps = list(played(env, seed))
    earned = sum(reward for _, reward, *_ in steps)
    assert earned == pytest.approx(steps[-1][3]["cash"] - 1000, abs=1e-6)
    steps = list(played(env_of(style, reward="log_wealth"), seed))
    growth = sum(reward for _, reward, *_ in steps)
    assert growth == pytest.approx(np.log(steps[-1][3]["cash"] / 1000), abs=1e-9)


@given(seeds, styles, st.integers(1, 57))
def test_later_rows_change_no_earlier_observation_or_fill(seed: int, style: str, row: int) -> None:
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
def test_taker_orders_fill_at_displayed_quote_and_depth(seed: int, style: str) -> None:
    """An order meets the book that its decision observed, neither a better nor a later one."""
    env = env_of(style)
    env.reset(seed=seed)
    tick = env._one.tapes[0, 0].copy()
    for _, _, _, info, _ in played(env, seed):
        taken = [fill for fill in info["fills"] if not fill["maker"]]
        assert len(taken) <= 1
        for fill in taken:
            lifts = (fill["action"] == "BUY") == (fill["side"] == "YES")
            price = tick["ask"] if lifts else tick["bid"]
            assert (
                fill["price"]
                == (price if fill["side"] == "YES" else PRICE_UNITS_PER_DOLLAR - price)
                / PRICE_UNITS_PER_DOLLAR
            )
            assert 0 < fill["count"] <= tick["ask_size" if lifts else "bid_size"]
        tick = env._one.tapes[0, env._market["row"]].copy()


def test_one_environment_step_records_every_fill() -> None:
    """Seven orders rest and fill at the next tick; an eighth takes ten and fills ten more."""
    session = quotes([(0.40, 0.42, 8), (0.30, 0.32, 2), (0.99, 1.0, 1)], depth=10.0)
    session[8:, [2, 3]] = 1000.0
    styles = {"BUY_YES": "passive", "SELL_YES": "passive", "BUY_NO": "passive", "SELL_NO": "mid"}
    env = MarketAgnosticKalshiEnv(session, price_style=styles, life=20, starting_cash=10_000.0)
    env.reset(seed=0)
    for _ in range(MAX_RESTING_ORDERS - 1):
        assert env.step(1)[4]["fills"] == []
    taking = MarketAgnosticKalshiEnv(session, life=20, starting_cash=10_000.0)
    env._one._terms = taking._one._terms
    fills = env.step(3)[4]["fills"]
    assert len(fills) == MAX_FILLS_PER_STEP
    assert [(fill["count"], fill["maker"]) for fill in fills[:1]] == [(10, False)]
    assert sum(fill["count"] for fill in fills) == 7 * 5 + 20


@given(seeds, styles)
def test_masked_or_reserved_action_acts_as_hold(seed: int, style: str) -> None:
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


def test_environment_passes_the_gymnasium_checker() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env_of("aggressive"), skip_render_check=True)


QUICK = SyntheticSessionModel(steps=30)


@settings(max_examples=8)
@given(seeds, styles, st.sampled_from(["value", "log_wealth"]))
def test_vector_environment_equals_single_ones_step_by_step(
    seed: int, style: str, reward: str
) -> None:
    same: dict[str, Any] = {"market": QUICK, "price_style": style, "reward": reward}
    many = VectorKalshiEnv(4, **same)
    singles = [MarketAgnosticKalshiEnv(**same) for _ in range(4)]
    many.reset(seed=9)
    many.step([1, 11, 0, 3])
    # A seed gives the same episode after any earlier one.
    seen, _ = many.reset(seed=seed)
    for i, single in enumerate(singles):
        assert single.reset(seed=seed + i)[0].tolist() == seen[i].tolist()
    rng = np.random.default_rng(seed)
    for _ in range(75):
        actions = rng.integers(0, 25, 4)
        seen, rewards, over, _, info = many.step(actions)
        final = dict(zip(info.get("settled", []), info.get("final_obs", []), strict=True))
        for i, single in enumerate(singles):
            shown, got, done, _, told = single.step(int(actions[i]))
            assert (got, done) == (rewards[i], over[i])
            if done:
                assert final[i].tolist() == shown.tolist()
                place = list(info["settled"]).index(i)
                assert told["cash"] == info["final_markets"]["cash"][place] / MICROS_PER_DOLLAR
                shown, _ = single.reset()
            assert seen[i].tolist() == shown.tolist()
            assert single.action_masks().tolist() == many.action_masks()[i].tolist()


@pytest.mark.first_example
@pytest.mark.parametrize("style", STYLES)
def test_random_actions_conserve_money_to_the_micro_dollar(style: str) -> None:
    assert unexplained_money(VectorKalshiEnv(256, price_style=style), 200_000, seed=5) == 0


def test_invalid_action_codes_and_environment_counts_are_refused() -> None:
    env, fresh = (VectorKalshiEnv(2, market=QUICK) for _ in range(2))
    env.reset(seed=0)
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: VectorKalshiEnv(0), "count: .*got 0"),
        (lambda: VectorKalshiEnv(2, []), "sessions is empty"),
        (lambda: fresh.step([0, 0]), r"call reset\(\)"),
        (fresh.action_masks, r"call reset\(\)"),
        (lambda: env.reset(seed=[1, 2, 3]), "3 seeds for 2 markets"),
    ]
    single = env_of("mid")
    list(played(single, 1))
    cases.append((lambda: single.step(0), "the market has settled"))
    for wrong, says in cases:
        with pytest.raises(ValueError, match=says):
            wrong()
    codes: list[tuple[list[Any], str]] = [
        *((each, "2 codes from 0 to 24") for each in ([0], [0, 25], [-1, 0])),
        *(
            (each, "expected integers")
            for each in ([0.0, 3.7], ["0", "3"], [True, False], [None, 0])
        ),
    ]
    for each, says in codes:
        with pytest.raises(ValueError, match=says):
            env.step(each)
    begun = env_of("mid")
    begun.reset(seed=1)
    no_codes: list[Any] = [25, 24.9, -0.5, "5", None]
    for code in no_codes:
        with pytest.raises(ValueError, match=r"action must be 0|action: expected an integer"):
            begun.step(code)
    assert begun.step(0)[4]["cash"] == 1000
