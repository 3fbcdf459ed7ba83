"""Decisions of a journal played again over the ticks that they were made on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal

import numpy as np

from event_contracts.simulation.exchange import Exchange
from event_contracts.simulation.manager import SimulatedOrderManager
from event_contracts.simulation.recording import Recording
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.trading.action_log import ActionEntry
from event_contracts.trading.position_sizes import Episode, SentOrder
from event_contracts.trading.sight import worth
from foundation.errors import OrderRejected


@dataclass(frozen=True, slots=True)
class Replay:
    """What decisions came to over the ticks of a journal.

    profit: USD after fees; what is still held is at the middle of the last quotes.
    refused: orders that cash, inventory or limits did not allow here.
    episodes: orders and fills, one of each market.
    """

    profit: Decimal
    refused: int
    episodes: tuple[Episode, ...] = field(repr=False)

    @property
    def orders(self) -> int:
        """Orders sent, filled or not."""
        return sum(len(episode.orders) for episode in self.episodes)


def replay(
    recording: Recording, settings: EpisodeSettings, fixed_size: int | None = None
) -> Replay:
    """Play every order again that was not rejected, from flat, with the cash that there was.

    Each goes out on its tick at the price that it had.

    settings: limits, fees and the life of an order.
    fixed_size: contracts of every order in the place of the decision's; none leaves them.
    """
    settings = replace(settings, starting_cash=float(recording.cash))
    exchange = Exchange(recording.listings, settings, recording.begins, recording.interval)
    manager = SimulatedOrderManager(exchange)
    due: dict[int, list[ActionEntry]] = {}
    for entry in recording.entries:
        if entry.sent:
            tick = int((entry.at - recording.begins) // recording.interval)
            due.setdefault(tick, []).append(entry)
    refused = 0
    for tick in range(recording.ticks):
        for entry in due.get(tick, []):
            order = entry.order
            count = order.count if fixed_size is None else Decimal(fixed_size)
            try:
                manager.submit(replace(order, count=count))
            except OrderRejected:
                refused += 1
        if tick + 1 < recording.ticks:
            manager.advance()
    return Replay(_worth(exchange) - recording.cash, refused, _episodes(exchange))


def _worth(exchange: Exchange) -> Decimal:
    """USD: cash, and what is held at the middle of the quotes."""
    return worth(exchange.view(next(iter(exchange.listings))))


def _episodes(exchange: Exchange) -> tuple[Episode, ...]:
    outcomes = {each.market: each.outcome for each in exchange.settlements}
    seconds = exchange.interval / np.timedelta64(1, "s")
    start = float((exchange.begins - np.datetime64(0, "ns")) / np.timedelta64(1, "s"))
    episodes = []
    for market in exchange.listings:
        placed = [each for each in exchange.orders.values() if each.order.market == market]
        orders = tuple(
            SentOrder(each.order_id, int(each.order.count), start + each.placed * seconds)
            for each in placed
        )
        fills = tuple((b.fill, b.fee) for b in exchange.fills if b.fill.market == market)
        episodes.append(Episode(orders, fills, outcomes.get(market)))
    return tuple(episodes)
