"""The arithmetic of learning: the surrogate, advantages, and what is chosen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from event_contracts.simulation.learner import (
    Experience,
    Learner,
    Lessons,
    advantages_of,
    learner_of,
    surrogate_and_entropy,
)
from event_contracts.simulation.settings import LearnerSettings
from event_contracts.simulation.synthetic import SyntheticMarket
from event_contracts.simulation.vector import VectorKalshiEnv
from event_contracts.trading.policies import CHOICE

WIDTH = 22


def test_a_surrogate_is_clipped_where_a_likelihood_has_moved_too_far() -> None:
    """Of two even actions: ratios 1 and 1.5, of which the second counts as 1.2 where it gains and
    whole where it loses.
    """
    lessons = Lessons(
        seen=torch.zeros(3, WIDTH),
        shut=torch.zeros(3, 2),
        codes=torch.tensor([[0], [1], [1]]),
        likelihoods=torch.tensor([1 / 2, 1 / 3, 1 / 3]).log(),
        advantages=torch.tensor([1.0, 10.0, -10.0]),
        returns=torch.zeros(3),
    )
    surrogate, entropy = surrogate_and_entropy(torch.zeros(3, 2), lessons, 0.2)
    assert surrogate.item() == pytest.approx(-(1 + 12 - 15) / 3)
    assert entropy.item() == pytest.approx(np.log(2))


def test_advantages_add_up_what_follows_until_a_market_settles() -> None:
    """By hand, with a discount and a trace of 1/2: 8 + 4/2 - 2, and so on backwards."""
    rewards = np.array([[1.0], [2.0], [8.0]], np.float32)
    values = np.array([[2.0], [4.0], [2.0], [4.0]], np.float32)
    going = np.zeros((3, 1), dtype=bool)
    found = advantages_of(rewards, values, going, 0.5, 0.5)
    assert found[:, 0].tolist() == [1 + 2 - 2 + 1 / 4, 2 + 1 - 4 + 8 / 4, 8 + 2 - 2]
    going[1] = True
    assert advantages_of(rewards, values, going, 0.5, 0.5)[:, 0].tolist() == [0.5, -2.0, 8.0]


@pytest.fixture
def learner() -> Learner:
    quick = LearnerSettings(rollout=8, batch=64, layers=(8,))
    return learner_of(VectorKalshiEnv(64, market=SyntheticMarket(steps=10)), quick, seed=3)


def test_only_allowed_actions_are_played_as_often_as_they_are_likely(learner: Learner) -> None:
    seen = np.repeat(np.linspace(-1, 1, WIDTH, dtype=np.float32)[None], 20_000, axis=0)
    allowed = np.zeros((len(seen), 25), dtype=bool)
    allowed[:, [0, 3, 20]] = True
    with torch.no_grad():
        learner.networks.named[f"{CHOICE}bias"][:] = torch.linspace(0, 3, 25)
        codes, likelihoods = learner._choose(seen, allowed)
    assert set(codes) == {0, 3, 20}
    for code in (0, 3, 20):
        chance = np.exp(likelihoods[codes == code])
        assert np.ptp(chance) == 0
        assert (codes == code).mean() == pytest.approx(chance[0], abs=0.015)


def test_likelihoods_that_are_played_are_those_that_are_learned_from(learner: Learner) -> None:
    """Before the first step of the optimizer every ratio is 1, so the surrogate is the mean."""
    with torch.no_grad():
        played: Experience = learner.markets.play(learner._choose)
        lessons = learner._lessons(played)
        logits = learner.networks.logits(lessons.seen, lessons.shut)
        surrogate, _ = surrogate_and_entropy(logits, lessons, 0.2)
    torch.testing.assert_close(surrogate, -lessons.advantages.mean(), atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_with_an_edge_a_network_earns_what_it_did_not_before() -> None:
    """Mean USD of an episode, learned on synthetic markets with an edge of 10 cents."""
    env = VectorKalshiEnv(512, market=SyntheticMarket(edge=0.1), reward="log_wealth")
    learner = learner_of(env, LearnerSettings(), seed=0)
    earned: list[float] = []
    learner.learn(500_000, lambda steps, figures: earned.append(figures.get("earned", np.nan)))
    known = [each for each in earned if np.isfinite(each)]
    assert known[0] < 0 < 8 < known[-1]
