"""Orders and fills: conversion between the venue's and this project's formats, and parsers.

Fields of prices end in `_dollars`, fields of counts in `_fp`. Both are fixed-point text, never
floats. The venue has one book, of YES: a bid buys YES or sells NO, an ask at p sells YES or buys NO
at 1 − p. The venue's list does not state which of the two an order is. For orders of this project
the journal states it. Every other order counts as a purchase, which uses more cash than a sale.

A sale has one of two forms. An immediate-or-cancel order has `reduce_only`: the venue caps it at
the position, and accepts this flag on no other order. A sale that rests is a plain order on the
other side of the book. It would reverse the position if it filled more contracts than are held;
`PreTradeCheck` prevents that.

The venue does not document that it refuses a second order with a used id. Orders are therefore
posted once, and looked up by client_order_id among the account's orders and fills. An order of
unknown outcome is never posted again. It is queried, and counts as resting until the venue states
its outcome. After its expiry and a margin of time it counts as lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, Literal, Self, get_type_hints

import numpy as np

from event_contracts.trading.endpoint import (
    NOT_FOUND_STATUS,
    HttpStatusError,
    JsonObject,
    KalshiConnection,
)
from event_contracts.trading.fields import FirstPresentField, UnreadableRow
from event_contracts.trading.orders import (
    CONTRACT_COUNT_STEP,
    CONTRACT_PAYOUT_USD,
    PRICE_STEP_USD,
    ContractAction,
    EventContractOrder,
    Outcome,
    RestingOrder,
)
from execution.journal.order_store import OrderIntent, OrderProgress, OrderState
from execution.journal.outbox import InconclusiveResponse, OrderDenied, OrderPaused
from foundation.decimals import CENT
from foundation.errors import BrokerError, InputError, InvalidResponse, OrderRejected
from trainingdata.feed.fields import (
    OptionalField,
    RequiredField,
    choice_parser,
    optional_field,
    parse_bool,
    parse_decimal,
    parse_positive_decimal,
    parse_text,
    parse_timestamp,
)

BookSide = Literal["bid", "ask"]
VenueOrderStatus = Literal["resting", "canceled", "executed"]
SelfTradePrevention = Literal["taker_at_cross", "maker"]
ORDER_STATE_BY_STATUS: Mapping[VenueOrderStatus, OrderState] = {
    "resting": "accepted",
    "executed": "filled",
    "canceled": "canceled",
}
parse_book_side: Callable[[Any], BookSide] = choice_parser("bid", "ask")
parse_order_status: Callable[[Any], VenueOrderStatus] = choice_parser(
    "resting", "canceled", "executed"
)
log = logging.getLogger(__name__)
NEW_ORDERS_PATH = "/portfolio/events/orders"
ORDERS_PATH = "/portfolio/orders"
FILLS_PATH = "/portfolio/fills"
TOO_MANY_REQUESTS = 429
# Statuses below 500 that leave an order's outcome unknown: 409 may refer to this very order.
UNKNOWN_OUTCOME_STATUSES = (408, 409, 425)
# Code of the 409 that ends a fill-or-kill order without a fill.
FILL_OR_KILL_FAILED_CODE: Final = "fill_or_kill_insufficient_resting_volume"
MAX_EPOCH_SECOND = 2**33  # since 1970, in the year 2242
MAX_CLOCK_SKEW = np.timedelta64(1, "h")  # maximum lead of this machine's clock over the venue's


def parse_fixed_point(value: Any) -> Decimal:
    """Parse a fixed-point number from text.

    Floats are rejected (`ValueError`), because they may have been rounded.
    """
    if not isinstance(value, str):
        raise ValueError("not a fixed-point string")
    return parse_decimal(value)


def parse_price(value: Any) -> Decimal:
    """Parse a price in USD, from 0 to 1."""
    price = parse_fixed_point(value)
    if not 0 <= price <= CONTRACT_PAYOUT_USD:
        raise ValueError("outside 0 … 1")
    return price


def parse_order_price(value: Any) -> Decimal:
    """Parse the price of an order in USD: a multiple of 0.0001, above 0 and below 1."""
    price = parse_price(value)
    if price in (0, CONTRACT_PAYOUT_USD) or price % PRICE_STEP_USD:
        raise ValueError("not an order price: a multiple of 0.0001, above 0 and below 1")
    return price


def parse_signed_count(value: Any) -> Decimal:
    """Parse a number of contracts of either sign, a multiple of 0.01."""
    count = parse_fixed_point(value)
    if count % CONTRACT_COUNT_STEP:
        raise ValueError("not a multiple of 0.01 contracts")
    return count


def parse_count(value: Any) -> Decimal:
    """Parse a number of contracts, a multiple of 0.01 that is 0 or more."""
    count = parse_signed_count(value)
    if count < 0:
        raise ValueError("below 0")
    return count


def parse_traded_count(value: Any) -> Decimal:
    """Parse a positive number of contracts, a multiple of 0.01."""
    return parse_positive_decimal(parse_count(value))


def parse_outcome_side(value: Any) -> BookSide:
    """Convert an `outcome_side` to the side of the book of YES: `yes` to bid, `no` to ask."""
    return "bid" if choice_parser("yes", "no")(value) == "yes" else "ask"


def parse_no_price(value: Any) -> Decimal:
    """Parse an order's price of NO in USD; return the equivalent price of YES."""
    return CONTRACT_PAYOUT_USD - parse_order_price(value)


