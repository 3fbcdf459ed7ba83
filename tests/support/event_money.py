"""Money in the vectorised environment, recomputed from its fills."""

from __future__ import annotations

import numpy as np

from event_contracts.simulation.vector import VectorKalshiEnv
from event_contracts.trading.records import (
    BUY_NO,
    BUY_YES,
    MICROS_PER_DOLLAR,
    MICROS_PER_PRICE_UNIT,
    SELL_YES,
)


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
        paid = -(signed * fills["price"] * MICROS_PER_PRICE_UNIT).sum(axis=1)
        paid -= np.where(real, fills["fee"], 0).sum(axis=1)
        is_yes = fills["intent"] <= SELL_YES
        yes = before["yes"] + (signed * is_yes).sum(axis=1)
        no = before["no"] + (signed * ~is_yes).sum(axis=1)
        pairs = np.minimum(yes, no)
        assert (after["yes"] >= 0).all()
        assert (after["no"] >= 0).all()
        paid += pairs * MICROS_PER_DOLLAR
        yes -= pairs
        no -= pairs
        if len(settled):
            came_true = info["final_obs"][:, :2].sum(axis=1) > 1 - 1e-6
            paid[settled] += np.where(came_true, yes[settled], no[settled]) * MICROS_PER_DOLLAR
            yes[settled] = no[settled] = 0
        assert np.array_equal(after["yes"], yes)
        assert np.array_equal(after["no"], no)
        unexplained += int(np.abs(after["cash"] - before["cash"] - paid).sum())
        before = env.markets.copy()
    return unexplained
