"""Comparison of an account's cash with its journal.

Every decision divides by equity, so cash is compared as positions are. Expected cash is the opening
balance plus trades and bookings. Some bookings are listed late: fees in crypto and those of the
exchanges at the end of the day, interest with the month, a dividend or a deposit a day later. Cash
may therefore differ by a share of equity, in total or since the last accepted reading.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal

from foundation.decimals import plain

# Share of equity by which cash may be away. What is listed late comes to less: selling coins for
# all of equity costs 0.25 %, what is lent over a long weekend 0.1 %, and a dividend of 1 % of a
# share that is three quarters of equity 0.75 %.
LATE = Decimal("0.01")
# Share of equity beyond which a booking is accepted only once a person has acknowledged it.
LARGE = Decimal("0.5")
ROUNDING = Decimal(1)  # USD


@dataclass(frozen=True, slots=True)
class CashDifference:
    """Difference of the venue's cash from the journal's, USD.

    beyond: cash less opening balance, trades and bookings; signed.
    booked: signed sum of bookings that are no trades.
    """

    beyond: Decimal
    booked: Decimal

    @property
    def cause(self) -> str:
        """What clearing the halt acknowledges."""
        return json.dumps({"beyond": plain(self.beyond), "booked": plain(self.booked)})

    @classmethod
    def of_cause(cls, cause: str) -> CashDifference:
        said = json.loads(cause)
        return cls(Decimal(said["beyond"]), Decimal(said["booked"]))

    def is_near(self, other: CashDifference, room: Decimal) -> bool:
        """Return whether both agree within a tolerance, `room`, USD."""
        apart = (self.beyond - other.beyond, self.booked - other.booked)
        return max(map(abs, apart)) <= room


def room_of(equity: Decimal) -> Decimal:
    """Return the tolerance of an account's cash, USD."""
    return LATE * abs(equity) + ROUNDING


def why_unexplained(
    now: CashDifference, before: CashDifference | None, equity: Decimal, bids: Decimal
) -> str:
    """Return why a difference in cash is unexplained, or an empty string.

    before: the last accepted reading; None before the first.
    equity: USD, of the account as it was read.
    bids: USD that open purchases of crypto may have taken off cash already.
    """
    last = before or CashDifference(Decimal(0), now.booked)
    moved = now.beyond - last.beyond
    booked = now.booked - last.booked
    if abs(booked) > LARGE * abs(equity - booked) + ROUNDING:
        return (
            f"cash: {booked:+,.2f} USD are booked at once, more than {LARGE:.0%} of what the"
            " account was worth before"
        )
    room = room_of(equity - moved)
    if any(-room - bids <= each <= room for each in (now.beyond, moved)):
        return ""
    return (
        f"cash: the venue has {moved:+,.2f} USD that no trade and no booking explains, and"
        f" {room:,.2f} USD may be listed late"
    )
