"""Orders as Alpaca's responses describe them, and their outcomes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType

import numpy as np

from execution.alpaca.connection import Response
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
    """An order as the venue's responses describe it.

    answer: last response.
    replaced: the order that it replaces; None for the first.
    """

    answer: Response
    replaced: AlpacaOrder | None = None

    @classmethod
    def parse(
        cls,
        name: str,
        answer: Response,
        prices: Mapping[str, float] = NO_PRICES,
        replaced: AlpacaOrder | None = None,
    ) -> AlpacaOrder:
        """Return the order with a client order id that a response is about.

        name: client order id.
        answer: response.
        prices: USD of the last known prices.
        replaced: the order that it replaces; None for the first.

        Raises
        ------
        InvalidResponse
            for a response about another order, or one that contradicts itself.
        """
        stated = OrderEntry.stated_client_order_id.read(as_mapping(answer))
        if stated not in (None, name):
            raise InvalidResponse("it is about another order")
        # Alpaca's document makes the id optional: a response to a query for one order is about it.
        answer = {**answer, "client_order_id": name}
        for field in (OrderEntry.id, OrderEntry.status, OrderEntry.traded_side):
            field.read(answer)
        for each in (answer, *OrderEntry.legs.read(answer)):
            _refuse_impossible_fill(each)
        _refuse_distant_price(answer, prices)
        return cls(answer, replaced)

    @property
    def chain(self) -> tuple[AlpacaOrder, ...]:
        """The order and those that it has replaced, newest first."""
        return (self,) if self.replaced is None else (self, *self.replaced.chain)

    @property
    def name(self) -> str:
        """Client order id of this order itself."""
        return OrderEntry.client_order_id.read(self.answer)

    @property
    def client_order_id(self) -> str:
        """Client order id of the first order of its chain, which was sent."""
        return self.chain[-1].name

    @property
    def venue_id(self) -> str:
        return OrderEntry.id.read(self.answer)

    @property
    def status(self) -> str:
        return OrderEntry.status.read(self.answer)

    @property
    def is_done(self) -> bool:
        # An order that is good till cancelled continues the next day.
        lasting = OrderEntry.time_in_force.read(self.answer) == "gtc"
        return self.status in DONE_STATUSES or (self.status == "done_for_day" and not lasting)

    @property
    def traded_at(self) -> np.datetime64:
        """Instant of the last fill, or of the last change if nothing has filled."""
        for field in (OrderEntry.filled_at, *OrderEntry.changed_at):
            if (at := field.read(self.answer)) is not None:
                return at
        raise InvalidResponse("it has filled, and neither filled_at nor updated_at says when")

    @property
    def filled(self) -> Decimal:
        return _filled(self.answer)

    @property
    def progress(self) -> OrderProgress:
        """Progress of the order for the book.

        A replaced order continues as its successor. If a response does not state the filled
        quantity, the order counts as resting.
        """
        chain = self.chain
        first = chain[-1].venue_id
        successor = self.name if self.replaced else ""
        try:
            traded = [(each.filled, _mean_price(each.answer)) for each in chain]
            state = self._state
        except InvalidResponse:
            return OrderProgress("accepted", first, successor=successor)
        filled = sum((quantity for quantity, _ in traded), Decimal(0))
        paid = [quantity * price for quantity, price in traded if quantity and price is not None]
        # Each leg of an order of several legs states its own price.
        whole = filled and len(paid) == len(chain) and not _has_legs(self.answer)
        price = sum(paid, Decimal(0)) / filled if whole else None
        return OrderProgress(state, first, filled, price, successor)

    @property
    def _state(self) -> OrderState:
        for state in DONE_STATUSES:
            if self.status == state:
                return state
        return "expired" if self.is_done else "accepted"

    def matches(self, intent: OrderIntent) -> bool:
        """Return whether the order was sent with the terms of an intent, as far as they are stated.

        A replacement may have other terms, so the first order of the chain counts.
        """
        sent, order = self.chain[-1].answer, intent.order
        quantity = OrderEntry.qty.read(sent)
        if not isinstance(order, Order):
            return quantity is None or quantity == getattr(order, "contracts", None)
        side = OrderEntry.traded_side.read(sent)
        symbol = OrderEntry.symbol.read(sent)
        return (
            (side is None or side == order.side)
            # The venue writes crypto symbols with a slash in some responses.
            and (symbol is None or symbol.replace("/", "") == order.symbol)
            and (quantity is None or quantity == order.qty)
        )


def filled_spreads(chain: Sequence[AlpacaOrder]) -> tuple[int, Decimal]:
    """Return the number of spreads that an order of several legs has traded, and their mean credit.

    The credit is in points a spread.

    chain: the order and those that it has replaced, with their legs.

    Raises
    ------
    InvalidResponse
        if the legs filled in different numbers.
    """
    traded: defaultdict[str, Decimal] = defaultdict(Decimal)
    credit = Decimal(0)
    for leg in (leg for each in chain for leg in OrderEntry.legs.read(each.answer)):
        count = _filled(leg)
        traded[OrderEntry.leg_symbol.read(leg)] += count
        if count:
            price = OrderEntry.leg_price.read(leg)
            credit += price * count * (1 if OrderEntry.side.read(leg) == "sell" else -1)
    counts = set(traded.values())
    if not traded:
        # Without legs the order has to state that nothing filled, unless it was rejected.
        begun = [each.answer for each in chain if each.status != "rejected"]
        counts = {sum((OrderEntry.filled_stated.read(each) for each in begun), Decimal(0))}
    if whole := sum(each.filled for each in chain):
        counts.add(Decimal(whole))
    # A leg that filled without its protecting leg is not a spread, and its loss is unbounded.
    if len(counts) != 1 or any(count % 1 or (count and not traded) for count in counts):
        numbers = ", ".join(sorted(map(str, counts)))
        raise InvalidResponse(f"its legs filled in different numbers: {numbers}")
    contracts = int(counts.pop())
    if contracts:
        credit = (credit / contracts).quantize(PRICE_PRECISION).normalize()
    return contracts, credit


def _filled(answer: Response) -> Decimal:
    quantity = OrderEntry.filled_qty.read(answer)
    traded = (
        OrderEntry.status.read(answer) in FILLED_STATUSES
        or OrderEntry.filled_at.read(answer) is not None
    )
    if not quantity and (traded or _mean_price(answer)):
        raise InvalidResponse("it has filled, and filled_qty does not say how much")
    return quantity


def _has_legs(answer: Response) -> bool:
    return OrderEntry.order_class.read(answer) == "mleg"


def _mean_price(answer: Response) -> Decimal | None:
    """Return the mean price of the fills, USD; None before the first.

    Alpaca writes the net price of several legs as it writes their limit: above 0 for a debit, below
    0 for a credit (docs.alpaca.markets, Options Level 3 Trading).
    """
    return (OrderEntry.net_price if _has_legs(answer) else OrderEntry.mean_price).read(answer)


def _refuse_impossible_fill(answer: Response) -> None:
    """Refuse an order that has filled beyond its quantity, or that was rejected and has filled."""
    quantity = OrderEntry.qty.read(answer)
    filled = OrderEntry.filled_qty.read(answer)
    if quantity is not None and filled > quantity:
        raise InvalidResponse(f"filled_qty is {filled}, more than its qty of {quantity}")
    if filled and OrderEntry.status.read(answer) == "rejected":
        raise InvalidResponse(f"its status is rejected, and filled_qty {filled}")


def _refuse_distant_price(answer: Response, prices: Mapping[str, float]) -> None:
    """Refuse a mean price that no market can have reached."""
    name = OrderEntry.symbol.read(answer)
    if name is None or not is_symbol(name):
        return
    mean = OrderEntry.mean_price.read(answer)
    last = prices.get(instrument(name).symbol)
    if (
        mean
        and last is not None
        and not last / MAX_FILL_PRICE_RATIO <= float(mean) <= last * MAX_FILL_PRICE_RATIO
    ):
        raise InvalidResponse(f"filled_avg_price is {mean}, and {name} was at {last:g}")
