"""The cash that an account's trades and bookings come to, since its journal began."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import numpy as np

from execution.journal.activities import stamp
from execution.journal.migrations import create_tables
from foundation.database import Database
from foundation.decimals import EXACT, plain

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS ground (
        number INTEGER PRIMARY KEY CHECK (number = 1),
        begun_at TEXT NOT NULL,
        cash TEXT NOT NULL,
        booked TEXT NOT NULL,
        believed_beyond TEXT,
        believed_booked TEXT
    ) STRICT
    """


class Ground(NamedTuple):
    """What cash should be, USD.

    begun_at: when the journal began.
    cash: what there was then, and what trades and bookings have made of it since.
    booked: what bookings that are no trades have come to, signed.
    believed: how much more the venue had at the last reading that was believed, signed, and what
        was booked by then; none before there was one.
    """

    begun_at: np.datetime64
    cash: Decimal
    booked: Decimal
    believed: tuple[Decimal, Decimal] | None


class GroundBook:
    """The one row of an account's ground."""

    def __init__(self, database: Database) -> None:
        self._database = database
        create_tables(database, _SCHEMA)

    @property
    def begun(self) -> bool:
        """Whether it is written down what there was at first."""
        return bool(self._database.rows("SELECT 1 FROM ground"))

    def begin(self, at: np.datetime64, cash: Decimal) -> None:
        """Write down what there is as the journal begins; cash: USD."""
        self._database.execute(
            "INSERT INTO ground (number, begun_at, cash, booked) VALUES (1, ?, ?, '0')",
            (stamp(at), plain(cash)),
        )

    def row(self) -> Ground:
        """The ground as it is now.

        Raises
        ------
        DatabaseFailed
            before it was begun, too.
        """
        rows = self._database.rows(
            "SELECT begun_at, cash, booked, believed_beyond, believed_booked FROM ground"
        )
        with self._database.checked():
            [(begun_at, cash, booked, *believed)] = rows
            last = None if None in believed else (Decimal(believed[0]), Decimal(believed[1]))
            return Ground(np.datetime64(begun_at, "ns"), Decimal(cash), Decimal(booked), last)

    def add(self, cash: Decimal, booked: Decimal) -> None:
        """Have trades and bookings change cash; booked: by how much bookings do, USD."""
        if cash or booked:
            before = self.row()
            self._database.execute(
                "UPDATE ground SET cash = ?, booked = ?",
                (plain(EXACT.add(before.cash, cash)), plain(EXACT.add(before.booked, booked))),
            )

    def believe(self, beyond: Decimal, booked: Decimal) -> None:
        """Write down a reading of cash that is believed, as `Ground.believed` has it."""
        self._database.execute(
            "UPDATE ground SET believed_beyond = ?, believed_booked = ?",
            (plain(beyond), plain(booked)),
        )