def parse_cents(value: Any) -> Decimal:
    """Parse a whole number of cents; return USD."""
    number = parse_decimal(value)
    if number % 1:
        raise ValueError("not a whole number of cents")
    return number * CENT


def parse_epoch_second(value: Any) -> np.datetime64:
    """Parse an epoch timestamp in seconds."""
    seconds = parse_decimal(value)
    if not 0 <= seconds < MAX_EPOCH_SECOND:
        raise ValueError("not a time between 1970 and 2242")
    return np.datetime64(int(seconds * 10**9), "ns")


# Both directions are stated since May 2026 (`book_side` and `outcome_side`), and both prices.
BOOK_SIDE_FIELD: FirstPresentField[BookSide] = FirstPresentField(
    ("book_side", parse_book_side), ("outcome_side", parse_outcome_side)
)
YES_PRICE_FIELD = FirstPresentField(
    ("yes_price_dollars", parse_order_price), ("no_price_dollars", parse_no_price)
)
NO_FILL_TIME = np.datetime64("NaT", "ns")


class ParsedEntry:
    """Base class of a dataclass that is parsed from an entry of a response.

    Each field is annotated with its name and parser: `RequiredField`, `OptionalField` or
    `FirstPresentField`.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> Self:
        hints = get_type_hints(cls, include_extras=True)
        return cls(**{name: hint.__metadata__[0].read(entry) for name, hint in hints.items()})


@dataclass(frozen=True, slots=True)
class VenueOrder(ParsedEntry):
    """An order in the venue's list of orders.

    client_order_id: the sender's id; empty without one.
    side: side in the book of YES.
    price: USD of YES.
    filled_count: contracts that have traded.
    remaining_count: contracts that can still trade.
    status: resting, executed or canceled.
    """

    order_id: Annotated[str, RequiredField("order_id", parse_text)]
    # Orders of other programs, and manual orders, may have none.
    client_order_id: Annotated[str, OptionalField("client_order_id", parse_text, "")]
    market: Annotated[str, RequiredField("ticker", parse_text)]
    side: Annotated[BookSide, BOOK_SIDE_FIELD]
    price: Annotated[Decimal, YES_PRICE_FIELD]
    filled_count: Annotated[Decimal, RequiredField("fill_count_fp", parse_count)]
    remaining_count: Annotated[Decimal, RequiredField("remaining_count_fp", parse_count)]
    status: Annotated[VenueOrderStatus, RequiredField("status", parse_order_status)]

    @classmethod
    def from_response(cls, intent: OrderIntent, response: Mapping[str, Any]) -> VenueOrder:
        """Return the order of an intent from the response to its POST.

        Raises `InvalidResponse` if the response is about another order.
        """
        # Without this optional field the response refers to the posted order.
        named = OptionalField("client_order_id", parse_text, intent.client_order_id).read(response)
        if named != intent.client_order_id:
            raise InvalidResponse(
                f"it describes order {named}, not the posted order {intent.client_order_id}"
            )
        filled = RequiredField("fill_count", parse_count).read(response)
        remaining = RequiredField("remaining_count", parse_count).read(response)
        order = to_contract_order(intent)
        if filled + remaining > order.count:
            raise InvalidResponse(
                f"fill_count {filled} plus remaining_count {remaining} exceeds the order's count"
                f" {order.count}"
            )
        ended: VenueOrderStatus = "executed" if filled == order.count else "canceled"
        return cls(
            RequiredField("order_id", parse_text).read(response),
            intent.client_order_id,
            order.market,
            book_side(order.action, order.side),
            convert_side_price(order.side, order.price),
            filled,
            remaining,
            "resting" if remaining else ended,
        )

    @property
    def progress(self) -> OrderProgress:
        return OrderProgress(ORDER_STATE_BY_STATUS[self.status], self.order_id, self.filled_count)

    @property
    def is_done(self) -> bool:
        return self.status != "resting"

    def matches(self, intent: OrderIntent) -> bool:
        """Return whether this is the order of an intent, by client_order_id, market and side."""
        order = to_contract_order(intent)
        return (self.client_order_id, self.market, self.side) == (
            intent.client_order_id,
            order.market,
            book_side(order.action, order.side),
        )

    def to_resting_order(self, reduces: bool) -> RestingOrder:
        """Return this order as a `RestingOrder`.

        reduces: true if the order may only sell the position.
        """
        action, side = to_action_and_side(self.side, reduces)
        name = self.client_order_id or self.order_id
        price = convert_side_price(side, self.price)
        order = EventContractOrder(name, self.market, action, side, price, self.remaining_count)
        return RestingOrder(self.order_id, order, self.remaining_count)


@dataclass(frozen=True, slots=True)
class VenueFill(ParsedEntry):
    """An entry of the list `fills` in the response to `GET /portfolio/fills`.

    The venue does not state the client_order_id of a fill.

    order_id: the venue's id of the order.
    side: side in the book of YES.
    price: USD of YES.
    is_taker: true if the order took liquidity, or if the venue does not state it.
    filled_at: UTC, instant of the fill; `NO_FILL_TIME` if the venue does not state it.
    fee: USD; None if the venue does not state it.
    """

    fill_id: Annotated[str, FirstPresentField(("fill_id", parse_text), ("trade_id", parse_text))]
    order_id: Annotated[str, RequiredField("order_id", parse_text)]
    market: Annotated[str, FirstPresentField(("ticker", parse_text), ("market_ticker", parse_text))]
    side: Annotated[BookSide, BOOK_SIDE_FIELD]
    price: Annotated[Decimal, YES_PRICE_FIELD]
    count: Annotated[Decimal, RequiredField("count_fp", parse_traded_count)]
    is_taker: Annotated[
        bool, OptionalField("is_taker", parse_bool, True, "a taker's fee is assumed")
    ]
    filled_at: Annotated[
        np.datetime64,
        FirstPresentField(
            ("created_time", parse_timestamp), ("ts", parse_epoch_second), default=NO_FILL_TIME
        ),
    ]
    fee: Annotated[Decimal | None, optional_field("fee_cost", parse_fixed_point)]


def to_action_and_side(side: BookSide, reduces: bool) -> tuple[ContractAction, Outcome]:
    """Convert an order's side in the book of YES to its action and side.

    A bid buys YES or, if it reduces, sells NO; an ask buys NO or, if it reduces, sells YES.
    """
    if side == "bid":
        return ("SELL", "NO") if reduces else ("BUY", "YES")
    return ("SELL", "YES") if reduces else ("BUY", "NO")


def book_side(action: ContractAction, side: Outcome) -> BookSide:
    """Return the side of the book of YES on which an order rests."""
    return "bid" if (action == "BUY") == (side == "YES") else "ask"


def convert_side_price(side: Outcome, price: Decimal) -> Decimal:
    """Convert a price of a side to the price of YES, or a price of YES to that of the side."""
    return price if side == "YES" else CONTRACT_PAYOUT_USD - price


def build_order_request(order: EventContractOrder) -> dict[str, Any]:
    """Return an order in the venue's format.

    A resting order states its expiry, rounded down to the second; the venue refuses an expiry on an
    immediate order. Only immediate sales have `reduce_only`, which it refuses on resting orders.
    """
    if order.can_rest and order.expires_at is None:
        raise InputError(
            f"{order.client_order_id}: expires_at is not set; a resting order needs an expiry"
        )
    expires = order.expires_at if order.can_rest else None
    return {
        "ticker": order.market,
        "client_order_id": order.client_order_id,
        "side": book_side(order.action, order.side),
        "count": f"{order.count:.2f}",
        "price": f"{convert_side_price(order.side, order.price):.4f}",
        "time_in_force": order.time_in_force,
        **({} if expires is None else {"expiration_time": epoch_seconds(expires)}),
        "self_trade_prevention_type": self_trade_prevention(order),
        "reduce_only": order.action == "SELL" and order.time_in_force == "immediate_or_cancel",
    }


def self_trade_prevention(order: EventContractOrder) -> SelfTradePrevention:
    """Return the self-trade prevention for an order: which of two orders the venue cancels.

    `taker_at_cross` cancels the new order if it would trade with a resting order of the account.
    `maker` cancels the resting order, and the new order continues to trade. Sales use `maker`: they
    reduce risk and must not fail because of the account's own purchase.
    """
    return "maker" if order.action == "SELL" else "taker_at_cross"


def epoch_seconds(at: np.datetime64) -> int:
    """Return epoch seconds, the unit of the venue's filters; 0 for instants before the epoch."""
    return max(int(at.astype("datetime64[s]").astype(np.int64)), 0)


