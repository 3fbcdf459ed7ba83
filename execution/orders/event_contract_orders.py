"""Limit orders for event contracts: YES or NO contracts of one market.

A price is the price of one contract on the order's side (YES or NO), USD.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import numpy as np

ContractAction = Literal["BUY", "SELL"]
Outcome = Literal["YES", "NO"]
# The venue's words. Only the first one rests; the other two end on arrival.
ContractTimeInForce = Literal["good_till_canceled", "immediate_or_cancel", "fill_or_kill"]

CONTRACT_PAYOUT_USD = Decimal(1)  # USD paid per contract if its side is the outcome
PRICE_STEP_USD = Decimal("0.0001")  # USD, the finest price that the venue writes
CONTRACT_COUNT_STEP = Decimal("0.01")  # contracts, the smallest count that the venue writes


@dataclass(frozen=True, slots=True)
class EventContractOrder:
    """A limit order for event contracts; its constructor rejects invalid terms.

    client_order_id: client order id, derived from the purpose of the order, so that a repeated
        order has the same id.
    market: ticker of the market.
    action: BUY, or SELL of a position.
    side: side of the contract that is traded, YES or NO.
    price: price of the order's side, USD, above 0 and below 1.
    count: number of contracts, above 0.
    expires_at: instant at which a resting order expires at the venue, and after which the order is
        not sent; None without an expiry.
    reduces: true if the order can only reduce a position.
    reason: reason for the order.
    time_in_force: whether the part that does not trade on arrival rests or is cancelled; a
        `fill_or_kill` order trades completely or not at all.
    """

    client_order_id: str
    market: str
    action: ContractAction
    side: Outcome
    price: Decimal
    count: Decimal
    expires_at: np.datetime64 | None = None
    reduces: bool = False
    reason: str = ""
    time_in_force: ContractTimeInForce = "good_till_canceled"

    def __post_init__(self) -> None:
        if not self.client_order_id:
            raise ValueError(f"{self.market}: client_order_id is empty; give each order an id")
        check_price_and_count(self.client_order_id, self.price, self.count)

    @property
    def can_rest(self) -> bool:
        """True if the part of the order that does not trade on arrival rests in the order book."""
        return self.time_in_force == "good_till_canceled"


def check_price_and_count(order_id: str, price: Decimal, count: Decimal) -> None:
    """Check that a price and a count are in the range and precision that the venue accepts.

    Raises
    ------
    ValueError
        for a price or a count that the venue does not accept.
    """
    if not (price.is_finite() and 0 < price < CONTRACT_PAYOUT_USD and price % PRICE_STEP_USD == 0):
        raise ValueError(
            f"{order_id}: price must be a multiple of {PRICE_STEP_USD} above 0 and below 1, got"
            f" {price}"
        )
    if not (count.is_finite() and count > 0 and count % CONTRACT_COUNT_STEP == 0):
        raise ValueError(
            f"{order_id}: count must be a multiple of {CONTRACT_COUNT_STEP} above 0, got {count}"
        )
