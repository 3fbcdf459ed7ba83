"""Growth of learned sizing of event contracts on synthetic markets of a known edge.

    python studies/kalshi_growth.py [--edges 0 0.05 0.1] [--minutes 15] [--seed 0]
    [--rewards log_wealth value] [--searches 150] [--output FILE.json]

Learned sizing is compared with the best rule that a search finds under the same actions, limits and
costs. Both see the fair price as the estimate: the edge is the deviation of the market's price from
it. Growth is the mean logarithm of the final over the first wealth of an episode, on episodes that
neither has seen, with its standard error. The rank correlation is between the size of a purchase
from flat and its edge over the price paid.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from scipy.optimize import differential_evolution

from event_contracts.simulation.learner import Learner, build_learner
from event_contracts.simulation.settings import (
    EpisodeSettings,
    LearnerSettings,
    RewardKind,
    SyntheticSessionModel,
)
from event_contracts.simulation.vector import VectorKalshiEnv
from event_contracts.trading.actions import POSITION_SIZES
from event_contracts.trading.observation import FEATURES
from event_contracts.trading.policies import (
    ActionCodes,
    BinaryKellyPolicy,
    HoldPolicy,
    Observations,
    Policy,
    load_network_policy,
)
from event_contracts.trading.records import MICROS_PER_DOLLAR
from foundation.arrays import Array, Mask
from foundation.files import write_atomically

MARKETS = 512
JUDGED = 16  # episodes of each market
HELD_OUT = 10**9  # first seed of the held-out episodes
SEARCHED = 10**8  # first seed of the episodes for the search
PLACES = {name: place for place, name in enumerate(FEATURES)}
SIZES = np.array(POSITION_SIZES)
LIMIT = 500


@dataclass(frozen=True, slots=True)
class ThresholdRule:
    """Rule that buys below the estimate and sells above it, each beyond a threshold.

    The size of a purchase grows with its edge.

    enter: USD, minimum edge of a purchase over its cost.
    width: USD of further edge at which the whole share is wanted.
    leave: USD, minimum excess of a sale's proceeds over the estimate.
    share: share of the wealth that is wanted.
    """

    enter: float
    width: float
    leave: float
    share: float
    name: str = "rule"

    def choose_actions(self, observations: Observations, allowed: Mask) -> ActionCodes:
        """Return the action code of each market, [N]."""
        shown = {name: observations[:, place].astype(np.float64) for name, place in PLACES.items()}
        wealth = 1000.0 * (1.0 + shown["profit"])
        held = np.round(shown["position"] * LIMIT)
        codes = np.zeros(len(observations), np.int64)
        chance = shown["estimate"]
        for buy, p, bid, ask, mine in (
            (1, chance, shown["bid"], shown["ask"], held),
            (3, 1 - chance, 1 - shown["ask"], 1 - shown["bid"], -held),
        ):
            cost = ask + 0.07 * ask * (1 - ask)
            wanted = np.clip((p - cost - self.enter) / self.width, 0, 1) * self.share * wealth
            count = wanted / np.maximum(cost, 0.01) - np.maximum(mine, 0)
            codes = np.where(codes == 0, _code(buy, count, allowed), codes)
            proceeds = bid - 0.07 * bid * (1 - bid)
            count = np.where(proceeds - p > self.leave, np.maximum(mine, 0), 0)
            sale = _code(buy + 1, count, allowed)
            codes = np.where(sale > 0, sale, codes)
        return codes


def _code(intent: int, count: Array, allowed: Mask) -> ActionCodes:
    """Return the largest permitted size within the count; 0 for none."""
    first = (intent - 1) * 5 + 1
    fits = (count[:, None] >= SIZES) & allowed[:, first : first + 5]
    return np.where(fits.any(axis=1), first + 4 - fits[:, ::-1].argmax(axis=1), 0)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Results of a policy on N episodes.

    growth: logarithm of final over first wealth [N].
    orders: number of orders sent per episode.
    rank: rank correlation of the size of purchases from flat with their edge; None for one size.
    """

    growth: Array
    orders: float
    rank: float | None

    def figures(self) -> dict[str, Any]:
        """Return the results as values for JSON."""
        profit = 1000 * np.expm1(self.growth)
        return {
            "growth": float(self.growth.mean()),
            "growth_error": float(stats.sem(self.growth)),
            "profit_usd": float(profit.mean()),
            "profit_error_usd": float(stats.sem(profit)),
            "episodes": len(self.growth),
            "orders": self.orders,
            "rank_correlation": self.rank,
        }


