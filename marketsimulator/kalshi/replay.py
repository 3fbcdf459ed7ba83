"""Decisions of a journal played again over the ticks that they were made on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

import numpy as np

from execution.kalshi.action_log import ActionEntry, ActionRecords
from execution.kalshi.actions import decode_action, encode_action
from execution.kalshi.position_sizes import Episode, SentOrder
from execution.kalshi.records import TICK
from execution.kalshi.sight import worth
from execution.kalshi.updates import MarketSpan, MarketUpdate
from foundation.arrays import Records
from foundation.errors import InputError, OrderRejected
from marketsimulator.kalshi.exchange import Exchange, Listing
from marketsimulator.kalshi.manager import SimulatedOrderManager
from marketsimulator.kalshi.settings import EpisodeSettings

_CENT = Decimal("0.01")


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


@dataclass(frozen=True, eq=False, slots=True)
class Recording:
    """The ticks and decisions of a journal, on one clock.

    listings: a market each, its recorded rows without gaps.
    begins: UTC, the first tick of any.
    interval: between ticks.
    ticks: from the first to the last of any.
    entries: decisions, oldest first.
    cash: USD before the first decision, in whole cents.
    """

    listings: tuple[Listing, ...]
    begins: np.datetime64
    interval: np.timedelta64
    ticks: int
    entries: tuple[ActionEntry, ...] = field(repr=False)
    cash: Decimal

    @classmethod
    def of(cls, records: ActionRecords) -> Recording:
        """The recording in a journal.

        Raises
        ------
        InputError
            for a journal without decisions, and markets whose ticks have no step in common.
        """
        spans = records.spans()
        shown = {market: ticks for market in spans if (ticks := records.ticks(market))}
        entries = records.entries()
        if not entries or not shown:
            raise InputError("the journal has no decisions on event contracts")
        intervals = {spans[market].interval for market in shown}
        begins = min(_at(spans[market], ticks[0]) for market, ticks in shown.items())
        ends = max(_at(spans[market], ticks[-1]) for market, ticks in shown.items())
        interval = next(iter(intervals))
        if len(intervals) > 1 or any((spans[m].begins - begins) % interval for m in shown):
            raise InputError("the journal's markets are not shown at the same instants")
        count = int((ends - begins) // interval) + 1
        listings = tuple(
            _listing(market, spans[market], ticks, begins, count) for market, ticks in shown.items()
        )
        cash = entries[0].cash // _CENT * _CENT
        return cls(listings, begins, interval, count, tuple(entries), cash)


def replay(
    recording: Recording, settings: EpisodeSettings, fixed_size: int | None = None
) -> Replay:
    """Play every order again that was not rejected, from flat, with the cash that there was.

    settings: price styles, sizes, limits, fees and the life of an order.
    fixed_size: contracts of every order in the place of the decision's; none leaves them.

    Raises
    ------
    InputError
        for a size that is none of the settings'.
    """
    settings = replace(settings, starting_cash=float(recording.cash), fixed_size=fixed_size)
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
            action = _action(entry.action, settings.position_sizes, fixed_size)
            name = f"{entry.market} {entry.at}"
            try:
                done = exchange.space.execute_action_sync(action, manager, entry.market, name)
                refused += done.order is None
            except OrderRejected:
                refused += 1
        if tick + 1 < recording.ticks:
            manager.advance()
    return Replay(_worth(exchange) - recording.cash, refused, _episodes(exchange))


def _action(action: int, sizes: Sequence[int], fixed_size: int | None) -> int:
    """The code of the same intent at another size."""
    if fixed_size is None:
        return action
    return encode_action(decode_action(action)[0], list(sizes).index(fixed_size))


def _at(span: MarketSpan, update: MarketUpdate) -> np.datetime64:
    """The instant of the row that an update is shown at."""
    instant: np.datetime64 = span.begins + span.row(update.at) * span.interval
    return instant


def _listing(
    market: str, span: MarketSpan, ticks: Sequence[MarketUpdate], begins: np.datetime64, count: int
) -> Listing:
    """A market from its first recorded row on; one that has not settled goes on as it was shown."""
    rows = np.array([span.row(update.at) for update in ticks])
    first = int(rows[0])
    opened = int((_at(span, ticks[0]) - begins) // span.interval)
    settled = rows[-1] == span.rows - 1
    trading = ticks[:-1] if settled and len(ticks) > 1 else ticks
    # The last row of a tape settles: of a market that has not, it lies beyond the recording.
    length = int(rows[-1]) - first + 1 if settled else count - opened + 1
    tape: Records = np.zeros(length, TICK)
    for row, after, update in zip(rows, [*rows[1:], first + length], ticks, strict=True):
        stretch = tape[row - first : after - first]
        stretch[:] = update.tick
        # What was traded in a step is traded once.
        stretch["sold"][1:] = 0
        stretch["bought"][1:] = 0
        if update is trading[-1]:
            # After its last tick the market was closed, or nobody looked at it.
            stretch["bid_size"][1:] = 0
            stretch["ask_size"][1:] = 0
    return Listing(market, tape, opened)


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
