"""When a live loop has to be done with its next cycle: it writes that down, and anybody may
look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from execution.journal.rows import Instant, Table, Text, Whole
from foundation.clock import system_clock
from foundation.database import Database
from trainingdata.instants import utc_text

SLACK = 300.0  # seconds for what a cycle asks of the venue, beside what its settings grant


@dataclass(frozen=True, slots=True)
class NextCycle:
    """The cycle that a loop makes next.

    job: that is stepped.
    due: when it begins, by the venue's clock.
    over_by: when it is over at the latest, by this machine's clock.
    only: there is one.
    """

    job: Text
    due: Instant
    over_by: Instant
    only: Whole = 0

    def is_late(self, now: np.datetime64) -> bool:
        """Whether it should be over by now; now: by this machine's clock."""
        return bool(now > self.over_by)

    def __str__(self) -> str:
        return f"{self.job} at {utc_text(self.due)}"


_NEXT = Table("next_pass", NextCycle, key="only")


class NextCycleBook:
    """The next cycle of an account's loop, in its journal.

    database: the journal.
    seconds: that the settings grant a cycle.
    clock: this machine's.
    """

    def __init__(
        self, database: Database, seconds: float, clock: Callable[[], np.datetime64] = system_clock
    ) -> None:
        self._database = database
        self._clock = clock
        self._longest = np.timedelta64(round((seconds + SLACK) * 1000), "ms")
        self._written: tuple[str, np.datetime64] | None = None
        _NEXT.create(database)

    def expect(self, job: str, due: np.datetime64, now: np.datetime64) -> None:
        """A cycle is due; now: by the clock that says when it is."""
        if self._written == (job, due):
            return
        wait = max(due - now, np.timedelta64(0, "ns"))
        over_by = self._clock() + wait + self._longest
        _NEXT.put(self._database, NextCycle(job, due, over_by))
        self._written = job, due

    def expected(self) -> NextCycle | None:
        return _NEXT.last(self._database)

    def expect_none(self) -> None:
        self._database.execute("DELETE FROM next_pass")
        self._written = None


def next_cycle_of(journal: Path) -> NextCycle | None:
    """The cycle that is expected by a journal; none where none is."""
    found = _NEXT.rows_in(journal)
    return found[0] if found else None
