"""Multi-leg option orders and option positions in Alpaca's format, and parsing of order requests.

At Alpaca the net price of an order that receives a credit is negative. In this project it is
positive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np

from execution.orders.option_orders import (
    MAX_SPREADS_PER_ORDER,
    SHARES_PER_OPTION,
    OptionContract,
    OptionLeg,
    Quote,
    SpreadFill,
    SpreadOrder,
    parse_occ_symbol,
)
from foundation.errors import to_one_line
from practice.alpaca.entry_prices import DailyEntryPrices
from practice.alpaca.tickets import (
    derive_venue_id,
    format_timestamp,
    parse_client_order_id,
    parse_decimal,
    refuse_invalid_fields,
    status_fields,
)
from practice.request import ResponseBody

SpreadStatus = Literal["new", "filled", "canceled", "expired", "rejected"]


@dataclass(slots=True)
class SpreadTicket:
    """The venue's record of a multi-leg order: the order, its status and its fill.

    order: order of the client.
    submitted_at: instant of arrival.
    status: Alpaca's order status.
    filled_contracts: number of filled contracts.
    leg_prices: fill price of each leg, points, in the order of the legs; empty before a fill.
    closed_at: instant at which the order ended; None while it is open.
    """

    order: SpreadOrder
    submitted_at: np.datetime64
    status: SpreadStatus = "new"
    filled_contracts: int = 0
    leg_prices: tuple[Decimal, ...] = ()
    closed_at: np.datetime64 | None = None

    @property
    def client_order_id(self) -> str:
        return self.order.client_order_id

    @property
    def venue_order_id(self) -> str:
        return derive_spread_order_id(self.client_order_id)

    @property
    def is_open(self) -> bool:
        return self.status == "new"

    @property
    def fill(self) -> SpreadFill:
        traded = zip(self.order.legs, self.leg_prices, strict=False)
        credit = sum((-leg.direction * price for leg, price in traded), Decimal(0))
        return SpreadFill(self.filled_contracts, credit)

    def to_response(self, *, nested: bool = False) -> ResponseBody:
        """Return the order in Alpaca's format.

        nested: true to include its legs.
        """
        order = self.order
        name = self.client_order_id
        limit = None if order.min_credit is None else f"{-order.min_credit:.2f}"
        kind = "market" if limit is None else "limit"
        closed_at = None if self.closed_at is None else format_timestamp(self.closed_at)
        shared = {
            **status_fields(self.status, format_timestamp(self.submitted_at), closed_at),
            "qty": str(order.contracts),
            "filled_qty": str(self.filled_contracts),
            "order_class": "mleg",
            "order_type": kind,
            "type": kind,
            "time_in_force": "day",
            "asset_class": "us_option",
            "extended_hours": False,
            "notional": None,
        }
        prices: Sequence[Decimal | None] = self.leg_prices or (None,) * len(order.legs)
        legs = []
        for leg, price in zip(order.legs, prices, strict=True):
            number = derive_leg_order_id(name, leg)
            answer = {
                "id": number,
                "client_order_id": derive_spread_order_id(f"{name}/{leg.contract.symbol}/own"),
                "asset_id": derive_venue_id(leg.contract.symbol),
                "symbol": leg.contract.symbol,
                "side": leg.side,
                "ratio_qty": "1",
                "filled_avg_price": None if price is None else str(price),
                **shared,
                "limit_price": None,
                "legs": None,
            }
            legs.append(answer)
        # In Alpaca's document a multi-leg order has neither a symbol nor a side.
        return {
            **shared,
            "id": self.venue_order_id,
            "client_order_id": name,
            "filled_avg_price": repr(float(-self.fill.credit)) if self.filled_contracts else None,
            "limit_price": limit,
            "legs": legs if nested else None,
        }


def derive_spread_order_id(name: str) -> str:
    """Derive the venue's id of a multi-leg order from a name, such as its client_order_id."""
    return derive_venue_id(f"spread {name}")


