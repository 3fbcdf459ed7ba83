"""An order as the practice venue takes and keeps it, in Kalshi's words.

There is one book, of YES: a bid buys YES or sells NO, an ask sells YES or buys NO, at the price of
YES. With `reduce_only` an order sells what is held; without it, it buys, and pairs with what is
held of the other side are paid out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, Field, PlainValidator, Strict, TypeAdapter, ValidationError

from event_contracts.simulation.exchange import PlacedOrder
from event_contracts.trading.orders import LimitOrder, Outcome, Verb
from event_contracts.trading.venue_orders import (
    BookSide,
    Status,
    a_traded_count,
    an_order_price,
    own_terms,
    yes_price,
)

Answer = dict[str, Any]

LONGEST_ID = 64  # characters of a client_order_id
LARGEST = 10**9  # contracts of an order


class Refused(Exception):
    """A request the venue does not take.

    status: of HTTP.
    code: a word for programs.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def _count(value: object) -> Decimal:
    """The markets here trade whole contracts."""
    count = a_traded_count(value)
    if count > LARGEST or count % 1:
        raise ValueError(f"{value} is no whole number of contracts from 1 to {LARGEST}")
    return count


def _instant(seconds: object) -> np.datetime64 | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 < seconds < 2**33:
        raise ValueError("whole seconds since 1970 are required")
    return np.datetime64(seconds * 10**9, "ns")


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """What a client asked for, checked as far as no market has to be known; by the API's names.

    ticker: of the market.
    side: of the book of YES.
    price: USD of YES.
    count: contracts.
    time_in_force, self_trade_prevention_type: the only ones that are known here.
    client_order_id: the client's; empty where he gave none.
    reduce_only: whether it may only sell what is held.
    expiration_time: UTC, when it ends by itself; none where it does not.
    """

    ticker: Annotated[str, Field(strict=True, min_length=1)]
    side: BookSide
    price: Annotated[Decimal, PlainValidator(an_order_price)]
    count: Annotated[Decimal, PlainValidator(_count)]
    time_in_force: Literal["good_till_canceled"]
    self_trade_prevention_type: Literal["taker_at_cross"]
    client_order_id: Annotated[str, Field(strict=True, max_length=LONGEST_ID)] = ""
    reduce_only: Annotated[bool, Strict()] = False
    expiration_time: Annotated[np.datetime64 | None, PlainValidator(_instant)] = None

    # A field that is not known here would change what the order means.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> OrderRequest:
        """The request of a JSON object; `Refused` names the field that makes no sense."""
        try:
            return TypeAdapter(cls).validate_python(body)
        except ValidationError as error:
            problem = error.errors()[0]
            message = f"{problem['loc'][0]}: {problem['msg']}"
            raise Refused(400, "invalid_parameters", message) from None

    @property
    def verb(self) -> Verb:
        """What it does with its own side."""
        return own_terms(self.side, self.reduce_only)[0]

    @property
    def outcome(self) -> Outcome:
        """Its own side."""
        return own_terms(self.side, self.reduce_only)[1]

    def limit_order(self, order_id: str, count: Decimal) -> LimitOrder:
        """The order in our words."""
        own = yes_price(self.outcome, self.price)
        return LimitOrder(order_id, self.ticker, self.verb, self.outcome, own, count)


@dataclass(frozen=True, slots=True)
class Ticket:
    """An order and what became of it.

    request: as the client asked.
    placed: the order at the exchange.
    client_order_id: the client's, or the venue's own where he gave none.
    held_back: contracts that a fault keeps from trading; the order ends without them.
    refused_later: whether a fault turns it down at the next tick.
    """

    request: OrderRequest
    placed: PlacedOrder
    client_order_id: str
    held_back: Decimal = Decimal(0)
    refused_later: bool = False

    @property
    def order_id(self) -> str:
        """The venue's."""
        return self.placed.order_id

    @property
    def count(self) -> Decimal:
        """Contracts, as covered."""
        return self.placed.order.count + self.held_back

    @property
    def filled(self) -> Decimal:
        """Contracts that have traded."""
        return self.placed.filled

    @property
    def status(self) -> Status:
        """As the API names it."""
        state = self.placed.state
        return "canceled" if state == "executed" and self.held_back else state

    @property
    def waiting(self) -> Decimal:
        """Contracts that can still trade, and those held back."""
        return Decimal(0) if self.placed.is_done else self.placed.remaining + self.held_back


def dollars(amount: Decimal) -> str:
    """USD as the API writes it, with 4 decimals and more where it needs them, up to 6."""
    text = f"{amount:.6f}"
    return text[:-2] if text.endswith("00") else text


def counted(contracts: Decimal) -> str:
    """Contracts as the API writes them, with 2 decimals."""
    return f"{contracts:.2f}"


def milliseconds(at: np.datetime64) -> int:
    """Since 1970."""
    return int(at.astype("datetime64[ms]").astype(np.int64))


def written(at: np.datetime64) -> str:
    """An instant as the API writes it."""
    return f"{np.datetime_as_string(at, unit='ms')}Z"