def to_contract_order(intent: OrderIntent) -> EventContractOrder:
    """Return the event-contract order of an intent; raises `InputError` for other orders."""
    if not isinstance(intent.order, EventContractOrder):
        raise InputError(f"{intent.client_order_id}: not an order for an event contract")
    return intent.order


def to_resting_order(intent: OrderIntent) -> RestingOrder:
    """Return the unfilled remainder of an intent as a resting order.

    Its order id is the client_order_id, because the venue's id may be unknown.
    """
    order = to_contract_order(intent)
    return RestingOrder(intent.client_order_id, order, order.count - intent.progress.filled)


class OrderVenue(KalshiConnection):
    """Client for the orders of one account, which implements the `Venue` interface."""

    name: ClassVar[str] = "kalshi"
    has_idempotent_client_ids: ClassVar[bool] = False

    def estimated_now(self) -> np.datetime64:
        return self.now()

    def read_cash(self) -> Decimal:
        """Return the account's cash in USD, including the cash that resting orders may use."""
        with self.translate_errors("balance"):
            answer = self.request("GET", "/portfolio/balance")
            return FirstPresentField(
                ("balance_dollars", parse_fixed_point), ("balance", parse_cents)
            ).read(answer)

    def list_resting_orders(self) -> tuple[tuple[VenueOrder, ...], tuple[UnreadableRow, ...]]:
        """Return the account's resting orders, oldest first, and rows that cannot be read."""
        listed, unread = self.list_readable_entries(
            "orders", ORDERS_PATH, "orders", VenueOrder.parse, status="resting"
        )
        return tuple(reversed([order for order in listed if order.remaining_count])), unread

    def get_order(self, order_id: str) -> VenueOrder | None:
        """Return the order with this venue id; None if the venue does not know the id."""
        what = f"order {order_id}"
        answer = self.get_object(what, f"{ORDERS_PATH}/{order_id}", "order")
        if answer is None:
            return None
        with self.translate_errors(what):
            order = VenueOrder.parse(answer)
            if order.order_id != order_id:
                raise InvalidResponse(f"it describes another order, {order.order_id}")
        return order

    def find(self, client_order_id: str, intent: OrderIntent | None) -> VenueOrder | None:
        """Return the order with this client_order_id; None if the venue lists none.

        intent: recorded intent of the order; if None, the result is None without a query.
        """
        if intent is None:
            return None
        if intent.progress.venue_order_id:
            return self.get_order(intent.progress.venue_order_id)
        what = f"order {client_order_id}"
        query = {
            "ticker": to_contract_order(intent).market,
            "min_ts": epoch_seconds(intent.sent_at - MAX_CLOCK_SKEW),
        }

        def parse_candidate(entry: JsonObject) -> VenueOrder | str:
            # Orders with other ids are not parsed, so an unreadable one hides no other.
            others = entry.get("client_order_id") not in (None, "", client_order_id)
            return (
                RequiredField("order_id", parse_text).read(entry)
                if others
                else VenueOrder.parse(entry)
            )

        listed = self.list_entries(what, ORDERS_PATH, "orders", parse_candidate, **query)
        orders = [each for each in listed if isinstance(each, VenueOrder)]
        found = [order for order in orders if order.matches(intent)]
        if not found:
            known = {each if isinstance(each, str) else each.order_id for each in listed}
            found = self._find_orders_by_fills(what, query, known, intent)
        if len(found) > 1:
            names = ", ".join(order.order_id for order in found)
            log.error(
                "%s: the venue lists more than one order with this client_order_id: %s",
                client_order_id,
                names,
            )
        # The list is newest first.
        return found[-1] if found else None

    def _find_orders_by_fills(
        self, what: str, query: JsonObject, known: Collection[str], intent: OrderIntent
    ) -> list[VenueOrder]:
        """Return orders that match an intent and that only the list of fills refers to.

        what: name of the order, for messages.
        query: filters of the list of fills.
        known: ids in the list of orders, which are skipped.
        """
        order_id = RequiredField("order_id", parse_text)
        fills = self.list_entries(f"fills of {what}", FILLS_PATH, "fills", order_id.read, **query)
        names = dict.fromkeys(fills)
        read = [self.get_order(name) for name in names if name not in known]
        return [order for order in read if order is not None and order.matches(intent)]

    def refresh_order(self, order: VenueOrder) -> VenueOrder:
        """Query an order again and return its current state.

        Raises `BrokerError` if the venue does not know it.
        """
        current = self.get_order(order.order_id)
        if current is None:
            raise BrokerError(f"order {order.order_id}: no longer found at the venue")
        return current

    def cancel(self, order: VenueOrder) -> None:
        """Cancel an order, unless it has ended.

        Raises `TradingPaused` if the order still rests because trading is paused.
        """
        with self.translate_errors(f"cancellation of order {order.order_id}"):
            try:
                self.request("DELETE", f"{NEW_ORDERS_PATH}/{order.order_id}")
            except HttpStatusError as error:
                if error.status != NOT_FOUND_STATUS:
                    raise

    def post(self, intent: OrderIntent, max_wait_seconds: float) -> VenueOrder:
        """Post one order and return the venue's response; the request is never repeated.

        Raises `OrderRejected`, `OrderPaused` and `OrderDenied` if the order was not accepted, and
        `InconclusiveResponse` if its outcome is unknown.
        """
        from requests.exceptions import RequestException

        del max_wait_seconds
        name = intent.client_order_id
        try:
            answer = self.request(
                "POST", NEW_ORDERS_PATH, body=build_order_request(to_contract_order(intent))
            )
            return VenueOrder.from_response(intent, answer)
        except HttpStatusError as error:
            words = self.keys.redact(error.response_text)[:300]
            if error.is_pause:
                why = (
                    "trading is paused at the venue"
                    f" ({error.venue_error_code}){self.format_resume_time()}"
                )
                raise OrderPaused(f"{name}: not sent: {why}") from None
            if error.status == TOO_MANY_REQUESTS:
                return self._find_after_rate_limit(intent)
            is_unclear = (
                error.status in UNKNOWN_OUTCOME_STATUSES
                and error.venue_error_code != FILL_OR_KILL_FAILED_CODE
            )
            if error.status >= 500 or error.status < 400 or is_unclear:
                raise InconclusiveResponse(f"HTTP status {error.status}") from None
            raise OrderRejected(
                f"{name}: rejected by the venue ({error.status}): {words}"
            ) from None
        except (RequestException, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InconclusiveResponse(type(error).__name__) from None

    def _find_after_rate_limit(self, intent: OrderIntent) -> VenueOrder:
        """Look up an order once after HTTP status 429, and return it if the venue has it.

        429 means that the request was not executed. Raises `OrderDenied` if the order is not found,
        and `InconclusiveResponse` if the lookup fails.
        """
        name = intent.client_order_id
        try:
            order = self.find(name, intent)
        except BrokerError as error:
            raise InconclusiveResponse(
                f"HTTP status {TOO_MANY_REQUESTS}; order not found because of: {error}"
            ) from None
        if order is None:
            raise OrderDenied(
                f"{name}: not accepted: rate limit of the venue exceeded ({TOO_MANY_REQUESTS})"
            )
        return order

    def is_lost(self, intent: OrderIntent, now: np.datetime64) -> bool:
        """Return whether an order that the venue does not list can no longer arrive there."""
        # The venue may accept an order that expired in transit.
        landing = np.timedelta64(round(self.settings.late_arrival_seconds * 1e9), "ns")
        expires = intent.order.expires_at
        ends = intent.sent_at if expires is None else expires
        return bool(now >= ends + landing)
