"""Many markets at once are as many single environments, and no money appears in any of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from event_contracts import MarketAgnosticKalshiEnv, SyntheticMarket
from event_contracts.simulation.vector import VectorKalshiEnv
from event_contracts.trading.records import BUY_NO, BUY_YES, DOLLAR, POINT, SELL_YES

SHORT = SyntheticMarket(steps=30)
seeds = st.integers(0, 2**31)


@settings(max_examples=15)
@given(
    seeds,
    st.sampled_from(["passive", "mid", "aggressive"]),
    st.sampled_from(["value", "log_wealth"]),
)
def test_every_market_is_the_single_environment_step_by_step(
    seed: int, style: str, reward: str
) -> None:
    same: dict[str, Any] = {"market": SHORT, "price_style": style, "reward": reward}
    many = VectorKalshiEnv(4, **same)
    singles = [MarketAgnosticKalshiEnv(**same) for _ in range(4)]
    many.reset(seed=9)
    many.step([1, 11, 0, 3])
    # A seed is the same play whatever came before.
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
                assert told["cash"] == info["final_markets"]["cash"][place] / DOLLAR
                shown, _ = single.reset()
            assert seen[i].tolist() == shown.tolist()
            assert single.action_masks().tolist() == many.action_masks()[i].tolist()


def unexplained_money(env: VectorKalshiEnv, actions: int, seed: int) -> int:
    """Millionths of a USD that cash moved by, beyond what fills, pairs and settlements explain.

    actions: random ones over all markets, sent whether they are allowed or not.
    """
    env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    slots = np.arange(env.fills.shape[1])
    unexplained = 0
    before = env.markets.copy()
    for _ in range(actions // env.num_envs):
        *_, info = env.step(rng.integers(0, 25, env.num_envs))
        after = env.markets.copy()
        settled = info.get("settled", [])
        if len(settled):
            after[settled] = info["final_markets"]
        fills = env.fills
        real = slots < after["fills"][:, None]
        buys = (fills["intent"] == BUY_YES) | (fills["intent"] == BUY_NO)
        signed = np.where(real, np.where(buys, fills["count"], -fills["count"]), 0)
        paid = -(signed * fills["price"] * POINT).sum(axis=1)
        paid -= np.where(real, fills["fee"], 0).sum(axis=1)
        is_yes = fills["intent"] <= SELL_YES
        yes = before["yes"] + (signed * is_yes).sum(axis=1)
        no = before["no"] + (signed * ~is_yes).sum(axis=1)
        pairs = np.minimum(yes, no)
        assert (after["yes"] >= 0).all()
        assert (after["no"] >= 0).all()
        paid += pairs * DOLLAR
        yes -= pairs
        no -= pairs
        if len(settled):
            came_true = info["final_obs"][:, :2].sum(axis=1) > 1 - 1e-6
            paid[settled] += np.where(came_true, yes[settled], no[settled]) * DOLLAR
            yes[settled] = no[settled] = 0
        assert np.array_equal(after["yes"], yes)
        assert np.array_equal(after["no"], no)
        unexplained += int(np.abs(after["cash"] - before["cash"] - paid).sum())
        before = env.markets.copy()
    return unexplained


@pytest.mark.first_example
@pytest.mark.parametrize("style", ["passive", "mid", "aggressive"])
def test_random_actions_neither_create_nor_lose_a_millionth_of_a_dollar(style: str) -> None:
    assert unexplained_money(VectorKalshiEnv(256, price_style=style), 400_000, seed=5) == 0


def test_codes_and_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="count: 0 markets"):
        VectorKalshiEnv(0)
    with pytest.raises(ValueError, match="sessions: there is none"):
        VectorKalshiEnv(2, [])
    env = VectorKalshiEnv(2, market=SHORT)
    for asked in (lambda: env.step([0, 0]), env.action_masks):
        with pytest.raises(ValueError, match="reset begins"):
            asked()
    with pytest.raises(ValueError, match="3 seeds for 2 markets"):
        env.reset(seed=[1, 2, 3])
    env.reset(seed=0)
    for codes in ([0], [0, 25], [-1, 0]):
        with pytest.raises(ValueError, match="2 codes from 0 to 24"):
            env.step(codes)
    for no_codes in ([0.0, 3.7], ["0", "3"], [True, False], [None, 0]):
        with pytest.raises(ValueError, match="whole numbers are needed"):
            env.step(no_codes)
