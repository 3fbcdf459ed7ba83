"""Options on one underlying as a simulated venue trades them: quotes by the model, orders of
several legs, settlement in cash.

What a position can lose at most is set aside as long as it is held; what nobody could cover is
refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Literal, Protocol

import numpy as np

from execution.spreads.orders import Contract, OptionLeg, Quote, SpreadFill, SpreadOrder, net_price
from execution.spreads.rules import SESSION, TRADING_DAYS, Leg
from foundation.errors import OrderRejected
from marketsimulator.options.pricing import Smile, quotes
from sizing.autoscaler.rules import SHARES
from trainingdata.sessions import session_of, sessions_between

DAYS_AHEAD = 10  # sessions for which there are options
CENT = Decimal("0.01")
MINUTE = np.timedelta64(1, "m")

Status = Literal["new", "filled", "canceled", "expired", "rejected"]


class IndexMarket(Protocol):
    """What options are on."""

    def now(self) -> np.datetime64:
        """Where the clock stands."""
        ...

    def index(self) -> float | None:
        """The index now, points; None where it does not trade."""
        ...

    def volatility(self) -> float | None:
        """The volatility index now, points; None where it is not known."""
        ...

    def close_of(self, day: date) -> float | None:
        """The index at the close of a session; None where it is not known yet."""
        ...


@dataclass(frozen=True, slots=True)
class SpreadTicket:
    """An order as the venue keeps it. filled: contracts; prices: of each leg, in their order;
    closed: when it ended.
    """

    order: SpreadOrder
    at: np.datetime64
    status: Status = "new"
    filled: int = 0
    prices: tuple[Decimal, ...] = ()
    closed: np.datetime64 | None = None

    @property
    def fill(self) -> SpreadFill:
        """What it has done."""
        signs = (-1 if leg.buy else 1 for leg in self.order.legs)
        credit = sum(
            (sign * price for sign, price in zip(signs, self.prices, strict=False)), Decimal(0)
        )
        return SpreadFill(self.order.client_order_id, self.filled, credit, self.closed or self.at)


class OptionDesk:
    """Quotes, orders and positions; a `SpreadVenue` whose orders fill at once or not at all.

    slippage: points a leg between the middle and what is quoted. free: cash that may be set aside,
    USD; flow: told of cash that comes and goes with orders and settlement, set-asides included.
    """

    def __init__(
        self,
        root: str,
        market: IndexMarket,
        smile: Smile,
        slippage: float,
        *,
        free: Callable[[], float] = lambda: float("inf"),
        flow: Callable[[Decimal], None] = lambda usd: None,
    ) -> None:
        self.root = root
        self.tickets = dict[str, SpreadTicket]()
        self.positions = Counter[Contract]()
        self.aside = Decimal(0)
        self._working = set[str]()
        self._market = market
        self._smile = smile
        self._slippage = slippage
        self._free = free
        self._flow = flow

    def now(self) -> np.datetime64:
        """Where the market's clock stands."""
        return self._market.now()

    def index(self) -> float:
        """The index now.

        Raises
        ------
        OrderRejected
            where it does not trade.
        """
        index = self._market.index()
        if index is None:
            raise OrderRejected(f"{self.root} does not trade now")
        return index

    def close_of(self, day: date) -> float | None:
        """The index at the close of a session."""
        return self._market.close_of(day)

    def held(self) -> dict[Contract, int]:
        """Options held, below 0 where they are owed."""
        return {contract: count for contract, count in self.positions.items() if count}

    def quotes(self, contracts: Iterable[Contract]) -> dict[Contract, Quote]:
        """What each sells and buys at while its underlying trades; nothing otherwise, and of
        what has expired.
        """
        wanted = list(contracts)
        found = dict[Contract, Quote]()
        if not wanted:
            return found
        index = self._market.index()
        vix = self._market.volatility()
        now = self.now()
        for contract in wanted:
            years = self._years(contract.expiry, now)
            if index is None or vix is None or years is None or contract.root != self.root:
                continue
            leg = Leg(float(contract.strike), contract.call, sold=True)
            bid, ask = (
                Decimal(str(round(float(p), 2)))
                for p in quotes(leg, index, years, vix, self._smile, self._slippage)
            )
            found[contract] = Quote(bid, ask)
        return found

    def value(self) -> Decimal:
        """What closing all positions would bring in, USD, below 0 where it would cost; 0 for
        what has no quote.
        """
        known = self.quotes(self.held())
        prices = (
            (known[c].bid if n > 0 else known[c].ask) * n
            for c, n in self.held().items()
            if c in known
        )
        return sum(prices, Decimal(0)) * SHARES

    def send(self, order: SpreadOrder, *, partial: bool = False) -> SpreadTicket:
        """Take an order, and look whether it fills. partial: half of it does, the rest is
        cancelled.

        Raises
        ------
        OrderRejected
            for one that the venue would not take.
        """
        if why := self._refusal(order):
            raise OrderRejected(why)
        self.tickets[order.client_order_id] = SpreadTicket(order, self.now())
        self._working.add(order.client_order_id)
        self._look(
            order.client_order_id, max(order.contracts // 2, 1) if partial else order.contracts
        )
        if partial:
            self.cancel(order.client_order_id)
        return self.tickets[order.client_order_id]

    def reject(self, order: SpreadOrder) -> None:
        """Take an order, and turn it down."""
        self.tickets[order.client_order_id] = SpreadTicket(
            order, self.now(), status="rejected", closed=self.now()
        )

    def submit(self, order: SpreadOrder) -> SpreadFill:
        """Send an order; what it does not do at once is cancelled."""
        self.send(order)
        self.cancel(order.client_order_id)
        return self.tickets[order.client_order_id].fill

    def fate(self, client_order_id: str) -> SpreadFill | None:
        """What became of an order, which is ended if it still works."""
        self.cancel(client_order_id)
        ticket = self.tickets.get(client_order_id)
        return None if ticket is None else ticket.fill

    def cancel(self, client_order_id: str) -> None:
        """End an order that still works; others are left alone."""
        ticket = self.tickets.get(client_order_id)
        if ticket is not None and ticket.status == "new":
            self._end(client_order_id, replace(ticket, status="canceled", closed=self.now()))

    def advance(self) -> None:
        """The market has moved: orders meet it, those of past days expire, options that have
        expired are settled.
        """
        now = self.now()
        for name in sorted(self._working):
            ticket = self.tickets[name]
            session = session_of(ticket.at.astype("datetime64[D]"))
            if session is None or now >= session.closes:
                self._end(name, replace(ticket, status="expired", closed=now))
            else:
                self._look(name, ticket.order.contracts)
        for contract, count in list(self.held().items()):
            session = session_of(np.datetime64(contract.expiry, "D"))
            index = (
                self._market.close_of(contract.expiry)
                if session is not None and now >= session.closes
                else None
            )
            if index is not None:
                worth = Decimal(str(round(_intrinsic(contract, index), 2)))
                del self.positions[contract]
                self._set_aside(worth * count * SHARES)

    def _look(self, name: str, contracts: int) -> None:
        """Fill an order whose price is there."""
        ticket = self.tickets[name]
        order = ticket.order
        known = self.quotes(leg.contract for leg in ticket.order.legs)
        price = net_price(order.legs, known)
        if price is None or (order.least is not None and price < order.least):
            return
        paid = tuple(
            known[leg.contract].ask if leg.buy else known[leg.contract].bid for leg in order.legs
        )
        self.positions.update(_changes(order.legs, contracts))
        status: Status = "filled" if contracts == order.contracts else "canceled"
        self._end(
            name, replace(ticket, status=status, filled=contracts, prices=paid, closed=self.now())
        )
        self._set_aside(price * contracts * SHARES)

    def _end(self, name: str, ticket: SpreadTicket) -> None:
        self.tickets[name] = ticket
        self._working.discard(name)

    def _set_aside(self, cash: Decimal) -> None:
        """Cash that an order or a settlement brings in, and what has to be set aside now."""
        needed = most_lost(self.held()) or Decimal(0)
        self._flow(cash + self.aside - needed)
        self.aside = needed

    def _refusal(self, order: SpreadOrder) -> str:
        """Why an order is not taken; empty where it is."""
        if order.client_order_id in self.tickets:
            return "client_order_id must be unique"
        known = self.quotes(leg.contract for leg in order.legs)
        if absent := [leg.contract.symbol for leg in order.legs if leg.contract not in known]:
            return f"{absent[0]} does not trade now"
        after = Counter(self.held())
        after.update(_changes(order.legs, order.contracts))
        risk = most_lost(after)
        if risk is None:
            return "an option is sold that nothing covers"
        brought = (net_price(order.legs, known) or Decimal(0)) * order.contracts * SHARES
        if risk > self.aside and float(risk - self.aside - brought) > self._free():
            return (
                f"insufficient options buying power: ${risk - self.aside - brought} is needed,"
                f" ${self._free():.2f} is free"
            )
        return ""

    def _years(self, expiry: date, now: np.datetime64) -> float | None:
        """To the expiry's close: what is left of today's session, and whole days after it; None
        for no such option.
        """
        last = session_of(np.datetime64(expiry, "D"))
        today = now.astype("datetime64[D]")
        if last is None or now >= last.closes:
            return None
        days = sessions_between(today, last.date)
        first = session_of(days[0])
        if first is None or len(days) > DAYS_AHEAD or not first.opens <= now < first.closes:
            return None
        left = float((first.closes - now) / MINUTE) / SESSION * self._smile.session
        return (left + len(days) - 1) / TRADING_DAYS


def most_lost(positions: Mapping[Contract, int]) -> Decimal | None:
    """USD that options can lose at expiry at most, each expiry by itself; None where there is
    no most.
    """
    total = Decimal(0)
    for expiry in {contract.expiry for contract in positions}:
        mine = {c: n for c, n in positions.items() if c.expiry == expiry and n}
        if sum(n for c, n in mine.items() if c.call) < 0:
            return None
        ends = [Decimal(0), *(c.strike for c in mine)]
        worst = min(sum((_worth(c, end) * n for c, n in mine.items()), Decimal(0)) for end in ends)
        total += max(-worst, Decimal(0)) * SHARES
    return total


def _worth(contract: Contract, index: Decimal) -> Decimal:
    return max(index - contract.strike if contract.call else contract.strike - index, Decimal(0))


def _intrinsic(contract: Contract, index: float) -> float:
    return max(
        index - float(contract.strike) if contract.call else float(contract.strike) - index, 0.0
    )


def _changes(legs: Iterable[OptionLeg], contracts: int) -> dict[Contract, int]:
    return {leg.contract: contracts if leg.buy else -contracts for leg in legs}
