"""Orders parsed from Alpaca's responses: their state, fills and replacements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType

import numpy as np

from execution.alpaca.connection import JsonObject
from execution.alpaca.fields import OrderEntry
from execution.journal.order_store import OrderIntent, OrderProgress, OrderState
from execution.orders.orders import Order
from foundation.errors import InvalidResponse
from trainingdata.feed.fields import as_mapping
from trainingdata.instruments import instrument, is_symbol

PRICE_PRECISION = Decimal("0.0001")  # points, precision of the mean price of several fills
# Largest ratio of a fill to the last price, up or down: more than any move or split.
MAX_FILL_PRICE_RATIO = 100
DONE_STATUSES: tuple[OrderState, ...] = ("filled", "canceled", "expired", "rejected")
FILLED_STATUSES = ("filled", "partially_filled")
NO_PRICES: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class AlpacaOrder:
    """An order at Alpaca, as the venue's last response describes it.

    response: last response about the order.
    replaced_order: the order that this order replaces; None if it replaces none.
    """

    response: JsonObject
    replaced_order: AlpacaOrder | None = None

    @classmethod
    def parse(
        cls,
        client_order_id: str,
        response: JsonObject,
        prices: Mapping[str, float] = NO_PRICES,
        replaced_order: AlpacaOrder | None = None,
    ) -> AlpacaOrder:
        """Return the order that a response describes.

        client_order_id: client order id under which the order is expected.
        prices: last known prices, USD by symbol; a fill price far from them is invalid.
        replaced_order: the order that this order replaces; None if it replaces none.

        Raises
        ------
        InvalidResponse
            for a response about another order, or one that contradicts itself.
        """
        stated = OrderEntry.optional_client_order_id.read(as_mapping(response))
        if stated not in (None, client_order_id):
            raise InvalidResponse(f"it describes order {stated}, not order {client_order_id}")
        # Alpaca's document makes the id optional: a response to a query for one order is about it.
        response = {**response, "client_order_id": client_order_id}
        for field in (OrderEntry.id, OrderEntry.status, OrderEntry.optional_side):
            field.read(response)
        for each in (response, *OrderEntry.legs.read(response)):
            _refuse_impossible_fill(each)
        _refuse_distant_price(response, prices)
        return cls(response, replaced_order)

    @property
    def replacement_chain(self) -> tuple[AlpacaOrder, ...]:
        """This order, the order that it replaced, the order replaced by that one, and so on."""
        return (
            (self,)
            if self.replaced_order is None
            else (self, *self.replaced_order.replacement_chain)
        )

    @property
    def current_client_order_id(self) -> str:
        """Client order id of this order; a replacement has another id than the one we sent."""
        return OrderEntry.client_order_id.read(self.response)

    @property
    def client_order_id(self) -> str:
        """Client order id of the first order of the replacement chain: the id that we sent."""
        return self.replacement_chain[-1].current_client_order_id

    @property
    def venue_order_id(self) -> str:
        return OrderEntry.id.read(self.response)

    @property
    def status(self) -> str:
        return OrderEntry.status.read(self.response)

    @property
    def is_done(self) -> bool:
        # An order that is good till cancelled continues the next day.
        lasting = OrderEntry.time_in_force.read(self.response) == "gtc"
        return self.status in DONE_STATUSES or (self.status == "done_for_day" and not lasting)

    @property
    def last_filled_at(self) -> np.datetime64:
        """Time of the last fill; without a fill, time of the last update."""
        for field in (OrderEntry.filled_at, *OrderEntry.update_times):
            if (at := field.read(self.response)) is not None:
                return at
        raise InvalidResponse("the order has fills but filled_at and updated_at are missing")

    @property
    def filled_quantity(self) -> Decimal:
        return _parse_filled_quantity(self.response)

    @property
    def progress(self) -> OrderProgress:
        """State and filled quantity of the order, as recorded in the order store.

        The fills of replaced orders are included. If the response does not report the filled
        quantity, the order counts as accepted without fills.
        """
        chain = self.replacement_chain
        first = chain[-1].venue_order_id
        successor = self.current_client_order_id if self.replaced_order else ""
        try:
            traded = [(each.filled_quantity, _mean_price(each.response)) for each in chain]
            state = self._state
        except InvalidResponse:
            return OrderProgress("accepted", first, successor_order_id=successor)
        filled = sum((quantity for quantity, _ in traded), Decimal(0))
        paid = [quantity * price for quantity, price in traded if quantity and price is not None]
        # Each leg of an order of several legs states its own price.
        whole = filled and len(paid) == len(chain) and not _has_legs(self.response)
        price = sum(paid, Decimal(0)) / filled if whole else None
        return OrderProgress(state, first, filled, price, successor)

    @property
    def _state(self) -> OrderState:
        for state in DONE_STATUSES:
            if self.status == state:
                return state
        return "expired" if self.is_done else "accepted"

    def matches(self, intent: OrderIntent) -> bool:
        """Return whether the order has the terms of an intent, as far as it reports its terms.

        A replacement may have other terms. The first order of the replacement chain is therefore
        compared.
        """
        sent, order = self.replacement_chain[-1].response, intent.order
        quantity = OrderEntry.qty.read(sent)
        if not isinstance(order, Order):
            return quantity is None or quantity == getattr(order, "contracts", None)
        side = OrderEntry.optional_side.read(sent)
        symbol = OrderEntry.symbol.read(sent)
        return (
            (side is None or side == order.side)
            # The venue writes crypto symbols with a slash in some responses.
            and (symbol is None or symbol.replace("/", "") == order.symbol)
            and (quantity is None or quantity == order.qty)
        )


def compute_spread_fill(chain: Sequence[AlpacaOrder]) -> tuple[int, Decimal]:
    """Return the number of spreads that a multi-leg order has traded, and their mean credit.

    The credit is in points per spread, below 0 for a debit.

    chain: the order and the orders that it has replaced, with their legs.

    Raises
    ------
    InvalidResponse
        if the legs have filled different numbers of contracts.
    """
    traded: defaultdict[str, Decimal] = defaultdict(Decimal)
    credit = Decimal(0)
    for leg in (leg for each in chain for leg in OrderEntry.legs.read(each.response)):
        count = _parse_filled_quantity(leg)
        traded[OrderEntry.required_symbol.read(leg)] += count
        if count:
            price = OrderEntry.leg_fill_price.read(leg)
            credit += price * count * (1 if OrderEntry.side.read(leg) == "sell" else -1)
    counts = set(traded.values())
    if not traded:
        # Without legs the order has to state that nothing filled, unless it was rejected.
        begun = [each.response for each in chain if each.status != "rejected"]
        counts = {sum((OrderEntry.required_filled_qty.read(each) for each in begun), Decimal(0))}
    if whole := sum(each.filled_quantity for each in chain):
        counts.add(Decimal(whole))
    # A leg that filled without its protecting leg is not a spread, and its loss is unbounded.
    numbers = ", ".join(sorted(map(str, counts)))
    if len(counts) != 1:
        raise InvalidResponse(f"the legs have filled different numbers of contracts: {numbers}")
    if any(count % 1 for count in counts):
        raise InvalidResponse(f"the legs have filled a fraction of a contract: {numbers}")
    if not traded and any(counts):
        raise InvalidResponse(f"the order has filled {numbers}, but no leg is listed")
    contracts = int(counts.pop())
    if contracts:
        credit = (credit / contracts).quantize(PRICE_PRECISION).normalize()
    return contracts, credit


def _parse_filled_quantity(answer: JsonObject) -> Decimal:
    quantity = OrderEntry.filled_qty.read(answer)
    traded = (
        OrderEntry.status.read(answer) in FILLED_STATUSES
        or OrderEntry.filled_at.read(answer) is not None
    )
    if not quantity and (traded or _mean_price(answer)):
        raise InvalidResponse("the order has fills but filled_qty is 0 or missing")
    return quantity


def _has_legs(answer: JsonObject) -> bool:
    return OrderEntry.order_class.read(answer) == "mleg"


def _mean_price(answer: JsonObject) -> Decimal | None:
    """Return the mean price of the fills, USD; None before the first fill.

    For a multi-leg order, Alpaca reports the net price: above 0 for a debit, below 0 for a credit
    (docs.alpaca.markets, Options Level 3 Trading).
    """
    return (OrderEntry.net_fill_price if _has_legs(answer) else OrderEntry.mean_fill_price).read(
        answer
    )


def _refuse_impossible_fill(answer: JsonObject) -> None:
    """Reject a response with fills above the ordered quantity, or fills of a rejected order."""
    quantity = OrderEntry.qty.read(answer)
    filled = OrderEntry.filled_qty.read(answer)
    if quantity is not None and filled > quantity:
        raise InvalidResponse(f"filled_qty {filled} exceeds qty {quantity}")
    if filled and OrderEntry.status.read(answer) == "rejected":
        raise InvalidResponse(f"status is rejected but filled_qty is {filled}")


def _refuse_distant_price(answer: JsonObject, prices: Mapping[str, float]) -> None:
    """Reject a response whose mean fill price is implausibly far from the last known price."""
    name = OrderEntry.symbol.read(answer)
    if name is None or not is_symbol(name):
        return
    mean = OrderEntry.mean_fill_price.read(answer)
    last = prices.get(instrument(name).symbol)
    if (
        mean
        and last is not None
        and not last / MAX_FILL_PRICE_RATIO <= float(mean) <= last * MAX_FILL_PRICE_RATIO
    ):
        raise InvalidResponse(
            f"filled_avg_price {mean} differs from the last price of {name}, {last:g}, by more"
            f" than a factor of {MAX_FILL_PRICE_RATIO}"
        )
