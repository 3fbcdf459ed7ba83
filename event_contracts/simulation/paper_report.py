"""What an account's sizes came to, beside the same decisions at one fixed size.

Orders are read from the journal that trading wrote and sent again at their prices, once as they
were and once at the fixed size, over the very ticks that they were decided on. `episode` has to say
the limits and the fees that were traded with; `episode.life` the steps that an order may wait.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import numpy as np

from event_contracts.simulation.comparison_page import SIZE_HEADS, Played, size_cells
from event_contracts.simulation.exchange import Exchange, Listing
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.trading.action_log import ACTION_TABLE, ActionEntry, ActionRecords
from event_contracts.trading.orders import LimitOrder
from event_contracts.trading.position_sizes import Episode, PositionSizeMetrics, SentOrder
from event_contracts.trading.records import TICK, MarketUpdate, SamplingSchedule
from execution.journal.migrations import as_it_is_today
from foundation.arrays import Records
from foundation.cents import CENT
from foundation.counts import counted
from foundation.errors import InputError, OrderRejected
from foundation.figures import number
from foundation.tables import Cell, Table
from marketsimulator.results.comparison_page import Sheet
from marketsimulator.results.verdict import Verdict

SOURCE = "The decisions of a journal, played again over the ticks that they were made on"
HEADS = ("run", "profit, USD", "orders", "not allowed", *SIZE_HEADS)


def paper_report(journal: Path, size: int, episode: EpisodeSettings) -> Played:
    """What an account's sizes came to, and what a fixed one would have.

    `content` has the number of decisions on ticks, HOLD among them; orders sent by their contracts
    (`sizes`), orders that a guard or the venue did not take (`rejected`), and those of which it did
    not say what became (`unknown`). Money is text in USD.
    """
    recording = _recording(journal)
    entries = recording.entries
    decided = replay(recording, episode)
    fixed = replay(recording, episode, size)
    difference = decided.profit - fixed.profit
    change = entries[-1].worth - entries[0].worth
    rejected = sum(each.answer.startswith("rejected") for each in entries)
    unknown = sum(each.answer.startswith("unknown") for each in entries)
    sent = Counter(each.sent for each in entries if each.sent)
    runs = {"as decided": decided, f"fixed at {size}": fixed}
    sizes = {name: PositionSizeMetrics.of(run.episodes) for name, run in runs.items()}
    sheet = Sheet(
        title="Sizes on paper",
        subtitle=SOURCE,
        verdict=Verdict(
            "open",
            f"As decided they earned {number(difference, sign=True)} USD beyond {size} contracts"
            " each time.",
            f"The account changed by {number(change, sign=True)} USD between the first and the last"
            f" of {counted(len(entries), 'decision')}, deposits among it.",
        ),
        table=Table(
            SOURCE, HEADS, [(name, *_cells(run, sizes[name])) for name, run in runs.items()]
        ),
        notes=[
            f"{counted(rejected, 'order')} not taken, {unknown:,} of unknown outcome.",
            "Not allowed: orders that cash, inventory or limits did not allow in the replay.",
        ],
    )
    content = {
        "decisions": len(entries),
        "sizes": {str(contracts): sent[contracts] for contracts in sorted(sent)},
        "rejected": rejected,
        "unknown": unknown,
        "account_change": str(change),
        "fixed_size": size,
        "difference": str(difference),
        "runs": [
            {
                "run": name,
                "profit": str(run.profit),
                "orders": run.orders,
                "refused": run.refused,
                "sizes": sizes[name].as_json(),
            }
            for name, run in runs.items()
        ],
    }
    return Played(sheet, {name: run.episodes for name, run in runs.items()}, content)


def _recording(path: Path) -> Recording:
    # Unlike the path's own question this one has an answer for a name that no file can have.
    if not os.path.isfile(path):
        raise InputError(f"journal: {path} is no file; it is the journal.sqlite of an account")
    with as_it_is_today(path) as database:
        if not database.rows("SELECT 1 FROM sqlite_master WHERE name = ?", (ACTION_TABLE,)):
            raise InputError(f"journal: {path} has no decisions on event contracts")
        return Recording.of(ActionRecords(database))


def _cells(run: Replay, sizes: PositionSizeMetrics) -> tuple[Cell, ...]:
    """A row's cells, one for each of `HEADS`."""
    return (
        Cell(number(run.profit, sign=True)),
        Cell(number(run.orders, 0)),
        Cell(number(run.refused, 0)),
        *size_cells(sizes),
    )


