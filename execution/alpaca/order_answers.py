"""What an answer about an order says of its fate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal

import numpy as np

from execution.alpaca.connection import Answer
from execution.alpaca.fields import OrderEntry
from execution.journal.intents import Progress, State
from execution.journal.orders import AnyOrder
from execution.orders import Order
from foundation.errors import SenselessAnswer
from trainingdata.feed.fields import as_mapping
from trainingdata.instruments import instrument, is_symbol

FINEST = Decimal("0.0001")  # points, of the mean price of several fills
FURTHEST = 100  # times the last price, or a part of it: more than a price moves or a stock splits
ENDINGS: tuple[State, ...] = ("filled", "canceled", "expired", "rejected")
TRADED = ("filled", "partially_filled")


def is_done(answer: Answer) -> bool:
    """Whether nothing more can happen to an order."""
    status = OrderEntry.status.of(answer)
    # An order that is good till it is cancelled goes on the next day.
    ended_today = status == "done_for_day" and OrderEntry.time_in_force.of(answer) != "gtc"
    return status in ENDINGS or ended_today


def traded_at(answer: Answer) -> np.datetime64:
    """When an order filled last, or where it has not, when it changed last."""
    at = OrderEntry.filled_at.of(answer)
    return OrderEntry.updated_at.of(answer) if at is None else at


def filled_quantity(answer: Answer) -> Decimal:
    """What of an order has filled.

    Raises
    ------
    SenselessAnswer
        for an order that has filled, without a word of how much.
    """
    quantity = OrderEntry.filled_qty.of(answer)
    traded = OrderEntry.status.of(answer) in TRADED or OrderEntry.filled_at.of(answer) is not None
    if not quantity and (traded or _mean_price(answer)):
        raise SenselessAnswer("it has filled, and filled_qty does not say how much")
    return quantity


def spread_traded(chain: Sequence[Answer]) -> tuple[int, Decimal]:
    """How many spreads an order of several legs has traded, and what each was sold for, points.

    chain: the order and those whose place it took, with their legs.

    Raises
    ------
    SenselessAnswer
        for legs that filled in different numbers: a person has to look.
    """
    traded: defaultdict[str, Decimal] = defaultdict(Decimal)
    credit = Decimal(0)
    for leg in (leg for each in chain for leg in OrderEntry.legs.of(each)):
        count = filled_quantity(leg)
        traded[OrderEntry.leg_symbol.of(leg)] += count
        if count:
            price = OrderEntry.leg_price.of(leg)
            credit += price * count * (1 if OrderEntry.side.of(leg) == "sell" else -1)
    counts = set(traded.values())
    if not traded:
        # Without its legs an order has to say itself that nothing filled, unless it never began.
        begun = [each for each in chain if OrderEntry.status.of(each) != "rejected"]
        counts = {sum((OrderEntry.filled_stated.of(each) for each in begun), Decimal(0))}
    if whole := sum(filled_quantity(each) for each in chain):
        counts.add(Decimal(whole))
    # A leg that filled without the one that protects it is no spread, and what it may lose has no
    # bound.
    if len(counts) != 1 or any(count % 1 or (count and not traded) for count in counts):
        numbers = ", ".join(sorted(map(str, counts)))
        raise SenselessAnswer(f"its legs filled in different numbers: {numbers}")
    contracts = int(counts.pop())
    if contracts:
        credit = (credit / contracts).quantize(FINEST).normalize()
    return contracts, credit


def progress_of(answer: Answer) -> Progress:
    """What an answer says of an order that the venue has taken, for the book.

    An order that was replaced goes on as the one in its place. Where an answer does not say how
    much has filled, the order still works as far as the book is concerned.
    """
    chain = chain_of(answer)
    first = OrderEntry.id.of(chain[-1])
    successor = OrderEntry.client_order_id.of(answer) if len(chain) > 1 else ""
    try:
        traded = [(filled_quantity(each), _mean_price(each)) for each in chain]
        state = _state_of(answer)
    except SenselessAnswer:
        return Progress("working", first, successor=successor)
    filled = sum((quantity for quantity, _ in traded), Decimal(0))
    paid = [quantity * price for quantity, price in traded if quantity and price is not None]
    # The price of several legs is said by each of them.
    whole = filled and len(paid) == len(chain) and not _has_legs(answer)
    price = sum(paid, Decimal(0)) / filled if whole else None
    return Progress(state, first, filled, price, successor)


def _has_legs(answer: Answer) -> bool:
    """Whether an order is one of several legs."""
    return OrderEntry.order_class.of(answer) == "mleg"


def _mean_price(answer: Answer) -> Decimal | None:
    """Mean price of what has filled, USD; None before anything has.

    Alpaca writes the net of several legs as it writes their limit: above 0 for a debit, below 0 for
    a credit (docs.alpaca.markets, Options Level 3 Trading).
    """
    return (OrderEntry.net_price if _has_legs(answer) else OrderEntry.mean_price).of(answer)


def _state_of(answer: Answer) -> State:
    status = OrderEntry.status.of(answer)
    for state in ENDINGS:
        if status == state:
            return state
    return "expired" if is_done(answer) else "working"


def chain_of(answer: Answer) -> list[Answer]:
    """The order and those whose place it took, the latest first."""
    chain = [answer]
    while "predecessor" in chain[-1]:
        chain.append(chain[-1]["predecessor"])
    return chain


def poll_delays(patience: float, clock: Callable[[], float]) -> Iterator[float]:
    """Seconds before each look at an order, doubling up to one, until patience has ended."""
    end = clock() + patience
    step = 0.05
    while (left := end - clock()) > 0:
        yield min(step, left)
        step = min(2 * step, 1.0)


def checked_order(
    name: str, answer: Answer, price_of: Callable[[str], float | None] = lambda symbol: None
) -> Answer:
    """The answer, which is about the order with this id of ours.

    price_of: the price of a symbol that was seen last, USD; None for none.

    Raises
    ------
    SenselessAnswer
        for an answer about another order, half of one, and one that tells of fills that cannot be.
    """
    if OrderEntry.client_order_id.of(as_mapping(answer)) != name:
        raise SenselessAnswer("it is about another order")
    OrderEntry.id.of(answer)
    OrderEntry.status.of(answer)
    for each in (answer, *OrderEntry.legs.of(answer)):
        _refuse_impossible_fill(each)
    _refuse_distant_price(answer, price_of)
    return answer


def _refuse_impossible_fill(answer: Answer) -> None:
    """Refuse an order of which more has filled than there is, or that was rejected and filled."""
    quantity = OrderEntry.qty.of(answer)
    filled = OrderEntry.filled_qty.of(answer)
    if quantity is not None and filled > quantity:
        raise SenselessAnswer(f"filled_qty is {filled}, more than its qty of {quantity}")
    if filled and OrderEntry.status.of(answer) == "rejected":
        raise SenselessAnswer(f"its status is rejected, and filled_qty {filled}")


def _refuse_distant_price(answer: Answer, price_of: Callable[[str], float | None]) -> None:
    """Refuse a mean price that no market can have come to."""
    name = OrderEntry.symbol.of(answer)
    if name is None or not is_symbol(name):
        return
    mean = OrderEntry.mean_price.of(answer)
    last = price_of(instrument(name).symbol)
    if mean and last is not None and not last / FURTHEST <= float(mean) <= last * FURTHEST:
        raise SenselessAnswer(f"filled_avg_price is {mean}, and {name} was at {last:g}")


def same_terms(order: AnyOrder, answer: Answer) -> bool:
    """Whether an answer is about an order of these terms, as far as it says them."""
    quantity = OrderEntry.qty.of(answer)
    if not isinstance(order, Order):
        return quantity is None or quantity == getattr(order, "contracts", None)
    side = OrderEntry.traded_side.of(answer)
    symbol = OrderEntry.symbol.of(answer)
    return (
        (side is None or side == order.side)
        and (symbol is None or _plain(symbol) == order.symbol)
        and (quantity is None or quantity == order.qty)
    )


def _plain(symbol: str) -> str:
    """A symbol without the stroke that the venue writes in some answers about coins."""
    return symbol.replace("/", "")
