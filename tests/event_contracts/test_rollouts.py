"""A policy plays the sessions that it is given, and without an edge it loses what trading costs."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from event_contracts.simulation.comparison import Rollout, rollout
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.synthetic import SyntheticMarket, synthetic_sessions
from event_contracts.simulation.vector import MarketAgnosticKalshiEnv
from event_contracts.trading.policies import BinaryKelly, Observations, Policy, RandomPolicy
from foundation.arrays import Array, Mask

SHORT = SyntheticMarket(steps=40)
SETTINGS = EpisodeSettings(market=SHORT)


def sessions_of(count: int, market: SyntheticMarket = SHORT, seed: int = 5) -> list[Array]:
    return list(synthetic_sessions(seed, count, market))


class FirstAllowed:
    """The largest allowed code."""

    name = "first"

    def actions(self, seen: Observations, allowed: Mask) -> np.ndarray:
        return 24 - allowed[:, ::-1].argmax(axis=1)


def test_a_rollout_is_what_the_environment_plays_one_by_one() -> None:
    sessions = sessions_of(4)
    together = rollout(FirstAllowed(), sessions, SETTINGS)
    for k, session in enumerate(sessions):
        env = MarketAgnosticKalshiEnv(session)
        env.reset()
        done = False
        sizes, fills = [], []
        while not done:
            code = int(np.flatnonzero(env.action_masks())[-1])
            _, _, done, _, info = env.step(code)
            sizes += [info["last_order_size"]] if info["last_order_size"] else []
            fills += info["fills"]
        assert together.profits[k] == pytest.approx(info["cash"] - 1000.0, abs=1e-9)
        assert [order.size for order in together.episodes[k].orders] == sizes
        assert [float(fill.fee) for fill in together.episodes[k].fills] == [f["fee"] for f in fills]


def test_profits_of_orders_are_those_of_the_account_in_every_session() -> None:
    for style in ("aggressive", "passive"):
        played = rollout(RandomPolicy(3), sessions_of(20), replace(SETTINGS, price_style=style))
        for profit, episode in zip(played.profits, played.episodes, strict=True):
            orders = sum((each for each in episode.profits if each is not None), Fraction(0))
            assert float(orders) == pytest.approx(profit, abs=1e-9)


def standard_error(played: Rollout) -> float:
    return float(played.profits.std(ddof=1) / np.sqrt(len(played.profits)))


NOISY = replace(SHORT, estimate_noise=0.1)


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("policy", "fixed"),
    [(RandomPolicy(0), None), (RandomPolicy(0), 10), (BinaryKelly(), None), (BinaryKelly(), 10)],
)
def test_without_an_edge_whoever_trades_loses_on_average(policy: Policy, fixed: int | None) -> None:
    """Not in every session, and not by accident: by more than three standard errors."""
    settings = replace(SETTINGS, fixed_size=fixed)
    played = rollout(policy, sessions_of(300, NOISY), settings)
    assert sum(len(episode.fills) for episode in played.episodes) > 300
    assert (played.profits > 0).any()
    assert played.profits.mean() < -3 * standard_error(played)
    paid = sum(fill.fee for episode in played.episodes for fill in episode.fills)
    assert paid > 0


def test_with_an_edge_and_the_fair_price_kelly_earns() -> None:
    market = replace(SHORT, edge=0.2, memory=0.99)
    played = rollout(BinaryKelly(), sessions_of(300, market), SETTINGS)
    assert played.profits.mean() > 3 * standard_error(played)
