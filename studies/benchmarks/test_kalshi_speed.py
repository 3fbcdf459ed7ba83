"""Steps per second of simulated event-contract markets: one, many at once, and in training."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from event_contracts import MarketAgnosticKalshiEnv
from event_contracts.settings import TrainingSettings
from event_contracts.simulation.learner import build_learner
from event_contracts.simulation.vector import VectorKalshiEnv
from tests.support.event_money import unexplained_money

pytestmark = pytest.mark.bench
MARKETS = 256
STEPS = 6000
SINGLE = 60_000
LEARNED = 2_000_000


def test_steps_per_second_of_many_kalshi_markets() -> None:
    env = VectorKalshiEnv(MARKETS)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 25, (STEPS, MARKETS))
    for codes in actions[:400]:
        env.step(codes)
    began = time.perf_counter()
    for codes in actions:
        env.step(codes)
        env.action_masks()
    rate = STEPS * MARKETS / (time.perf_counter() - began)
    unexplained = unexplained_money(VectorKalshiEnv(MARKETS), 1_000_000, seed=1)
    print(
        f"\n{MARKETS} markets: {rate:,.0f} steps/s with masks (one thread, 400 steps of warm-up);"
        f" money that nothing explains over 1,000,000 other random actions: {unexplained} µUSD"
    )
    assert unexplained == 0


@pytest.mark.parametrize("masked", [False, True])
def test_steps_per_second_of_one_kalshi_market(masked: bool) -> None:
    env = MarketAgnosticKalshiEnv()
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    env.step(0)
    env.action_masks()
    actions = [int(code) for code in rng.integers(0, 25, SINGLE)]
    env.reset(seed=1)
    began = time.perf_counter()
    for code in actions:
        if masked:
            env.action_masks()
        done = env.step(code)[2]
        if done:
            env.reset()
    rate = SINGLE / (time.perf_counter() - began)
    print(f"\none market: {rate:,.0f} steps/s{' with masks' if masked else ''}, resets among them")


def test_steps_per_second_of_kalshi_learning() -> None:
    torch.set_num_threads(1)
    settings = TrainingSettings()
    learner = build_learner(VectorKalshiEnv(settings.markets), settings.learner, 0)
    learner.learn(3 * settings.steps_per_update, lambda steps, figures: None)
    first, began, spent = learner.steps_done, time.perf_counter(), time.process_time()
    learner.learn(first + LEARNED, lambda steps, figures: None)
    done = learner.steps_done - first
    rate, alone = done / (time.perf_counter() - began), done / (time.process_time() - spent)
    print(f"\nlearning: {rate:,.0f} steps/s, {alone:,.0f} in a second of one core")