@dataclass(frozen=True, eq=False, slots=True)
class Recording:
    """The ticks and decisions of a journal, on one clock.

    listings: a market each, its recorded rows without gaps.
    begins: UTC, the first tick of any.
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
        """The recording in a journal."""
        # A process may be writing: what a decision rests on was written with it, or before.
        entries = records.entries()
        journal = f"journal: {records.database.path}"
        spans = records.spans()
        shown = {market: records.ticks(market) for market in spans}
        # Of a market that was first seen as it settled nothing was decided.
        shown = {m: ticks for m, ticks in shown.items() if ticks and not spans[m].settles(ticks[0])}
        if not entries or not shown:
            raise InputError(f"{journal} has no decisions on event contracts")
        begins = min(spans[m].shown_at(ticks[0]) for m, ticks in shown.items())
        ends = max(spans[m].shown_at(ticks[-1]) for m, ticks in shown.items())
        intervals = {spans[market].interval for market in shown}
        interval = next(iter(intervals))
        if len(intervals) > 1 or any((spans[m].begins - begins) % interval for m in shown):
            raise InputError(f"{journal}: its markets are not shown at the same instants")
        count = int((ends - begins) // interval) + 1
        listings = tuple(_listing(m, spans[m], ticks, begins, count) for m, ticks in shown.items())
        cash = entries[0].cash // CENT * CENT
        return cls(listings, begins, interval, count, tuple(entries), cash)


def _listing(
    market: str,
    span: SamplingSchedule,
    ticks: Sequence[MarketUpdate],
    begins: np.datetime64,
    count: int,
) -> Listing:
    """A market from its first recorded row on; one that has not settled goes on as it was shown."""
    rows = np.array([span.row(update.at) for update in ticks])
    first = int(rows[0])
    opened = int((span.shown_at(ticks[0]) - begins) // span.interval)
    settled = span.settles(ticks[-1])
    # The last row of a tape settles: of a market that has not, it lies beyond the recording.
    length = int(rows[-1]) - first + 1 if settled else count - opened + 1
    row = np.arange(length) + first
    seen = np.searchsorted(rows, row, side="right") - 1
    tape: Records = np.array([update.tick for update in ticks], TICK)[seen]
    gaps = row > rows[seen]
    # What was traded in a step is traded once.
    tape["sold"][gaps] = tape["bought"][gaps] = 0
    # After its last tick the market was closed, or nobody looked at it.
    gaps &= seen == len(ticks) - 1 - settled
    tape["bid_size"][gaps] = tape["ask_size"][gaps] = 0
    return Listing(market, tape, opened)


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
    due: dict[int, list[LimitOrder]] = {}
    for entry in recording.entries:
        if entry.order is not None and entry.sent:
            tick = int((entry.at - recording.begins) // recording.interval)
            due.setdefault(tick, []).append(entry.order)
    refused = 0
    for tick in range(recording.ticks):
        for order in due.get(tick, []):
            count = order.count if fixed_size is None else Decimal(fixed_size)
            try:
                exchange.submit(replace(order, count=count))
            except OrderRejected:
                refused += 1
        if tick + 1 < recording.ticks:
            exchange.advance()
    ended_with = exchange.view(recording.listings[0].ticker).worth
    return Replay(ended_with - recording.cash, refused, _episodes(exchange))


def _episodes(exchange: Exchange) -> tuple[Episode, ...]:
    outcomes = {each.market: each.outcome for each in exchange.settlements}
    episodes = []
    for market in exchange.listings:
        placed = [each for each in exchange.orders.values() if each.order.market == market]
        orders = tuple(SentOrder(each.order_id, int(each.order.count)) for each in placed)
        fills = tuple((b.fill, b.fee) for b in exchange.fills if b.fill.market == market)
        episodes.append(Episode(orders, fills, outcomes.get(market)))
    return tuple(episodes)
