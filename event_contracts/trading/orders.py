"""Quotes, orders and fills of event contracts, and the interface of order managers.

A contract pays $1 if its side, YES or NO, comes true. A YES and a NO of one market together pay $1,
so that one book serves both: the NO ask is 1 − the YES bid. Prices are USD of the order's own side.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from execution.orders.event_contract_orders import CONTRACT_COUNT_STEP as CONTRACT_COUNT_STEP
from execution.orders.event_contract_orders import CONTRACT_PAYOUT_USD as CONTRACT_PAYOUT_USD
from execution.orders.event_contract_orders import PRICE_STEP_USD as PRICE_STEP_USD
from execution.orders.event_contract_orders import ContractAction as ContractAction
from execution.orders.event_contract_orders import ContractTimeInForce as ContractTimeInForce
from execution.orders.event_contract_orders import EventContractOrder as EventContractOrder
from execution.orders.event_contract_orders import Outcome as Outcome
from execution.orders.event_contract_orders import check_price_and_count as check_price_and_count
from foundation.decimals import CENT

if TYPE_CHECKING:
    from execution.journal.order_store import OrderIntent


@dataclass(frozen=True, slots=True)
class ContractQuote:
    """Best prices of a market, USD.

    yes_bid: best price at which YES can be sold; 0 without a bid.
    yes_ask: best price at which YES can be bought, not below the bid; 1 without an offer.
    price_step: price step of orders at this quote.
    """

    yes_bid: Decimal
    yes_ask: Decimal
    price_step: Decimal = CENT

    def __post_init__(self) -> None:
        if not 0 <= self.yes_bid <= self.yes_ask <= CONTRACT_PAYOUT_USD:
            raise ValueError(
                f"quote: expected 0 ≤ yes_bid ≤ yes_ask ≤ 1, got {self.yes_bid} and {self.yes_ask}"
            )
        if not (self.price_step.is_finite() and 0 < self.price_step < CONTRACT_PAYOUT_USD):
            raise ValueError(f"quote: tick must be between 0 and 1, got {self.price_step}")

    def bid(self, side: Outcome) -> Decimal:
        """Return the best bid for a side: YES as quoted, NO = 1 − YES ask."""
        return self.yes_bid if side == "YES" else CONTRACT_PAYOUT_USD - self.yes_ask

    def ask(self, side: Outcome) -> Decimal:
        """Return the best ask of a side: YES as quoted, NO = 1 − YES bid."""
        return self.yes_ask if side == "YES" else CONTRACT_PAYOUT_USD - self.yes_bid


@dataclass(frozen=True, slots=True)
class RestingOrder:
    """An order that rests in the book.

    remaining_count: contracts that can still fill, positive and at most the order's count.
    """

    order_id: str
    order: EventContractOrder
    remaining_count: Decimal

    def __post_init__(self) -> None:
        if not 0 < self.remaining_count <= self.order.count:
            raise ValueError(
                f"{self.order_id}: remaining must be above 0 and at most {self.order.count}, got"
                f" {self.remaining_count}"
            )


@dataclass(frozen=True, slots=True)
class ContractFill:
    """A fill of an order.

    order_id: the venue's id, which joins fills to orders.
    price: USD of the order's side.
    is_maker: true if the order rested in the book.
    fee: USD, with rounding, net of the rebate.
    exchange_tick: tick of the exchange at which it traded.
    """

    order_id: str
    market: str
    action: ContractAction
    side: Outcome
    price: Decimal
    count: Decimal
    is_maker: bool
    fee: Decimal = Decimal(0)
    exchange_tick: int = 0

    def __post_init__(self) -> None:
        check_price_and_count(self.order_id, self.price, self.count)


@dataclass(frozen=True, slots=True)
class OrderReceipt:
    """The venue's response to an order.

    filled_count: contracts that traded at once.
    remaining_count: contracts that rest in the book.
    """

    order_id: str
    filled_count: Decimal
    remaining_count: Decimal


class Exposure(NamedTuple):
    """Maximum losses of all markets except one, micro-dollars.

    The rules are in `event_contracts.trading.event_risk`.

    event_loss_if_yes: loss of the event's other markets if the excluded market settles YES.
    event_loss_if_no: loss of the event's other markets if the excluded market settles NO.
    other_events_loss: loss of markets of other events.
    """

    event_loss_if_yes: int | Fraction = 0
    event_loss_if_no: int | Fraction = 0
    other_events_loss: int | Fraction = 0


NO_EXPOSURE = Exposure()


@dataclass(frozen=True, slots=True)
class MarketView:
    """Account and market data for a decision on one market, read at one instant.

    cash: USD, including the cash that resting orders may use.
    position: contracts held of this market, YES positive and NO negative; a pair of both is paid
        out at once.
    resting_orders: the account's orders in every market.
    quote: best prices of this market.
    other_positions_value: USD, value of positions in other markets.
    exposure: maximum losses of positions and orders in other markets.
    """

    market: str
    cash: Decimal
    position: Decimal
    resting_orders: tuple[RestingOrder, ...]
    quote: ContractQuote
    other_positions_value: Decimal = Decimal(0)
    exposure: Exposure = NO_EXPOSURE

    @property
    def yes_count(self) -> Decimal:
        return max(self.position, Decimal(0))

    @property
    def no_count(self) -> Decimal:
        return max(-self.position, Decimal(0))

    @property
    def equity(self) -> Decimal:
        """Return equity, USD: cash, this position at mid quote, and positions in other markets."""
        middle = (self.quote.yes_bid + self.quote.yes_ask) / 2
        return (
            self.cash
            + self.other_positions_value
            + self.yes_count * middle
            + self.no_count * (CONTRACT_PAYOUT_USD - middle)
        )

    def held_count(self, side: Outcome) -> Decimal:
        return self.yes_count if side == "YES" else self.no_count

    def resting_count(self, action: ContractAction, side: Outcome) -> Decimal:
        """Return the unfilled contracts of this market's resting orders with an action and side."""
        kind = (self.market, action, side)
        waiting = [
            r.remaining_count
            for r in self.resting_orders
            if (r.order.market, r.order.action, r.order.side) == kind
        ]
        return sum(waiting, Decimal(0))

    def resting_count_towards(self, side: Outcome) -> Decimal:
        """Return the contracts by which resting orders can still move the position to a side."""
        return self.resting_count("BUY", side) + self.resting_count("SELL", opposite_side(side))


