"""A policy over whole sessions: what it sent, what filled, and what it earned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from event_contracts.simulation.exchange import fill_of
from event_contracts.simulation.sessions import outcome_of
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.vector import VectorKalshiEnv
from event_contracts.trading.orders import Fill, Outcome
from event_contracts.trading.policies import Policy
from event_contracts.trading.position_sizes import Episode, SentOrder
from event_contracts.trading.records import DOLLAR
from foundation.arrays import Array, Records


@dataclass(frozen=True, eq=False, slots=True)
class Rollout:
    """What a policy did over N sessions.

    profits: USD [N], cash after settlement less cash at the beginning.
    episodes: orders and fills of each [N].
    """

    profits: Array
    episodes: tuple[Episode, ...]

    @property
    def orders(self) -> int:
        """Orders sent, filled or not."""
        return sum(len(episode.orders) for episode in self.episodes)

    @property
    def fills(self) -> int:
        """Fills of them."""
        return sum(len(episode.fills) for episode in self.episodes)


def rollout(policy: Policy, sessions: Sequence[Array], settings: EpisodeSettings) -> Rollout:
    """Let a policy play every session [T, F] from its first row to its settlement.

    All markets are decided together, step by step; the row of a session is its number, and stays it
    when others have settled.
    """
    env = _EachOnce(len(sessions), sessions, **settings.keywords())
    seen, _ = env.reset(seed=0)
    orders: list[list[SentOrder]] = [[] for _ in sessions]
    fills: list[list[tuple[Fill, Decimal]]] = [[] for _ in sessions]
    profits = np.zeros(len(sessions))
    playing = np.ones(len(sessions), dtype=bool)
    step = 0
    while playing.any():
        allowed = env.action_masks()
        allowed[~playing, 1:] = False
        codes = policy.actions(seen, allowed)
        seen, _, over, _, info = env.step(np.where(playing, codes, 0))
        # A market that has settled has begun anew: its records are those that it ended with.
        markets = env.markets.copy()
        if over.any():
            markets[over] = info["final_markets"]
        for k in np.flatnonzero(playing & ((markets["sent"] > 0) | (markets["fills"] > 0))):
            if markets["sent"][k]:
                orders[k].append(SentOrder(str(len(orders[k])), int(markets["sent"][k]), step))
            for row in env.fills[k, : markets["fills"][k]]:
                fills[k].append(fill_of(row, f"{row['number']}", "session"))
        ended = playing & over
        # Cash moves in whole cents.
        profits[ended] = (markets["cash"] - markets["began"])[ended] / DOLLAR
        playing &= ~over
        step += 1
    outcomes: list[Outcome] = ["YES" if outcome_of(each) else "NO" for each in sessions]
    parts = zip(orders, fills, outcomes, strict=True)
    return Rollout(profits, tuple(Episode(tuple(o), tuple(f), won) for o, f, won in parts))


class _EachOnce(VectorKalshiEnv):
    """Market i plays session i."""

    def _drawn(self, which: npt.NDArray[np.intp]) -> list[Records]:
        assert self._sessions is not None
        return [self._sessions[i] for i in which]
