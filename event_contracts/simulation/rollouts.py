"""A policy over whole sessions: what it sent, what filled, and what it earned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from event_contracts.simulation.env import MarketAgnosticKalshiEnv
from event_contracts.simulation.sessions import outcome_of
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.trading.actions import ACTIONS
from event_contracts.trading.orders import Fill, Outcome
from event_contracts.trading.policies import Policy
from event_contracts.trading.position_sizes import Episode, SentOrder
from foundation.arrays import Array, Mask


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

    All markets are decided together, step by step; the row of a session among them is its number,
    and stays it when others have settled.

    Raises
    ------
    InputError
        for a session that cannot be.
    """
    books = [_Book(session, settings) for session in sessions]
    seen = np.array([book.seen for book in books])
    allowed = np.zeros((len(books), ACTIONS), dtype=bool)
    while True:
        playing = [k for k, book in enumerate(books) if not book.settled]
        if not playing:
            break
        allowed[:, 1:] = False
        allowed[:, 0] = True
        for k in playing:
            allowed[k] = books[k].allowed()
        codes = policy.actions(seen, allowed)
        for k in playing:
            seen[k] = books[k].play(int(codes[k]))
    profits = np.array([book.profit for book in books])
    return Rollout(profits, tuple(book.episode() for book in books))


class _Book:
    """One session as it is played, and what is written down of it."""

    def __init__(self, session: Array, settings: EpisodeSettings) -> None:
        self._env = MarketAgnosticKalshiEnv(session, **settings.keywords())
        self._outcome = outcome_of(session)
        self._orders: list[SentOrder] = []
        self._fills: list[tuple[Fill, Decimal]] = []
        self._steps = 0
        self._start = settings.starting_cash
        self._cash = settings.starting_cash
        self.settled = False
        self.seen, _ = self._env.reset()

    def allowed(self) -> Mask:
        return self._env.action_masks()

    def play(self, code: int) -> Any:
        """Send an action; what is seen then [F]."""
        seen, _, self.settled, _, info = self._env.step(code)
        if info["last_order_size"]:
            name = str(len(self._orders))
            self._orders.append(SentOrder(name, info["last_order_size"], self._steps))
        self._fills += [(_fill_of(entry), _exact(entry["fee"])) for entry in info["fills"]]
        self._cash = info["cash"]
        self._steps += 1
        return seen

    @property
    def profit(self) -> float:
        """USD that the session earned; cash moves in whole cents."""
        return round(self._cash - self._start, 6)

    def episode(self) -> Episode:
        outcome: Outcome = "YES" if self._outcome else "NO"
        return Episode(tuple(self._orders), tuple(self._fills), outcome)


def _fill_of(entry: dict[str, Any]) -> Fill:
    """A fill of the environment as the venue would report it."""
    return Fill(
        order_id=entry["order_id"],
        market="session",
        action=entry["action"],
        side=entry["side"],
        price=_exact(entry["price"]),
        count=Decimal(entry["count"]),
        maker=entry["maker"],
    )


def _exact(amount: float) -> Decimal:
    """The decimal that an amount prints as, which is its exact value."""
    return Decimal(repr(amount))
