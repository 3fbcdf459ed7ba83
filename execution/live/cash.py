"""Whether the cash of an account is what is written down makes of it.

Everything that is decided divides by equity, so cash is compared as positions are. It should be
what the account began with, and what trades and bookings have made of it since. Some of it
is
listed late: a coin's fee and those of the exchanges at the end of the day, interest with the month,
a dividend or a deposit a day after. So cash may be away from that sum by a share of equity, and by
no more than that share it may have moved since the last reading that was believed, whatever it was
away by then.
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
# Share of equity beyond which a booking is believed only once a person has looked at it.
LARGE = Decimal("0.5")
ROUNDING = Decimal(1)  # USD


@dataclass(frozen=True, slots=True)
class CashReading:
    """Cash of the venue beside what is written down, USD.

    beyond: what it holds more than the opening balance, its trades and its bookings come to;
        signed.
    booked: what bookings that are no trades have come to, signed.
    """

    beyond: Decimal
    booked: Decimal

    @property
    def cause(self) -> str:
        """What a person who clears the halt lets be."""
        return json.dumps({"beyond": plain(self.beyond), "booked": plain(self.booked)})

    @classmethod
    def of_cause(cls, cause: str) -> CashReading:
        said = json.loads(cause)
        return cls(Decimal(said["beyond"]), Decimal(said["booked"]))

    def is_near(self, other: CashReading, room: Decimal) -> bool:
        """Whether both are the same but for what is listed late."""
        apart = (self.beyond - other.beyond, self.booked - other.booked)
        return max(map(abs, apart)) <= room


def room_of(equity: Decimal) -> Decimal:
    """USD by which the cash of an account may be away."""
    return LATE * abs(equity) + ROUNDING


def why_unexplained(
    now: CashReading, before: CashReading | None, equity: Decimal, bids: Decimal
) -> str:
    """Why a reading is not to be believed; empty where it is.

    before: the last reading that was believed; none on an opening balance that was never read.
    equity: USD, of the account as it was read.
    bids: USD that open purchases of coins may have taken off cash already.
    """
    last = before or CashReading(Decimal(0), now.booked)
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
