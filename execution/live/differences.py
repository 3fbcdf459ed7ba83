"""What an account holds beside what it should hold, and how much of the difference is explained."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from execution.alpaca.activities import EXACT
from trainingdata.instruments import BILLIONTH

NONE = Decimal(0)


@dataclass(frozen=True, slots=True)
class Difference:
    """What is held of a symbol and is not explained.

    expected: shares, coins or contracts by what is written down, signed.
    actual: at the venue, signed.
    cause: what it looks like, where that is something the venue lists late; empty for nothing.
    """

    expected: Decimal
    actual: Decimal
    cause: str = ""

    def __str__(self) -> str:
        expected = plain(self.expected)
        line = f"{plain(self.actual)} at the venue, {expected} by what is written down"
        return f"{line}, {self.cause}" if self.cause else line


def line_of(differences: Mapping[str, Difference]) -> str:
    """One line that names every difference, for an alert; empty where there is none."""
    if not differences:
        return ""
    parts = [f"{symbol} is {difference}" for symbol, difference in sorted(differences.items())]
    return f"positions: {'; '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Explained:
    """By how much a holding may differ from what is written down; coins, not negative.

    missing: that may be taken already and is not listed yet.
    listed: that may be listed now and was taken before the journal began.
    """

    missing: Decimal = NONE
    listed: Decimal = NONE


def unexplained(
    expected: Mapping[str, Decimal],
    actual: Mapping[str, Decimal],
    explained: Mapping[str, Explained],
    expired: Collection[str] = (),
) -> dict[str, Difference]:
    """Every symbol of which more or less is held than what is written down explains.

    expected, actual: signed quantities by symbol; a symbol that is missing is 0.
    expired: options that are held no more, which is explained.
    """
    differences = {}
    for symbol in sorted({*expected, *actual} - {*expired}):
        wanted = expected.get(symbol, NONE)
        held = actual.get(symbol, NONE)
        allowed = explained.get(symbol, Explained())
        surplus = EXACT.subtract(held, wanted)
        if not allowed.missing.copy_negate() <= surplus <= allowed.listed:
            differences[symbol] = Difference(wanted, held)
    return differences


def taker_fees(quantities: Iterable[Decimal], rate: Decimal) -> Decimal:
    """What the venue keeps at most of purchases of a coin: of each a share, up to a billionth.

    Raises
    ------
    ValueError
        for a rate that is no share.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"taker_fee: {rate} is no share of a purchase")
    shares = (EXACT.multiply(quantity, rate) for quantity in quantities)
    return total(share.quantize(BILLIONTH, ROUND_CEILING, EXACT) for share in shares)


def total(numbers: Iterable[Decimal]) -> Decimal:
    """The sum of numbers, exact in any order."""
    whole = NONE
    for number in numbers:
        whole = EXACT.add(whole, number)
    return whole


def plain(number: Decimal) -> str:
    """A number as text without an exponent; equal numbers are equal texts."""
    return f"{EXACT.normalize(EXACT.plus(number)):f}"
