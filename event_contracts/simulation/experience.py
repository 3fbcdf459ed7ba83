"""What a policy meets while it plays many markets at once, as arrays that a network learns from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from event_contracts.simulation.settings import LearnerSettings
from event_contracts.simulation.vector import Codes, Floats, VectorKalshiEnv
from event_contracts.trading.actions import ACTIONS
from event_contracts.trading.observation import features_of
from foundation.arrays import Array, Mask

PERCENT = 100
SHOWN = [features_of(sizes=False).index(name) for name in ("bid", "ask", "estimate")]
# Of observations [N, F] and allowed actions [N, 25], codes [N] and the logarithms of their
# likelihoods [N].
Choose = Callable[[Floats, Mask], tuple[Codes, Floats]]


@dataclass(frozen=True, eq=False, slots=True)
class Experience:
    """T steps of N markets.

    seen: [T + 1, N, F], before each step and after the last.
    allowed: [T, N, 25], which actions might be sent.
    codes: [T, N], those that were.
    likelihoods: [T, N], logarithms of theirs.
    rewards: [T, N], in percent of the cash.
    over: [T, N], where a step settled the market; what is seen then is of the next one.
    """

    seen: Floats
    allowed: Mask
    codes: Codes
    likelihoods: Floats
    rewards: Floats
    over: Mask


class Markets:
    """Markets that are played `rollout` steps at a time; rewards in percent of the cash.

    sent: orders [25] by action since they were last counted, refused ones not among them.
    earned: of each episode that has settled since then, percent.
    """

    def __init__(self, env: VectorKalshiEnv, settings: LearnerSettings, seed: int) -> None:
        self.env = env
        self._is_log = env.settings.reward == "log_wealth"
        self._scale = PERCENT if self._is_log else PERCENT / env.settings.starting_cash
        self._settings = settings
        self._seeds: list[Any] = list(range(seed, seed + env.num_envs))
        self._seen: Floats | None = None
        self._potential = np.zeros(env.num_envs)
        self._total = np.zeros(env.num_envs)
        self.sent = np.zeros(ACTIONS, np.int64)
        self.earned: list[float] = []

    def go_on(self, steps: int) -> None:
        """Play other sessions than those of the first `steps` steps under the seed."""
        self._seeds = [[each, steps] for each in self._seeds]

    def begin(self) -> Floats:
        """The first observations [N, F] under the seed."""
        self._seen, _ = self.env.reset(seed=self._seeds)
        return self._seen

    def play(self, choose: Choose) -> Experience:
        """The next steps, where the last ones ended."""
        env, length = self.env, self._settings.rollout
        first = self.begin() if self._seen is None else self._seen
        seen = np.empty((length + 1, *first.shape), np.float32)
        allowed = np.empty((length, env.num_envs, ACTIONS), dtype=bool)
        codes = np.empty((length, env.num_envs), np.int64)
        likelihoods = np.empty((length, env.num_envs), np.float32)
        rewards = np.empty((length, env.num_envs))
        over = np.empty((length, env.num_envs), dtype=bool)
        sent = np.empty((length, env.num_envs), dtype=bool)
        held = np.empty((length, env.num_envs))
        worth = np.empty((length, env.num_envs))
        seen[0] = first
        for t in range(length):
            allowed[t] = env.action_masks()
            codes[t], likelihoods[t] = choose(seen[t], allowed[t])
            seen[t + 1], rewards[t], over[t], _, info = env.step(codes[t])
            held[t] = env.markets["yes"] - env.markets["no"]
            worth[t] = env.worth
            sent[t] = env.markets["sent"] > 0
            self._count(rewards[t], info.get("settled"))
        self.sent += np.bincount(codes[sent], minlength=ACTIONS)
        self._seen = seen[-1]
        if self._settings.shaping:
            # A market that has settled has begun anew, with nothing held.
            potential = np.where(over, 0.0, self._potentials(seen[1:], held, worth))
            before = np.concatenate([self._potential[None], potential[:-1]])
            rewards += self._settings.discount * potential - before
            self._potential = potential[-1]
        rewards *= self._scale
        return Experience(seen, allowed, codes, likelihoods, rewards.astype(np.float32), over)

    def _potentials(self, seen: Floats, held: Array, worth: Array) -> Array:
        """[T, N], what positions are worth more at the estimate than at the middle of the quote."""
        bid, ask, estimate = (seen[..., place].astype(np.float64) for place in SHOWN)
        potential = held * (estimate - (bid + ask) / 2)
        return np.log1p(potential / worth) if self._is_log else potential

    def _count(self, rewards: Array, settled: Codes | None) -> None:
        self._total += rewards
        if settled is not None:
            self.earned += (self._total[settled] * self._scale).tolist()
            self._total[settled] = 0

    def figures(self) -> dict[str, float]:
        """Figures since the last call: what episodes `earned`, percent; `orders` of an episode;
        `size`, the mean contracts of an order; the `share` of each size. What nobody knows is left
        out.
        """
        figures: dict[str, float] = {}
        sizes = self.env.settings.position_sizes
        counts = self.sent[1:21].reshape(4, len(sizes)).sum(axis=0)
        if self.earned:
            figures["earned"] = float(np.mean(self.earned))
            figures["orders"] = float(counts.sum() / len(self.earned))
        if counts.sum():
            figures["size"] = float(counts @ sizes / counts.sum())
            figures |= {
                f"share_{size}": float(c / counts.sum())
                for size, c in zip(sizes, counts, strict=True)
            }
        self.sent[:] = 0
        self.earned.clear()
        return figures
