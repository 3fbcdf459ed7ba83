"""How the fields of the venue's answers are read, and what their absence means.

Prices are `_dollars` and counts `_fp`: fixed-point text, never a float. Direction is `book_side`:
a bid buys YES or sells NO, an ask sells YES or buys NO, at a price of YES. Every reader raises
`ValueError` for a value that says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Literal, Self, TypeVar, get_type_hints

from event_contracts.trading.orders import COUNT_STEP, PAYOUT, PRICE_STEP
from trainingdata.feed.fields import exact, positive

BookSide = Literal["bid", "ask"]
Status = Literal["resting", "canceled", "executed"]
Word = TypeVar("Word", bound=str)


def fixed_point(value: Any) -> Decimal:
    """A number as fixed-point text; a float has lost what it was."""
    if not isinstance(value, str):
        raise ValueError("no fixed-point text")
    return exact(value)


def a_price(value: Any) -> Decimal:
    """USD, from 0 to 1."""
    price = fixed_point(value)
    if not 0 <= price <= PAYOUT:
        raise ValueError("outside 0 … 1")
    return price


def an_order_price(value: Any) -> Decimal:
    """USD, above 0 and below 1, in ten-thousandths."""
    price = a_price(value)
    if price in (0, PAYOUT) or price % PRICE_STEP:
        raise ValueError("no price of an order")
    return price


def a_signed_count(value: Any) -> Decimal:
    """Contracts, in hundredths."""
    count = fixed_point(value)
    if count % COUNT_STEP:
        raise ValueError("no count of hundredths")
    return count


def a_count(value: Any) -> Decimal:
    """Contracts, 0 or more, in hundredths."""
    count = a_signed_count(value)
    if count < 0:
        raise ValueError("below 0")
    return count


def a_traded_count(value: Any) -> Decimal:
    """Contracts, above 0, in hundredths."""
    return positive(a_count(value))


def one_of(*known: Word) -> Callable[[Any], Word]:
    """A reader of one of these words."""

    def read(value: Any) -> Word:
        for word in known:
            if value == word:
                return word
        raise ValueError(f"none of {', '.join(known)}")

    return read


a_book_side: Callable[[Any], BookSide] = one_of("bid", "ask")
a_status: Callable[[Any], Status] = one_of("resting", "canceled", "executed")


class Entry:
    """A dataclass of what an entry of an answer says.

    Each field is annotated with where it stands and how it is read, `Needed` or `Optional`.
    """

    __slots__ = ()

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """What an entry says.

        Raises
        ------
        SenselessAnswer
            naming the field that is missing or makes no sense.
        """
        hints = get_type_hints(cls, include_extras=True)
        return cls(**{name: hint.__metadata__[0].of(entry) for name, hint in hints.items()})