def derive_leg_order_id(name: str, leg: OptionLeg) -> str:
    """Derive the venue's id of one leg of an order from the order's client_order_id."""
    return derive_spread_order_id(f"{name}/{leg.contract.symbol}")


def parse_spread_order(request: Mapping[str, Any], earlier_order_count: int) -> SpreadOrder:
    """Parse a request for a multi-leg order. Raises `RequestRefused` that names the invalid field.

    earlier_order_count: number of earlier orders; an id is derived from it if the client gives
        none.
    """
    with refuse_invalid_fields():
        kind = str(request["type"])
        limited = request.get("limit_price") is not None
        if kind not in ("market", "limit") or (kind == "limit") != limited:
            raise ValueError(
                "type: a multi-leg order must be a market order, or a limit order with"
                " a limit_price"
            )
        if request.get("time_in_force") != "day":
            raise ValueError("time_in_force: a multi-leg order must be a day order")
        asked = request["legs"]
        if not (isinstance(asked, list) and all(isinstance(leg, dict) for leg in asked)):
            raise ValueError(
                f"legs: expected a list of objects, got {to_one_line(repr(asked), 80)}"
            )
        legs = tuple(map(_parse_leg, asked))
        contracts = parse_decimal(request, "qty")
        # The bound comes first: an integer of a million digits takes minutes to write out.
        if not 1 <= contracts <= MAX_SPREADS_PER_ORDER or contracts != int(contracts):
            raise ValueError(
                f"qty {contracts} is not a whole number of contracts from 1 to"
                f" {MAX_SPREADS_PER_ORDER}"
            )
        min_credit = -parse_decimal(request, "limit_price") if limited else None
        return SpreadOrder(
            parse_client_order_id(request, f"spread {earlier_order_count}"),
            legs,
            int(contracts),
            min_credit,
        )


def _parse_leg(request: Mapping[str, Any]) -> OptionLeg:
    if parse_decimal(request, "ratio_qty") != 1:
        raise ValueError("ratio_qty: only a ratio of 1 is supported by the practice venue")
    # A leg names its side or its position intent: `sell_to_open` begins with the side.
    side = str(request.get("side") or str(request["position_intent"]).split("_")[0])
    if side not in ("buy", "sell"):
        raise ValueError(f"side {side!r} is not one of buy, sell")
    return OptionLeg(parse_occ_symbol(str(request["symbol"])), "buy" if side == "buy" else "sell")


def closing_price(contracts: int, quote: Quote | None) -> Decimal:
    """Return the price at which a position can be closed: the bid if it is long, else the ask.

    The price is in points; it is 0 without a quote.

    contracts: position in contracts, negative if short.
    """
    return Decimal(0) if quote is None else quote.price_for_side("sell" if contracts > 0 else "buy")


def option_position_response(
    contract: OptionContract, contracts: int, price: Decimal, entries: DailyEntryPrices
) -> ResponseBody:
    """Return an option position in the format of `GET /v2/positions`.

    contracts: position in contracts, negative if short.
    price: price at which the position can be closed, points.
    entries: entry prices of all option positions.
    """
    results = entries.profit_fields(
        contract.symbol, float(contracts * SHARES_PER_OPTION), float(price)
    )
    return {
        **results,
        "asset_id": derive_venue_id(contract.symbol),
        "symbol": contract.symbol,
        "exchange": "",
        "asset_class": "us_option",
        "asset_marginable": False,
        "qty": str(contracts),
        "qty_available": str(contracts),
        "side": "long" if contracts > 0 else "short",
        "market_value": str(price * contracts * SHARES_PER_OPTION),
        "current_price": str(price),
    }


def quote_response(quote: Quote, at: np.datetime64) -> ResponseBody:
    """Return a quote in the format of `GET /v1beta1/options/quotes/latest`."""
    return {
        "t": format_timestamp(at),
        "bp": float(quote.bid),
        "bs": 10,
        "ap": float(quote.ask),
        "as": 10,
        "bx": "C",
        "ax": "C",
        "c": " ",
    }
