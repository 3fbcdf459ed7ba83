"""An order manager over a quote that the test moves: the real account, fees and checks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal

from event_contracts.trading.admission import Admission
from event_contracts.trading.orders import (
    Fill,
    Holding,
    LimitOrder,
    MarketView,
    Quote,
    Receipt,
    RestingOrder,
)
from tests.event_contracts.exact_account import Account, Charge, refusal_at_fill

D = Decimal
MARKET = "RAIN"


@dataclass
class Desk:
    """Takes what is marketable at the quote whole; the rest waits until the quote reaches it."""

    quote: Quote = field(default_factory=lambda: Quote(D("0.40"), D("0.42")))
    account: Account = field(default_factory=lambda: Account(D(1000)))
    admission: Admission = field(default_factory=Admission)
    resting: tuple[RestingOrder, ...] = ()
    log: list[tuple[Fill, Charge, Account]] = field(default_factory=list)
    sent: list[LimitOrder] = field(default_factory=list)
    cancelled: list[tuple[str, str]] = field(default_factory=list)

    def view(self, market: str) -> MarketView:
        held = self.account.holding(market)
        cash = self.account.cash
        return MarketView(market, cash, held.yes, held.no, self.resting, self.quote)

    def submit(self, order: LimitOrder) -> Receipt:
        self.sent.append(order)
        name = f"order-{len(self.sent)}"
        self.resting = (*self.resting, RestingOrder(name, order, order.count))
        filled = self.match(self.resting[-1], order.count, maker=False)
        return Receipt(name, filled, order.count - filled)

    def cancel(self, order_id: str) -> None:
        self.resting = tuple(r for r in self.resting if r.order_id != order_id)

    def fills(self, market: str) -> tuple[Fill, ...]:
        return tuple(fill for fill, *_ in self.log if fill.market == market)

    def move(self, quote: Quote, most: Decimal) -> None:
        """The quote moves, and every waiting order that it reaches fills up to so many."""
        self.quote = quote
        for order_id in [r.order_id for r in self.resting]:
            for resting in [r for r in self.resting if r.order_id == order_id]:
                self.match(resting, most, maker=True)

    def match(self, resting: RestingOrder, most: Decimal, maker: bool) -> Decimal:
        order = resting.order
        bid, ask = self.quote.bid(order.side), self.quote.ask(order.side)
        reached = order.price >= ask if order.action == "BUY" else order.price <= bid
        if not reached:
            return D(0)
        price = order.price if maker else (ask if order.action == "BUY" else bid)
        count = min(most, resting.remaining)
        name = resting.order_id
        fill = Fill(name, order.market, order.action, order.side, price, count, maker)
        carried = self.account.carried.get(name, D(0))
        why = refusal_at_fill(self.admission, fill, self.view(order.market), carried)
        if why:
            self.cancelled.append((name, why))
            self.cancel(name)
            return D(0)
        self.account, cost = self.account.booked(fill, self.admission.fees)
        self.log.append((fill, cost, self.account))
        left = resting.remaining - count
        self.resting = tuple(
            r if r.order_id != name else replace(r, remaining=left)
            for r in self.resting
            if r.order_id != name or left
        )
        held = self.account.holding(order.market)
        self.resting = within_inventory(self.resting, order.market, held)
        return count


def within_inventory(
    resting: Iterable[RestingOrder], market: str, holding: Holding
) -> tuple[RestingOrder, ...]:
    """The resting orders, the sales of a market cut to what is held of their side.

    Sales reserve what they sell, the oldest first: where netting took contracts, the newest shrink,
    down to no order. `resting` is in the order in which they were sent.
    """
    free = {"YES": holding.yes, "NO": holding.no}
    kept = []
    for order in resting:
        remaining = order.remaining
        if order.order.market == market and order.order.action == "SELL":
            remaining = min(remaining, free[order.order.side])
            free[order.order.side] -= remaining
        if remaining:
            kept.append(replace(order, remaining=remaining))
    return tuple(kept)
