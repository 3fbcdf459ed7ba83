"""The last reading of an account's watch, as recorded in the journal."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Json

from execution.decision.watch import LimitName, WatchState
from execution.journal.rows import Float, Instant, Integer, JournalTable
from foundation.database import Database


@dataclass(frozen=True, slots=True)
class WatchRow:
    """Journal row of the last reading; a later reading replaces it.

    number: always 1.
    began_at: instant from which the watch counts losses.
    equity: USD.
    gross: gross exposure, multiples of equity.
    data_age: age of the oldest last trade of a position in an open market, seconds; None without
        one.
    daily_loss, drawdown: losses at the reading, fractions.
    The other fields are those of `WatchState`.
    """

    number: Integer
    began_at: Instant
    at: Instant
    equity: Float
    gross: Float
    margin: Float
    daily_loss: Float
    drawdown: Float
    data_age: Json[Float | None]
    index: Float
    supported: Float
    peak: Float
    day_start: Float
    beyond: Json[tuple[LimitName, ...]]

    @property
    def state(self) -> WatchState:
        return WatchState(
            self.at, self.index, self.supported, self.peak, self.day_start, self.margin, self.beyond
        )


WATCH_TABLE = JournalTable("watch", WatchRow, column_names={"index": "return_index"})


class WatchJournal:
    """The last reading of an account's watch.

    database: the account's journal.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        WATCH_TABLE.create(database)

    def record(self, row: WatchRow) -> None:
        WATCH_TABLE.upsert(self._database, row)

    def last(self) -> WatchRow | None:
        """Return the last reading; None before the first."""
        return WATCH_TABLE.first_row(self._database)
