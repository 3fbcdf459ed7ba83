"""Comparison of an account's cash with its journal.

Weights are fractions of equity, so cash is reconciled like positions. Expected cash is the opening
balance plus trades and bookings. The venue lists some bookings late: fees at the end of the day,
interest at the end of the month, dividends and deposits a day later. Cash may therefore differ from
the expected cash by a fraction of equity, in total or since the last accepted account snapshot.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal

from foundation.decimals import format_without_exponent

# Fraction of equity by which cash may differ. Late bookings amount to less: selling crypto worth
# all of equity costs 0.25 %, a loan over a long weekend 0.1 %, and a dividend of 1 % on a stock
# that is three quarters of equity pays 0.75 %.
MAX_LATE_BOOKING_FRACTION = Decimal("0.01")
# Fraction of equity beyond which a booking is accepted only once a person has acknowledged it.
LARGE_BOOKING_EQUITY_FRACTION = Decimal("0.5")
CASH_ROUNDING_TOLERANCE_USD = Decimal(1)  # USD


@dataclass(frozen=True, slots=True)
class CashDifference:
    """Difference between the venue's cash and the journal's, USD.

    unexplained_usd: the venue's cash less opening balance, trades and bookings, signed.
    total_bookings_usd: signed sum of all bookings (activities other than trades) in the journal.
    """

    unexplained_usd: Decimal
    total_bookings_usd: Decimal

    @property
    def halt_cause(self) -> str:
        """Difference as JSON text; a person acknowledges it by clearing the cash halt."""
        return json.dumps(
            {
                "unexplained_usd": format_without_exponent(self.unexplained_usd),
                "booked": format_without_exponent(self.total_bookings_usd),
            }
        )

    @classmethod
    def from_halt_cause(cls, cause: str) -> CashDifference:
        fields = json.loads(cause)
        return cls(Decimal(fields["unexplained_usd"]), Decimal(fields["booked"]))

    def is_near(self, other: CashDifference, tolerance: Decimal) -> bool:
        """Return whether this difference equals another one within a tolerance, USD."""
        apart = (
            self.unexplained_usd - other.unexplained_usd,
            self.total_bookings_usd - other.total_bookings_usd,
        )
        return max(map(abs, apart)) <= tolerance


def cash_tolerance(equity: Decimal) -> Decimal:
    """Return the largest cash difference that late bookings may explain, USD.

    equity: equity of the account, USD.
    """
    return MAX_LATE_BOOKING_FRACTION * abs(equity) + CASH_ROUNDING_TOLERANCE_USD


def describe_vanished_difference(
    difference: CashDifference,
    last_accepted: CashDifference | None,
    acknowledged: CashDifference | None,
    equity: Decimal,
) -> str:
    """Describe an acknowledged cash difference that no longer exists; empty if it still does.

    difference: present difference.
    last_accepted: difference at the last accepted account snapshot; None before the first one.
    acknowledged: difference that a person last acknowledged; None without one.
    equity: equity of the account as the venue reports it, USD.
    """
    if last_accepted is None or acknowledged is None:
        return ""
    tolerance = cash_tolerance(equity)
    moved = difference.unexplained_usd - last_accepted.unexplained_usd
    stood = abs(last_accepted.unexplained_usd - acknowledged.unexplained_usd) <= tolerance
    if not stood or abs(difference.unexplained_usd) > tolerance or abs(moved) <= tolerance:
        return ""
    booked = difference.total_bookings_usd - last_accepted.total_bookings_usd
    cause = (
        f"the venue has listed bookings of {booked:+,.2f} USD"
        if abs(booked + moved) <= tolerance
        else "no trade or booking explains it; find what moved cash"
    )
    return (
        f"the cleared cash difference of {last_accepted.unexplained_usd:+,.2f} USD has vanished"
        f" ({moved:+,.2f} USD): {cause}"
    )


def unexplained_cash_reason(
    difference: CashDifference,
    last_accepted: CashDifference | None,
    equity: Decimal,
    reserved_usd: Decimal,
) -> str:
    """Return why trades and bookings do not explain a difference in cash, or an empty string.

    A booking that is large relative to equity is a reason, too.

    difference: present difference.
    last_accepted: last accepted difference; None before the first one.
    equity: equity of the account as the venue reports it, USD.
    reserved_usd: cash that the venue may have reserved for open purchases of crypto, USD.
    """
    last = last_accepted or CashDifference(Decimal(0), difference.total_bookings_usd)
    moved = difference.unexplained_usd - last.unexplained_usd
    booked = difference.total_bookings_usd - last.total_bookings_usd
    if (
        abs(booked)
        > LARGE_BOOKING_EQUITY_FRACTION * abs(equity - booked) + CASH_ROUNDING_TOLERANCE_USD
    ):
        return (
            f"cash: bookings of {booked:+,.2f} USD at once exceed"
            f" {LARGE_BOOKING_EQUITY_FRACTION:.0%} of the equity before them"
        )
    tolerance = cash_tolerance(equity - moved)
    if any(
        -tolerance - reserved_usd <= each <= tolerance
        for each in (difference.unexplained_usd, moved)
    ):
        return ""
    return (
        f"cash: no trade or booking explains {moved:+,.2f} USD of the venue's cash; the tolerance"
        f" is {tolerance:,.2f} USD"
    )
