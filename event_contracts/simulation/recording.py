"""The ticks and decisions of a journal on one clock, held to one another before they are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np

from event_contracts.simulation.exchange import Listing
from event_contracts.simulation.settings import LARGEST_CASH
from event_contracts.trading.action_log import ACTION_TABLE, TICK_TABLE, ActionEntry, ActionRecords
from event_contracts.trading.records import TICK
from event_contracts.trading.updates import MarketSpan, MarketUpdate
from foundation.arrays import Records
from foundation.cents import CENT
from foundation.errors import InputError

MOST_STEPS = 5_000_000  # from the first tick to the last: nine years of minutes


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
            for a journal without decisions, markets whose ticks have no step in common, and rows
            that cannot be, or contradict one another.
        """
        # A process may be writing: what a decision rests on was written with it, or before.
        entries = records.entries()
        spans = records.spans()
        shown = {market: ticks for market in spans if (ticks := records.ticks(market))}
        for market, ticks in shown.items():
            _check_ticks(records, spans[market], ticks)
        _check_entries(records, entries, shown)
        # Of a market that was first seen as it settled nothing was decided.
        shown = {m: ticks for m, ticks in shown.items() if not _is_last(spans[m], ticks[0])}
        if not entries or not shown:
            raise InputError(f"journal: {records.journal} has no decisions on event contracts")
        intervals = {spans[market].interval for market in shown}
        begins = min(_at(spans[market], ticks[0]) for market, ticks in shown.items())
        ends = max(_at(spans[market], ticks[-1]) for market, ticks in shown.items())
        interval = next(iter(intervals))
        if len(intervals) > 1 or any((spans[m].begins - begins) % interval for m in shown):
            raise InputError(
                f"journal: the markets of {records.journal} are not shown at the same instants"
            )
        count = int((ends - begins) // interval) + 1
        if count > MOST_STEPS:
            raise InputError(
                f"journal: the ticks of {records.journal} are {count:,} steps from {begins} to"
                f" {ends}, more than {MOST_STEPS:,}"
            )
        listings = tuple(
            _listing(market, spans[market], ticks, begins, count) for market, ticks in shown.items()
        )
        cash = entries[0].cash // CENT * CENT
        if not 0 < cash <= LARGEST_CASH:
            why = f"nothing is played with cash of ${cash:f}, $0.01 … ${LARGEST_CASH:,}"
            raise records.refusal(ACTION_TABLE, entries[0].market, entries[0].at, why=why)
        return cls(listings, begins, interval, count, tuple(entries), cash)


def _check_ticks(records: ActionRecords, span: MarketSpan, ticks: Sequence[MarketUpdate]) -> None:
    """Refuse ticks outside of the steps of their market, two of one step, and crossed quotes."""
    before = -1
    for update in ticks:
        row = span.row(update.at)
        if not before < row < span.rows:
            why = f"at is step {row} after step {before}, of {span.rows} from {span.begins} on"
            raise records.refusal(TICK_TABLE, update.market, update.at, why=why)
        bid, ask = int(update.tick["bid"]), int(update.tick["ask"])
        if bid > ask:
            why = f"bid is {bid}, above the ask of {ask}"
            raise records.refusal(TICK_TABLE, update.market, update.at, why=why)
        before = row


def _check_entries(
    records: ActionRecords,
    entries: Sequence[ActionEntry],
    shown: Mapping[str, Sequence[MarketUpdate]],
) -> None:
    """Refuse decisions on ticks that are not there, and orders that were not sent as decided."""
    instants = {market: {update.at for update in ticks} for market, ticks in shown.items()}
    requests = records.requests()
    for entry in entries:
        if entry.at not in instants.get(entry.market, ()):
            why = f"it is decided on a tick that {TICK_TABLE} has not"
            raise records.refusal(ACTION_TABLE, entry.market, entry.at, why=why)
        if entry.size:
            asked = requests.get(entry.client_order_id)
            if asked is None:
                why = f"its order {entry.client_order_id} is in no intent"
                raise records.refusal(ACTION_TABLE, entry.market, entry.at, why=why)
            if asked != entry.order:
                why = f"terms is {asked}, and {entry.order} was decided"
                raise records.refusal("intents", entry.client_order_id, why=why)


def _is_last(span: MarketSpan, update: MarketUpdate) -> bool:
    """Whether an update shows the row that settles."""
    return span.row(update.at) == span.rows - 1


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
    settled = _is_last(span, ticks[-1])
    trading = ticks[:-1] if settled else ticks
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
