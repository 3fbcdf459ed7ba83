"""Orders and fills in the venue's words and in ours, and how the fields of its answers are read.

Prices are `_dollars` and counts `_fp`: fixed-point text, never a float. The venue has one book, of
YES: a bid buys YES or sells NO, an ask at p sells YES or buys NO at 1 − p. Which of the two it is,
the venue does not say afterwards: `reduce_only` does, of orders of ours. Each of the others counts
as a purchase, which takes more of the cash than a sale would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, Self, get_type_hints

import numpy as np

from event_contracts.trading.orders import (
    COUNT_STEP,
    PAYOUT,
    PRICE_STEP,
    LimitOrder,
    Outcome,
    RestingOrder,
    Verb,
)
from execution.journal.intents import Intent, Progress, State
from foundation.errors import InputError, SenselessAnswer
from trainingdata.feed.fields import (
    Needed,
    Optional,
    an_instant,
    exact,
    maybe,
    one_of,
    positive,
    truth,
    words,
)

BookSide = Literal["bid", "ask"]
Status = Literal["resting", "canceled", "executed"]
STATES: Mapping[Status, State] = {
    "resting": "working",
    "executed": "filled",
    "canceled": "canceled",
}


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

        Raises `SenselessAnswer` naming the field that is missing or makes no sense.
        """
        hints = get_type_hints(cls, include_extras=True)
        return cls(**{name: hint.__metadata__[0].of(entry) for name, hint in hints.items()})


@dataclass(frozen=True, slots=True)
class VenueOrder(Entry):
    """An order as it is read.

    order_id: the venue's.
    client_order_id: the sender's; empty for one without.
    market: ticker.
    side: of the book of YES.
    price: USD of YES.
    filled: contracts that have traded.
    remaining: contracts that can still trade.
    status: resting, executed or canceled.
    """

    order_id: Annotated[str, Needed("order_id", words)]
    # Orders of others' programs, and by hand, may have none.
    client_order_id: Annotated[str, Optional("client_order_id", words, "")]
    market: Annotated[str, Needed("ticker", words)]
    side: Annotated[BookSide, Needed("book_side", a_book_side)]
    price: Annotated[Decimal, Needed("yes_price_dollars", an_order_price)]
    filled: Annotated[Decimal, Needed("fill_count_fp", a_count)]
    remaining: Annotated[Decimal, Needed("remaining_count_fp", a_count)]
    status: Annotated[Status, Needed("status", a_status)]

    @classmethod
    def answered(cls, intent: Intent, answer: Mapping[str, Any]) -> VenueOrder:
        """The order of an intent, as the answer to its POST describes it.

        Raises `SenselessAnswer` for an answer about another order, or one that cannot be.
        """
        if Needed("client_order_id", words).of(answer) != intent.client_order_id:
            raise SenselessAnswer("it is about another order")
        filled = Needed("fill_count", a_count).of(answer)
        remaining = Needed("remaining_count", a_count).of(answer)
        order = order_of(intent)
        if filled + remaining > order.count:
            raise SenselessAnswer(
                f"fill_count and remaining_count are {filled} and {remaining}, of {order.count}"
            )
        ended: Status = "executed" if filled == order.count else "canceled"
        return cls(
            Needed("order_id", words).of(answer),
            intent.client_order_id,
            order.market,
            book_side(order.action, order.side),
            yes_price(order.side, order.price),
            filled,
            remaining,
            "resting" if remaining else ended,
        )

    @property
    def progress(self) -> Progress:
        """What the book of intents keeps of it."""
        return Progress(STATES[self.status], self.order_id, self.filled)

    @property
    def is_done(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.status != "resting"

    def is_of(self, intent: Intent) -> bool:
        """Whether it is the order of an intent, by our id, its market and its side."""
        order = order_of(intent)
        return (self.client_order_id, self.market, self.side) == (
            intent.client_order_id,
            order.market,
            book_side(order.action, order.side),
        )

    def resting(self, reduces: bool) -> RestingOrder:
        """The order as it waits; reduces: whether it may only sell what is held."""
        action, side = own_terms(self.side, reduces)
        name = self.client_order_id or self.order_id
        price = yes_price(side, self.price)
        order = LimitOrder(name, self.market, action, side, price, self.remaining)
        return RestingOrder(self.order_id, order, self.remaining)


@dataclass(frozen=True, slots=True)
class VenueFill(Entry):
    """An entry of `fills`, `GET /portfolio/fills`; it does not name our id of the order.

    fill_id: the venue's.
    order_id: the venue's, of the order.
    market: ticker.
    side: of the book of YES.
    price: USD of YES.
    count: contracts.
    taker: whether the order took what waited.
    at: UTC, when it was.
    fee: USD; none where the venue does not say it.
    """

    fill_id: Annotated[str, Needed("fill_id", words)]
    order_id: Annotated[str, Needed("order_id", words)]
    market: Annotated[str, Needed("ticker", words)]
    side: Annotated[BookSide, Needed("book_side", a_book_side)]
    price: Annotated[Decimal, Needed("yes_price_dollars", an_order_price)]
    count: Annotated[Decimal, Needed("count_fp", a_traded_count)]
    taker: Annotated[bool, Needed("is_taker", truth)]
    at: Annotated[np.datetime64, Needed("created_time", an_instant)]
    fee: Annotated[Decimal | None, maybe("fee_cost", fixed_point)]


def own_terms(side: BookSide, reduces: bool) -> tuple[Verb, Outcome]:
    """What an order of the book of YES does: a bid buys YES or sells NO, an ask the other two."""
    if side == "bid":
        return ("SELL", "NO") if reduces else ("BUY", "YES")
    return ("SELL", "YES") if reduces else ("BUY", "NO")


def book_side(action: Verb, side: Outcome) -> BookSide:
    """The side of the book of YES that an order stands on."""
    return "bid" if (action == "BUY") == (side == "YES") else "ask"


def yes_price(side: Outcome, price: Decimal) -> Decimal:
    """USD of YES from a price of a side, and of the side from one of YES."""
    return price if side == "YES" else PAYOUT - price


def order_request(order: LimitOrder, expires: np.datetime64) -> dict[str, Any]:
    """The order as the venue takes it; expires: when it ends there, to the second before."""
    return {
        "ticker": order.market,
        "client_order_id": order.client_order_id,
        "side": book_side(order.action, order.side),
        "count": f"{order.count:.2f}",
        "price": f"{yes_price(order.side, order.price):.4f}",
        "time_in_force": "good_till_canceled",
        "expiration_time": epoch_seconds(expires),
        "self_trade_prevention_type": "taker_at_cross",
        "reduce_only": order.action == "SELL",
    }


def epoch_seconds(at: np.datetime64) -> int:
    """Whole seconds since 1970, as the venue counts time; 0 before that."""
    return max(int(at.astype("datetime64[s]").astype(np.int64)), 0)


def order_of(intent: Intent) -> LimitOrder:
    """The order that an intent asks for.

    Raises `InputError` for one that is none of event contracts.
    """
    if not isinstance(intent.order, LimitOrder):
        raise InputError(f"{intent.client_order_id}: it is no order of event contracts")
    return intent.order


def awaited(intent: Intent) -> RestingOrder:
    """An order of unknown fate, as if all of it waited that has not traded; our id stands for the
    venue's.
    """
    order = order_of(intent)
    return RestingOrder(intent.client_order_id, order, order.count - intent.progress.filled)
