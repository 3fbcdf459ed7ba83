"""The arithmetic of learning: gradients that are written out, advantages, and what is chosen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from event_contracts.simulation.learner import (
    ERROR_WEIGHT,
    SHUT,
    VALUE,
    VALUING,
    Experience,
    Learner,
    Lessons,
    Networks,
    advantages_of,
    error_of_values,
    learner_of,
    surrogate_and_entropy,
)
from event_contracts.simulation.settings import LearnerSettings
from event_contracts.simulation.synthetic import SyntheticMarket
from event_contracts.simulation.vector import VectorKalshiEnv
from event_contracts.trading.policies import CHOICE, HIDDEN

CLIP, ENTROPY = 0.2, 0.01
WIDTH = 22
layouts = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple)


def some_lessons(seed: int, count: int) -> Lessons:
    draws = torch.Generator().manual_seed(seed)
    shut = torch.rand(count, 25, generator=draws) < 0.5
    shut[:, 0] = False
    return Lessons(
        seen=torch.randn(count, WIDTH, generator=draws),
        shut=shut,
        codes=(~shut).float().multinomial(1, generator=draws),
        # About the likelihoods of a first network, so that some ratios are clipped and some not.
        likelihoods=-2.5 + 0.3 * torch.randn(count, generator=draws),
        advantages=torch.randn(count, generator=draws),
        returns=torch.randn(count, generator=draws),
    )


def output(named: dict[str, Tensor], hidden: str, last: str, seen: Tensor) -> Tensor:
    names = sorted({name.rpartition(".")[0] for name in named if name.startswith(hidden)})
    for name in names:
        seen = torch.tanh(seen @ named[f"{name}.weight"].T + named[f"{name}.bias"])
    return seen @ named[f"{last}weight"].T + named[f"{last}bias"]


@settings(max_examples=10)
@given(st.integers(0, 2**31), layouts, st.integers(1, 40))
def test_gradients_are_those_of_the_loss(seed: int, layers: tuple[int, ...], count: int) -> None:
    networks = Networks(WIDTH, layers, torch.Generator().manual_seed(seed))
    lessons = some_lessons(seed, count)
    surrogate, entropy = surrogate_and_entropy(networks.choosing, lessons, CLIP, ENTROPY)
    error = error_of_values(networks.valuing, lessons)
    named = {name: values.clone().requires_grad_() for name, values in networks.named.items()}
    logits = output(named, HIDDEN, CHOICE, lessons.seen).masked_fill(lessons.shut, SHUT)
    choice = torch.distributions.Categorical(logits=logits)
    ratio = (choice.log_prob(lessons.codes[:, 0]) - lessons.likelihoods).exp()
    clipped = lessons.advantages * ratio.clamp(1 - CLIP, 1 + CLIP)
    expected = -torch.min(lessons.advantages * ratio, clipped).mean()
    values = output(named, VALUING, VALUE, lessons.seen)[:, 0]
    expected_error = (values - lessons.returns).square().mean()
    loss = expected + ERROR_WEIGHT * expected_error - ENTROPY * choice.entropy().mean()
    loss.backward()
    gradients = torch.cat([values.grad.flatten() for values in named.values()])  # type: ignore[union-attr]
    torch.testing.assert_close(networks.gradient, gradients, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(surrogate, expected.detach(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(entropy, choice.entropy().mean().detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(error, expected_error.detach(), atol=1e-6, rtol=1e-5)


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
    learner.networks.named[f"{CHOICE}bias"][:] = torch.linspace(0, 3, 25)
    with torch.inference_mode():
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
        surrogate, _ = surrogate_and_entropy(learner.networks.choosing, lessons, CLIP, 0.0)
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
