"""The cash that an account's trades and bookings come to, since its journal began."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np

from execution.journal.rows import Exact, Instant, Table, Whole
from foundation.database import Database, DatabaseFailed
from foundation.decimals import EXACT


@dataclass(frozen=True, slots=True)
class Ground:
    """What cash should be, USD.

    begun_at: when the journal began.
    cash: what there was then, and what trades and bookings have made of it since.
    booked: what bookings that are no trades have come to, signed.
    believed_beyond: how much more the venue had at the last reading that was believed, signed; none
        before there was one.
    believed_booked: what was booked by then.
    number: there is one.
    """

    begun_at: Instant
    cash: Exact
    booked: Exact = Decimal(0)
    believed_beyond: Exact | None = None
    believed_booked: Exact | None = None
    number: Whole = 1

    @property
    def believed(self) -> tuple[Decimal, Decimal] | None:
        """The last reading that was believed: what was there beyond, and what was booked."""
        if self.believed_beyond is None or self.believed_booked is None:
            return None
        return self.believed_beyond, self.believed_booked


_GROUND = Table("ground", Ground, key="number")


class GroundBook:
    """The one row of an account's ground."""

    def __init__(self, database: Database) -> None:
        self._database = database
        _GROUND.create(database)

    @property
    def begun(self) -> bool:
        """Whether it is written down what there was at first."""
        return _GROUND.last(self._database) is not None

    def begin(self, at: np.datetime64, cash: Decimal) -> None:
        """Write down what there is as the journal begins; cash: USD."""
        _GROUND.insert(self._database, Ground(at, cash))

    def row(self) -> Ground:
        """The ground as it is now."""
        ground = _GROUND.last(self._database)
        if ground is None:
            raise DatabaseFailed("the journal has no ground: its account was never read")
        return ground

    def add(self, cash: Decimal, booked: Decimal) -> None:
        """Have trades and bookings change cash; booked: by how much bookings do, USD."""
        if cash or booked:
            last = self.row()
            now = replace(
                last, cash=EXACT.add(last.cash, cash), booked=EXACT.add(last.booked, booked)
            )
            _GROUND.put(self._database, now)

    def believe(self, beyond: Decimal, booked: Decimal) -> None:
        """Write down a reading of cash that is believed, as `Ground.believed` has it."""
        now = replace(self.row(), believed_beyond=beyond, believed_booked=booked)
        _GROUND.put(self._database, now)