def judge(policy: Policy, episode: EpisodeSettings, episodes: int, seed: int) -> Judgement:
    """Run a policy on a number of seeded episodes of each market, and return its results."""
    env = VectorKalshiEnv(MARKETS, **episode.as_keyword_arguments())
    observations, _ = env.reset(seed=seed)
    growth: list[Array] = []
    sizes: list[Array] = []
    edges: list[Array] = []
    orders = 0
    while len(growth) < episodes:
        codes = policy.choose_actions(observations, env.action_masks())
        flat = (env.markets["yes"] + env.markets["no"] + env.markets["resting"]) == 0
        buys = flat & (codes > 0) & ((codes - 1) // 5 % 2 == 0)
        orders += int((codes > 0).sum())
        yes = codes <= 5
        gap = observations[:, PLACES["estimate"]] - np.where(
            yes, observations[:, PLACES["ask"]], observations[:, PLACES["bid"]]
        )
        edges.append(np.where(yes, gap, -gap)[buys])
        sizes.append(SIZES[(codes[buys] - 1) % 5])
        observations, _, terminated, _, info = env.step(codes)
        if terminated.all():
            growth.append(
                np.log(info["final_markets"]["cash"] / MICROS_PER_DOLLAR / episode.starting_cash)
            )
    bought, beyond = np.concatenate(sizes), np.concatenate(edges)
    several = len(set(bought.tolist())) > 1
    rank = float(stats.spearmanr(bought, beyond).statistic) if several else None
    return Judgement(np.concatenate(growth), orders / (MARKETS * episodes), rank)


def best_rule(episode: EpisodeSettings, searches: int, seed: int) -> ThresholdRule:
    """Find the rule with the highest growth, by differential evolution on separate episodes."""

    def loss(values: Array) -> float:
        return -float(judge(_rule(values), episode, 2, SEARCHED + seed).growth.mean())

    bounds = [(-0.01, 0.08), (0.005, 0.15), (-0.05, 0.1), (0.02, 0.5)]
    found = differential_evolution(
        loss, bounds, maxiter=max(searches // 20 - 1, 1), popsize=5, rng=seed, polish=False
    )
    return _rule(found.x)


def _rule(values: Array) -> ThresholdRule:
    enter, width, leave, share = map(float, values)
    return ThresholdRule(enter, width, leave, share)


def trained(episode: EpisodeSettings, minutes: float, seed: int, folder: Path) -> Learner:
    """Train a network for a number of minutes on this machine, and return it."""
    learner = build_learner(
        VectorKalshiEnv(512, **episode.as_keyword_arguments()), LearnerSettings(), seed
    )
    began = time.monotonic()
    until = 0
    while time.monotonic() - began < 60 * minutes:
        until += 512 * LearnerSettings().rollout * 8
        learner.learn(until, lambda steps, figures: None)
    learner.save(folder)
    return learner


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edges", type=float, nargs="+", default=[0.0, 0.05, 0.1])
    parser.add_argument("--rewards", nargs="+", default=["log_wealth", "value"])
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--searches", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("outputs/kalshi_growth.json"))
    words = parser.parse_args()
    words.output.parent.mkdir(parents=True, exist_ok=True)
    table: list[dict[str, Any]] = []

    def add(edge: float, policy: Policy, episode: EpisodeSettings, **more: Any) -> None:
        row = {"edge": edge, "policy": policy.name, **more}
        row |= judge(policy, episode, JUDGED, HELD_OUT + words.seed).figures()
        table.append(row)
        write_atomically(words.output, (json.dumps(table, indent=1) + "\n").encode())
        print(json.dumps(row), flush=True)

    for edge in words.edges:
        market = SyntheticSessionModel(mispricing=edge)
        plain = EpisodeSettings(market=market)
        for fraction in (0.5, 1.0):
            kelly = BinaryKellyPolicy(kelly_fraction=fraction, name=f"kelly {fraction:g}")
            add(edge, kelly, plain)
        add(edge, HoldPolicy(), plain)
        if edge > 0:
            rule = best_rule(plain, words.searches, words.seed)
            add(edge, rule, plain, terms=[rule.enter, rule.width, rule.leave, rule.share])
        for reward in words.rewards:
            chosen: RewardKind = "value" if reward == "value" else "log_wealth"
            episode = EpisodeSettings(market=market, reward=chosen)
            path = words.output.with_suffix(f".{edge:g}.{reward}.safetensors")
            learner = trained(episode, words.minutes, words.seed, path)
            add(edge, load_network_policy(path), episode, reward=reward, steps=learner.steps_done)


if __name__ == "__main__":
    main()