class OrderManager(Protocol):
    """Interface of order managers, simulated or live, which send orders and track their outcome.

    Every method raises `BrokerError` if the venue does not respond or does not cancel an order.
    """

    def view(self, market: str) -> MarketView:
        """Return the account and the quote of a market, as input for a decision."""

    def submit(self, order: EventContractOrder) -> OrderReceipt:
        """Send an order once.

        Raises `OrderRejected` if the venue rejects it, and `OutcomeUnknown` if its outcome is
        unknown.
        """

    def cancel(self, order_id: str) -> None:
        """Cancel an order, unless it has ended."""

    def next_order_expiry(self) -> np.datetime64 | None:
        """Return the instant at which an order sent now would expire; None if it would not."""

    def query_unknown_outcomes(self, market: str) -> tuple[OrderIntent, ...]:
        """Query orders of unknown outcome in a market, and return those that stay unknown."""

    def cancel_stale_orders(
        self, market: str, sent_before: np.datetime64
    ) -> tuple[OrderIntent, ...]:
        """Cancel working orders in a market that are old or may no longer rest; return them.

        sent_before: orders sent before this instant are old.
        """


def opposite_side(side: Outcome) -> Outcome:
    """Return NO for YES, and YES for NO."""
    return "NO" if side == "YES" else "YES"
